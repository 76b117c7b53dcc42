"""The loop of one run from its specification to its files, with tasks that run in this process or fail as planned."""

import hashlib
import json
from concurrent.futures import Future
from pathlib import Path

import pytest
import yaml

from mlho.errors import ArtifactDamaged, DataError, PublishedBefore, StoreUnavailable
from mlho.store.keys import blob_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.engine.loop import MAX_ATTEMPTS, carry_out
from scheduler.engine.manifest import make_manifest
from scheduler.engine.training_run import TrainingRun
from scheduler.runs.record import RunState, read_record
from tests.builders import InlineExecutor, NullObserver, make_spec, make_tables, run_inline, write_tables


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("data"), make_tables(200, seed=4))


def make_run(data: Path, store=None) -> TrainingRun:
    spec = make_spec()
    return TrainingRun(spec, make_manifest(spec.spec.data.tables, data), data, store or MemoryStore())


class Failing(InlineExecutor):
    """An executor that fails tasks of one kind a given number of times."""

    def __init__(self, run: TrainingRun, kind: str, error: Exception, times: int) -> None:
        super().__init__(run.store, run.data)
        self.kind, self.error, self.left = kind, error, times

    def submit(self, task):
        if task.kind != self.kind or self.left == 0:
            return super().submit(task)
        self.left -= 1
        self.submitted.append(task)
        future: Future = Future()
        future.set_exception(self.error)
        return future


class Watching:
    """An observer that records the reported progress."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def update(self, stages, running) -> None:
        self.seen.append((sum(stage.done for stage in stages), running))


@pytest.mark.parametrize("n_slots", [1, 4])
def test_no_more_tasks_are_under_way_than_slots(n_slots, data):
    """At most `n_slots` tasks are in progress, and the count of finished tasks grows to the total."""
    run, watch = make_run(data), Watching()
    finished = carry_out(run, InlineExecutor(run.store, data), watch, n_slots=n_slots)

    assert max(running for _, running in watch.seen) <= n_slots
    done = [n_done for n_done, _ in watch.seen]
    assert done == sorted(done)
    assert done[-1] == finished.n_tasks == finished.n_new == 17


def test_a_failed_task_fails_the_run(data):
    """A failed task fails the run with the step's own error. Earlier commits stay, and no result is published."""
    run = make_run(data)
    error = DataError("a", "b", expected="c", got="d", remedy="e")

    with pytest.raises(DataError, match="a: b"):
        carry_out(run, Failing(run, "summarize_run", error, 1), NullObserver(), n_slots=2)
    assert not run.store.exists(f"runs/{run.run_id}/result.json")
    again = InlineExecutor(run.store, data)
    carry_out(run, again, NullObserver(), n_slots=2)
    assert [task.kind for task in again.submitted] == [
        "summarize_run",
        "judge_model",
        "fit_final_model",
        "test_model",
        "write_report",
    ]


def test_a_transient_error_is_retried(data):
    """A store that does not answer for two attempts does not fail the run."""
    run = make_run(data)
    executor = Failing(run, "merge_dictionary", StoreUnavailable("busy"), MAX_ATTEMPTS - 1)
    finished = carry_out(run, executor, NullObserver(), n_slots=2)

    assert finished.n_new == 17
    assert [task.kind for task in executor.submitted].count("merge_dictionary") == MAX_ATTEMPTS


def test_retries_are_limited(data):
    """After the last attempt, the task's error is raised."""
    run = make_run(data)
    executor = Failing(run, "merge_dictionary", StoreUnavailable("busy"), 99)

    with pytest.raises(StoreUnavailable, match="busy"):
        carry_out(run, executor, NullObserver(), n_slots=2)
    assert executor.left == 99 - MAX_ATTEMPTS


def test_an_intact_blob_is_not_deleted_if_a_worker_reports_damage(data):
    """An intact blob is not deleted if a worker reports it as damaged, because the scheduler verifies it first. The task is
    retried, and the error is raised after the last attempt.
    """
    run = make_run(data)
    other = "a blob of another run"
    digest = hashlib.sha256(other.encode()).hexdigest()
    run.store.put_if_absent(blob_key(digest), other.encode())
    executor = Failing(run, "merge_dictionary", ArtifactDamaged("damaged", sha256=digest), MAX_ATTEMPTS - 1)
    finished = carry_out(run, executor, NullObserver(), n_slots=2)

    assert finished.n_new == finished.n_tasks
    assert run.store.get(blob_key(digest)) == other.encode()


def test_work_of_another_run_is_found(data):
    """A run reuses the tasks of another run, because task keys depend on content and not on the run."""
    store = MemoryStore()
    run_inline(data, store)
    again = run_inline(data, store, {"selection.nFeatures": 3})

    assert {"encode_partition", "pack_features", "define_cohort"}.isdisjoint(again.kinds())
    assert "run_iteration" in again.kinds()


def test_the_progress_of_a_resumed_run_does_not_go_back(data):
    """Progress of a resumed run begins with the tasks that were committed before, not with those of the first plan only."""
    run, watch = make_run(data), Watching()
    error = DataError("a", "b", expected="c", got="d", remedy="e")
    with pytest.raises(DataError):
        carry_out(run, Failing(run, "summarize_run", error, 1), watch, n_slots=2)
    reported, _ = watch.seen[-1]

    again = Watching()
    carry_out(run, InlineExecutor(run.store, data), again, n_slots=2)

    assert again.seen[0][0] >= reported > 10


def test_the_progress_of_a_run_is_complete_at_its_end_only(data):
    """The first plan, which is done before the whole plan is known, is not shown as the whole run."""
    seen: list[tuple[int, int]] = []

    class Watching(NullObserver):
        def update(self, stages, running):
            seen.append((sum(stage.done for stage in stages), sum(stage.total for stage in stages)))

    run = make_run(data)
    carry_out(run, InlineExecutor(run.store, data), Watching(), n_slots=2)

    assert seen[-1] == (17, 17)
    assert [(done, total) for done, total in seen[:-1] if done == total] == []


def test_a_finished_run_does_nothing_again(data):
    """Running a finished run again executes no task and returns the same report."""
    store = MemoryStore()
    first = run_inline(data, store)
    run = make_run(data, store)
    finished = carry_out(run, InlineExecutor(store, data), NullObserver(), n_slots=2)
    assert (finished.n_new, finished.report) == (0, first.finished.report)


def test_another_result_of_a_finished_run_is_not_published(data, tmp_path):
    """If another version has published other figures, or the file is damaged, it stays, the run stays finished, and the error names the
    remedy. A different wording is not another result.
    """
    store = LocalStore(tmp_path)
    run = run_inline(data, store).run
    result = tmp_path / "runs" / run.run_id / "result.json"
    ours = json.loads(result.read_text())
    executor = InlineExecutor(store, data)

    replace(result, ours | {"warnings": ["Another wording."]})
    carry_out(make_run(data, store), executor, NullObserver(), n_slots=2)
    for other in (ours | {"winners": {}}, "damaged"):
        theirs = replace(result, other)
        with pytest.raises(PublishedBefore, match=f"mlho delete {run.run_id}"):
            carry_out(make_run(data, store), executor, NullObserver(), n_slots=2)
        assert result.read_text() == theirs
    assert read_record(store, run.run_id).state is RunState.FINISHED


def replace(path: Path, document: object) -> str:
    """Replace a published file, which may share its bytes with an artifact."""
    path.unlink()
    path.write_text(json.dumps(document))
    return path.read_text()


def test_the_run_id_depends_on_the_specification_and_the_data(data, tmp_path):
    """The run id depends on the specification and on the data's content, but neither on names nor on the folder."""
    run = make_run(data)
    other = TrainingRun(run.spec, run.manifest, tmp_path, run.store)
    renamed = run.spec.model_copy(update={"metadata": run.spec.metadata.model_copy(update={"name": "else"})})

    assert other.run_id == run.run_id
    assert TrainingRun(renamed, run.manifest, data, run.store).run_id == run.run_id
    assert TrainingRun(make_spec({"validation.seed": 8}), run.manifest, data, run.store).run_id != run.run_id


def test_a_run_is_described_before_it_starts_and_published_at_its_end(data, tmp_path):
    """Specification and manifest are written before the run starts. At the end, bundle and report are published before the result."""
    store = LocalStore(tmp_path)
    home = run_inline(data, store)
    folder = tmp_path / "runs" / home.finished.run_id

    assert (
        make_spec().spec
        == type(make_spec()).model_validate(yaml.safe_load((folder / "spec.yaml").read_text())).spec
    )
    assert set(json.loads((folder / "manifest.json").read_text())) == {
        "events",
        "labels",
        "demographics",
        "concepts",
    }
    assert {path.name for path in folder.iterdir()} >= {"bundle", "report.html", "result.json"}
    commit = home.finished.report
    assert (
        store.get(
            f"blobs/sha256/{commit.files['result.json'].sha256[:2]}/{commit.files['result.json'].sha256}"
        )
        == (folder / "result.json").read_bytes()
    )
