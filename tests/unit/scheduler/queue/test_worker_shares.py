"""The workers of a machine are shared evenly among the runs that can use them."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.queue.worker_shares import TURN_SECONDS, Assignment, Need, ShareChanges, share_changes, shares

RUNS = "abcde"
needs_of = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 60)), min_size=1, max_size=5).map(
    lambda drawn: [Need(run, wants, float(waited)) for run, (wants, waited) in zip(RUNS, drawn, strict=False)]
)
seats_of = st.lists(st.tuples(st.sampled_from(RUNS), st.integers(0, 60), st.booleans()), max_size=8).map(
    lambda drawn: [
        Assignment(number, run, float(seconds), leaves) for number, (run, seconds, leaves) in enumerate(drawn)
    ]
)


@given(needs=needs_of, assignments=seats_of, n_workers=st.integers(1, 8))
def test_no_worker_is_idle_while_a_run_wants_one(needs, assignments, n_workers):
    """All places are assigned while there is work, and no run gets more workers than it can use."""
    given_to = shares(needs, assignments, n_workers)
    assert sum(given_to.values()) == min(n_workers, sum(need.wants for need in needs))
    assert all(given_to[need.run] <= need.wants for need in needs)


@given(needs=needs_of, assignments=seats_of, n_workers=st.integers(1, 8))
def test_a_run_that_wants_more_is_at_most_one_worker_behind_another(needs, assignments, n_workers):
    """A run with fewer workers than it wants is at most one worker behind any other."""
    given_to = shares(needs, assignments, n_workers)
    hungry = [given_to[need.run] for need in needs if given_to[need.run] < need.wants]
    assert all(most - least <= 1 for least in hungry for most in given_to.values())


@given(needs=needs_of, assignments=seats_of, n_workers=st.integers(1, 8))
def test_there_are_never_more_workers_than_places(needs, assignments, n_workers):
    """A worker that was asked to exit keeps its place until it has exited."""
    step = share_changes(needs, assignments, n_workers)
    assert len(step.start) <= max(0, n_workers - len(assignments))
    leaving = {assignment.number for assignment in assignments if assignment.is_exiting}
    assert not leaving & set(step.release)


@given(needs=needs_of, n_workers=st.integers(1, 8))
def test_an_assignment_is_stable(needs, n_workers):
    """An assignment does not change as long as the needs do not change."""
    assignments = []
    first = share_changes(needs, assignments, n_workers)
    assignments = [Assignment(number, run, 0.0) for number, run in enumerate(first.start)]
    settled = [replace(need, waited=1.0) for need in needs]
    step = share_changes(settled, assignments, n_workers)
    assert (step.start, step.release) == ((), ())


def test_a_short_run_gets_a_worker_of_the_long_one_that_was_there_first():
    """A short run that starts later gets one of the two workers of a long run: the newest worker exits and is replaced."""
    needs = [Need("long", 30), Need("short", 2)]
    assignments = [Assignment(0, "long", 60.0), Assignment(1, "long", 50.0)]
    assert share_changes(needs, assignments, 2).release == (1,)
    one_left = [Assignment(0, "long", 60.0), Assignment(1, "long", 50.0, is_exiting=True)]
    assert share_changes(needs, one_left, 2) == ShareChanges()
    assert share_changes(needs, assignments[:1], 2).start == ("short",)


def test_runs_take_turns_when_there_are_more_of_them_than_workers():
    """Three runs with continuous work on one worker get at least two turns each, simulated for ten turns."""
    turns = _simulate([Need(run, 5, math.inf) for run in "abc"], n_workers=1, seconds=10 * TURN_SECONDS)
    assert set(turns) == set("abc")
    assert min(turns.values()) >= 2 * TURN_SECONDS
    assert max(turns.values()) - min(turns.values()) <= 2 * TURN_SECONDS


def test_an_odd_worker_alternates_between_runs():
    """With three workers for two runs, the odd worker alternates: over ten turns, the runs differ by at most two turns."""
    turns = _simulate([Need("a", 9), Need("b", 9)], n_workers=3, seconds=10 * TURN_SECONDS)
    assert abs(turns["a"] - turns["b"]) <= 2 * TURN_SECONDS


def test_a_run_without_work_gives_up_workers_only_if_another_waits():
    """A run without work keeps its workers unless another run waits, because the next stage usually follows soon."""
    assignments = [Assignment(0, "a", 9.0), Assignment(1, "b", 9.0)]
    idle = Need("b", 0)
    assert share_changes([Need("a", 1), idle], assignments, 2).release == ()
    assert share_changes([Need("a", 2), idle], assignments, 2).release == (1,)


def _simulate(needs, *, n_workers, seconds):
    """Simulate the assignment, where exiting takes one second and starting none, and return the seconds that each run was served."""
    assignments, next_number = [], 0
    served = {need.run: 0.0 for need in needs}
    waited = {need.run: need.waited for need in needs}
    for _ in range(int(seconds)):
        assignments = [
            replace(assignment, seconds=assignment.seconds + 1)
            for assignment in assignments
            if not assignment.is_exiting
        ]
        waited = {run: time + 1 for run, time in waited.items()}
        for assignment in assignments:
            served[assignment.run] += 1
        step = share_changes(
            [replace(need, waited=waited[need.run]) for need in needs], assignments, n_workers
        )
        assignments = [
            replace(assignment, is_exiting=assignment.number in step.release) for assignment in assignments
        ]
        for run in step.start:
            assignments.append(Assignment(next_number, run, 0.0))
            waited[run] = 0.0
            next_number += 1
    return served
