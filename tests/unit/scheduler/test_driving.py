"""The thread that carries a run out: how soon it looks again after what may pass."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlho.errors import MlhoError
from mlho.settings import Settings
from scheduler import driving
from scheduler.conditions import ConditionType
from scheduler.executions import AnotherScheduler, RunCancelled


def test_it_looks_again_soon_for_a_lead_that_another_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Most often it is a former leader's: the pauses do not grow, as they do for a store that does not answer."""
    answers: Iterator[MlhoError] = iter([*[AnotherScheduler("not yet")] * 4, RunCancelled("enough")])

    def carry_out(*_: Any, **__: Any) -> None:
        raise next(answers)

    monkeypatch.setattr(driving, "carry_out_on_queue", carry_out)
    monkeypatch.setattr(driving, "_RETRY_SECONDS", (0.01, 600.0))
    home = driving.Home(str(tmp_path), Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32))
    driver = driving.Driver(home, SimpleNamespace(run_id="0123456789abcdef"), lambda: None)  # type: ignore[arg-type]

    driver.start()

    assert driver.join(20)
    assert driver.picture().end is ConditionType.CANCELLED
