"""The Celery side of a worker: receives messages in threads of the main process and hands them to the task handler."""

import logging
import os
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from celery import Celery, bootsteps, signals
from celery import Task as CeleryTask
from celery.apps.worker import install_worker_term_handler
from celery.exceptions import SecurityWarning
from celery.worker import state
from celery.worker.consumer.consumer import CONNECTION_ERROR
from celery.worker.request import Request

from mlho.log import log
from mlho.protocol.messages import TASK_NAME, Refusal
from mlho.protocol.names import QUEUE, Names
from mlho.protocol.transport import celery_settings
from worker.task_handler import TaskHandler
from worker.transport import Connection, use_transport

_TICK_SECONDS: Final = 1.0


class _Waker:
    """A pipe that wakes the main loop.

    Without it, Celery's loop would not notice that another thread has freed a slot, and would keep sleeping.
    """

    def __init__(self) -> None:
        self.reads, self._writes = os.pipe()
        os.set_blocking(self.reads, False)
        os.set_blocking(self._writes, False)

    def wake(self) -> None:
        """Wake the loop."""
        with suppress(BlockingIOError):  # a wake-up is already pending
            os.write(self._writes, b"x")

    def drain(self) -> None:
        """Discard the pending wake-ups."""
        with suppress(BlockingIOError):
            os.read(self.reads, 4096)


WAKER: Final = _Waker()


class WakingRequest(Request):
    """A request whose acknowledgement admits the next message at once."""

    def acknowledge(self) -> None:
        """Acknowledge, then wake the main loop."""
        super().acknowledge()
        WAKER.wake()


class _RunTask(CeleryTask):
    Request = "worker.app:WakingRequest"
    ignore_result = True
    typing = False  # accept any arguments; the task handler validates them and counts rejections


def make_app(broker: str, names: Names, handler: TaskHandler, on_tick: Callable[[], None]) -> Celery:
    """Return a Celery application with a single task that hands every message to the task handler."""
    use_transport(handler)
    app = Celery("mlho", broker=broker, backend=None, set_as_current=False, fixups=[])
    app.conf.update(celery_settings(names))
    app.amqp.Connection = Connection

    @app.task(name=TASK_NAME, base=_RunTask)
    def run_task(*positional: Any, **arguments: Any) -> None:
        if positional:
            handler.refuse(Refusal.MALFORMED)
        else:
            handler.handle(arguments)

    for name in [name for name in app.tasks if name != TASK_NAME]:
        del app.tasks[name]  # Celery registers chords, chunks and others; only one name is allowed
    app.steps["consumer"].add(_periodic_step(on_tick))
    return app


def serve(app: Celery, *, worker: str, slots: int, handler: TaskHandler, on_stop: Callable[[], None]) -> int:
    """Receive messages until asked to stop. Return the exit code.

    Parameters
    ----------
    on_stop : callable
        Called when SIGTERM or SIGINT asks the worker to stop, before it waits for its threads.
    """
    _set_up_logging()

    def stopping(**_: Any) -> None:
        threading.Thread(target=on_stop, name="drain").start()

    signals.worker_shutting_down.connect(stopping, weak=False)
    signals.task_unknown.connect(lambda **_: handler.refuse(Refusal.UNKNOWN), weak=False)
    signals.task_rejected.connect(lambda **_: handler.refuse(Refusal.MALFORMED), weak=False)
    program = _quiet_program(app.Worker)(
        pool="threads",
        concurrency=slots,
        queues=[QUEUE],
        hostname=worker,
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
        quiet=True,
    )
    program.start()
    return int(program.exitcode or 0)


def stop() -> None:
    """Stop the main loop, from any thread."""
    state.should_stop = os.EX_OK
    WAKER.wake()


def _quiet_program(program: Any) -> Any:
    class QuietProgram(program):
        """Handles SIGTERM without printing text, because the log is JSON."""

        def install_platform_tweaks(self, worker: Any) -> None:
            super().install_platform_tweaks(worker)
            install_worker_term_handler(worker, verbose=False)

    return QuietProgram


def _periodic_step(on_tick: Callable[[], None]) -> type[bootsteps.StartStopStep]:
    class PeriodicStep(bootsteps.StartStopStep):
        """Registers with the event loop after each reconnection, which discards earlier registrations."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            on_tick()
            if parent.hub is not None:
                parent.hub.add_reader(WAKER.reads, WAKER.drain)
                parent.timer.call_repeatedly(_TICK_SECONDS, on_tick)

    return PeriodicStep


class _Quiet(logging.Handler):
    """Forwards log records of libraries: the message only, never its arguments, which may quote a foreign message."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == CONNECTION_ERROR:  # the heartbeat logs the outage with its cause, once
            return
        sentence = str(record.msg).splitlines()[0][:120] if record.msg else ""
        log.warning("library", error_kind=record.name, error=sentence)


def _set_up_logging() -> None:
    # Celery sets up logging itself if this signal has no receiver.
    signals.setup_logging.connect(lambda **_: None, weak=False)
    # The warning about running as root does not apply: only JSON is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    root = logging.getLogger()
    root.handlers[:] = [_Quiet(logging.WARNING)]
