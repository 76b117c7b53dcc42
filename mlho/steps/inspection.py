"""Inspection of the tables of a run outside of a task, where this machine can read them."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec
from mlho.store.inputs import open_data

if TYPE_CHECKING:
    from mlho.inspection.findings import Inspection


def inspect_tables(
    spec: RunSpec | ScoringRunSpec,
    data: Path | str,
    document: bytes | None = None,
    *,
    env: Mapping[str, str] | None = None,
    today: dt.date | None = None,
    trains: bool = True,
) -> "Inspection":
    """Return the findings of an inspection of the tables.

    Parameters
    ----------
    data : Path or str
        As returned by :func:`scheduler.engine.manifest.data_root`.
    document : bytes, optional
        ``bundle.json`` of the bundle that scores.
    env : mapping, optional
        Settings of object storage; default: the environment.
    today : date, optional
        Of a command: training index dates after this day give a warning.
    trains : bool
        False if the specification describes labelled data for an existing model.
    """
    root = open_data(data, env)
    if isinstance(spec, RunSpec):
        from mlho.inspection.training import inspect_training

        return inspect_training(spec.spec, root, today=today, trains=trains)
    from mlho.inspection.scoring import inspect_scoring

    assert document is not None, "a scoring run has a bundle"
    return inspect_scoring(spec.spec, root, document)
