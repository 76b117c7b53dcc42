"""What the benchmarks of the queue share: their arguments, and a run whose plan is given and whose steps do next to nothing.

Servers and workers are those of the service tests, which lie beside this folder: import this module before any of ``tests``.
"""

import argparse
import logging
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mlho.steps.records import Commit
from mlho.store.base import Store
from scheduler.engine.plan import Manifest, Plan, PlannedTask
from tests.services import queue_steps  # noqa: F401 - with it the tests' steps are known

N_WORKERS = 2

# A line for each task would hide the figures.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@dataclass(frozen=True)
class Planned:
    """An undertaking that is its plan: nothing is described or published."""

    plan: Plan
    data: Path
    store: Store
    manifest: Manifest = field(default_factory=lambda: Manifest({}))
    run_id: str = "0123456789abcdef"

    def describe(self) -> None:
        """Write nothing."""

    def first_plan(self) -> Plan:
        return self.plan

    def whole_plan(self, _commits: Mapping[str, Commit]) -> Plan:
        return self.plan

    def publish(self, commits: Mapping[str, Commit]) -> Commit:
        return commits[next(reversed(self.plan))]


class NullObserver:
    """An observer that does nothing."""

    def update(self, stages: list[tuple[str, int, int]], running: int) -> None:
        """Do nothing."""


def planned(kind: str, name: str, starts: Path, needs: tuple[str, ...] = ()) -> PlannedTask:
    """A task of the tests' steps in a plan; it waits for all that it needs."""
    params = {"name": name, "starts": str(starts)}
    return PlannedTask(name, kind, "learn", params=params, needs={"before": needs} if needs else {})


def how_many(description: str | None, what: str, *, usual: int, short: int) -> int:
    """What the command line asks for: so many of something, the usual number, or ``--short``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("n", nargs="?", type=int, metavar=what, help=f"how many; usually {usual:,}")
    parser.add_argument("--short", action="store_true", help=f"{short:,}, to see whether it works")
    options = parser.parse_args()
    return options.n or (short if options.short else usual)


def show_load() -> None:
    """Say how busy the machine is: beside others' work, seconds say little."""
    print(f"load of this machine in the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def peak_mb() -> float:
    """Most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
