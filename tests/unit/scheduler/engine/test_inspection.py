"""If no command inspected the tables, the run has a task that does so before anything is encoded."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlho.errors import DataError
from mlho.store.keys import blob_key
from mlho.store.memory import MemoryStore
from scheduler.controller.run_thread import outcome_of
from scheduler.engine.loop import carry_out
from scheduler.engine.prepare import prepare
from tests.builders import InlineExecutor, NullObserver, make_spec, make_tables, write_tables


@pytest.fixture
def folder(tmp_path):
    return write_tables(tmp_path, make_tables(200))


def carried_out(folder, **options):
    run = prepare(make_spec(), folder / "spec.yaml", MemoryStore(), **options)
    executor = InlineExecutor(run.store, folder)
    finished = carry_out(run, executor, NullObserver(), n_slots=3)
    return finished, {task.kind: task.key for task in executor.submitted}


def test_the_inspection_is_a_task_and_changes_no_other(folder):
    """The inspection task does not change the run id, the result or the keys of the other tasks."""
    by_task, kinds = carried_out(folder)
    before, others = carried_out(folder, inspect=lambda *_: None)

    assert kinds.pop("inspect_tables")
    assert kinds == others
    assert by_task.run_id == before.run_id
    assert by_task.report.facts["result_digest"] == before.report.facts["result_digest"]


def test_a_finding_fails_the_run_before_anything_is_encoded(folder):
    """A finding of the inspection fails the run before the encoding: an age column with text would become a category."""
    table = make_tables(200).demographics
    ages = ["90+" if n % 9 == 0 else str(40 + n % 9) for n in range(table.num_rows)]
    pq.write_table(
        table.drop_columns(["age"]).append_column("age", pa.array(ages)), folder / "demographics.parquet"
    )
    run = prepare(make_spec(), folder / "spec.yaml", MemoryStore())
    executor = InlineExecutor(run.store, folder)

    with pytest.raises(DataError, match="mostly numbers"):
        carry_out(run, executor, NullObserver(), n_slots=3)

    assert "encode_partition" not in {task.kind for task in executor.submitted}


def test_its_task_names_no_value_of_a_patient(folder):
    """The stored findings contain no value of a patient."""
    run = prepare(make_spec(), folder / "spec.yaml", MemoryStore())
    executor = InlineExecutor(run.store, folder)
    (task,) = [planned.bind({}) for planned in run.first_plan().values() if planned.kind == "inspect_tables"]

    commit = executor.submit(task).result().commit

    found = json.loads(run.store.get(blob_key(commit.files["inspection.json"].sha256)))
    assert found["valid"] is True
    assert "p0000" not in json.dumps(found)


def test_its_warnings_are_in_the_status_of_the_run(folder):
    """Warnings of the inspection task are listed before those of the result. A run whose tables a command inspected has none."""
    table = make_tables(200).demographics
    sexes = ["F" if n % 2 else ("f" if n % 4 else "M") for n in range(table.num_rows)]
    pq.write_table(
        table.drop_columns(["sex"]).append_column("sex", pa.array(sexes)), folder / "demographics.parquet"
    )
    warnings = {}
    for name, options in (("by task", {}), ("by command", {"inspect": lambda *_: None})):
        run = prepare(make_spec(), folder / "spec.yaml", MemoryStore(), **options)
        finished = carry_out(run, InlineExecutor(run.store, folder), NullObserver(), n_slots=3)
        backend = SimpleNamespace(uri=lambda run_id, file: f"{run_id}/{file}")
        warnings[name] = outcome_of(backend, run, finished.report.facts)["warnings"]

    assert "sex" in warnings["by task"][0]
    assert warnings["by task"][1:] == warnings["by command"]
