"""The dossier as plain values: every item of every checklist, its state, its answer, and where the figures are."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from mlho.report.dossier.checklists import CHECKLISTS
from mlho.report.dossier.items import METADATA, STATEMENTS, Answer, Checklist, Facts, Gap, Item, state_of
from mlho.report.result import Result
from mlho.spec.features import Features
from mlho.spec.statements import Statements
from mlho.spec.training import RunMetadata
from mlho.spec.types import SpecPart

DOSSIER_SCHEMA: Final = "mlho.io/dossier/v1"


def make_dossier(run_id: str, result: Result, statements: Mapping[str, str]) -> dict[str, Any]:
    """Return the dossier of a run.

    Parameters
    ----------
    statements : mapping
        ``metadata.statements`` of the specification: camel-case field name to text.

    Returns
    -------
    dict
        ``run``, ``name``, ``title``, ``result_digest``, ``open`` (fields of the specification that would close gaps, with
        their meaning, most used first) and ``checklists``: id, title, reference, counts of states, and items with ``state``, ``answers``
        (text, evidence, section) and ``missing`` (fields).
    """
    facts = Facts(result, statements)
    checklists = [_checklist(checklist, facts) for checklist in CHECKLISTS]
    missing = Counter(
        field for checklist in checklists for item in checklist["items"] for field in item["missing"]
    )
    meanings = _meanings()
    return {
        "schema": DOSSIER_SCHEMA,
        "run": run_id,
        "name": result.about.name,
        "title": result.about.title,
        "predictive": result.predictive,
        "outcome": result.outcome,
        "result_digest": result.result_digest,
        "open": [
            {"field": field, "meaning": meanings[field], "items": n}
            for field, n in sorted(missing.items(), key=lambda pair: (-pair[1], pair[0]))
        ],
        "checklists": checklists,
    }


def _meanings() -> dict[str, str]:
    """Return the first sentence on each field of the specification that can close a gap.

    Raises
    ------
    RuntimeError
        A field has no description, as in a process of the fork server, which does not load descriptions.
    """
    parts: dict[str, type[SpecPart]] = {METADATA: RunMetadata, STATEMENTS: Statements, "features.": Features}
    for part in parts.values():
        if without := [name for name, field in part.model_fields.items() if not field.description]:
            raise RuntimeError(
                f"{part.__name__}.{without[0]} has no description. Processes of the fork server do not load descriptions: build the dossier in the process of the command"
            )
    return {
        f"{prefix}{field.alias or name}": " ".join((field.description or "").split())
        .partition(". ")[0]
        .rstrip(".")
        for prefix, part in parts.items()
        for name, field in part.model_fields.items()
    }


def _checklist(checklist: Checklist, facts: Facts) -> dict[str, Any]:
    items = [_item(item, facts) for item in checklist.items]
    states = Counter(item["state"] for item in items)
    return {
        "id": checklist.id,
        "title": checklist.title,
        "reference": checklist.reference,
        "states": dict(sorted(states.items())),
        "items": items,
    }


def _item(item: Item, facts: Facts) -> dict[str, Any]:
    parts = [source(facts) for source in item.sources]
    return {
        "id": item.id,
        "title": item.title,
        "state": state_of(item, parts),
        "answers": [vars(part) for part in parts if isinstance(part, Answer)],
        "missing": [part.field for part in parts if isinstance(part, Gap)],
        "reason": item.reason,
    }
