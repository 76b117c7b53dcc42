"""Sharing of one machine's workers among several runs. Pure functions of the demand and the current workers.

A worker serves one run, and its task is never interrupted: when asked to exit, it finishes its task, and a worker of
another run takes its place. All runs with work get the same number of workers, as far as they can use them. Workers
that cannot be divided evenly rotate: when a turn is over, the place goes to the run that has waited longest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

TURN_SECONDS: Final = 20.0  # a worker takes about two seconds to start


@dataclass(frozen=True)
class Need:
    """The current demand of a run."""

    run: str
    wants: int
    """Tasks in flight; more workers than that would be idle."""
    waited: float = math.inf
    """Seconds since a worker was last started for it."""


@dataclass(frozen=True)
class Assignment:
    """A worker process and the run that it serves."""

    number: int
    run: str
    seconds: float
    """Seconds that it has served."""
    is_exiting: bool = False
    """It was asked to exit after its current task."""


@dataclass(frozen=True)
class ShareChanges:
    """Changes to make now."""

    start: tuple[str, ...] = ()
    """Runs that get a new worker, listed once per worker."""
    release: tuple[int, ...] = ()
    """Numbers of the workers that are to exit after their current task."""


def shares(needs: Sequence[Need], assignments: Sequence[Assignment], n_workers: int) -> dict[str, int]:
    """Return the number of workers for each run.

    Parameters
    ----------
    needs : sequence of Need
        All active runs, each once.

    Examples
    --------
    >>> shares([Need("a", 9), Need("b", 1), Need("c", 9)], [], 6)
    {'a': 3, 'b': 1, 'c': 2}
    """
    assigned = {need.run: 0 for need in needs}
    left = n_workers
    hungry = [need for need in needs if need.wants > 0]
    while hungry and left >= len(hungry):
        for need in hungry:
            assigned[need.run] += 1
        left -= len(hungry)
        hungry = [need for need in hungry if assigned[need.run] < need.wants]
    order = sorted(hungry, key=lambda need: _rank(need, assignments, assigned))
    for need in order[:left]:
        assigned[need.run] += 1
    return assigned


def share_changes(needs: Sequence[Need], assignments: Sequence[Assignment], n_workers: int) -> ShareChanges:
    """Return the workers to start and to release, so that each run reaches its share.

    A worker is released only if another run is waiting for its place. Parameters as for :func:`shares`.

    Examples
    --------
    >>> share_changes([Need("a", 9), Need("b", 9)], [Assignment(0, "a", 7.0), Assignment(1, "a", 7.0)], 2)
    ShareChanges(start=(), release=(1,))
    """
    due = shares(needs, assignments, n_workers)
    serving = {run: _serving(run, assignments) for run in due}
    short = _interleaved({run: due[run] - len(serving[run]) for run in due})
    free = max(0, n_workers - len(assignments))
    exiting = sum(assignment.is_exiting or assignment.run not in due for assignment in assignments)
    n_to_release = max(0, len(short) - free - exiting)
    surplus = [assignment for run in due for assignment in serving[run][due[run] :]]
    return ShareChanges(
        tuple(short[:free]), tuple(assignment.number for assignment in surplus[:n_to_release])
    )


def _serving(run: str, assignments: Sequence[Assignment]) -> list[Assignment]:
    """Return the workers of a run that are not leaving, the longest-serving first."""
    serving = [
        assignment for assignment in assignments if assignment.run == run and not assignment.is_exiting
    ]
    return sorted(serving, key=lambda assignment: (-assignment.seconds, assignment.number))


def _rank(
    need: Need, assignments: Sequence[Assignment], assigned: Mapping[str, int]
) -> tuple[bool, float, int]:
    """Return the sort key of a run for the rotating places.

    Runs whose turn is not over come first, then those that have waited longest.
    """
    serving = _serving(need.run, assignments)
    has_its_turn = len(serving) > assigned[need.run] and serving[-1].seconds < TURN_SECONDS
    return not has_its_turn, -need.waited, len(serving)


def _interleaved(missing: Mapping[str, int]) -> list[str]:
    """Return the runs by missing workers: the first of each run, then the second of each."""
    rounds = range(max(missing.values(), default=0))
    return [run for number in rounds for run, lacks in missing.items() if lacks > number]
