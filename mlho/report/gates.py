"""Gates of a ``result.json`` document as plain values, for programs that do not load its schema."""

from collections.abc import Mapping
from typing import Any, Final

NOT_TO_PROMOTE: Final = "Do not promote"
"""Words of a warning of a recalibration by which commands know that it forbids the promotion."""


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
    n_failed, n_left = (sum(gate["passed"] is state for gate in gates) for state in (False, None))
    if n_failed:
        return f"{n_failed} of {len(gates)} failed"
    return f"passed, {n_left} at promotion" if n_left else "passed"
