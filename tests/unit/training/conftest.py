"""Learning problems from small cohorts, as a learning task opens them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlho.steps.base import Work, _open_inputs
from mlho.steps.inputs import open_problem
from mlho.store.local import LocalStore
from mlho.training.iterations.problem import Problem
from tests.builders import Tables, make_tables, run_inline, write_tables


@pytest.fixture
def make_problem(tmp_path: Path) -> Callable[..., Problem]:
    """Return ``make(changes, tables=)``, which gives the problem of a run's first iteration."""

    def make(changes: Mapping[str, Any] | None = None, *, tables: Tables | None = None) -> Problem:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        data = write_tables(place / "data", tables or make_tables(300, seed=9))
        store = LocalStore(place / "store")
        # A random split does not depend on the labels, so a test may change them.
        home = run_inline(
            data, store, {"validation.split": "random", "validation.folds": 3, **(changes or {})}
        )
        task = next(submitted for submitted in home.submitted if submitted.kind == "run_iteration")
        return open_problem(Work(task, _open_inputs(task, store), data, place))

    return make
