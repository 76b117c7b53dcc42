"""The status of a ``ModelChannel`` from the log of its channel: pure functions."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from scheduler.api.channel import ChannelCondition, ChannelStatus, Refusal
from scheduler.api.status import MAX_MESSAGE, MAX_SHORT, cut, parsed_status, set_condition, timestamp
from scheduler.runs.channels import ChannelEntry, GateRecord
from scheduler.runs.refusals import RefusedPromotion

LIVE = "Live"
NO_MODEL = "NoModel"


def shown_entry(entry: ChannelEntry) -> ChannelStatus:
    """Return the facts of the entry that is in use."""
    return ChannelStatus(
        model=cut(entry.model, MAX_SHORT),
        run_id=entry.run,
        bundle=entry.bundle,
        entry=entry.number,
        since=timestamp(entry.at),
        promoted_by=cut(entry.who, MAX_SHORT),
        why=cut(entry.why, MAX_MESSAGE),
        replaces=entry.replaces,
        restores=entry.restores,
        gates=_gates(entry.gates),
        tests_passed=entry.tests_passed,
    )


def shown_refusal(refused: RefusedPromotion | None, live: ChannelEntry | None) -> Refusal | None:
    """Return a refused promotion unless the entry in use is later."""
    if refused is None or (live is not None and refused.at < live.at):
        return None
    return Refusal(
        at=timestamp(refused.at),
        by=cut(refused.who, MAX_SHORT),
        model=cut(refused.model, MAX_SHORT),
        run_id=refused.run,
        message=cut(refused.message, MAX_MESSAGE),
    )


def with_condition(
    status: ChannelStatus,
    before: Mapping[str, Any],
    *,
    is_ready: bool | None,
    reason: str,
    message: str = "",
    generation: int,
    now: dt.datetime,
) -> ChannelStatus:
    """Return a status with its condition. The time of change of an unchanged condition is kept from the previous status.

    Parameters
    ----------
    before : mapping
        The status of the resource as the API server returns it.
    is_ready : bool or None
        ``None``: unknown, because the store cannot be read.
    """
    conditions = set_condition(
        parsed_status(ChannelStatus, before).conditions,
        ChannelCondition.READY,
        status=is_ready,
        reason=reason,
        message=message,
        now=now,
        generation=generation,
    )
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def _gates(gates: Sequence[GateRecord]) -> str | None:
    if not gates:
        return None
    n_failed = sum(not gate.passed for gate in gates)
    return f"{n_failed} of {len(gates)} failed, overridden" if n_failed else "passed"
