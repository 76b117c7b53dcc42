"""A repeating thread outlives errors of its action."""

import threading

from mlho.processes import RepeatingThread
from tests.limits import GUARD_SECONDS


def test_action_that_fails_is_repeated() -> None:
    """Without its heartbeat or its guard a worker would look alive, and its tasks would run elsewhere or without limits."""
    calls, is_done = [], threading.Event()

    def act() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("an unexpected answer")
        is_done.set()

    thread = RepeatingThread("test", 0.001, act)
    thread.start()

    assert is_done.wait(GUARD_SECONDS)
    thread.stop()
    thread.join(GUARD_SECONDS)
    assert not thread.is_alive()
