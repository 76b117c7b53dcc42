"""Shared parts of the queue's benchmarks: arguments, and a run with a given plan whose steps do almost nothing.

Servers and workers are those of the service tests. This module makes ``tests`` importable, so import it first.
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
from tests.services import queue_steps  # noqa: F401 - registers the tests' steps

N_WORKERS = 2

# A line for each task would hide the figures.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@dataclass(frozen=True)
class Planned:
    """A run with a given plan that neither describes nor publishes anything."""

    plan: Plan
    data: Path
    store: Store
    manifest: Manifest = field(default_factory=lambda: Manifest({}))
    run_id: str = "0123456789abcdef"

    def describe(self) -> None:
        """Do nothing."""

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
    """Return a planned task with one of the tests' steps, which needs all these tasks."""
    params = {"name": name, "starts": str(starts)}
    return PlannedTask(name, kind, "learn", params=params, needs={"before": needs} if needs else {})


def how_many(description: str | None, what: str, *, usual: int, short: int) -> int:
    """Return the requested number from the command line, the usual number, or that of ``--short``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("n", nargs="?", type=int, metavar=what, help=f"how many; usually {usual:,}")
    parser.add_argument("--short", action="store_true", help=f"{short:,}, to see whether it works")
    options = parser.parse_args()
    return options.n or (short if options.short else usual)


def show_load() -> None:
    """Print the load of the machine, because wall times mean little on a busy machine."""
    print(f"load of this machine in the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def peak_mb() -> float:
    """Return the peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
