"""Several runs at once: the end of a command that is interrupted while it starts them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from mlho.settings import Settings
from scheduler.queue import multi_run
from scheduler.queue.multi_run import carry_out_several
from scheduler.queue.run import QueueConfig, Stopped


@contextmanager
def no_queue(*_: Any) -> Iterator[tuple[str, bytes]]:
    yield "redis://127.0.0.1:1/0", b"key"


def test_ctrl_c_between_the_starts_of_two_runs_stops_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends by Ctrl-C, not by an error about the run that had not started."""
    has_stopped = threading.Event()

    def until_stopped(_run: Any, _config: Any, _settings: Any, observers: Any, **_: Any) -> None:
        try:
            while True:
                observers[0].update((), 0)
        except Stopped:
            has_stopped.set()
            raise

    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "second":
            raise KeyboardInterrupt
        begin(thread)

    monkeypatch.setattr(multi_run, "open_queue", no_queue)
    monkeypatch.setattr(multi_run, "carry_out_on_queue", until_stopped)
    monkeypatch.setattr(multi_run._RunThread, "start", start)
    runs: Any = {name: (SimpleNamespace(run_id=name), ()) for name in ("first", "second")}
    with pytest.raises(KeyboardInterrupt):
        carry_out_several(runs, QueueConfig("", "", 0), Settings(), notify=lambda _: None)

    assert has_stopped.is_set()
