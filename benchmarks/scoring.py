"""Measure a night of scoring: seconds from Parquet to committed Parquet on two processes, with and without reasons.

    python benchmarks/scoring.py [--patients 1000000] [--partitions 32] [--folder FOLDER]

Generates a cohort of about 210 events per patient (``--folder`` keeps it), trains xgboost (200 trees on up to 200 features)
on one partition, and scores all patients with ``mlho score``: without reasons, with five reasons for the alerts of the
highest tenth, and for all. All tests of the bundle and the check for skew and drift are included. The lower bound is xgboost
alone on the same number of rows, on one thread: prediction, and its TreeSHAP for the tenth and for all. CPU seconds are shown
in addition to wall seconds, because they are comparable on a machine with other load. The goals hold for 1,000,000 patients
on two quiet cores. Linux only.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse
import yaml
from _figures import show

from mlho import load_bundle
from mlho.synthetic import make_cohort

GOAL_PATIENTS = 1_000_000
GOALS = {"alerts": 15.0, "all": 35.0}
RULE = "fixed-alert-rate:0.1"
EXPLAIN: dict[str, dict[str, Any]] = {
    "none": {"topReasons": 0},
    "alerts": {"topReasons": 5, "onlyAlertsOf": RULE},
    "all": {"topReasons": 5},
}
_FLOOR_ROWS = 16_384
_LOOK_SECONDS = 0.05  # CPU time after a process's last sample is not counted


@dataclass(frozen=True)
class Taken:
    """Time of a command: wall and CPU seconds, and the largest process in MB."""

    wall: float
    cpu: float
    peak_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=GOAL_PATIENTS)
    parser.add_argument("--partitions", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the cohort and the model here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        data = folder / "data"
        if not (data / "truth.json").exists():
            make_cohort(
                data, n_patients=options.patients, n_partitions=options.partitions, n_workers=options.workers
            )
        bundle = train(folder, data, options.workers)
        return measure(folder, data, bundle, options.workers)


def train(folder: Path, data: Path, n_workers: int) -> Path:
    """Train on the first partition. Return the folder of the bundle."""
    first = "part-0000.parquet"
    spec = {
        "data": {
            "source": "dbmart",
            "uri": str(data),
            "tables": {"events": f"events/{first}", "labels": f"labels/{first}"},
        },
        "cohort": {"outcome": "outcome", "index": {"column": "index_date"}},
        "selection": {"nFeatures": 200, "minPrevalence": 0.001},
        "validation": {"iterations": 2, "folds": 2, "bootstrapReplicates": 0},
        "candidates": [{"classifier": "xgboost", "grid": {"maxDepth": [4], "nRounds": [200]}}],
    }
    command(folder, "TrainingRun", "model", spec, "run", n_workers)
    (bundle,) = (folder / "store" / "runs").glob("*/bundle")
    return bundle


def command(folder: Path, kind: str, name: str, spec: dict[str, Any], verb: str, n_workers: int) -> Taken:
    """Run a specification in a separate process."""
    document = {"apiVersion": "mlho.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    place = folder / ("store" if verb == "run" else f"store-{name}")
    if verb == "score":
        shutil.rmtree(place, ignore_errors=True)  # otherwise an earlier night's scores would be found
    store = ["--store", str(place), "--workers", str(n_workers), "--progress", "none"]
    arguments = [sys.executable, "-m", "scheduler", verb, str(path), *store]
    log, began = folder / f"{name}.log", time.perf_counter()
    with log.open("wb") as out:
        # A new session identifies the workers, which are children of a fork server.
        process = subprocess.Popen(arguments, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    seen: dict[str, tuple[float, float]] = {}
    while process.poll() is None:
        seen |= usage_of_session(process.pid)
        time.sleep(_LOOK_SECONDS)
    wall = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{name}: {log.read_text(encoding='utf-8')[-2000:]}")
    return Taken(wall, sum(cpu for cpu, _ in seen.values()), max(peak for _, peak in seen.values()))


def usage_of_session(session: int) -> dict[str, tuple[float, float]]:
    """Return the CPU seconds and the largest resident memory in MB of each process of a session, from ``/proc``."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # Behind the command in parentheses: state, parent, group, session, …; utime and stime are fields 14 and 15.
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) != session:
                continue
            status = (folder / "status").read_text()
        except OSError:  # it has ended
            continue
        if "VmHWM:" in status:
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            found[folder.name] = (cpu, int(status.split("VmHWM:")[1].split()[0]) / 1024)
    return found


def measure(folder: Path, data: Path, bundle: Path, n_workers: int) -> int:
    """Score without reasons, with those of alerts, and with all, and print seconds, lower bound and goals."""
    n_rows = sum(pq.ParquetFile(path).metadata.num_rows for path in (data / "events").glob("*.parquet"))
    labels = pq.read_table(data / "labels", columns=["index_date"])
    floors = floor(bundle, labels.num_rows, n_workers)
    last = pc.max(labels["index_date"]).as_py()
    date = getattr(last, "date", lambda: last)()
    print(
        f"{labels.num_rows:,} patients, {n_rows:,} rows, {n_workers} processes, load {os.getloadavg()[0]:.1f}"
    )
    are_ok = True
    for name, explain in EXPLAIN.items():
        spec = {
            "bundle": {"uri": str(bundle)},
            "data": {
                "source": "dbmart",
                "uri": str(data),
                "tables": {"events": "events/"},
                "partitionedBy": "patient",
            },
            "index": {"date": date},
            "explain": explain,
            "checks": {"emptySamples": "warn", "futureDate": "allow"},
        }
        taken = command(folder, "ScoringRun", f"reasons-of-{name}", spec, "score", n_workers)
        print(
            f"reasons of {name:<7} {taken.wall:8.1f} s wall, {taken.cpu:8.1f} s CPU, {taken.cpu / n_workers:8.1f} s CPU a process, largest process "
            f"{taken.peak_mb:.0f} MB; xgboost alone {floors[name]:.1f} s CPU, ratio {taken.cpu / floors[name]:.1f}"
        )
        goal = GOALS.get(name)
        if goal is not None and labels.num_rows == GOAL_PATIENTS:
            are_ok &= show(f"reasons of {name}", taken.wall, goal, "s", source="goal")
    return 0 if are_ok else 1


def floor(bundle_folder: Path, n_rows: int, n_workers: int) -> dict[str, float]:
    """Return the CPU seconds of xgboost alone, from a sample of sparse rows like those of patients."""
    import xgboost

    bundle = load_bundle(bundle_folder)
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(bundle.classifier.model))
    golden = np.nan_to_num(bundle.golden.X)
    rows = golden[np.random.default_rng(1).integers(0, len(golden), _FLOOR_ROWS)]
    design = scipy.sparse.csr_array(rows.astype(np.float32))
    seconds = []
    for call in (
        lambda rows: booster.predict(xgboost.DMatrix(rows)),
        lambda rows: booster.predict(xgboost.DMatrix(rows), pred_contribs=True),
    ):
        call(design)
        began = time.process_time()
        call(design)
        seconds.append((time.process_time() - began) * n_rows / _FLOOR_ROWS)
    predict, shap = seconds
    return {"none": predict, "alerts": predict + 0.1 * shap, "all": predict + shap}


if __name__ == "__main__":
    raise SystemExit(main())
