"""The command, called in this process: its workers are replaced by one that runs a task when it is handed out."""

from collections.abc import Callable
from pathlib import Path

import pytest

import scheduler.cli
from tests.builders import InlinePool, Said, call_command


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> type[InlinePool]:
    """Replace the pool of processes."""
    monkeypatch.setattr(scheduler.cli, "LocalPool", InlinePool)
    monkeypatch.setattr(InlinePool, "before", None)
    return InlinePool


@pytest.fixture
def command(
    inline: type[InlinePool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Call the command, with a store of this test."""

    def call(*arguments: object, store: Path | None = None) -> Said:
        return call_command(arguments, store or tmp_path / "store", capsys)

    return call
