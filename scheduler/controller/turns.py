"""Select the runs that a scheduler carries out: runs with workers first, then by priority, then by age. Pure.

A run whose workers are not admitted (no quota, no node, a rejected Kubernetes Job) holds no slot. Its
Kubernetes Job stays, so that Kueue and the cluster can admit it. Afterwards the run precedes all runs without
workers.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

N_SLOTS: Final = 32  # concurrent runs; each has a thread, connections, and a plan in memory
N_STARTERS: Final = 4  # additional slots for runs that Kueue must know before it can preempt others for them
ASK_SECONDS: Final = 300.0  # to plan and to request workers, on a busy machine together with all other runs
HINDERED_SECONDS: Final = 20.0  # the same, during an outage of store or queue, or while workers are rejected
ADMIT_SECONDS: Final = 5.0  # for requested workers to be admitted
REST_SECONDS: Final = 60.0  # before a run that released its slot without requesting workers tries again
UNKNOWN_PRIORITY: Final = 2**31  # of a class whose value is unknown until a Workload with it exists
_WORKLOAD_PRIORITY: Final = "kueue.x-k8s.io/workloadpriorityclass"


@dataclass(frozen=True)
class Contender:
    """A run that is to be carried out."""

    uid: str
    run_id: str
    """The resource and its run. Several resources may request the same run."""
    created: str = ""
    """Creation time of the resource in the format of Kubernetes."""
    priority: int = 0
    """A larger value takes precedence."""
    is_running: bool = False
    """The run is being carried out."""
    has_workers: bool = False
    """At least one worker is scheduled on a node."""
    has_jobs: bool = False
    """Workers were requested, whether admitted or not."""
    is_hindered: bool = False
    """The run cannot request workers: store or queue are unavailable, or its workers were rejected."""
    needs_workload: bool = False
    """Kueue admits its workers, and may preempt others for them."""
    waited_seconds: float = 0.0
    """Time since it last had workers, requested some, or started."""
    rested_seconds: float = math.inf
    """Time since it released its slot; infinite if it never did."""

    @property
    def holds_slot(self) -> bool:
        """Return whether it is being carried out and has workers, or has not had enough time to get some."""
        if not self.is_running or self.has_workers:
            return self.is_running
        if self.has_jobs:
            return self.waited_seconds < ADMIT_SECONDS
        return self.waited_seconds < (HINDERED_SECONDS if self.is_hindered else ASK_SECONDS)

    @property
    def is_new(self) -> bool:
        """Return whether it must be carried out before any of its workers can be admitted."""
        return not (self.is_running or self.has_jobs) and self.rested_seconds >= REST_SECONDS

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """Return its sort key among the runs without a slot; smaller comes first."""
        if self.has_workers:
            group = 0
        elif self.is_new:
            group = 1
        else:
            group = 2 if self.is_running else 3
        return group, -self.priority, self.created, self.uid


def assign_turns(contenders: Iterable[Contender]) -> frozenset[str]:
    """Select the runs to carry out. Return the uids of their resources.

    Runs with workers keep their slots. Of several resources that request the same run, one has a turn.
    """
    all_contenders = list(contenders)
    chosen = {contender.run_id: contender.uid for contender in all_contenders if contender.holds_slot}
    waiting = [contender for contender in all_contenders if not contender.holds_slot]
    for contender in sorted(waiting, key=lambda contender: contender.rank):
        is_starter = contender.needs_workload and contender.is_new
        if contender.run_id not in chosen and len(chosen) < N_SLOTS + (N_STARTERS if is_starter else 0):
            chosen[contender.run_id] = contender.uid
    return frozenset(chosen.values())


def learn_priority(priorities: dict[str, int], workload: Mapping[str, Any]) -> None:
    """Record the priority of a Workload's class. Reading the class itself would require cluster-wide rights."""
    spec = workload.get("spec", {})
    name = spec.get("priorityClassName")
    if name and spec.get("priorityClassSource") == _WORKLOAD_PRIORITY:
        priorities[name] = int(spec.get("priority", 0))
