"""Warnings of the ledger of event rows."""

from mlho.encoding.events.ledger import Ledger, Rule, intended_rules
from mlho.spec.training import TrainingSpec


def ledger_warnings(spec: TrainingSpec, ledger: Ledger) -> list[str]:
    """Return the warnings on rules that drop many rows, and on patterns and maps that change none."""
    is_filtered = spec.features.include is not None or spec.features.exclude is not None
    warnings = ledger.warnings(intended=intended_rules(spec))
    if spec.features.roll_up is not None and not ledger.rows_rolled_up:
        warnings.append("features.rollUp changes no row: check that its codes are written as in the events.")
    if is_filtered and not ledger.n_dropped(Rule.EXCLUDED_CODE):
        warnings.append("features.include and features.exclude drop no row: check their patterns.")
    return warnings
