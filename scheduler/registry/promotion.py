"""Promotion of a model to a channel, and rollback.

A promotion verifies the bundle and its self-tests, copies the bundle under its digest (``models/<digest>/``), and then writes one entry of
the channel. The copy does not depend on the run: scoring can use the model of a channel after its run was deleted. A promotion
that is killed before it writes the entry changes nothing for scoring. The same command completes it.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlho.errors import BundleError, SpecError, StoreUnavailable, plural
from mlho.model.signature import check_signatures, verify_key
from mlho.spec.scoring import CHANNEL_BUNDLE, RUN_BUNDLE, BundleSource
from mlho.store.base import Store
from mlho.store.keys import model_key, signature_prefix
from scheduler.engine.scoring_run import PinnedBundle, read_bundle, stored_signatures
from scheduler.registry.bundle_tests import run_in_fresh_process
from scheduler.registry.gates import Comparer, GateFailed, checked_gates
from scheduler.runs.channels import (
    Action,
    Channel,
    ChannelEntry,
    GateRecord,
    append_entry,
    checked_name,
    live_channel,
    read_channel,
)
from scheduler.runs.refusals import RefusedPromotion, record_refusal
from scheduler.runs.stored import StoredRun

if TYPE_CHECKING:
    from mlho.model.testing.records import ModelTestResult

Signer = Callable[[Mapping[str, bytes]], bytes]
Tester = Callable[[Mapping[str, bytes]], "Sequence[ModelTestResult]"]


@dataclass(frozen=True)
class Author:
    """The author of a change of a channel, with time and reason, for the audit log."""

    who: str
    at: dt.datetime
    why: str


@dataclass(frozen=True)
class Change:
    """The entry that is live after a command, and whether the command wrote it."""

    entry: ChannelEntry
    is_new: bool


def promote(
    store: Store,
    run: StoredRun,
    channel: str,
    author: Author,
    *,
    force: bool = False,
    signer: Signer | None = None,
    compare: Comparer | None = None,
    test: Tester | None = None,
) -> Change:
    """Make the bundle of a finished training run the model of a channel.

    If it already is, only a damaged copy of the bundle is replaced.

    Parameters
    ----------
    run : StoredRun
        A finished training run.
    force : bool
        Promote the model although a gate failed, which the entry records. This does not override digests, signatures and self-tests.
    signer : callable, optional
        Returns the signature of a bundle, given its files. It is kept in the store.
    compare : callable, optional
        As in :func:`scheduler.registry.gates.checked_gates`.
    test : callable, optional
        Runs the self-tests of a bundle, given its files; default: :func:`scheduler.registry.bundle_tests.run_in_fresh_process`.

    Raises
    ------
    BundleError
        The bundle is damaged or not that of the result, one of its self-tests failed, or ``MLHO_VERIFY_KEY`` is set and no signature matches.
    GateFailed
        A gate of the specification failed, and ``force`` is false.
    ChannelMoved
        Another command changed the channel at the same time.
    ChannelDamaged
        The log of the channel is damaged.
    """
    current = read_channel(store, checked_name(channel))
    with _recording_refusal(store, run, current.name, author):
        bundle = _read(store, RUN_BUNDLE + run.run_id)
        if signer is not None:
            keep_signature(store, bundle, signer)
        _check_signature(store, bundle)
        if current.head is not None and current.head.bundle == bundle.digest:
            keep_model(store, bundle)  # a damaged copy is repaired
            return Change(current.head, is_new=False)
        gates = checked_gates(store, run, force=force, compare=compare)
        n_passed = _count_passed_tests(bundle, test, where=f"run {run.run_id} ({run.name})")
    keep_model(store, bundle)
    entry = _next_entry(
        current,
        author,
        Action.PROMOTE,
        run=run.run_id,
        model=run.name,
        bundle=bundle.digest,
        tests_passed=n_passed,
        gates=gates,
    )
    append_entry(store, entry)
    return Change(entry, is_new=True)


@contextmanager
def _recording_refusal(store: Store, run: StoredRun, channel: str, author: Author) -> Iterator[None]:
    """Keep the reason for a refusal in the store, for later readers of the channel, and raise the error again."""
    try:
        yield
    except (BundleError, GateFailed) as error:
        refused = RefusedPromotion(
            at=author.at, who=author.who, run=run.run_id, model=run.name, message=str(error)
        )
        with suppress(StoreUnavailable):  # the command reports the refusal itself
            record_refusal(store, channel, refused)
        raise


def roll_back(
    store: Store, channel: str, author: Author, *, to: int | None = None, test: Tester | None = None
) -> Change:
    """Make the bundle of an earlier entry the model of a channel again.

    Parameters
    ----------
    to : int, optional
        Number of the entry; default: the one before the promotion that is in use.
    test : callable, optional
        As in :func:`promote`.

    Raises
    ------
    SpecError
        The channel has no entry, there is no such entry, or nothing to go back to.
    BundleError, ChannelMoved, ChannelDamaged
        As in :func:`promote`.
    """
    current, head = live_channel(store, checked_name(channel))
    target = _target(current, head, to)
    if head.bundle == target.bundle:
        return Change(head, is_new=False)
    bundle = _read(store, target.address, digest=target.bundle)
    _check_signature(store, bundle)
    entry = _next_entry(
        current,
        author,
        Action.ROLLBACK,
        run=target.run,
        model=target.model,
        bundle=target.bundle,
        tests_passed=_count_passed_tests(bundle, test, where=target.address),
        restores=target.number,
        gates=target.gates,
    )
    append_entry(store, entry)
    return Change(entry, is_new=True)


def _target(channel: Channel, head: ChannelEntry, to: int | None) -> ChannelEntry:
    if to is not None:
        return channel.entry(to)
    number = channel.origin(head).number - 1
    if number < 1:
        raise SpecError(
            f"channel {channel.name}: no earlier model to go back to. mlho audit --channel {channel.name} lists its entries; name one with "
            "--to, or promote another run."
        )
    return channel.entry(number)


def _next_entry(
    channel: Channel,
    author: Author,
    action: Action,
    *,
    gates: tuple[GateRecord, ...],
    **fields: Any,
) -> ChannelEntry:
    """Return the next entry of a channel with these fields. Fields that are not given are not written."""
    head = channel.head
    if gates:
        fields["gates"] = gates
    if not all(gate.passed for gate in gates):
        fields["forced"] = True
    return ChannelEntry(
        channel=channel.name,
        number=1 if head is None else head.number + 1,
        previous=None if head is None else head.digest,
        at=author.at.astimezone(dt.UTC).replace(microsecond=0),
        who=author.who,
        action=action,
        why=author.why,
        replaces=None if head is None else head.bundle,
        **fields,
    )


def _read(store: Store, address: str, digest: str | None = None) -> PinnedBundle:
    """Read a bundle of the store. Verify all digests, but not the signature."""
    assert address.startswith((RUN_BUNDLE, CHANNEL_BUNDLE))
    source = BundleSource(uri=address, digest=digest)
    return read_bundle(source, Path("mlho.yaml"), store, must_be_signed=False)


def keep_signature(store: Store, bundle: PinnedBundle, signer: Signer) -> None:
    """Sign a bundle and keep the signature, unless the store already has the required one."""
    key, before = verify_key(), stored_signatures(store, bundle.digest)
    if key is not None and before:
        with suppress(BundleError):
            check_signatures(bundle.files, before, key, where=bundle.digest)
            return
    signature = signer(bundle.files)
    if key is not None:  # a refused promotion keeps no signature
        check_signatures(bundle.files, [signature], key, where=f"bundle {bundle.digest}")
    name = hashlib.sha256(signature).hexdigest()
    store.put_if_absent(signature_prefix(bundle.digest) + name, signature)


def _check_signature(store: Store, bundle: PinnedBundle) -> None:
    """Refuse a bundle that scoring would refuse."""
    key = verify_key()
    if key is not None:
        check_signatures(
            bundle.files, stored_signatures(store, bundle.digest), key, where=f"bundle {bundle.digest}"
        )


def keep_model(store: Store, bundle: PinnedBundle) -> None:
    """Write a bundle under its digest. Damaged files of an earlier copy are replaced."""
    for name, content in sorted(bundle.files.items()):
        key = model_key(bundle.digest, name)
        if not store.put_if_absent(key, content) and store.get(key) != content:
            store.delete(key)
            store.put_if_absent(key, content)


def model_faults(store: Store, channel: Channel) -> list[str]:
    """Return which models of a channel are missing or damaged in the store, in words."""
    faults = []
    for digest, entry in {entry.bundle: entry for entry in channel.entries}.items():
        try:
            _read(store, entry.address, digest=digest)
        except BundleError as error:
            faults.append(f"the model of entry {entry.number}: {error}")
    return faults


def _count_passed_tests(bundle: PinnedBundle, test: Tester | None, *, where: str) -> int:
    """Run the tests of a bundle. Return the number of its self-tests, as counted by the run that produced it.

    Tests that measure this machine must pass too, but are not counted.
    """
    results = (test or run_in_fresh_process)(bundle.files)
    failed = [result for result in results if not result.passed]
    if failed:
        raise BundleError(
            f"{where}: {len(failed)} of the {plural(len(results), 'test')} of the bundle failed, the first: {failed[0].id} "
            f"({failed[0].defect}). The channel was not changed. Promote another run; mlho test shows all results."
        )
    return sum(not result.is_measured for result in results)
