"""A store that is damaged, full or not writable is repaired or gives a clear error, never a wrong result."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from mlho.errors import CommitLost
from mlho.store.keys import commit_key
from mlho.store.local import LocalStore
from scheduler.engine.loop import carry_out
from scheduler.engine.training_run import TrainingRun
from tests.builders import (
    Home,
    InlineExecutor,
    NullObserver,
    make_tables,
    run_inline,
    runs_on,
    write_spec,
    write_tables,
)
from tests.disks import enlarge, small_disk

TABLES = make_tables(200, seed=6)
MORE = {"consensus.minConfidence": 60}  # another run, which reads the artifacts of the first


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    replace(path, bytes(data))


def truncate(path: Path) -> None:
    replace(path, path.read_bytes()[:-7])


def empty(path: Path) -> None:
    replace(path, b"")


def replace(path: Path, data: bytes) -> None:
    """Write other bytes under a name; hard links to the old file keep the old bytes."""
    path.unlink()
    path.write_bytes(data)


def blob_of(store: Path, kind: str, file: str) -> Path:
    """Return the path of the blob of a file that a step of this kind wrote."""
    for path in sorted((store / "commits").rglob("*")):
        if path.is_file() and (commit := json.loads(path.read_text()))["kind"] == kind:
            digest = commit["files"][file]["sha256"]
            return store / "blobs" / "sha256" / digest[:2] / digest
    raise AssertionError(kind)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tables, which all tests share; a test adds only its specification."""
    return write_tables(tmp_path_factory.mktemp("data"), TABLES)


@pytest.fixture(scope="module")
def undamaged(data: Path) -> Callable[..., Home]:
    """Return a function that gives the run of a specification in an undamaged store."""
    return runs_on(data)


@pytest.fixture(scope="module")
def finished_store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with one finished run; tests damage copies of it."""
    store = tmp_path_factory.mktemp("finished") / "store"
    run_inline(data, store)
    return store


@pytest.fixture
def store(finished_store: Path, tmp_path: Path) -> Path:
    """Return a copy of the store with one finished run."""
    return copytree(finished_store, tmp_path / "store")


# Each step's readers meet damage, and each damage is met.
@pytest.mark.parametrize(
    ("kind", "file", "damage"),
    [
        ("define_cohort", "cohort.arr", flip),
        ("pack_features", "block.arr", Path.unlink),
        ("pack_features", "block.arr", truncate),
        ("merge_dictionary", "dictionary.arr", empty),
        ("run_iteration", "iteration.json", flip),
        ("run_iteration", "iteration.json", Path.unlink),
    ],
)
def test_a_damaged_artifact_is_computed_again(damage, kind, file, data, store, undamaged):
    """The reader detects the damage by the digest, the task runs again, and the result is that of an undamaged store."""
    blob = blob_of(store, kind, file)
    before = blob.read_bytes()
    damage(blob)
    healed = run_inline(data, store, MORE)

    assert blob.read_bytes() == before
    assert kind in healed.kinds()
    whole = undamaged(MORE)
    assert (healed.digest, healed.bundle()) == (whole.digest, whole.bundle())


@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flipped", "gone"])
def test_a_damage_that_several_tasks_meet_at_once_is_mended_once(damage, data, store, undamaged):
    """Four running iterations read the same damaged block. The first report removes it, and the later ones do not count as new damage."""
    damage(blob_of(store, "pack_features", "block.arr"))
    several = {"validation.iterations": 4, "consensus.minConfidence": 60}
    healed = run_inline(data, store, several, n_slots=4)

    assert healed.kinds().count("pack_features") == 1
    whole = undamaged(several)
    assert (healed.digest, healed.bundle()) == (whole.digest, whole.bundle())


@pytest.mark.parametrize("file", ["report.html", "bundle/bundle.json"])
def test_a_damaged_published_file_is_replaced(file, data, tmp_path):
    """The same command repairs published files, because each publication verifies their bytes."""
    store = tmp_path / "store"
    run = f"runs/{run_inline(data, store).finished.run_id}"
    published = store / run / file
    whole = published.read_bytes()
    published.write_bytes(b"x" + whole[1:])  # in place: the blob has the same bytes on the disk

    again = run_inline(data, store)

    assert published.read_bytes() == whole
    assert again.finished.n_new >= 1


def alter_digest(path: Path) -> None:
    """Change a digit of the result's digest in the record if it has one; otherwise flip a bit."""
    data = path.read_bytes()
    before, found, after = data.partition(b'"result_digest":"')
    if not found:
        flip(path)
        return
    replace(path, before + found + (b"1" if after[:1] != b"1" else b"2") + after[1:])


@pytest.mark.parametrize("kind", ["pack_features", "write_report"])
@pytest.mark.parametrize(
    "damage", [truncate, empty, flip, alter_digest], ids=["truncated", "empty", "flipped", "altered"]
)
def test_a_damaged_commit_record_is_replaced(damage, kind, data, store, undamaged):
    """A damaged commit record counts as missing: its task runs again, and the result is that of an undamaged store."""
    for path in sorted((store / "commits").rglob("*")):
        if path.is_file() and json.loads(path.read_text())["kind"] == kind:
            damage(path)
    again = run_inline(data, store)

    assert again.digest == undamaged({}).digest
    assert again.kinds() == [kind]
    assert run_inline(data, store).kinds() == []


class Losing(InlineExecutor):
    """An executor that damages the commit record of the first tasks of a kind as soon as it is written, up to ``times`` times."""

    def __init__(
        self, store: LocalStore, data: Path, kind: str, damage: Callable[[Path], None], *, times: int = 1
    ) -> None:
        super().__init__(store, data)
        self.kind, self.damage, self.left, self.root = kind, damage, times, store.root

    def submit(self, task):
        future = super().submit(task)
        if task.kind == self.kind and self.left:
            self.left -= 1
            self.damage(self.root / commit_key(task.key))
        return future


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("encode_partition", Path.unlink),
        ("encode_partition", truncate),
        ("merge_dictionary", Path.unlink),
        ("define_cohort", flip),
        ("pack_features", Path.unlink),
        ("pack_features", flip),
        ("run_iteration", Path.unlink),
        ("run_iteration", truncate),
        ("write_report", Path.unlink),
        ("write_report", flip),
    ],
)
def test_a_commit_that_is_lost_while_its_run_goes_on_is_made_again_at_once(
    kind, damage, data, undamaged, tmp_path
):
    """The loss may be detected by a task that reads the commit, by the plan, or at publication. The run succeeds with the same result."""
    whole = undamaged({})
    store = LocalStore(tmp_path / "store")
    executor = Losing(store, data, kind, damage)
    run = TrainingRun(whole.run.spec, whole.run.manifest, data, store)
    finished = carry_out(run, executor, NullObserver(), n_slots=2)

    assert executor.left == 0
    assert finished.report.facts["result_digest"] == whole.digest
    kinds = [task.kind for task in executor.submitted]
    assert kinds.count(kind) == whole.kinds().count(kind) + 1


def test_a_store_that_loses_a_commit_again_and_again_is_an_error(data, undamaged, tmp_path):
    """After ten lost commits of a task the run fails and does not repeat it forever."""
    store = LocalStore(tmp_path / "store")
    executor = Losing(store, data, "pack_features", Path.unlink, times=99)
    run = undamaged({}).run

    with pytest.raises(CommitLost):
        carry_out(TrainingRun(run.spec, run.manifest, data, store), executor, NullObserver(), n_slots=2)


def test_a_published_file_that_was_removed_comes_back(data, tmp_path):
    """The same command publishes a missing file again and runs no task."""
    store = tmp_path / "store"
    first = run_inline(data, store)
    report = store / "runs" / first.finished.run_id / "report.html"
    before = report.read_bytes()
    report.unlink()
    again = run_inline(data, store)

    assert report.read_bytes() == before
    assert again.kinds() == []


def test_a_store_that_is_a_file_is_refused(command, data, tmp_path):
    """If the path of the store is a file, the error names the option ``--store``."""
    (tmp_path / "file").write_text("x")

    response = command("run", write_spec(data), store=tmp_path / "file")

    assert response.code == 2
    assert "cannot be made" in response.err
    assert "--store" in response.err


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small disk with these options."""
    with ExitStack() as stack:
        yield lambda options: stack.enter_context(small_disk(tmp_path / "disk", options))


@pytest.mark.parametrize("size", ["size=4k", "size=40k", "size=100k", "size=200k"])
def test_a_full_disk_is_a_clear_error(size, command, data, disk):
    """A disk that fills at any point gives one clear error and publishes nothing. With free space, the same command finishes the run."""
    place = disk(size)

    response = command("run", write_spec(data), store=place / "store")

    assert response.code != 0
    assert "No space left" in response.err
    assert "Free some space and run the same command again" in response.err
    assert response.err.count("error") == 1
    assert response.results == []
    enlarge(place, size="20m")
    assert command("run", write_spec(data), store=place / "store").code == 0


def test_a_store_that_cannot_be_written_is_refused(command, data, disk):
    """A store that is not writable is refused before any task runs."""
    response = command("run", write_spec(data), store=disk("ro,size=1m") / "store")

    assert response.code == 2
    assert "--store" in response.err


def test_a_store_that_became_read_only_is_a_clear_error(command, data, disk):
    """A store that becomes read-only after it was created is also refused."""
    place = disk("size=10m")
    LocalStore(place / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)

    response = command("run", write_spec(data), store=place / "store")

    assert response.code == 2
    assert "not writable" in response.err


@pytest.fixture
def archive(finished_store: Path, disk: Callable[[str], Path]) -> Path:
    """Return a finished store on a disk that is mounted read-only, without the folder of unfinished files."""
    place = disk("size=20m")
    copytree(finished_store, place / "store", ignore=ignore_patterns(".tmp"))
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    return place / "store"


def test_a_read_only_store_can_be_read(command, archive, finished_store, tmp_path):
    """Commands that only read print the same for a mounted archive as for the store that it was copied from."""

    def output(*arguments: str, store: Path) -> tuple[str, str]:
        response = command(*arguments, store=store)
        assert response.code == 0
        return response.out.replace(str(archive), str(finished_store)), response.err

    (run,) = (folder.name for folder in (archive / "runs").iterdir())
    for arguments in (
        ["list", "--json"],
        ["show"],
        ["show", run],
        ["status", run],
        ["report"],
        ["lineage", run],
    ):
        assert output(*arguments, store=archive) == output(*arguments, store=finished_store)
    assert command("export", "--to", tmp_path / "out", store=archive).code == 0


def test_commands_that_write_refuse_a_read_only_store(command, archive, data, tmp_path):
    """The error names the folder and the option, before any work."""
    (run,) = (folder.name for folder in (archive / "runs").iterdir())
    evaluation = ("evaluate", f"run:{run}", "--data", data, "--publish", "--out", tmp_path / "out")
    for arguments in (["delete", run, "--yes"], ["prune", "--yes"], ["site"], evaluation):
        response = command(*arguments, store=archive)

        assert response.code == 2
        assert f"store {archive}: not writable. Give a folder" in " ".join(response.err.split())
    assert not (tmp_path / "out").exists()
