"""Status of a custom resource, and pure functions to update it. It never exceeds 16 KiB.

The CRD's status schema is rendered from these models.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, ValidationError

from mlho.spec.types import SpecPart

MAX_STATUS_BYTES: Final = 16 * 1024
MAX_FAILURES: Final = 10
MAX_WARNINGS: Final = 10
TASKS_QUARANTINED: Final = "TasksQuarantined"  # a reason
MAX_MESSAGE: Final = 512

MAX_SHORT: Final = 128
ShortText = Annotated[str, StringConstraints(max_length=MAX_SHORT)]
Message = Annotated[str, StringConstraints(max_length=MAX_MESSAGE)]
Uri = Annotated[str, StringConstraints(max_length=1024)]
# A string with a format, because timestamps are formatted before they enter a status.
Instant = Annotated[str, StringConstraints(max_length=32), Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]


class Phase(StrEnum):
    """Phase of a run, derived from its conditions. Programs should read the conditions."""

    PENDING = "Pending"
    """Not yet checked, or not accepted."""
    WAITING = "Waiting"
    """Accepted, and waiting for its turn, for quota or for a worker."""
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class ConditionType(StrEnum):
    """Condition types of a run."""

    ACCEPTED = "Accepted"
    """The specification is valid, and its store and data are accessible."""
    QUOTA_RESERVED = "QuotaReserved"
    """Kueue has admitted the workers. Absent without ``workers.kueueQueue``."""
    WORKERS_READY = "WorkersReady"
    """At least one worker takes tasks."""
    PROGRESSING = "Progressing"
    """Tasks are running or about to start."""
    DEGRADED = "Degraded"
    """The run continues with a problem: Redis is unavailable, workers cannot be scheduled, or tasks are quarantined."""
    DATA_QUALITY = "DataQuality"
    """No data-quality check has a finding. Unknown until the run ends; false if there are findings, or if they stopped the run. Absent for scoring runs."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Condition(SpecPart):
    """A condition in the format of Kubernetes."""

    type: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+$", max_length=64)]
    """Condition type. Of a run: Accepted, QuotaReserved, WorkersReady, Progressing, Degraded, DataQuality, Succeeded, Failed or Cancelled; of a
    channel: Ready."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    observed_generation: Count | None = None
    """Generation of the spec from which the condition was derived."""
    last_transition_time: Instant
    """Time of the last change of ``status``."""
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=64)]
    """Machine-readable reason in CamelCase."""
    message: Message = ""
    """Human-readable explanation, with a remedy if action is required."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class TaskCounts(SpecPart):
    """Number of tasks by state."""

    total: Count = 0
    """All tasks. Increases once, when the cohort is known."""
    done: Count = 0
    """Tasks with a committed result."""
    running: Count = 0
    """Running tasks."""
    retried: Count = 0
    """Tasks that were started more than once."""
    quarantined: Count = 0
    """Tasks that failed in their last attempt and are not retried."""


class WorkerCounts(SpecPart):
    """Worker pods of the run."""

    desired: Count = 0
    """Desired number of pods."""
    ready: Count = 0
    """Number of ready pods."""
    generation: Count = 0
    """Number of the latest Kubernetes Job of workers."""
    memory: ShortText | None = None
    """Memory of each pod of that Job."""


class Outputs(SpecPart):
    """Addresses of the results in object storage."""

    report: Uri | None = None
    """The HTML report."""
    result: Uri | None = None
    """The result as JSON."""
    bundle: Uri | None = None
    """The model bundle."""
    scores: Uri | None = None
    """The manifest of the scores."""
    advised: Uri | None = None
    """The manifest of the run that the advice recommends."""
    result_digest: ShortText | None = None
    """SHA-256 digest of the result. It does not depend on where the run was carried out."""


class FailedTask(SpecPart):
    """A failed task."""

    task: ShortText
    """Name of the task in the plan."""
    reason: ShortText
    """Class of the failure."""
    attempts: Count = 1
    """Number of attempts."""
    message: Message
    """Error message. Never contains a patient's values."""
    remedy: Message = ""
    """Action that resolves the failure."""


class Cost(SpecPart):
    """Cost of a finished run."""

    cpu_hours: ShortText
    """Core hours, for example ``0.42``: elapsed time of all tasks, each of which takes one core. Not CPU time."""
    read_bytes: Count
    """Size of the tables."""
    stored_bytes: Count
    """Size of all files that the tasks left in the store."""


class Status(SpecPart):
    """Summary of the run. The store is the source of truth."""

    observed_generation: Count | None = None
    """Generation of the spec from which this status was derived."""
    phase: Phase | None = None
    """Phase of the run, derived from its conditions."""
    reason: ShortText | None = None
    """Machine-readable reason for the phase, or for the problem of a run that continues."""
    message: Message | None = None
    """Human-readable explanation of the phase, or of the problem of a run that continues."""
    run_id: ShortText | None = None
    """Hash of specification and data manifest, and name of the run's folder in the store."""
    execution: ShortText | None = None
    """Id of the current execution, which owns the queue and the workers."""
    stage: ShortText | None = None
    """First stage that is not complete."""
    progress: ShortText | None = None
    """Completed tasks in per cent of all tasks."""
    tasks: TaskCounts | None = None
    """Number of tasks by state."""
    workers: WorkerCounts | None = None
    """Worker pods of the run."""
    headline: ShortText | None = None
    """Main figure of the result, for example ``auroc 0.81``."""
    metrics: Annotated[dict[str, ShortText], Field(max_length=16)] | None = None
    """Headline figures as strings. A figure that could not be computed is absent; the report states the reason."""
    model: ShortText | None = None
    """Bundle that a scoring run used, such as ``channel:production/3``: entry 3 of this channel."""
    gates: ShortText | None = None
    """Whether the model may be promoted to a channel: ``passed``, or how many gates failed. Absent without gates in the
    specification."""
    warnings: Annotated[tuple[Message, ...], Field(max_length=MAX_WARNINGS)] = ()
    """Warnings of the result, such as a rule that drops many rows; the first ten."""
    cost: Cost | None = None
    """Cost of the run, once it has succeeded."""
    outputs: Outputs | None = None
    """Addresses of the results."""
    started_at: Instant | None = None
    """Time at which the first worker became available."""
    finished_at: Instant | None = None
    """Time at which the run succeeded, failed or was cancelled."""
    duration: ShortText | None = None
    """Time from ``startedAt`` to ``finishedAt``, for example ``3m12s``."""
    failures: Annotated[tuple[FailedTask, ...], Field(max_length=MAX_FAILURES)] = ()
    """Failed tasks that ended the run, at most ten."""
    conditions: Conditions = ()
    """Conditions of the run: Accepted, QuotaReserved, WorkersReady, Progressing, Degraded, DataQuality, Succeeded, Failed, Cancelled."""

    def plain(self) -> dict[str, Any]:
        """Return the status for the API server, within the size limit; see :func:`fitted`."""
        return fitted(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def set_condition(
    conditions: Sequence[Condition],
    kind: StrEnum,
    *,
    status: bool | None,
    reason: str,
    message: str = "",
    now: dt.datetime,
    generation: int | None = None,
) -> tuple[Condition, ...]:
    """Return the conditions with one of them set.

    Parameters
    ----------
    kind : StrEnum
        Such as a :class:`ConditionType`.
    status : bool or None
        New status; ``None`` means unknown.
    reason, message : str
        The message is cut to 512 characters.
    now : datetime, with a time zone
        New ``lastTransitionTime`` if the status changes.

    Returns
    -------
    tuple of Condition
        In the order of :class:`ConditionType`, so that equal states compare equal and need no write.
    """
    value = {None: "Unknown", True: "True", False: "False"}[status]
    old = get_condition(conditions, kind)
    since = old.last_transition_time if old and old.status == value else timestamp(now)
    new = Condition(
        type=kind.value,
        status=value,
        reason=reason,
        message=cut(message, MAX_MESSAGE),
        last_transition_time=since,
        observed_generation=generation,
    )
    others = [condition for condition in conditions if condition.type != kind]
    return tuple(sorted([*others, new], key=_place))


def get_condition(conditions: Sequence[Condition], kind: StrEnum) -> Condition | None:
    """Return the condition of a type, or ``None`` if it is absent."""
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Sequence[Condition], kind: ConditionType) -> bool:
    """Return whether a condition is true. An absent or unknown condition is not."""
    condition = get_condition(conditions, kind)
    return condition is not None and condition.status == "True"


def read_status(obj: Mapping[str, Any]) -> Status:
    """Return the status of a run, or an empty one if a different version wrote it and it cannot be parsed."""
    try:
        return parsed_status(Status, obj.get("status") or {})
    except ValidationError:
        return Status()


def parsed_status[S: SpecPart](kind: type[S], plain: Mapping[str, Any]) -> S:
    """Parse a status. Fields that a newer version wrote are ignored."""
    known = {field.alias or name for name, field in kind.model_fields.items()}
    return kind.model_validate({name: value for name, value in plain.items() if name in known})


def fitted(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a plain status of at most 16 KiB. If it is larger, drop the last failures and warnings first, then shorten messages."""
    for name in ("failures", "warnings"):
        while _size(plain) > MAX_STATUS_BYTES and plain.get(name):
            plain = {**plain, name: plain[name][:-1]}
    for length in (256, 64):
        if _size(plain) > MAX_STATUS_BYTES:
            shorter = [
                {**condition, "message": cut(condition.get("message", ""), length)}
                for condition in plain["conditions"]
            ]
            plain = {**plain, "conditions": shorter}
    return plain


def cut(text: str, length: int) -> str:
    """Return a text of at most ``length`` characters. A longer text ends with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def in_words(seconds: float) -> str:
    """Return a duration in its two largest units.

    Examples
    --------
    >>> in_words(9), in_words(192), in_words(7260), in_words(2 * 86400)
    ('9s', '3m12s', '2h1m', '2d')
    """
    rest, text = max(0, round(seconds)), ""
    units = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
    first = next((place for place, (_, length) in enumerate(units) if rest >= length), len(units) - 1)
    for name, length in units[first : first + 2]:
        number, rest = divmod(rest, length)
        text += f"{number}{name}" if number or not text else ""
    return text


def timestamp(moment: dt.datetime) -> str:
    """Return a time as RFC 3339 in UTC, in whole seconds."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _place(condition: Condition) -> tuple[int, str]:
    order = [kind.value for kind in ConditionType]
    return (order.index(condition.type) if condition.type in order else len(order), condition.type)


def _size(plain: Mapping[str, Any]) -> int:
    return len(json.dumps(plain, ensure_ascii=False).encode())
