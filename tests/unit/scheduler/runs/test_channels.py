"""The log of a channel: each entry has one writer, and every change of an existing entry is detected and named."""

import hashlib
import multiprocessing
from collections.abc import Callable

import pytest

from mlho.errors import ChannelDamaged, MlhoError, SpecError
from mlho.store.base import Store
from mlho.store.keys import channel_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.runs.channels import (
    Action,
    ChannelEntry,
    ChannelMoved,
    append_entry,
    inspect_channel,
    kept_runs,
    live_entry,
    read_channel,
)
from tests.limits import GUARD_SECONDS
from tests.unit.scheduler.runs.planted import NOW


def entry_of(number: int, previous: str | None, *, why: str = "better", channel: str = "production"):
    return ChannelEntry(
        channel=channel,
        number=number,
        previous=previous,
        at=NOW,
        who="ann@clinic",
        action=Action.PROMOTE,
        why=why,
        run=f"{number:016x}",
        model="risk",
        bundle=f"{number:064x}",
        replaces=None,
        tests_passed=9,
    )


def fill(store: Store, n_entries: int, channel: str = "production") -> list[ChannelEntry]:
    entries: list[ChannelEntry] = []
    for number in range(1, n_entries + 1):
        entries.append(entry_of(number, entries[-1].digest if entries else None, channel=channel))
        append_entry(store, entries[-1])
    return entries


def replace(store: Store, number: int, data: bytes) -> None:
    store.delete(channel_key("production", number))
    store.put_if_absent(channel_key("production", number), data)


def test_entries_come_back_in_order(memory_store):
    """Entries are read in order, also beyond nine, and the newest one is the model in use."""
    entries = fill(memory_store, 12)

    assert list(read_channel(memory_store, "production").entries) == entries
    assert live_entry(memory_store, "production") == entries[-1]
    assert live_entry(memory_store, "production", 3) == entries[2]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_flipped_bit_of_an_entry_is_found_and_named(memory_store, number):
    """Every flipped bit is detected and its entry named, in the first, a middle and the last entry. The last one has no
    successor with its digest.
    """
    data = fill(memory_store, 3)[number - 1].to_bytes()
    missed = []
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        replace(memory_store, number, bytes(flipped))
        faults = inspect_channel(memory_store, "production").faults
        if not any(f"entry {number} is damaged" in fault for fault in faults):
            missed.append(place)

    assert missed == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda store, _: store.delete(channel_key("production", 2)), "entry 2 is missing"),
        (lambda store, _: replace(store, 2, b""), "entry 2 is damaged"),
        (
            lambda store, all_: replace(store, 2, all_[0].to_bytes()),
            "entry 2 was inserted: it is entry 1 of channel production",
        ),
        (
            lambda store, all_: replace(store, 2, entry_of(2, all_[0].digest, why="other").to_bytes()),
            "entry 3 does not follow entry 2: one of the two was replaced",
        ),
        (
            lambda store, _: store.put_if_absent(
                channel_key("production", 4), entry_of(4, "0" * 64).to_bytes()
            ),
            "entry 4 does not follow entry 3",
        ),
        (
            lambda store, all_: store.put_if_absent(
                channel_key("production", 4), entry_of(4, all_[2].digest, channel="staging").to_bytes()
            ),
            "entry 4 was inserted: it is entry 4 of channel staging",
        ),
        (
            lambda store, _: store.put_if_absent("channels/production/000003.bak", b""),
            "channels/production/000003.bak: not an entry",
        ),
    ],
    ids=["missing", "emptied", "copied", "replaced", "appended", "another channel's", "foreign"],
)
def test_a_changed_log_is_named_and_not_used(memory_store, change: Callable[..., object], named):
    """A changed log is reported and not used: scoring, promotion and rollback require a valid log."""
    change(memory_store, fill(memory_store, 3))

    assert any(fault.startswith(named) for fault in inspect_channel(memory_store, "production").faults)
    with pytest.raises(ChannelDamaged, match="from a backup"):
        live_entry(memory_store, "production")


def test_an_entry_of_a_later_version_is_no_damage(memory_store):
    """An entry of a later format version is not damaged. The error says to use a later version."""
    later = entry_of(1, None).to_bytes().replace(b"channel-entry/v1", b"channel-entry/v2")
    stem = later.rpartition(b',"sha256":"')[0]
    sealed = stem + b',"sha256":"' + hashlib.sha256(stem).hexdigest().encode() + b'"}'
    memory_store.put_if_absent(channel_key("production", 1), sealed)

    with pytest.raises(MlhoError, match="a different version"):
        read_channel(memory_store, "production")


def test_a_channel_without_entries_lists_the_others(memory_store):
    """The error for a channel without entries lists the other channels, so that a misspelled name is noticed."""
    fill(memory_store, 1, channel="staging")

    with pytest.raises(SpecError, match=r"no model was promoted to it. The store has: staging"):
        live_entry(memory_store, "stagging")
    with pytest.raises(SpecError, match="lower-case"):
        live_entry(memory_store, "../runs")
    with pytest.raises(SpecError, match=r"no entry 7\. Expected 1 to 1"):
        live_entry(memory_store, "staging", 7)


def test_the_same_entry_again_is_no_conflict(memory_store):
    """Appending the same entry again is not a conflict, because a client repeats a write whose response was lost."""
    entry = fill(memory_store, 1)[0]
    append_entry(memory_store, entry)

    with pytest.raises(
        ChannelMoved, match=r"entry 1 was written at the same time by ann@clinic: promote of risk"
    ):
        append_entry(memory_store, entry_of(1, None, why="mine"))
    assert live_entry(memory_store, "production") == entry


def test_a_store_without_conditional_writes_is_refused():
    """A store without conditional writes cannot hold channels, because two promotions could overwrite each other."""

    class Compat(MemoryStore):
        has_one_winner = False

    with pytest.raises(SpecError, match="conditional writes"):
        fill(Compat(), 1)


def _write_first(root, number, barrier, outcomes):
    store = LocalStore(root)
    barrier.wait()
    try:
        append_entry(store, entry_of(1, None, why=f"writer {number}"))
        outcomes.put(number)
    except ChannelMoved:
        outcomes.put(None)


def test_one_of_several_concurrent_writers_succeeds(local_store):
    """If several processes append an entry at once, one succeeds, the others get an error, and the log has one entry."""
    context = multiprocessing.get_context("fork")
    barrier, outcomes = context.Barrier(4), context.Queue()
    writers = [
        context.Process(target=_write_first, args=(local_store.root, number, barrier, outcomes))
        for number in range(4)
    ]
    for writer in writers:
        writer.start()
    found = [outcomes.get(timeout=GUARD_SECONDS) for _ in writers]
    for writer in writers:
        writer.join()

    (winner,) = [number for number in found if number is not None]
    assert [entry.why for entry in read_channel(local_store, "production").entries] == [f"writer {winner}"]


def test_the_runs_of_the_newest_entries_are_kept(memory_store):
    """The runs of the ten newest entries of a channel are kept, and all readable entries of a damaged log."""
    entries = fill(memory_store, 12)

    kept = kept_runs(memory_store)
    assert set(kept) == {entry.run for entry in entries[-10:]}
    assert kept[entries[-1].run] == "channel production shows its model"
    replace(memory_store, 5, b"")
    assert len(kept_runs(memory_store)) == 11
