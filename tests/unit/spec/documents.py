"""A complete training specification, and its variants with some fields changed."""

from typing import Any

import yaml

from mlho.spec.training import RunSpec, parse_spec

FULL = """
apiVersion: mlho.io/v1alpha1
kind: TrainingRun
metadata: {name: prediabetes}
spec:
  data: {source: dbmart, uri: cohort-2026, tables: {events: events/, labels: labels.parquet, demographics: dems.csv}}
  cohort: {outcome: readmit, index: {column: index_date}, gapDays: 1, lookBackDays: 730}
  features: {aggregates: [presence, last], demographics: [age, sex]}
  candidates:
    - {classifier: glmboost, grid: {nSteps: [50, 100]}}
    - {classifier: xgboost}
"""


def document(**changes: Any) -> dict[str, Any]:
    """Return the full document with some parts replaced, by dotted path written with two underscores."""
    parsed: dict[str, Any] = yaml.safe_load(FULL)
    for path, value in changes.items():
        set_value(parsed, path.split("__"), value)
    return parsed


def set_value(plain: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value in nested mappings, by the names on its path."""
    for part in path[:-1]:
        plain = plain.setdefault(part, {})
    plain[path[-1]] = value


def parsed(**changes: Any) -> RunSpec:
    """Parse the full document with these changes."""
    return parse_spec(yaml.safe_dump(document(**changes)))
