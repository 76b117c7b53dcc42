"""Structured logs: set up once, in one place, with the same field names everywhere.

Patients appear as counts only: a field that is not on the list below is dropped, and an error is reduced to its kind
unless it is one of ours, whose messages never hold a patient's values.
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
    """Set up logging for this process: JSON lines, or text for a terminal.

    Unless ``verbose`` nothing is logged: the command says what went wrong in its own words, once.
    A process that ``warns`` has no such words, and logs warnings and errors all the same.

    Parameters
    ----------
    style : str
    verbose : bool
    warns : bool
    run_id : str
        The one run that this process serves, if it serves one: all events get it.
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
    """Drop every field that is not on the list, so that nothing about a patient can slip into a log."""
    return {name: value for name, value in event.items() if name in FIELDS}


def show_control_characters(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace control characters of text, which may name a code of the data; JSON escapes them by itself."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def error_fields(error: BaseException) -> dict[str, str]:
    """Kind and message of an error; the message only if it is one of ours."""
    message = str(error) if isinstance(error, MlhoError) else "not shown: it may quote data"
    return {"error_kind": type(error).__name__, "error": message}
