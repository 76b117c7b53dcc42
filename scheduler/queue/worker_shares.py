"""Sharing of one machine's workers among several runs. Pure: demand and current workers in, moves out.

A worker serves one run, and its task is never interrupted: it is asked to leave, finishes its task, and its
seat goes to another run. All runs with work get the same number of workers, as far as they can use them.
Seats that cannot be divided evenly rotate: when a turn is over, the seat goes to the run that has waited
longest.
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
class Seat:
    """A worker process and the run that it serves."""

    number: int
    run: str
    seconds: float
    """Seconds that it has served."""
    is_leaving: bool = False
    """It was asked to exit after its current task."""


@dataclass(frozen=True)
class Moves:
    """Changes to make now."""

    start: tuple[str, ...] = ()
    """Runs that get a new worker, listed once per worker."""
    leave: tuple[int, ...] = ()
    """Numbers of the workers that are to exit after their current task."""


def shares(
    needs: Sequence[Need], seats: Sequence[Seat], n_workers: int, *, turn: float = TURN_SECONDS
) -> dict[str, int]:
    """Return the number of workers for each run.

    Parameters
    ----------
    needs : sequence of Need
        All active runs, each once.
    seats : sequence of Seat
        The current workers.
    n_workers : int
        Maximum number of workers.
    turn : float
        Seconds that a seat belongs to a run when there are not enough for all.

    Examples
    --------
    >>> shares([Need("a", 9), Need("b", 1), Need("c", 9)], [], 6)
    {'a': 3, 'b': 1, 'c': 2}
    """
    given = {need.run: 0 for need in needs}
    left = n_workers
    hungry = [need for need in needs if need.wants > 0]
    while hungry and left >= len(hungry):
        for need in hungry:
            given[need.run] += 1
        left -= len(hungry)
        hungry = [need for need in hungry if given[need.run] < need.wants]
    order = sorted(hungry, key=lambda need: _rank(need, seats, given, turn=turn))
    for need in order[:left]:
        given[need.run] += 1
    return given


def moves(
    needs: Sequence[Need], seats: Sequence[Seat], n_workers: int, *, turn: float = TURN_SECONDS
) -> Moves:
    """Return the workers to start and to release, so that each run reaches its share.

    A worker is released only if another run is waiting for its seat. Parameters as for :func:`shares`.

    Examples
    --------
    >>> moves([Need("a", 9), Need("b", 9)], [Seat(0, "a", 7.0), Seat(1, "a", 7.0)], 2)
    Moves(start=(), leave=(1,))
    """
    due = shares(needs, seats, n_workers, turn=turn)
    serving = {run: _serving(run, seats) for run in due}
    short = _turnabout({run: due[run] - len(serving[run]) for run in due})
    free = max(0, n_workers - len(seats))
    on_their_way = sum(seat.is_leaving or seat.run not in due for seat in seats)
    n_to_leave = max(0, len(short) - free - on_their_way)
    surplus = [seat for run in due for seat in serving[run][due[run] :]]
    return Moves(tuple(short[:free]), tuple(seat.number for seat in surplus[:n_to_leave]))


def _serving(run: str, seats: Sequence[Seat]) -> list[Seat]:
    """Return the workers of a run that are not leaving, the longest-serving first."""
    found = [seat for seat in seats if seat.run == run and not seat.is_leaving]
    return sorted(found, key=lambda seat: (-seat.seconds, seat.number))


def _rank(
    need: Need, seats: Sequence[Seat], given: Mapping[str, int], *, turn: float
) -> tuple[bool, float, int]:
    """Return the sort key of a run for the rotating seats.

    Runs whose turn is not over come first, then those that have waited longest.
    """
    serving = _serving(need.run, seats)
    has_its_turn = len(serving) > given[need.run] and serving[-1].seconds < turn
    return not has_its_turn, -need.waited, len(serving)


def _turnabout(missing: Mapping[str, int]) -> list[str]:
    """Return the runs by missing workers: the first of each run, then the second of each."""
    rounds = range(max(missing.values(), default=0))
    return [run for number in rounds for run, lacks in missing.items() if lacks > number]
