"""Learning problems from small cohorts, as a learning task opens them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlho.steps.base import Task, Work, _open_inputs
from mlho.steps.inputs import open_problem
from mlho.store.local import LocalStore
from mlho.training.iterations.problem import Problem
from scheduler.engine.loop import carry_out
from tests.builders import InlineExecutor, NullObserver, Tables, make_run, make_tables, write_tables


class Reached(KeyboardInterrupt):
    """A run has come to its first iteration."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task


class UntilLearning(InlineExecutor):
    """An executor that encodes, and stops the run instead of learning."""

    def submit(self, task: Task) -> Any:
        if task.kind == "run_iteration":
            raise Reached(task)
        return super().submit(task)


@pytest.fixture
def make_problem(tmp_path: Path) -> Callable[..., Problem]:
    """Return ``make(changes, tables=)``, which gives the problem of a run's first iteration."""

    def make(changes: Mapping[str, Any] | None = None, *, tables: Tables | None = None) -> Problem:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        data = write_tables(place / "data", tables or make_tables(300, seed=9))
        store = LocalStore(place / "store")
        # A random split does not depend on the labels, so a test may change them.
        run = make_run(data, store, {"validation.split": "random", "validation.folds": 3, **(changes or {})})
        with pytest.raises(Reached) as reached:
            carry_out(run, UntilLearning(store, data), NullObserver(), n_slots=3)
        task = reached.value.task
        return open_problem(Work(task, _open_inputs(task, store), data, place))

    return make
