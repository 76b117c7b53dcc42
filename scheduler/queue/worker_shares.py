"""How the workers of one machine are shared out over several runs. Pure: what is wanted and what is there in, moves out.

A worker serves one run, and is never taken from a task: it is asked to leave, finishes what it runs, and its place goes to
another run. Every run that has work gets as many workers as any other, as long as it can use them. Places that cannot be dealt out
evenly go round: each of them changes hands when its turn is over, to the run that has waited longest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

TURN_SECONDS: Final = 20.0  # a worker takes about two seconds to start


@dataclass(frozen=True)
class Need:
    """What a run can use now."""

    run: str
    wants: int
    """Tasks under way: more workers than that would have nothing to do."""
    waited: float = math.inf
    """Seconds since a worker was last started for it."""


@dataclass(frozen=True)
class Seat:
    """A worker process, and the run that it serves."""

    number: int
    run: str
    seconds: float
    """How long it has served."""
    is_leaving: bool = False
    """It was asked to end after its present task."""


@dataclass(frozen=True)
class Moves:
    """What to do now."""

    start: tuple[str, ...] = ()
    """Runs that get a new worker, once for each."""
    leave: tuple[int, ...] = ()
    """Numbers of the workers that are to end after their present task."""


def shares(
    needs: Sequence[Need], seats: Sequence[Seat], n_workers: int, *, turn: float = TURN_SECONDS
) -> dict[str, int]:
    """How many workers each run is to have.

    Parameters
    ----------
    needs : sequence of Need
        Of all runs that are not over, each named once.
    seats : sequence of Seat
        The workers that there are.
    n_workers : int
        How many there may be.
    turn : float
        Seconds that a place belongs to a run when there are not enough for all.

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
    """The workers to start and those to send away, so that each run comes to its share.

    Nobody is sent away unless another run is waiting for that place. Parameters as for :func:`shares`.

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
    """The workers of a run that stay, the longest there first."""
    found = [seat for seat in seats if seat.run == run and not seat.is_leaving]
    return sorted(found, key=lambda seat: (-seat.seconds, seat.number))


def _rank(
    need: Need, seats: Sequence[Seat], given: Mapping[str, int], *, turn: float
) -> tuple[bool, float, int]:
    """Where a run stands in the line for the places that go round: whose turn is not over stays, then who has waited longest."""
    serving = _serving(need.run, seats)
    has_its_turn = len(serving) > given[need.run] and serving[-1].seconds < turn
    return not has_its_turn, -need.waited, len(serving)


def _turnabout(missing: Mapping[str, int]) -> list[str]:
    """Runs by the workers that they lack: the first of each, then the second of each."""
    rounds = range(max(missing.values(), default=0))
    return [run for number in rounds for run, lacks in missing.items() if lacks > number]
