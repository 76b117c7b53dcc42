"""Long chaos runs: for each seed small tasks and a training run, compared with an undisturbed run."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tests.services.chaos import LONG, SCHEDULERS, SHORT, TRAINING
from tests.services.chaos_places import object_storage, on_local, on_s3
from tests.services.chaos_subjects import DUPLICATE, Verdict, chaos_subject, short_of, training_subject
from tests.services.measured import Measured
from tests.services.s3_servers import BUCKET, S3Server

_SECONDS: Final = 3_600.0  # limit for each seed
_MANY: Final = 1_000
_N_SCHEDULED: Final = 2_000


def chaos(folder: Path, seeds: Sequence[int], *, n_tasks: int, on_store: bool) -> list[Measured]:
    """Run small tasks and a training run under all faults for each seed.

    Parameters
    ----------
    folder : Path
    seeds : sequence of int
    n_tasks : int
        Number of small tasks.
    on_store : bool
        Use SeaweedFS behind a faulty proxy instead of a folder.
    """
    measured: list[Measured] = []
    with ExitStack() as stack:
        weed = stack.enter_context(object_storage(folder)) if on_store else None
        for seed in seeds:
            measured += _small_tasks(folder / f"tasks-{seed}", seed, n_tasks, weed)
            measured += _training(folder / f"training-{seed}", seed, weed)
    return measured


def kill_schedulers(
    folder: Path, seed: int, *, plan: Mapping[str, int] = SCHEDULERS, n_tasks: int = _N_SCHEDULED
) -> list[Measured]:
    """Kill schedulers at random moments, or stop and resume them. Workers and Redis are left alone."""
    subject = chaos_subject(folder, n_tasks)
    verdict = on_local(subject, folder, plan=plan, seed=seed, seconds=_SECONDS)
    return [
        *_judged(verdict, short_of(verdict, plan, on_store=False), f"schedulers killed, seed {seed}"),
        Measured("… starts of tasks that were committed", [verdict.started_after_commit], 0, unit="starts"),
        Measured("… keys that a woken scheduler changed", [verdict.written_late], 0, unit="keys"),
    ]


def _small_tasks(folder: Path, seed: int, n_tasks: int, weed: S3Server | None) -> list[Measured]:
    folder.mkdir()
    subject = chaos_subject(folder, n_tasks)
    limits: dict[str, Any] = {"plan": LONG if n_tasks >= _MANY else SHORT, "seed": seed, "seconds": _SECONDS}
    if weed is None:
        verdict = on_local(subject, folder, **limits)
    else:
        verdict = on_s3(subject, folder, weed, f"s3://{BUCKET}/{folder.name}", **limits)
    missing = short_of(verdict, limits["plan"], on_store=weed is not None)
    return _judged(verdict, missing, f"chaos, {n_tasks} tasks, {_where(weed)}, seed {seed}")


def _training(folder: Path, seed: int, weed: S3Server | None) -> list[Measured]:
    folder.mkdir()
    address = f"s3://{BUCKET}/{folder.name}" if weed else str(folder / "store")
    subject = training_subject(folder, address)
    limits: dict[str, Any] = {"plan": TRAINING, "seed": seed, "seconds": _SECONDS}
    if weed is None:
        verdict = on_local(subject, folder, **limits)
    else:
        verdict = on_s3(subject, folder, weed, address, **limits)
    missing = short_of(verdict, TRAINING, on_store=False)
    missing.pop(DUPLICATE, None)  # with sixteen messages a duplicate is not certain
    return _judged(verdict, missing, f"chaos, training, {_where(weed)}, seed {seed}")


def _where(weed: S3Server | None) -> str:
    return "S3" if weed else "local"


def _judged(verdict: Verdict, missing: Mapping[str, tuple[int, int]], what: str) -> list[Measured]:
    """Print the verdict as a line of JSON, and return its figures."""
    found = {"what": what, "exact": verdict.is_exact, **asdict(verdict), "missing": missing}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    return [
        Measured(f"{what}: differences", [verdict.n_differences], 0, unit="differences"),
        Measured("… faults fewer than promised", [len(missing)], 0, unit="kinds"),
    ]
