"""What the command shows on a terminal."""

import pytest

from scheduler.console import ProgressBar, duration, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (41.4, "41 s"), (89, "89 s"), (90, "2 min"), (180, "3 min"), (9000, "2.5 h")],
)
def test_a_duration_is_said_as_people_do(seconds, words):
    """Seconds below a minute and a half, then minutes, then hours."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3_141_592, "3.1 MB"), (2e9, "2.0 GB"), (5e13, "50.0 TB")],
)
def test_a_size_is_said_as_people_do(n_bytes, words):
    """In powers of a thousand."""
    assert size(n_bytes) == words


@pytest.mark.parametrize("enabled", [True, False])
def test_a_progress_bar_is_quiet_in_a_pipe(enabled, capsys):
    """Nothing at all is written where nobody looks."""
    with ProgressBar(enabled=enabled) as bar:
        bar.update([("cohort", 1, 1), ("learn", 2, 5)], 3)
        bar.update([("cohort", 1, 1), ("learn", 5, 5)], 0)

    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
