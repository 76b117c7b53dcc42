"""The long proofs, as a program: ``make proofs``, or some of them with ``make proofs PROOFS='workers redis'``.

Each figure is printed as a line of JSON when it is known, and all of them as a table at the end. The exit code is 1
if a limit was missed. Tests do the same on a small scale (``test_faults_workers``, ``test_faults_queue``,
``test_chaos``).
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlho.log import configure
from tests.services.chaos_proof import chaos, kill_schedulers
from tests.services.hostile_proof import attack
from tests.services.measured import Measured, table
from tests.services.queue_home import Home
from tests.services.redis_servers import durable
from tests.services.s3_servers import ACCESS_KEY, SECRET_KEY
from tests.services.trials import (
    drain_workers,
    hold_the_lock,
    kill_own_workers,
    kill_workers,
    restart_redis,
)

_SIDE_BY_SIDE: Final = 3


@dataclass(frozen=True)
class Extent:
    """The amount of work, and the seeds."""

    seeds: Sequence[int]
    share: float
    n_tasks: int
    on_store: bool

    @property
    def dice(self) -> random.Random:
        """Return a random generator with the first seed."""
        return random.Random(self.seeds[0])

    def of(self, whole: int) -> int:
        """Return the share of this number of trials, at least one."""
        return max(1, round(whole * self.share))


type Proof = Callable[[Path, Extent], list[Measured]]


def _workers(folder: Path, extent: Extent) -> list[Measured]:
    n_rounds = -(-extent.of(100) // _SIDE_BY_SIDE)
    with Home(folder) as home:
        return kill_workers(home, range(n_rounds), extent.dice, side_by_side=_SIDE_BY_SIDE)


def _lock(folder: Path, extent: Extent) -> list[Measured]:
    with Home(folder) as home:
        return hold_the_lock(home, extent.of(600))


def _poison(folder: Path, extent: Extent) -> list[Measured]:
    measured = []
    for empties in (False, True):
        with Home(folder / f"empties-{empties}") as home:
            measured += kill_own_workers(home, range(extent.of(10)), empties=empties)
    return measured


def _redis(folder: Path, extent: Extent) -> list[Measured]:
    with Home(folder, server=durable(folder / "server")) as home:
        return restart_redis(home, range(extent.of(20)), extent.dice)


def _schedulers(folder: Path, extent: Extent) -> list[Measured]:
    return kill_schedulers(folder, extent.seeds[0])


def _drain(folder: Path, extent: Extent) -> list[Measured]:
    with Home(folder) as home:
        return drain_workers(home, range(extent.of(20)), extent.dice)


def _chaos(folder: Path, extent: Extent) -> list[Measured]:
    return chaos(folder, extent.seeds, n_tasks=extent.n_tasks, on_store=extent.on_store)


def _hostile(folder: Path, extent: Extent) -> list[Measured]:
    with Home(folder) as home:
        return attack(home, extent.of(2_000), extent.dice)


PROOFS: Final[Mapping[str, Proof]] = {
    "workers": _workers,
    "lock": _lock,
    "poison": _poison,
    "redis": _redis,
    "schedulers": _schedulers,
    "drain": _drain,
    "chaos": _chaos,
    "hostile": _hostile,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named proofs, or all of them. Return 1 if a limit was missed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    configure("json", verbose=False)
    extent = Extent(options.seed, options.share, options.tasks, on_store=options.store == "s3")
    measured: list[Measured] = []
    unknown = set(options.proofs) - PROOFS.keys()
    if unknown:
        parser.error(f"unknown proofs: {', '.join(sorted(unknown))}. Known: {', '.join(PROOFS)}.")
    for name in options.proofs or PROOFS:
        folder = Path(tempfile.mkdtemp(prefix=f"proof-{name}-"))  # kept with its logs if the proof fails
        found = PROOFS[name](folder, extent)
        shutil.rmtree(folder)
        for figure in found:
            sys.stdout.write(json.dumps({"proof": name, **figure.plain()}, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        measured += found
    sys.stdout.write(table(measured) + "\n")
    return 0 if all(figure.is_kept for figure in measured) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("proofs", nargs="*", help=f"which: {', '.join(PROOFS)}")
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[1], help="chaos takes all, the others the first"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the trials (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=2_000, help="of chaos (default: %(default)s)")
    parser.add_argument(
        "--store",
        choices=("local", "s3"),
        default="s3",
        help="of chaos; s3: SeaweedFS behind a proxy that fails",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
