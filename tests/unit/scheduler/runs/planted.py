"""Finished training runs that were written directly, without training: a specification, a result, and a bundle of one file."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence

import yaml

from mlho.model.files import digest_line, facts_of
from mlho.model.testing.records import ModelTestResult
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.registry.promotion import Author, Change, promote
from scheduler.runs.stored import find_run, stored_runs

NOW = dt.datetime(2026, 11, 30, 12, 0, tzinfo=dt.UTC)


def author(why: str = "better", *, minutes: int = 0, who: str = "ann@clinic") -> Author:
    return Author(who, NOW + dt.timedelta(minutes=minutes), why)


def _result(name: str, *, is_passed: bool) -> ModelTestResult:
    defect = "" if is_passed else "1 of 2 inside"
    return ModelTestResult(name, "kind", "defect", "It holds.", "holds", 0.0, is_passed, "found", defect)


def passed(_: Mapping[str, bytes]) -> Sequence[ModelTestResult]:
    return [_result("scores.golden", is_passed=True)]


def failed(_: Mapping[str, bytes]) -> Sequence[ModelTestResult]:
    return [*passed(_), _result("scores.range", is_passed=False)]


GATES = [
    {"words": "AUROC at least 0.5", "passed": True, "detail": "0.800"},
    {"words": "AUROC at least 0.9", "passed": False, "detail": "0.800"},
]


def plant_run(
    store: Store, run: str, name: str = "risk", *, gates: list[dict[str, object]] | None = None
) -> str:
    """Write a finished run whose bundle depends on its id, and return the digest of the bundle."""
    model = f"model of {run}".encode()
    facts = facts_of(model)
    document = json.dumps(
        {"files": {"model/model.json": {"sha256": facts.sha256, "bytes": facts.n_bytes}}}
    ).encode()
    digest = facts_of(document).sha256
    spec = {"apiVersion": "mlho.io/v1alpha1", "kind": "TrainingRun", "metadata": {"name": name}, "spec": {}}
    result = {
        "outcome": "label",
        "headline": {"auroc": {"mean": 0.8, "low": 0.75, "high": 0.85}},
        "final_model": {
            "bundle_digest": digest,
            "tests": [{"name": "golden rows", "passed": True, "detail": "all"}],
        },
    }
    if gates is not None:
        result["gates"] = gates
    for key, content in {
        "spec.yaml": yaml.safe_dump(spec).encode(),
        "bundle/bundle.json": document,
        "bundle/bundle.sha256": digest_line(document),
        "bundle/model/model.json": model,
        "result.json": json.dumps(result).encode(),
    }.items():
        store.put_if_absent(run_key(run, key), content)
    return digest


def promoted(store: Store, run: str, channel: str = "production", **words: object) -> Change:
    """Promote a planted run."""
    found = find_run(stored_runs(store), run)
    return promote(store, found, channel, author(**words), test=passed)
