"""The manifest of the run that the advice recommends, ready for ``mlho run``, ``mlho recalibrate`` or ``kubectl apply``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlho.errors import SpecError
from mlho.spec.data import BundleSource, Recalibrate, without_training
from mlho.spec.training import RunSpec, parse_spec
from mlho.store.base import Store
from scheduler.engine.publication import cluster_command, renamed, spec_yaml, with_fields
from scheduler.runs.origin import training_spec

RETRAIN, RECALIBRATE = "retrain.yaml", "recalibrate.yaml"
_ONLY_DATA: Final = "# Only the data are stated: {}. Add features, selection, validation and candidates.\n"


def advised_manifest(
    advice: Mapping[str, Any],
    bundle: str,
    source: BundleSource,
    store: Store,
    data_spec: RunSpec,
    data: Path | str,
) -> tuple[str, bytes] | None:
    """Return the name and the content of the manifest of the advised run; ``None`` if the advice is to wait.

    Parameters
    ----------
    bundle : str
        The bundle as the user named it.
    source : BundleSource
        The bundle to which that name refers now.
    data : Path or str
        Resolved address of the evaluated tables.
    """
    data_section = data_spec.spec.data.model_copy(update={"uri": str(data)})
    later = with_fields(data_spec, data=data_section, recalibrate=None)
    if advice["action"] == "recalibrate":
        intercept = " --intercept" if advice["correction"] == "intercept" else ""
        how = Recalibrate(bundle=BundleSource(uri=bundle), correction=advice["correction"] or "line")
        advised = renamed(later, "-recalibrated")
        head = f"# mlho recalibrate {bundle} --spec {RECALIBRATE}{intercept}{cluster_command(advised, RECALIBRATE)}.\n"
        section = without_training(advised.spec).model_copy(update={"recalibrate": how})
        return RECALIBRATE, head.encode() + spec_yaml(advised.model_copy(update={"spec": section}))
    if advice["action"] != "retrain":
        return None
    trained = training_spec(source, store)
    if trained is None:
        why = "the specification of the training run is not in this store"
        return RETRAIN, _ONLY_DATA.format(why).encode() + spec_yaml(later)
    try:
        advised = _retrained(trained, later)
    except SpecError:
        why = "the specification of the training run does not fit the evaluated tables"
        return RETRAIN, _ONLY_DATA.format(why).encode() + spec_yaml(later)
    head = (
        f"# mlho run {RETRAIN}{cluster_command(advised, RETRAIN)}. It trains on the evaluated data alone.\n"
    )
    return RETRAIN, head.encode() + spec_yaml(advised)


def _retrained(trained: RunSpec, later: RunSpec) -> RunSpec:
    """Return the training specification with the tables, labels and dates of the later data."""
    before, now = trained.spec, later.spec
    data = now.data.model_copy(
        update={"duplicates": before.data.duplicates, "plausible_years": before.data.plausible_years}
    )
    kept = {name: getattr(before.cohort, name) for name in ("gap_days", "look_back_days", "follow_up_days")}
    cohort = now.cohort.model_copy(update=kept)
    retrained = with_fields(renamed(trained, "-retrained"), data=data, cohort=cohort)
    return parse_spec(spec_yaml(retrained).decode())
