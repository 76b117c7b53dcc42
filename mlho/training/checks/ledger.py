"""Warnings of the ledger of event rows."""

from collections.abc import Mapping
from typing import Any

from mlho.encoding.events.fates import lost_sentence
from mlho.encoding.events.ledger import Ledger, Rule, intended_rules
from mlho.spec.training import TrainingSpec
from mlho.training.iterations.problem import Problem


def ledger_warnings(spec: TrainingSpec, ledger: Ledger) -> list[str]:
    """Return the warnings on rules that drop many rows, and on patterns and maps that change none."""
    is_filtered = spec.features.include is not None or spec.features.exclude is not None
    warnings = ledger.warnings(intended=intended_rules(spec))
    if spec.features.roll_up is not None and not ledger.rows_rolled_up:
        warnings.append("features.rollUp changes no row: check that its codes are written as in the events.")
    if is_filtered and not ledger.n_dropped(Rule.EXCLUDED_CODE):
        warnings.append("features.include and features.exclude drop no row: check their patterns.")
    return warnings


def lost_warnings(problem: Problem, ledger: Mapping[str, Any]) -> list[str]:
    """Return the warning about samples that lost all their rows."""
    lost = ledger["samples_lost"]
    return [lost_sentence(lost, problem.spec.report.min_cell)] if lost else []
