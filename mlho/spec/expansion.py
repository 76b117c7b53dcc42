"""Documents that specify several runs: one specification for each outcome, variant, or window after the index date."""

import re
from collections.abc import Iterator
from typing import Any, Final

from mlho.errors import SpecError
from mlho.spec.cohort import Evolution
from mlho.spec.features import After, Variant
from mlho.spec.reading import validate_document
from mlho.spec.training import RunSpec

_MAX_NAME: Final = 63


def expand(spec: RunSpec) -> tuple[RunSpec, ...]:
    """Return the specification of each run of a document.

    With ``cohort.outcomes`` one for each outcome, named ``NAME-OUTCOME``. With ``evolution`` one for each window after the index
    date, for everyone and then for each group: ``NAME-FROM-TO`` and ``NAME-FROM-TO-GROUP``. With ``variants`` the document
    without them, and one for each variant, named ``NAME-VARIANT``. Otherwise the specification itself. Raise SpecError if two
    runs would have the same name, or a variant is invalid.
    """
    if spec.spec.cohort.outcomes is not None:
        return _one_per_outcome(spec, spec.spec.cohort.outcomes)
    if spec.spec.evolution is not None:
        return tuple(_of_evolution(spec, spec.spec.evolution))
    if spec.spec.variants is not None:
        return _base_and_variants(spec, spec.spec.variants)
    return (spec,)


def _one_per_outcome(spec: RunSpec, outcomes: tuple[str, ...]) -> tuple[RunSpec, ...]:
    names = [_name(spec.metadata.name, outcome) for outcome in outcomes]
    if len(set(names)) != len(names):
        raise SpecError(
            f"cohort.outcomes: two outcomes give the same run name. Expected distinct names; got {', '.join(names)}. Rename a "
            "column, or write a specification for each."
        )
    return tuple(_with_outcome(spec, name, outcome) for name, outcome in zip(names, outcomes, strict=True))


def _with_outcome(spec: RunSpec, name: str, outcome: str) -> RunSpec:
    changes = {"outcome": outcome, "outcomes": None, "share_encoding": True}
    cohort = spec.spec.cohort.model_copy(update=changes)
    metadata = spec.metadata.model_copy(update={"name": name})
    return spec.model_copy(
        update={"metadata": metadata, "spec": spec.spec.model_copy(update={"cohort": cohort})}
    )


def _base_and_variants(spec: RunSpec, variants: tuple[Variant, ...]) -> tuple[RunSpec, ...]:
    base = spec.model_copy(update={"spec": spec.spec.model_copy(update={"variants": None})})
    found = [base]
    for variant in variants:
        changed = _with_changes(base, variant)
        same = next((earlier for earlier in found if earlier.digest == changed.digest), None)
        if same is not None:
            raise SpecError(
                f"variants: {variant.name} specifies the same run as {same.metadata.name}. Expected different data; remove it, or "
                "change another field."
            )
        found.append(changed)
    return tuple(found)


def _with_changes(base: RunSpec, variant: Variant) -> RunSpec:
    """Return the document with its fields replaced by those of the variant; ``null`` removes a field."""
    plain: dict[str, Any] = base.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for section, changes in variant.sections.items():
        fields = plain["spec"].setdefault(section, {}) | changes
        plain["spec"][section] = {field: value for field, value in fields.items() if value is not None}
    plain["metadata"]["name"] = _name(base.metadata.name, variant.name)
    return validate_document(plain, RunSpec, where=f"variant {variant.name}")


def _of_evolution(spec: RunSpec, evolution: Evolution) -> Iterator[RunSpec]:
    plain: dict[str, Any] = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    del plain["spec"]["evolution"]
    if {"after", "only"} & {*plain["spec"].get("features", ()), *plain["spec"]["cohort"]}:
        raise SpecError(
            "evolution: sets features.after and cohort.only itself. Expected neither of them; got one. Remove it."
        )
    features, cohort = plain["spec"].get("features", {}), plain["spec"]["cohort"]
    for group in (None, *evolution.groups):
        only = {} if group is None else {"only": group.only.model_dump(mode="json", by_alias=True)}
        for begin, end in evolution.windows:
            after = After(from_days=begin, to_days=end, past_days=evolution.past_days)
            sections = {
                **plain["spec"],
                "features": {**features, "after": after.model_dump(mode="json", by_alias=True)},
                "cohort": {**cohort, **only},
            }
            name = _name(spec.metadata.name, f"{begin}-{end}" + (f"-{group.name}" if group else ""))
            document = {**plain, "metadata": {**plain["metadata"], "name": name}, "spec": sections}
            yield validate_document(document, RunSpec, where=f"window {begin} to {end}")


def _name(stem: str, what: str) -> str:
    """Return a valid run name: lower-case letters, digits, ``-``."""
    end = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-") or "outcome"
    return f"{stem}-{end}"[:_MAX_NAME].rstrip("-.")
