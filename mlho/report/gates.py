"""Gates of a ``result.json`` document as plain values, for programs that do not load its schema."""

from collections.abc import Mapping
from typing import Any


def failed_gates(result: Mapping[str, Any]) -> list[str]:
    """Describe the failed gates and their figures; empty without gates."""
    return [
        f"{gate['words']}: {gate['detail']}" for gate in result.get("gates") or () if gate["passed"] is False
    ]


def gates_in_words(result: Mapping[str, Any]) -> str | None:
    """Return whether the gates passed; ``None`` without gates.

    Examples
    --------
    >>> gates_in_words({"gates": [{"words": "AUROC at least 0.8", "passed": False, "detail": "0.7"}]})
    '1 of 1 failed'
    """
    gates = result.get("gates")
    if gates is None:
        return None
    n_failed, n_left = len(failed_gates(result)), sum(gate["passed"] is None for gate in gates)
    if n_failed:
        return f"{n_failed} of {len(gates)} failed"
    return f"passed, {n_left} at promotion" if n_left else "passed"
