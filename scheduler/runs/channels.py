"""Channels of a store: which model is in use, as an append-only log.

A channel is a folder of entries, numbered from 1. Each entry is written once, and only if its number is free. It is
therefore pointer, compare-and-swap and audit record in one: of two concurrent promotions, one gets the number, and
the other fails. An entry names the digest of the entry before it and ends with its own digest, so a damaged, missing
or inserted entry is detected. The removal of the newest entries cannot be detected: keep the digest of an entry
elsewhere, and check it with ``mlho audit --includes``.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mlho.errors import ChannelDamaged, MlhoError, SpecError
from mlho.spec.training import canonical_json
from mlho.steps.records import sealed, unsealed
from mlho.store.base import Store, get_if_present
from mlho.store.keys import CHANNELS, channel_key, channel_prefix

KEPT_ENTRIES: Final = 10
"""Number of newest entries of a channel whose runs retention keeps, so that report and lineage are available after a rollback."""
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]{6}")
_MAX_NUMBER: Final = 999_999

Words = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class ChannelMoved(MlhoError):  # noqa: N818 - reads as the state
    """Another command changed the channel at the same time: inspect it, and decide again."""


class Action(StrEnum):
    """Effect of an entry."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"


class GateRecord(BaseModel):
    """One gate of the specification of the run, as evaluated when the model was built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    """In words."""
    passed: bool
    detail: str
    """Measured figure."""


class ChannelEntry(BaseModel):
    """One entry of a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["mlho.io/channel-entry/v1"] = Field(default="mlho.io/channel-entry/v1", alias="schema")
    channel: str
    number: int
    previous: str | None
    """SHA-256 of the entry before; ``null`` in the first."""
    at: dt.datetime
    """Time of the command, in UTC."""
    who: Words
    action: Action
    why: Words
    run: str
    """Id of the training run that produced the bundle."""
    model: str
    """Name of that run."""
    bundle: str
    """Digest of the bundle that is in use from this entry on."""
    replaces: str | None
    """Digest of the bundle that was in use before."""
    restores: int | None = None
    """For a rollback: the number of the entry whose bundle is in use again."""
    tests_passed: int
    """Self-tests of the bundle that passed just before; if one fails, there is no entry."""

    gates: tuple[GateRecord, ...] = ()
    """Gates of the run; none if its specification has none."""
    forced: bool = False
    """Whether a gate failed and the model was promoted nevertheless (``--force``)."""

    def to_bytes(self) -> bytes:
        """Return canonical JSON that ends with the digest of the preceding bytes."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return sealed(canonical_json({**plain, "schema": self.schema_})[:-1])

    @property
    def digest(self) -> str:
        """SHA-256 of the entry, by which the next one names it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def address(self) -> str:
        """Name of exactly this entry in ``bundle.uri`` of a scoring run."""
        return f"channel:{self.channel}/{self.number}"


@dataclass(frozen=True)
class Channel:
    """The entries of a channel."""

    name: str
    entries: Sequence[ChannelEntry]
    """Undamaged entries in ascending order of their numbers."""
    faults: Sequence[str] = ()
    """Damaged, missing and inserted entries, in words."""

    @property
    def head(self) -> ChannelEntry | None:
        """Return the newest entry: the model in use. ``None`` for an empty channel."""
        return self.entries[-1] if self.entries else None

    def entry(self, number: int) -> ChannelEntry:
        """Return the entry with this number. Raise SpecError if there is none."""
        for entry in self.entries:
            if entry.number == number:
                return entry
        raise SpecError(
            f"channel {self.name}: no entry {number}. Expected 1 to {len(self.entries)}. mlho audit --channel {self.name} lists them."
        )

    def origin(self, entry: ChannelEntry) -> ChannelEntry:
        """Return the promotion that an entry restores, through any number of rollbacks. Return a promotion itself."""
        while entry.restores is not None:
            entry = self.entry(entry.restores)
        return entry


def checked_name(channel: str) -> str:
    """Return a channel's name. Raise SpecError if it is not valid."""
    if _NAME.fullmatch(channel) is None:
        raise SpecError(
            f"channel {channel[:80]!r}: expected lower-case letters, digits and '-', at most 63, such as production."
        )
    return channel


def channel_names(store: Store) -> list[str]:
    """Return the names of the channels of a store, sorted."""
    return sorted({key.split("/")[1] for key in store.keys(f"{CHANNELS}/") if key.count("/") >= 2})


def inspect_channel(store: Store, name: str) -> Channel:
    """Return a channel with all defects of its log."""
    prefix = channel_prefix(checked_name(name))
    names = [key.removeprefix(prefix) for key in store.keys(prefix)]
    numbers = [entry_name for entry_name in names if _NUMBER.fullmatch(entry_name) and int(entry_name) > 0]
    contents = store.each(lambda number: get_if_present(store, prefix + number), numbers)
    parsed = {
        int(number): _parsed(data, prefix + number)
        for number, data in zip(numbers, contents, strict=True)
        if data is not None
    }
    faults = [
        f"{prefix}{entry_name}: not an entry; remove it" for entry_name in sorted(set(names) - set(numbers))
    ]
    faults += _faults(name, parsed)
    whole = [
        entry for number, entry in sorted(parsed.items()) if entry is not None and entry.number == number
    ]
    return Channel(name, whole, tuple(faults))


def _parsed(data: bytes, where: str) -> ChannelEntry | None:
    """Return an entry; ``None`` if its bytes are damaged.

    Raise if the bytes are intact but a different version of this program wrote them.
    """
    content = unsealed(data)
    if content is None:
        return None
    try:
        entry = ChannelEntry.model_validate_json(content)
    except ValidationError:
        raise MlhoError(
            f"{where}: written by a different version of this program. Use that version, or a newer one."
        ) from None
    return entry if entry.to_bytes() == data else None


def _faults(name: str, parsed: Mapping[int, ChannelEntry | None]) -> Iterator[str]:
    """Yield the defects of the chain of entries, in words, by number."""
    before: ChannelEntry | None = None
    for number in range(1, max(parsed, default=0) + 1):
        entry = parsed.get(number)
        if number not in parsed:
            yield f"entry {number} is missing"
        elif entry is None:
            yield f"entry {number} is damaged: its bytes do not match their digest"
        elif (entry.channel, entry.number) != (name, number):
            yield f"entry {number} was inserted: it is entry {entry.number} of channel {entry.channel}"
            entry = None
        elif number == 1 and entry.previous is not None:
            yield "entry 1 was inserted: it follows another entry"
        elif before is not None and entry.previous != before.digest:
            yield f"entry {number} does not follow entry {before.number}: one of the two was replaced or inserted"
        before = entry


def read_channel(store: Store, name: str) -> Channel:
    """Return a channel whose log is intact.

    Raise ChannelDamaged if entries are damaged, missing or inserted.
    """
    channel = inspect_channel(store, name)
    if channel.faults:
        raise ChannelDamaged(
            f"channel {name}: {'; '.join(channel.faults)}. Expected an unbroken chain of entries. Find out who changed the store, "
            f"restore these objects under {channel_prefix(name)} from a backup, and check with: mlho audit --channel {name}."
        )
    return channel


def live_channel(store: Store, name: str) -> tuple[Channel, ChannelEntry]:
    """Return a channel with entries, and the newest of them.

    Raise SpecError if the channel has no entry, and ChannelDamaged if its log is damaged.
    """
    channel = read_channel(store, name)
    if channel.head is None:
        named = ", ".join(channel_names(store)) or "no channel"
        raise SpecError(
            f"channel {name}: no model was promoted to it. The store has: {named}. Correct the name, or promote one: mlho promote "
            f"RUN --channel {name} --why TEXT."
        )
    return channel, channel.head


def live_entry(store: Store, name: str, number: int | None = None) -> ChannelEntry:
    """Return the newest entry of a channel, or the one with a number.

    Raise SpecError if the channel has no entry, or none with this number, and ChannelDamaged if its log is damaged.
    """
    channel, head = live_channel(store, name)
    return head if number is None else channel.entry(number)


def append_entry(store: Store, entry: ChannelEntry) -> None:
    """Write the next entry of a channel.

    Raise ChannelMoved if another command has written this entry, and SpecError if the store cannot decide between two writers.
    """
    if not store.has_one_winner:
        raise SpecError(
            "channels need a store with conditional writes: in compat mode two promotions could overwrite each other. "
            "Use another store, or a folder, for models."
        )
    if entry.number > _MAX_NUMBER:
        raise SpecError(f"channel {entry.channel}: full. Create another channel.")
    key, data = channel_key(entry.channel, entry.number), entry.to_bytes()
    # After a lost reply, the second write of the same entry fails, although the entry exists.
    if store.put_if_absent(key, data) or get_if_present(store, key) == data:
        return
    other = _parsed(get_if_present(store, key) or b"", key)
    what = f" by {other.who}: {other.action} of {other.model} ({other.run})" if other is not None else ""
    raise ChannelMoved(
        f"channel {entry.channel}: entry {entry.number} was written at the same time{what}. This command changed "
        f"nothing. Inspect mlho audit --channel {entry.channel}, then decide again."
    )


def kept_runs(store: Store, *, n_entries: int = KEPT_ENTRIES) -> dict[str, str]:
    """Return the runs of the newest entries of each channel, by id, with the reason in words: those that retention keeps."""
    kept: dict[str, str] = {}
    for name in channel_names(store):
        channel = inspect_channel(store, name)
        # With a damaged log it is not known which entries are the newest.
        recent = channel.entries if channel.faults else channel.entries[-n_entries:]
        for entry in recent:
            is_live = entry is channel.head
            words = "shows its model" if is_live else f"has shown its model (entry {entry.number})"
            if is_live or entry.run not in kept:
                kept[entry.run] = f"channel {name} {words}"
    return kept
