"""Turns: runs without admitted workers hold no slot, and others are ordered by priority and then by age."""

from dataclasses import replace
from typing import Final

import pytest

from scheduler.controller.turns import (
    ADMIT_SECONDS,
    ASK_SECONDS,
    HINDERED_SECONDS,
    N_SLOTS,
    N_STARTERS,
    REST_SECONDS,
    UNKNOWN_PRIORITY,
    Contender,
    assign_turns,
    learn_priority,
)

NEW: Final = Contender(uid="new", run_id="new", created="2026-11-24T12:00:00Z")
WORKING: Final = Contender(uid="", run_id="", is_running=True, has_workers=True, has_jobs=True)
WAITING: Final = replace(WORKING, has_workers=False, waited_seconds=ADMIT_SECONDS)


def many(n: int, like: Contender) -> list[Contender]:
    """Return identical runs with different names."""
    return [replace(like, uid=f"run-{number:03d}", run_id=f"run-{number:03d}") for number in range(n)]


def test_two_hundred_runs_that_wait_hold_no_slot():
    """Two hundred waiting runs hold no slot: a new run gets a turn at once, and one waiting run gives up its slot."""
    parked = many(200, replace(WAITING, is_running=False))
    waiting = [replace(run, is_running=number < N_SLOTS) for number, run in enumerate(parked)]

    chosen = assign_turns([*waiting, NEW])

    assert NEW.uid in chosen
    assert len(chosen) == N_SLOTS
    assert chosen - {NEW.uid} < {run.uid for run in waiting if run.is_running}


def test_a_run_with_admitted_workers_precedes_those_without():
    """A run with admitted workers precedes all runs without workers, because its workers hold quota and wait for tasks."""
    waiting = many(N_SLOTS, WAITING)
    admitted = replace(WAITING, uid="in", run_id="in", is_running=False, has_workers=True)
    rivals = [replace(run, uid=f"new-{run.uid}", run_id=f"new-{run.uid}") for run in many(N_SLOTS, NEW)]

    chosen = assign_turns([*waiting, *rivals, replace(NEW, priority=9), admitted])

    assert admitted.uid in chosen


def test_slots_are_not_taken_from_runs_that_have_workers():
    """A waiting run never takes the slot of a run with workers, even if its priority is higher."""
    working = many(N_SLOTS, WORKING)

    assert assign_turns([*working, replace(NEW, priority=1000)]) == {run.uid for run in working}


def test_turns_go_by_priority_and_then_by_age():
    """If there are more new runs than slots, turns go by priority and then by age."""
    runs = many(N_SLOTS + 8, NEW)
    late_but_high = replace(NEW, priority=10, created="2026-11-24T13:00:00Z")
    early = replace(NEW, uid="zz", run_id="zz", created="2026-11-24T11:00:00Z")

    chosen = assign_turns([*runs, late_but_high, early])

    assert {late_but_high.uid, early.uid} < chosen
    assert chosen - {late_but_high.uid, early.uid} == {run.uid for run in runs[: N_SLOTS - 2]}


def test_a_run_of_kueue_gets_its_workload_though_all_slots_have_workers():
    """A run of Kueue gets a turn to create its Workload even if all slots have workers, because Kueue can preempt others
    only for a Workload. A few runs at a time do so, the highest priority first.
    """
    working = many(N_SLOTS, WORKING)
    queued = [
        replace(run, uid=f"q{run.uid}", run_id=f"q{run.uid}", needs_workload=True, priority=number)
        for number, run in enumerate(many(10, NEW))
    ]

    chosen = assign_turns([*working, *queued])

    assert chosen == {run.uid for run in (*working, *queued[-N_STARTERS:])}
    with_workload = replace(queued[-1], is_running=True, has_jobs=True, waited_seconds=ADMIT_SECONDS)
    assert with_workload.uid not in assign_turns([*working, with_workload])  # it is Kueue's turn


@pytest.mark.parametrize(
    ("run", "holds"),
    [
        pytest.param(WORKING, True, id="has workers"),
        pytest.param(WAITING, False, id="asked for workers, and has none"),
        pytest.param(replace(WAITING, waited_seconds=0.0), True, id="has just asked for them"),
        pytest.param(replace(WAITING, has_jobs=False), True, id="is about to ask"),
        pytest.param(replace(WAITING, has_jobs=False, waited_seconds=ASK_SECONDS), False, id="never asks"),
        pytest.param(
            replace(WAITING, has_jobs=False, waited_seconds=HINDERED_SECONDS), True, id="takes its time"
        ),
        pytest.param(
            replace(WAITING, has_jobs=False, waited_seconds=HINDERED_SECONDS, is_hindered=True),
            False,
            id="cannot ask",
        ),
        pytest.param(replace(WORKING, is_running=False), False, id="is not carried out"),
    ],
)
def test_a_slot_is_held_by_a_run_that_has_or_may_soon_have_workers(run: Contender, holds: bool):
    """A slot is held by a run with workers, and for a short time by a run that may get some."""
    assert run.holds_slot is holds


def test_a_run_whose_workers_were_refused_rests_before_the_next_turn():
    """A run whose Jobs are refused pauses before its next turn, so that forty such runs do not displace each other all the time."""
    resting = replace(NEW, rested_seconds=REST_SECONDS - 1)
    waiting = many(N_SLOTS, replace(WAITING, has_jobs=False, waited_seconds=ASK_SECONDS))

    assert resting.uid not in assign_turns([*waiting, resting])
    assert resting.uid in assign_turns([*waiting, replace(resting, rested_seconds=REST_SECONDS)])


def test_one_of_two_resources_that_ask_for_the_same_run_has_a_turn():
    """Of two resources that ask for the same run, the one in progress has the turn, and otherwise the earlier one."""
    twin = replace(NEW, uid="twin", created="2026-11-24T12:00:01Z")

    assert assign_turns([twin, NEW]) == {NEW.uid}
    assert assign_turns([replace(twin, is_running=True), NEW]) == {twin.uid}


def test_priorities_are_learnt_from_workloads():
    """A priority class has the value of its Workloads. A class without a known value goes first, because only its Workload can show it."""
    known: dict[str, int] = {}
    spec = {"priorityClassName": "high", "priority": 1000}

    learn_priority(known, {"spec": {**spec, "priorityClassSource": "kueue.x-k8s.io/workloadpriorityclass"}})
    learn_priority(
        known, {"spec": {**spec, "priorityClassSource": "scheduling.k8s.io/priorityclass", "priority": 1}}
    )
    learn_priority(known, {})

    assert known == {"high": 1000}
    assert replace(NEW, priority=UNKNOWN_PRIORITY).rank < replace(NEW, priority=1000).rank
