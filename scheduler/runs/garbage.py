"""The garbage collector of a store: artifacts that no run uses are removed.

The roots are the lists of tasks that each run keeps (``uses/<run>/``), also those of active runs. An artifact stays
if a run uses its task. A file stays if the commit record of an artifact that stays names it. Nothing younger than a
day, by the clock of the store, is removed: it may belong to a task whose commit is about to be written. A task that
finds its file already in the store renews the file's time (:meth:`mlho.store.base.Store.refresh`).

Commit records are removed before the files that they name. A collector that is killed therefore leaves no record of a
missing file, and a later one removes the rest. The lists of the runs are read again before each group of objects. A
run that nevertheless loses an artifact to a collector recomputes it, as after any damage.
"""

import datetime as dt
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from mlho.protocol.documents import ATTEMPTS, TASKS
from mlho.steps.records import parse_record
from mlho.store.base import Store, StoredObject, get_if_present
from mlho.store.keys import BLOBS, COMMITS, PROPOSALS, USES
from mlho.store.probe import PROBES

GRACE: Final = dt.timedelta(hours=24)
_SHARDS: Final = tuple(f"{number:02x}" for number in range(256))


def garbage(
    objects: Iterable[StoredObject], *, is_needed: Callable[[StoredObject], bool], before: dt.datetime
) -> tuple[list[StoredObject], list[StoredObject], list[StoredObject]]:
    """Divide objects into garbage, garbage that is too young to be removed, and objects that are needed. Pure.

    Parameters
    ----------
    is_needed : callable
        Whether something refers to an object.
    before : datetime
        Only objects that were written before this time may be removed.
    """
    old: list[StoredObject] = []
    young: list[StoredObject] = []
    needed: list[StoredObject] = []
    for obj in objects:
        (needed if is_needed(obj) else old if obj.modified < before else young).append(obj)
    return old, young, needed


@dataclass
class Collected:
    """Objects that a collector removed, or would remove, and those that it will remove once they are old enough."""

    n_objects: int = 0
    n_bytes: int = 0
    n_young: int = 0
    young_bytes: int = 0

    def add(self, old: Sequence[StoredObject], young: Sequence[StoredObject]) -> None:
        """Count objects."""
        self.n_objects += len(old)
        self.n_bytes += sum(obj.size for obj in old)
        self.n_young += len(young)
        self.young_bytes += sum(obj.size for obj in young)


def store_time(store: Store) -> dt.datetime:
    """Return the time of the store's clock, which also sets the times of its objects."""
    key = f"{PROBES}/clock-{secrets.token_hex(8)}"
    store.put_if_absent(key, b"")
    try:
        (probe,) = store.objects(key)
        return probe.modified
    finally:
        store.delete(key)


def collect(
    store: Store,
    runs: Set[str],
    *,
    act: bool,
    without: Set[str] = frozenset(),
    grace: dt.timedelta = GRACE,
) -> Collected:
    """Remove the artifacts that no run uses.

    Parameters
    ----------
    act : bool
        Whether to remove them; otherwise only count them.
    without : set of str
        Ids of runs that are to be deleted. Their lists of tasks are ignored.
    grace : timedelta
        Age from which an object may be removed.
    """
    sweep = _Sweep(store, before=store_time(store) - grace, act=act)
    uses = _Uses(store, without)
    needed: set[str] = set()
    young: set[str] = set()

    def is_used(obj: StoredObject) -> bool:
        return obj.key.split("/")[2] in uses.tasks

    for part in (*_parts(COMMITS), *_parts(PROPOSALS), *_parts(TASKS)):
        uses.read()
        of_young, of_needed = sweep.run(part, is_used)
        if not part.startswith(f"{TASKS}/"):
            young.update(_digests_in(store, of_young))
            needed.update(_digests_in(store, of_needed))
    alive = runs - without
    sweep.run(f"{ATTEMPTS}/", lambda obj: obj.key.split("/")[1].rpartition("-")[0] in alive)
    sweep.run(f"{PROBES}/", lambda _: False)
    for part in _parts(BLOBS):
        _, kept = sweep.run(part, lambda obj: _digest_of(obj) in needed or _digest_of(obj) in young)
        sweep.collected.add([], [obj for obj in kept if _digest_of(obj) not in needed])
    return sweep.collected


def _digest_of(blob: StoredObject) -> str:
    return blob.key.rsplit("/", 1)[1]


def _parts(prefix: str) -> Iterator[str]:
    return (f"{prefix}/{shard}/" for shard in _SHARDS)


@dataclass
class _Sweep:
    store: Store
    before: dt.datetime
    act: bool
    collected: Collected = field(default_factory=Collected)

    def run(
        self, prefix: str, is_needed: Callable[[StoredObject], bool]
    ) -> tuple[list[StoredObject], list[StoredObject]]:
        """Remove or count the garbage under a prefix. Return the garbage that is too young to delete, and the artifacts in use."""
        old, young, needed = garbage(self.store.objects(prefix), is_needed=is_needed, before=self.before)
        self.collected.add(old, young)
        if self.act:
            self.store.each(self.store.delete, [obj.key for obj in old])
        return young, needed


@dataclass
class _Uses:
    """The tasks that runs use, read again as runs add to their lists."""

    store: Store
    without: Set[str]
    seen: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)

    def read(self) -> None:
        """Add the tasks that runs have listed since the last call."""
        unseen = (key for key in self.store.keys(f"{USES}/") if key not in self.seen)
        new = [key for key in unseen if key.split("/")[1] not in self.without]
        for content in self.store.each(lambda key: get_if_present(self.store, key), new):
            self.tasks.update((content or b"").decode().split())
        self.seen.update(new)


def _digests_in(store: Store, records: Sequence[StoredObject]) -> Iterator[str]:
    """Yield the digests of the files that commit records and proposals name. A damaged record names none."""

    def read(obj: StoredObject) -> list[str]:
        commit = parse_record(get_if_present(store, obj.key) or b"", obj.key.split("/")[2])
        return [file.sha256 for file in commit.files.values()] if commit is not None else []

    for digests in store.each(read, records):
        yield from digests
