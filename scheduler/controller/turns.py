"""Which runs a scheduler carries out now: those with workers, then by priority, then by age. Pure.

A run whose workers are not admitted (no quota, no node, a refused Kubernetes Job) holds no slot. Its Kubernetes Job stays,
so that Kueue and the cluster can admit it; once they do, the run comes before all that have no workers.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

N_SLOTS: Final = 32  # runs carried out at once: each has a thread, connections, and a plan in memory
N_STARTERS: Final = 4  # more, for runs that Kueue has to know before it can preempt others for them
ASK_SECONDS: Final = 300.0  # for a run to plan and to ask for workers, on a busy machine and with all others
HINDERED_SECONDS: Final = 20.0  # the same, while store or queue do not serve it, or its workers are refused
ADMIT_SECONDS: Final = 5.0  # for workers that were asked for to be admitted
REST_SECONDS: Final = 60.0  # until a run that gave its slot up without having workers asked for tries again
UNKNOWN_PRIORITY: Final = 2**31  # of a class that no Workload has told yet: only a Workload can
_WORKLOAD_PRIORITY: Final = "kueue.x-k8s.io/workloadpriorityclass"


@dataclass(frozen=True)
class Contender:
    """A run that wants to be carried out.

    Attributes
    ----------
    uid, run_id : str
        The resource, and the run that it asks for: two resources may ask for the same.
    created : str
        When the resource was created, as Kubernetes writes it.
    priority : int
        Larger goes first.
    is_running : bool
        It is carried out now.
    has_workers : bool
        A node has a worker of it.
    has_jobs : bool
        Workers of it were asked for, whether admitted or not.
    is_hindered : bool
        Something keeps it from asking for workers: a store or queue that does not serve, or a refusal.
    needs_workload : bool
        Kueue admits its workers, and may preempt others for them.
    waited_seconds : float
        Since it last had workers, asked for some, or began.
    rested_seconds : float
        Since it gave its slot up; infinite if it never did.
    """

    uid: str
    run_id: str
    created: str = ""
    priority: int = 0
    is_running: bool = False
    has_workers: bool = False
    has_jobs: bool = False
    is_hindered: bool = False
    needs_workload: bool = False
    waited_seconds: float = 0.0
    rested_seconds: float = math.inf

    @property
    def holds_slot(self) -> bool:
        """Whether it is carried out and has workers, or has not had the time to get some."""
        if not self.is_running or self.has_workers:
            return self.is_running
        if self.has_jobs:
            return self.waited_seconds < ADMIT_SECONDS
        return self.waited_seconds < (HINDERED_SECONDS if self.is_hindered else ASK_SECONDS)

    @property
    def is_new(self) -> bool:
        """Whether it has to be carried out before any worker of it can be admitted."""
        return not (self.is_running or self.has_jobs) and self.rested_seconds >= REST_SECONDS

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """Its place among those that hold no slot; smaller goes first."""
        if self.has_workers:
            group = 0
        elif self.is_new:
            group = 1
        else:
            group = 2 if self.is_running else 3
        return group, -self.priority, self.created, self.uid


def give_turns(contenders: Iterable[Contender]) -> frozenset[str]:
    """Choose the runs to carry out; return the uids of their resources.

    Slots are not taken from runs that have workers. Of several resources that ask for the same run one has a turn.
    """
    found = list(contenders)
    chosen = {own.run_id: own.uid for own in found if own.holds_slot}
    for own in sorted((own for own in found if not own.holds_slot), key=lambda own: own.rank):
        is_starter = own.needs_workload and own.is_new
        if own.run_id not in chosen and len(chosen) < N_SLOTS + (N_STARTERS if is_starter else 0):
            chosen[own.run_id] = own.uid
    return frozenset(chosen.values())


def learn_priority(priorities: dict[str, int], workload: Mapping[str, Any]) -> None:
    """Note the value of a Workload's priority class, which only its Workloads tell without rights in the whole cluster."""
    spec = workload.get("spec", {})
    name = spec.get("priorityClassName")
    if name and spec.get("priorityClassSource") == _WORKLOAD_PRIORITY:
        priorities[name] = int(spec.get("priority", 0))
