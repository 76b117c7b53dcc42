"""Several outcomes of one document: one specification for each."""

import re

from mlho.errors import SpecError
from mlho.spec.training import RunSpec

_MAX_NAME = 63


def one_per_outcome(spec: RunSpec) -> tuple[RunSpec, ...]:
    """Return the specification of each of ``cohort.outcomes``, named ``NAME-OUTCOME``; without them the specification itself.

    Raises
    ------
    SpecError
        Two outcomes give the same name.
    """
    cohort = spec.spec.cohort
    if cohort.outcomes is None:
        return (spec,)
    names = [_name(spec.metadata.name, outcome) for outcome in cohort.outcomes]
    if len(set(names)) != len(names):
        raise SpecError(
            f"cohort.outcomes: two outcomes give the same name of a run. Expected distinct names; got {', '.join(names)}. Rename a "
            "column, or write a specification for each."
        )
    return tuple(
        _with_outcome(spec, name, outcome) for name, outcome in zip(names, cohort.outcomes, strict=True)
    )


def _with_outcome(spec: RunSpec, name: str, outcome: str) -> RunSpec:
    own = {"outcome": outcome, "outcomes": None, "share_encoding": True}
    cohort = spec.spec.cohort.model_copy(update=own)
    metadata = spec.metadata.model_copy(update={"name": name})
    return spec.model_copy(
        update={"metadata": metadata, "spec": spec.spec.model_copy(update={"cohort": cohort})}
    )


def _name(stem: str, outcome: str) -> str:
    """Return a valid name of a run: lower-case letters, digits, ``-``."""
    end = re.sub(r"[^a-z0-9]+", "-", outcome.lower()).strip("-") or "outcome"
    return f"{stem}-{end}"[:_MAX_NAME].rstrip("-.")
