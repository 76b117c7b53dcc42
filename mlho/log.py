"""Structured logging, configured once, with the same field names everywhere.

Patients appear only as counts. Fields that are not on the list below are dropped, and an error is reduced to its type
unless it is one of our errors, whose messages never contain a patient's values.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog
from structlog.typing import EventDict, Processor

from mlho.errors import MlhoError
from mlho.printable import printable

LogStyle = Literal["text", "json"]

FIELDS: Final = frozenset(
    {
        "event", "level", "timestamp",
        "run_id", "task", "step", "stage", "iteration", "fold", "block", "partition", "attempt", "outcome",
        "seconds", "n_tasks", "n_done", "n_new", "n_bytes", "n_patients", "n_samples", "n_rows", "workers",
        "error_kind", "error", "store", "result_digest", "bundle_digest", "auroc",
    }
)  # fmt: skip


def configure(style: LogStyle, *, verbose: bool, warns: bool = False, run_id: str = "") -> None:
    """Configure logging for this process: JSON lines, or text for a terminal.

    Without ``verbose`` nothing is logged, because the command itself reports errors once.
    A process that ``warns`` has no such report, and always logs warnings and errors.

    Parameters
    ----------
    style : str
    verbose : bool
    warns : bool
    run_id : str
        The run of this process, if there is only one; it is added to all events.
    """
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    level = logging.INFO if verbose else logging.WARNING if warns else logging.CRITICAL
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *([_of_run(run_id)] if run_id else ()),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            keep_known_fields,
            *([] if style == "json" else [show_control_characters]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _of_run(run_id: str) -> Processor:
    def add(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {"run_id": run_id, **event}

    return add


def keep_known_fields(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop every field that is not on the list, so that no patient data can enter a log."""
    return {name: value for name, value in event.items() if name in FIELDS}


def show_control_characters(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace control characters in text, which may come from codes in the data; JSON escapes them anyway."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def error_fields(error: BaseException) -> dict[str, str]:
    """Return type and message of an error; the message only if it is one of our errors."""
    message = str(error) if isinstance(error, MlhoError) else "not shown: it may quote data"
    return {"error_kind": type(error).__name__, "error": message}
