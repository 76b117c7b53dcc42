"""What a custom resource's status holds, and how it changes. Pure; it fits in 16 KiB whatever happens to the run.

The models are also what the CRD's status schema is rendered from.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from mlho.spec.types import SpecPart

MAX_STATUS_BYTES: Final = 16 * 1024
MAX_FAILURES: Final = 10
TASKS_QUARANTINED: Final = "TasksQuarantined"  # a reason
MAX_MESSAGE: Final = 512

ShortText = Annotated[str, StringConstraints(max_length=128)]
Message = Annotated[str, StringConstraints(max_length=MAX_MESSAGE)]
Uri = Annotated[str, StringConstraints(max_length=1024)]
# A format, not a type: what goes into a status is a string already.
Instant = Annotated[str, StringConstraints(max_length=32), Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]


class Phase(StrEnum):
    """The run in one word, derived from its conditions; programs read the conditions."""

    PENDING = "Pending"
    """Not looked at yet, or not accepted."""
    WAITING = "Waiting"
    """Accepted, and waiting for quota or for a worker."""
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class ConditionType(StrEnum):
    """Conditions of a run, each true, false or unknown."""

    ACCEPTED = "Accepted"
    """The specification is valid, and its store and data are there."""
    QUOTA_RESERVED = "QuotaReserved"
    """Kueue has admitted the workers; absent without ``workers.kueueQueue``."""
    WORKERS_READY = "WorkersReady"
    """At least one worker takes tasks."""
    PROGRESSING = "Progressing"
    """Tasks are under way or about to be."""
    DEGRADED = "Degraded"
    """It goes on, but something is wrong: Redis is away, workers cannot be scheduled, tasks are in quarantine."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Condition(SpecPart):
    """One condition, as Kubernetes defines them."""

    type: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+$", max_length=64)]
    """Which condition: Accepted, QuotaReserved, WorkersReady, Progressing, Degraded, Succeeded, Failed or Cancelled."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Count | None = None
    """Generation of the spec that this was found for."""
    last_transition_time: Instant
    """When ``status`` last changed."""
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=64)]
    """Why, in one word for programs."""
    message: Message = ""
    """Why, in a sentence for people; with the remedy, if there is something to do."""


class TaskCounts(SpecPart):
    """Tasks of the run by their state."""

    total: Count = 0
    """All; grows once, when the cohort is known."""
    done: Count = 0
    """Committed to the store."""
    running: Count = 0
    """Under way."""
    retried: Count = 0
    """Started more than once."""
    quarantined: Count = 0
    """Given up after the last attempt."""


class WorkerCounts(SpecPart):
    """Worker pods."""

    desired: Count = 0
    """How many the scheduler wants now."""
    ready: Count = 0
    """How many take tasks."""
    generation: Count = 0
    """Number of the latest Kubernetes Job of workers."""
    memory: ShortText | None = None
    """Memory of a worker of that generation."""


class Outputs(SpecPart):
    """Where the results are in object storage."""

    report: Uri | None = None
    """The HTML report."""
    result: Uri | None = None
    """The result as JSON."""
    bundle: Uri | None = None
    """The model with all that it needs to be used and tested."""
    scores: Uri | None = None
    """The manifest of the scores."""
    result_digest: ShortText | None = None
    """SHA-256 of the result; equal for equal work, wherever it ran."""


class Failure(SpecPart):
    """One task that failed."""

    task: ShortText
    """Its name in the plan."""
    reason: ShortText
    """The class of the failure."""
    attempts: Count = 1
    """How often it was started."""
    message: Message
    """What went wrong; never a patient's values."""
    remedy: Message = ""
    """What to do."""


class Status(SpecPart):
    """A summary of the run for people; the truth is in the store."""

    observed_generation: Count | None = None
    """Generation of the spec that this status was made for."""
    phase: Phase | None = None
    """The run in one word, derived from its conditions."""
    reason: ShortText | None = None
    """Why it is in this phase, in one word."""
    message: Message | None = None
    """Why it is in this phase, in a sentence."""
    run_id: ShortText | None = None
    """Hash of the specification and the data: names the run's folder in the store."""
    execution: ShortText | None = None
    """This try at the run: owns queue and workers."""
    stage: ShortText | None = None
    """The earliest stage that is not done."""
    progress: ShortText | None = None
    """Tasks done of all tasks, in per cent."""
    tasks: TaskCounts | None = None
    """Tasks by their state."""
    workers: WorkerCounts | None = None
    """Worker pods."""
    headline: ShortText | None = None
    """The figure to look at first, such as ``auroc 0.81``."""
    metrics: Annotated[dict[str, ShortText], Field(max_length=16)] | None = None
    """Headline figures as text: a number may not be there, and why is in the report."""
    outputs: Outputs | None = None
    """Where the results are."""
    started_at: Instant | None = None
    """When the first worker took a task."""
    finished_at: Instant | None = None
    """When it succeeded, failed or was cancelled."""
    duration: ShortText | None = None
    """From ``startedAt`` to ``finishedAt``, for people, such as ``3m12s``."""
    failures: Annotated[tuple[Failure, ...], Field(max_length=MAX_FAILURES)] = ()
    """What it failed for, at most ten."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    """What holds and what does not: Accepted, QuotaReserved, WorkersReady, Progressing, Degraded, Succeeded, Failed, Cancelled."""

    def plain(self) -> dict[str, Any]:
        """As it goes to the API server, cut to fit; see :func:`fitted`."""
        return fitted(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def set_condition(
    conditions: Sequence[Condition],
    kind: ConditionType,
    *,
    status: bool | None,
    reason: str,
    message: str = "",
    now: dt.datetime,
    generation: int | None = None,
) -> tuple[Condition, ...]:
    """The conditions with one set.

    Parameters
    ----------
    conditions : sequence of Condition
        As they are.
    kind : ConditionType
    status : bool or None
        Whether it holds; ``None`` is unknown.
    reason, message : str
        Why; the message is cut to 512 characters.
    now : datetime, with a time zone
        Becomes ``lastTransitionTime`` only if the status flips.
    generation : int, optional
        Of the spec that was looked at.

    Returns
    -------
    tuple of Condition
        In the order of :class:`ConditionType`, so that equal states are equal objects and need no write.
    """
    said = {None: "Unknown", True: "True", False: "False"}[status]
    old = get_condition(conditions, kind)
    since = old.last_transition_time if old and old.status == said else timestamp(now)
    new = Condition(
        type=kind.value,
        status=said,
        reason=reason,
        message=cut(message, MAX_MESSAGE),
        last_transition_time=since,
        observed_generation=generation,
    )
    others = [own for own in conditions if own.type != kind]
    return tuple(sorted([*others, new], key=_place))


def get_condition(conditions: Sequence[Condition], kind: ConditionType) -> Condition | None:
    """One of the conditions, or None."""
    return next((own for own in conditions if own.type == kind), None)


def is_true(conditions: Sequence[Condition], kind: ConditionType) -> bool:
    """Whether a condition holds; one that is absent or unknown does not."""
    found = get_condition(conditions, kind)
    return found is not None and found.status == "True"


def read_status(obj: Mapping[str, Any]) -> Status:
    """The status of an object as the API server gives it; fields that a newer version has written are left out."""
    known = {field.alias or name for name, field in Status.model_fields.items()}
    plain = {name: value for name, value in (obj.get("status") or {}).items() if name in known}
    return Status.model_validate(plain)


def is_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a status is worth a write."""
    return dict(old) != dict(new)


def fitted(plain: dict[str, Any]) -> dict[str, Any]:
    """A plain status of at most 16 KiB: while it is larger the oldest failure goes, then messages are shortened."""
    while _size(plain) > MAX_STATUS_BYTES and plain.get("failures"):
        plain = {**plain, "failures": plain["failures"][:-1]}
    for length in (256, 64):
        if _size(plain) > MAX_STATUS_BYTES:
            shorter = [{**own, "message": cut(own.get("message", ""), length)} for own in plain["conditions"]]
            plain = {**plain, "conditions": shorter}
    return plain


def cut(text: str, length: int) -> str:
    """A text of at most so many characters; one that was longer ends with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def in_words(seconds: float) -> str:
    """A time span for people, in its two largest units.

    Examples
    --------
    >>> in_words(9), in_words(192), in_words(7260), in_words(2 * 86400)
    ('9s', '3m12s', '2h1m', '2d')
    """
    rest, said = max(0, round(seconds)), ""
    units = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
    first = next((place for place, (_, length) in enumerate(units) if rest >= length), len(units) - 1)
    for name, length in units[first : first + 2]:
        number, rest = divmod(rest, length)
        said += f"{number}{name}" if number or not said else ""
    return said


def timestamp(moment: dt.datetime) -> str:
    """RFC 3339, whole seconds, UTC."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _place(condition: Condition) -> tuple[int, str]:
    order = [kind.value for kind in ConditionType]
    return (order.index(condition.type) if condition.type in order else len(order), condition.type)


def _size(plain: Mapping[str, Any]) -> int:
    return len(json.dumps(plain, ensure_ascii=False).encode())
