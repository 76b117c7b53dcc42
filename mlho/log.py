"""Structured logging, configured once, with the same field names everywhere.

Patients appear only as counts. Fields that are not on the list below are dropped, and an error is reduced to its type
unless it is one of our errors, whose messages never contain a patient's values.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Literal, TextIO, cast

from mlho.errors import MlhoError
from mlho.printable import printable

LogStyle = Literal["text", "json"]

FIELDS: Final = frozenset(
    {
        "event", "level", "timestamp",
        "run_id", "other_run_id", "task", "step", "stage", "iteration", "fold", "block", "partition", "attempt", "outcome",
        "seconds", "n_tasks", "n_done", "n_new", "n_bytes", "n_patients", "n_samples", "n_rows", "n_items", "n_keys", "workers",
        "error_kind", "error", "warning", "note", "store", "result_digest", "bundle_digest", "auroc",
    }
)  # fmt: skip


_RUN: Final[ContextVar[str]] = ContextVar("run_id", default="")


class Logger:
    """A logger that imports structlog when it writes its first event. The import takes 0.1 s, and most commands log nothing."""

    def __init__(self) -> None:
        self._level = logging.NOTSET
        self._set_up: Callable[[], None] | None = None
        self._is_configured = False

    def configure(self, level: int, set_up: Callable[[], None]) -> None:
        """Write events of this level and above. ``set_up`` is called before the first one."""
        self._level, self._set_up, self._is_configured = level, set_up, True

    @property
    def is_on(self) -> bool:
        """Whether this process has configured its log, and writes warnings to it."""
        return self._is_configured and self._level <= logging.WARNING

    def __getattr__(self, method: str) -> Any:
        level = logging.ERROR if method == "exception" else getattr(logging, method.upper())
        if level < self._level:
            return _ignore
        import structlog

        self.begin()
        return getattr(structlog.get_logger(), method)

    def begin(self) -> None:
        """Set up the logger if no event has done so."""
        set_up = self._set_up  # another thread may be writing its first event at the same time
        if set_up is not None:
            set_up()
            self._set_up = None


log: Final = Logger()
"""The logger that all modules use."""


def _ignore(*_: object, **__: object) -> None:
    """Write nothing."""


def configure(style: LogStyle, *, verbose: bool, warns: bool = False, run_id: str = "") -> None:
    """Configure logging for this process: JSON lines, or text for a terminal.

    Without ``verbose`` nothing is logged, because the command itself reports errors once.
    A process that ``warns`` has no such report, and always logs warnings and errors.

    Parameters
    ----------
    run_id : str
        The run of this process, if there is only one; it is added to all events.
    """
    level = logging.INFO if verbose else logging.WARNING if warns else logging.CRITICAL
    log.configure(level, partial(_set_up, style, run_id))
    if verbose:
        log.begin()  # events will follow, and a command that starts worker processes has to wait for them anyway


def _set_up(style: LogStyle, run_id: str) -> None:
    import structlog

    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            partial(_add_run, run_id),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            keep_known_fields,
            *([] if style == "json" else [show_control_characters]),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _LossyStderr())),
        cache_logger_on_first_use=False,
    )


class _LossyStderr:
    """Standard error that drops text it cannot write: a closed pipe or a full disk must end neither a run nor a worker."""

    def write(self, text: str) -> None:
        self._attempt(lambda: sys.stderr.write(text))

    def flush(self) -> None:
        self._attempt(sys.stderr.flush)

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        except OSError:  # for example a full disk: later text may fit
            pass


def bind_run(run_id: str) -> None:
    """Add a run to all events of this thread that do not name one."""
    _RUN.set(run_id)


@contextmanager
def bound_run(run_id: str) -> Iterator[None]:
    """Add a run to all events of the block that do not name one."""
    token = _RUN.set(run_id)
    try:
        yield
    finally:
        _RUN.reset(token)


def _add_run(
    run_id: str, _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    run_id = _RUN.get() or run_id
    return {"run_id": run_id, **event} if run_id else event


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
    """Return the type of an error, and its message if it is one of our errors."""
    message = str(error) if isinstance(error, MlhoError) else "not shown: it may quote data"
    return {"error_kind": type(error).__name__, "error": message}
