"""Select the runs of a store that retention deletes. Pure."""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from scheduler.runs.record import RunState
from scheduler.runs.stored import StoredRun

ENDED: Final = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})


def expired_runs(
    runs: Sequence[StoredRun], *, keep: int, older_than: dt.timedelta, now: dt.datetime
) -> list[StoredRun]:
    """Return the runs to delete: ended, not among the newest of their name, and old enough.

    Runs are counted by kind, name and state: failed runs never displace a finished one. A run that is running or stopped is
    neither counted nor deleted, because it may continue.

    Parameters
    ----------
    runs : sequence of StoredRun
        Newest first.
    keep : int
        Newest runs to keep of each kind, name and state; at least 1.
    older_than : timedelta
        Time since the latest start of a run after which it may be deleted.
    """
    if keep < 1:
        raise ValueError(f"keep: expected at least 1; got {keep}")
    counted: dict[tuple[str, str, RunState], int] = defaultdict(int)
    expired = []
    for run in runs:
        if run.state not in ENDED:
            continue
        group = (run.kind, run.name, run.state)
        counted[group] += 1
        if counted[group] > keep and now - run.started >= older_than:
            expired.append(run)
    return expired
