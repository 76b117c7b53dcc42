"""The selection of runs to delete, by number and age."""

import datetime as dt

import pytest

from scheduler.runs.record import RunState
from scheduler.runs.retention import expired_runs
from scheduler.runs.stored import StoredRun

NOW = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)


def run(
    number: int, state: RunState = RunState.FINISHED, *, name: str = "a", kind: str = "TrainingRun"
) -> StoredRun:
    """Return a run that started this many days ago."""
    started = NOW - dt.timedelta(days=number)
    return StoredRun(f"{number:016x}", name, kind, state, started, None, None)


FAILED, CANCELLED = RunState.FAILED, RunState.CANCELLED


@pytest.mark.parametrize(
    ("runs", "keep", "days", "expired"),
    [
        pytest.param([run(1), run(2), run(3)], 2, 0, [3], id="beyond the number"),
        pytest.param([run(1), run(2), run(3)], 1, 3, [3], id="and old enough"),
        pytest.param([run(1), run(2)], 1, 3, [], id="all are young"),
        pytest.param([run(99)], 1, 0, [], id="the newest stays, however old"),
        pytest.param([run(1), run(2, name="b")], 1, 0, [], id="counted by name"),
        pytest.param([run(1), run(2, kind="ScoringRun")], 1, 0, [], id="counted by kind"),
        pytest.param(
            [run(1, FAILED), run(2, FAILED), run(3), run(4)], 1, 0, [2, 4], id="failures displace no result"
        ),
        pytest.param(
            [run(1, RunState.RUNNING), run(2), run(3)], 1, 0, [3], id="a running one does not count"
        ),
        pytest.param(
            [run(1), run(2, RunState.STOPPED), run(3, RunState.RUNNING)], 1, 0, [], id="what may go on stays"
        ),
        pytest.param([run(1, CANCELLED), run(2, CANCELLED)], 1, 0, [2], id="cancelled ones go, too"),
    ],
)
def test_runs_beyond_the_newest_of_their_name_expire(runs, keep, days, expired):
    """Finished runs beyond the newest `keep` expire, counted by kind, name and state."""
    found = expired_runs(runs, keep=keep, older_than=dt.timedelta(days=days), now=NOW)

    assert [int(run.run_id, 16) for run in found] == expired


def test_the_newest_run_cannot_expire():
    """`keep` must be at least 1, because keeping no run would delete the model in use."""
    with pytest.raises(ValueError, match="at least 1"):
        expired_runs([], keep=0, older_than=dt.timedelta(0), now=NOW)
