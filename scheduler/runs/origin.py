"""The run that produced a bundle, and its specification."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mlho.errors import ArtifactNotFound, ChannelDamaged, SpecError
from mlho.spec.scoring import CHANNEL_BUNDLE, RUN_BUNDLE, BundleSource
from mlho.spec.training import RunSpec, parse_spec
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.runs.channels import ChannelEntry, checked_name, kept_runs, live_entry
from scheduler.runs.stored import RECALIBRATION

_MAX_DIGITS = 10  # of the number of an entry


def entry_at(uri: str, store: Store) -> ChannelEntry:
    """Return the entry of a channel at ``channel:NAME``, the newest, or at ``channel:NAME/K``.

    Raise SpecError if there is no such entry, and ChannelDamaged if the log of the channel is damaged.
    """
    name, separator, number = uri.removeprefix(CHANNEL_BUNDLE).partition("/")
    if separator and not (number.isascii() and number.isdecimal() and len(number) < _MAX_DIGITS):
        raise SpecError(
            f"bundle.uri {uri[:100]!r}: expected channel:NAME, or channel:NAME/3 for the model of entry 3."
        )
    return live_entry(store, checked_name(name), int(number) if separator else None)


def run_of(source: BundleSource, store: Store) -> str | None:
    """Return the id of the run that produced a bundle; ``None`` for a bundle outside the store."""
    if source.uri.startswith(RUN_BUNDLE):
        return source.uri.removeprefix(RUN_BUNDLE)
    return entry_at(source.uri, store).run if source.uri.startswith(CHANNEL_BUNDLE) else None


def kept_with_origins(store: Store) -> dict[str, str]:
    """Return the runs that retention keeps, by id, with the reason: those of channels, and those that they recalibrated.

    Evaluations of a recalibration need the run of its model: its tables, to name labels that the model was trained on, and its
    specification, to train again.
    """
    kept = kept_runs(store)
    left = list(kept)
    while left:
        run = left.pop()
        origin = _recalibrated_run(run, store)
        if origin is not None and origin not in kept:
            kept[origin] = f"run {run} recalibrates its model, and {kept[run]}"
            left.append(origin)
    return kept


def _recalibrated_run(run: str, store: Store) -> str | None:
    """Return the run whose model a run recalibrates; ``None`` for other runs, and if its specification is missing or damaged."""
    try:
        document = yaml.safe_load(store.get(run_key(run, "spec.yaml")))
        if document["kind"] != RECALIBRATION:
            return None
        return run_of(BundleSource(uri=document["spec"]["bundle"]["uri"]), store)
    except (ArtifactNotFound, ChannelDamaged, SpecError, yaml.YAMLError, LookupError, TypeError):
        return None


def known_files(
    source: BundleSource,
    store: Store,
    manifest: Mapping[str, Any],
    *,
    tables: Sequence[str] = ("events", "labels"),
) -> int:
    """Return how many files of these tables the runs that produced the bundle have read, too.

    Files of unknown runs do not count. Nor do event files without rows, because two exports may have equal ones.
    """
    return len(_versions(manifest, tables) & _versions_read(source, store, tables))


def _versions(manifest: Mapping[str, Any], tables: Sequence[str]) -> set[str]:
    return {file["version"] for table in tables for file in manifest.get(table, ())}


def _versions_read(source: BundleSource, store: Store, tables: Sequence[str]) -> set[str]:
    """Return the files that the run of a bundle has read; for a recalibration, also those that its model was trained on."""
    run = run_of(source, store)
    if run is None:
        return set()
    try:
        manifest = json.loads(store.get(run_key(run, "manifest.json")))
        read = _versions(manifest, tables) - _versions_without_rows(run, store, manifest)
        document = yaml.safe_load(store.get(run_key(run, "spec.yaml")))
    except ArtifactNotFound:
        return set()  # the run was deleted
    if document["kind"] == RECALIBRATION:
        read |= _versions_read(BundleSource(uri=document["spec"]["bundle"]["uri"]), store, tables)
    return read


def _versions_without_rows(run: str, store: Store, manifest: Mapping[str, Any]) -> set[str]:
    """Return the files of events in which a training run found no row, such as a CSV of a header only."""
    try:
        result = json.loads(store.get(run_key(run, "result.json")))
    except ArtifactNotFound:
        return set()  # the run has not ended
    ledgers = result.get("inputs", {}).get("ledger_by_partition", ())
    files = manifest.get("events", ())
    return {file["version"] for file, ledger in zip(files, ledgers, strict=False) if not ledger["rows_in"]}


def training_spec(source: BundleSource, store: Store) -> RunSpec | None:
    """Return the specification of the training run that produced a bundle, if the store has it."""
    run = run_of(source, store)
    if run is None:
        return None
    try:
        text = store.get(run_key(run, "spec.yaml")).decode()
    except ArtifactNotFound:
        return None  # the run was deleted
    document = yaml.safe_load(text)
    if document["kind"] == RECALIBRATION:
        return training_spec(BundleSource(uri=document["spec"]["bundle"]["uri"]), store)
    return parse_spec(text)
