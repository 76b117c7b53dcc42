"""A night is visible completely or not at all, regardless of the write at which its program is killed, and also if two schedulers score it."""

import contextlib
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.engine.loop import carry_out
from tests.builders import InlineExecutor, NullObserver
from tests.unit.scoring.conftest import prepare, score_inline


class DyingStore(MemoryStore):
    """A store whose program is killed before or after its k-th write."""

    def __init__(self, alive_for: float = float("inf"), *, after: bool = False) -> None:
        super().__init__()
        self.n_writes, self.alive_for, self.after = 0, alive_for, after

    def _counted(self, do, *arguments, **options):
        self.n_writes += 1
        if self.n_writes > self.alive_for + self.after:
            raise KeyboardInterrupt
        done = do(*arguments, **options)
        if self.after and self.n_writes > self.alive_for:
            raise KeyboardInterrupt
        return done

    def put_if_absent(self, key, data):
        return self._counted(super().put_if_absent, key, data)

    def put_file_if_absent(self, key, path):
        return self._counted(super().put_file_if_absent, key, path)

    def copy_if_absent(self, source, target):
        return self._counted(super().copy_if_absent, source, target)

    def compare_and_swap(self, key, data, *, expected):
        return self._counted(super().compare_and_swap, key, data, expected=expected)


def night_of(store, run) -> dict[str, bytes]:
    """Return the files that readers see: none without a manifest, and otherwise all parts that it lists."""
    prefix = run.key("")
    found = {key.removeprefix(prefix): store.get(key) for key in store.keys(prefix)}
    if "manifest.json" not in found:
        return {}
    for part in json.loads(found["manifest.json"])["parts"]:
        assert hashlib.sha256(found[part["name"]]).hexdigest() == part["sha256"]
    return found


def score(folder, store):
    run = prepare(folder, store)
    carry_out(run, InlineExecutor(store, folder), NullObserver(), n_slots=1)
    return run


def scored_but_not_published(whole, run, commit_too):
    """Return a store in which all tasks are done, optionally without the record of the last one."""
    store = DyingStore()
    for key in whole.keys(""):
        is_last = key.startswith("commits/") and json.loads(whole.get(key))["kind"] == "commit_scores"
        if not key.startswith(run.key("")) and (commit_too or not is_last):
            store.put_if_absent(key, whole.get(key))
    store.n_writes = 0
    return store


def test_a_killed_program_leaves_a_whole_night_or_none(trained):
    """The program is killed before and after each write from the last commit on, and a repeated run gives the same bytes."""
    whole = DyingStore()
    run = score(trained.folder, whole)
    expected = night_of(whole, run)
    last = scored_but_not_published(whole, run, commit_too=False)
    score(trained.folder, last)
    n_absent = n_whole = 0
    for place in range(last.n_writes):
        for after in (False, True):
            store = scored_but_not_published(whole, run, commit_too=place % 2)
            store.alive_for, store.after = place, after
            with contextlib.suppress(KeyboardInterrupt):
                score(trained.folder, store)
            seen = night_of(store, run)
            assert seen in ({}, expected), place
            n_absent, n_whole = n_absent + (not seen), n_whole + bool(seen)
            store.alive_for = float("inf")
            assert night_of(store, score(trained.folder, store)) == expected, place

    assert n_absent > len(expected)
    assert n_whole > 0


def test_two_schedulers_make_one_night(trained, tmp_path):
    """Two concurrent programs on one store both succeed, and the night is byte for byte that of one program."""
    alone = score_inline(trained.folder, MemoryStore())
    with ThreadPoolExecutor(2) as pool:
        stores = [LocalStore(tmp_path / "store") for _ in range(2)]
        first, second = pool.map(lambda store: score(trained.folder, store), stores)

    assert first.run_id == second.run_id == alone.finished.run_id
    store = LocalStore(tmp_path / "store")
    assert night_of(store, first) == night_of(alone.run.store, alone.run)
    manifests = [key for key in store.keys("runs/") if key.endswith("/scores/manifest.json")]
    assert manifests == [first.key("manifest.json")]
