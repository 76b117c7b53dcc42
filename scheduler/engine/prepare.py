"""Preparation of a run: locate, inspect and pin its tables before any task starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, overload

from mlho.errors import SpecError
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec
from mlho.store.base import Store
from scheduler.engine.manifest import data_root, training_manifest
from scheduler.engine.scoring_run import ScoringRun, bundle_now, prepare_scoring, read_bundle
from scheduler.engine.training_run import RecalibrationRun, TrainingRun, compared, prepare_recalibration

_NOWHERE: Final = Path("/nonexistent")  # base of relative addresses, which a custom resource cannot have

type Inspect = Callable[[RunSpec | ScoringRunSpec, Path | str, bytes | None], object]


@overload
def prepare(
    spec: RunSpec, spec_path: Path, store: Store, *, inspect: Inspect | None = ...
) -> TrainingRun: ...
@overload
def prepare(
    spec: ScoringRunSpec, spec_path: Path, store: Store, *, inspect: Inspect | None = ...
) -> ScoringRun: ...
def prepare(
    spec: RunSpec | ScoringRunSpec,
    spec_path: Path,
    store: Store,
    *,
    inspect: Inspect | None = None,
) -> TrainingRun | ScoringRun:
    """Return a run that can be carried out.

    Raise MlhoError if the run cannot start.

    Parameters
    ----------
    spec_path : Path
        File of the specification, at which relative paths start.
    inspect : callable, optional
        Called with the specification, the address of the tables and the bundle's document, before the tables are
        hashed. Without it, a task of the run inspects the tables before anything is encoded or scored.
    """
    if isinstance(spec, ScoringRunSpec):
        return prepare_scoring(spec, spec_path, store, inspect=inspect)
    if spec.spec.recalibrate is not None:
        raise SpecError(
            "recalibrate: this command trains. Expected a specification without recalibrate; got one with it. Use mlho recalibrate BUNDLE --spec FILE, "
            "or in a cluster kubectl apply -f FILE."
        )
    data = data_root(spec, spec_path)
    if inspect is not None:
        inspect(spec, data, None)
    return compared(TrainingRun(spec, training_manifest(spec, data), data, store, inspects=inspect is None))


def prepare_in_cluster(
    spec: RunSpec | ScoringRunSpec, store: Store
) -> TrainingRun | ScoringRun | RecalibrationRun:
    """Return the run of a custom resource, which may also be a recalibration; see :func:`prepare`."""
    if isinstance(spec, RunSpec) and spec.spec.recalibrate is not None:
        recalibrate = spec.spec.recalibrate
        source = bundle_now(recalibrate.bundle, store)
        bundle = read_bundle(source, _NOWHERE, store)
        return prepare_recalibration(spec, source, bundle, recalibrate.correction, _NOWHERE, store)
    return prepare(spec, _NOWHERE, store)
