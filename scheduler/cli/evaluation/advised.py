"""The manifest of the run that an advice names, ready for ``mlho run``, ``mlho recalibrate`` or ``kubectl apply``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from mlho.errors import ArtifactNotFound, SpecError
from mlho.spec.scoring import CHANNEL_BUNDLE, RUN_BUNDLE, BundleSource
from mlho.spec.training import RunSpec, parse_spec
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.engine.publication import spec_yaml
from scheduler.engine.scoring_run import entry_at
from scheduler.runs.stored import RECALIBRATION

RETRAIN, RECALIBRATE = "retrain.yaml", "recalibrate.yaml"
_MAX_NAME: Final = 63
_ONLY_DATA: Final = "# Only the data are stated: {}. Add features, selection, validation and candidates.\n"


def advised_manifest(
    advice: Mapping[str, Any],
    bundle: str,
    source: BundleSource,
    store: Store,
    asked: RunSpec,
    data: Path | str,
) -> tuple[str, bytes] | None:
    """Return name and content of the manifest of the advised run; ``None`` if the advice is to hold.

    Parameters
    ----------
    advice : mapping
        ``advice`` of the evaluation.
    bundle : str
        The bundle as the user named it.
    source : BundleSource
        What that means now.
    store : Store
    asked : RunSpec
        Specification of the evaluated data.
    data : Path or str
        Resolved address of their tables.
    """
    own = asked.spec.data.model_copy(update={"uri": str(data)})
    later = asked.model_copy(update={"spec": asked.spec.model_copy(update={"data": own})})
    if advice["action"] == "recalibrate":
        intercept = " --intercept" if advice["correction"] == "intercept" else ""
        head = f"# mlho recalibrate {bundle} --spec {RECALIBRATE}{intercept}\n"
        return RECALIBRATE, head.encode() + spec_yaml(later)
    if advice["action"] != "retrain":
        return None
    trained = training_spec(source, store)
    if trained is None:
        why = "the specification of the training run is not in this store"
        return RETRAIN, _ONLY_DATA.format(why).encode() + spec_yaml(later)
    try:
        made = _retrained(trained, later)
    except SpecError:
        why = "the specification of the training run does not fit the evaluated tables"
        return RETRAIN, _ONLY_DATA.format(why).encode() + spec_yaml(later)
    head = f"# mlho run {RETRAIN}, or kubectl apply -f {RETRAIN}. It trains on the evaluated data alone.\n"
    return RETRAIN, head.encode() + spec_yaml(made)


def run_of(source: BundleSource, store: Store) -> str | None:
    """Return the id of the run that made a bundle; ``None`` for a bundle outside the store."""
    if source.uri.startswith(RUN_BUNDLE):
        return source.uri.removeprefix(RUN_BUNDLE)
    return entry_at(source.uri, store).run if source.uri.startswith(CHANNEL_BUNDLE) else None


def training_spec(source: BundleSource, store: Store) -> RunSpec | None:
    """Return the specification of the training run that made a bundle, if the store has it."""
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


def _retrained(trained: RunSpec, later: RunSpec) -> RunSpec:
    """Return the specification of training with the tables, labels and dates of the later data."""
    before, now = trained.spec, later.spec
    data = now.data.model_copy(
        update={"duplicates": before.data.duplicates, "plausible_years": before.data.plausible_years}
    )
    kept = {name: getattr(before.cohort, name) for name in ("gap_days", "look_back_days", "follow_up_days")}
    spec = before.model_copy(update={"data": data, "cohort": now.cohort.model_copy(update=kept)})
    name = f"{trained.metadata.name[: _MAX_NAME - len('-retrained')].rstrip('-.')}-retrained"
    made = trained.model_copy(
        update={"metadata": trained.metadata.model_copy(update={"name": name}), "spec": spec}
    )
    return parse_spec(spec_yaml(made).decode())
