"""Compare the features of a run with MEDS-Tab on the same MEDS data: whole commands, in wall and CPU seconds and peak memory.

    python benchmarks/meds_tab.py --python VENV/bin/python [--rows 380000 5000000] [--processes 2]

``VENV`` is a separate environment with ``pip install MEDS-tab`` (MEDS_TAB_PYTHON names it too); without it the
benchmark is skipped. Both get the same shards of the generator's events, and compute the same features at the same
times: the number of records of each code within 30 days, within 365 days and ever. Values are left out, because
MEDS-Tab 0.2.0 gave none. Its counts missed rows, and the number of rows that it counts is printed.

MEDS-Tab: ``meds-tab-describe`` and ``meds-tab-tabularize-time-series``. Ours: ``mlho run`` from its start until the
features are packed in the store, including the checks of cohort, tables and rows; then it is stopped. The first of
two runs compiles the loops, and its time is not counted. CPU seconds are comparable on a machine with other load;
shared pages count once for each process.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from _command import Watched, Watcher, environment
from _figures import show

from mlho.synthetic import make_cohort

GOALS = {380_000: 20.0, 5_000_000: 50.0}  # how many times as fast; other sizes have no goal
ROWS_PER_PATIENT = 217
N_SHARDS = 4
_SPEC = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "meds-tab"},
    "spec": {
        "data": {
            "source": "meds",
            "tables": {"events": "data", "labels": "labels"},
            "partitionedBy": "patient",
        },
        "cohort": {"outcome": "boolean_value", "index": {"column": "prediction_time"}},
        "features": {"aggregates": ["count"], "windows": [30, 365], "allHistory": True},
    },
}
_THEIRS = (
    "tabularization.aggs=[code/count]",
    "tabularization.window_sizes=[30d,365d,full]",
    "tabularization.min_code_inclusion_count=1",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=os.environ.get("MEDS_TAB_PYTHON"))
    parser.add_argument("--rows", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    programs = Path(options.python).parent if options.python else None
    if programs is None or not (programs / "meds-tab-describe").exists():
        print("skipped: needs MEDS-Tab in an environment of its own; give --python VENV/bin/python")
        sys.exit(0)
    for n_rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="mlho-meds-tab-") as folder:
            measure(Path(folder), n_rows, programs, options.processes)


def measure(folder: Path, n_asked: int, programs: Path, n_processes: int) -> None:
    """Generate the data, run both, and print the figures."""
    n = write_shards(folder, n_asked, n_processes)
    run_ours(folder, folder / "warm", n_processes)
    ours = run_ours(folder, folder / "store", n_processes)
    rival = run_theirs(folder, programs)
    n_found, n_rows = counted_rows(folder)
    print(f"{n:,} rows in {N_SHARDS} shards, {n_processes} processes")
    for name, usage in (("MEDS-Tab", rival), ("mlho", ours)):
        print(
            f"  {name:9} {usage.wall_seconds:8.2f} s wall {usage.cpu_seconds:8.2f} s CPU {usage.peak_mb:8.0f} MB"
        )
    print(f"  MEDS-Tab counts {n_found:,} of the {n_rows:,} rows up to the prediction times")
    goal = GOALS.get(n_asked, 1.0)
    source = f"MEDS-Tab / {goal:g}"
    show("CPU", ours.cpu_seconds, rival.cpu_seconds / goal, "s", source=source)
    show("wall", ours.wall_seconds, rival.wall_seconds / goal, "s", source=source)


def write_shards(folder: Path, n_rows: int, n_processes: int) -> int:
    """Write ``data`` and ``labels`` as MEDS shards by patient in the order of MEDS, and return the number of rows."""
    cohort = folder / "made"
    make_cohort(cohort, n_patients=n_rows // ROWS_PER_PATIENT, n_partitions=N_SHARDS, n_workers=n_processes)
    for shard, path in enumerate(sorted((cohort / "events").glob("*.parquet"))):
        rows = pq.read_table(path)
        events = pa.table(
            {
                "subject_id": rows["patient_num"],
                "time": rows["start_date"].cast(pa.timestamp("us")),
                "code": rows["phenx"],
                "numeric_value": rows["value"].cast(pa.float32()),
            }
        )
        events = events.filter(pc.and_(pc.is_valid(events["time"]), pc.is_valid(events["code"])))
        outcomes = pq.read_table(cohort / "labels", columns=["patient_num", "index_date", "outcome"])
        outcomes = outcomes.filter(pc.is_in(outcomes["patient_num"], pc.unique(events["subject_id"])))
        labels = pa.table(
            {
                "subject_id": outcomes["patient_num"],
                "prediction_time": outcomes["index_date"].cast(pa.timestamp("us")),
                "boolean_value": outcomes["outcome"].cast(pa.bool_()),
            }
        )
        for name, table, by in (("data", events, "time"), ("labels", labels, "prediction_time")):
            (folder / name / "train").mkdir(parents=True, exist_ok=True)
            pq.write_table(
                table.sort_by([("subject_id", "ascending"), (by, "ascending")]),
                folder / name / "train" / f"{shard}.parquet",
            )
    shutil.rmtree(cohort)
    return sum(pq.read_metadata(path).num_rows for path in (folder / "data").rglob("*.parquet"))


def counted_rows(folder: Path) -> tuple[int, int]:
    """Return the number of rows that MEDS-Tab counts in all history, and the number of rows up to their patient's prediction time."""
    n_found, n_rows = 0, 0
    for path in sorted((folder / "data" / "train").glob("*.parquet")):
        labels = pq.read_table(folder / "labels" / "train" / path.name)
        ends = dict(zip(labels["subject_id"].to_pylist(), labels["prediction_time"].to_numpy(), strict=True))
        events = pq.read_table(path, columns=["subject_id", "time"])
        until = np.array([ends[patient] for patient in events["subject_id"].to_pylist()], "datetime64[us]")
        n_rows += int(np.count_nonzero(events["time"].to_numpy() <= until))
        counts = folder / "tab" / "tabularize" / "train" / path.stem / "full" / "code" / "count.npz"
        with np.load(counts) as archive:
            n_found += int(archive["array"][0].sum())
    return n_found, n_rows


def run_ours(folder: Path, store: Path, n_processes: int) -> Watched:
    """Run ``mlho run`` until its features are packed."""
    document = json.loads(json.dumps(_SPEC))
    document["spec"]["data"]["uri"] = str(folder)
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = [sys.executable, "-m", "scheduler", "run", str(spec), "--store", str(store), "--log", "json"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--workers", str(n_processes)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watcher, lines, found = Watcher(process.pid), [], None
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if '"step": "pack_features"' in line:
            found = watcher.until_now(time.perf_counter() - started)
        elif '"step": "check_splits"' in line:
            break
    watcher.stop()
    process.terminate()
    process.communicate()
    if found is None:
        raise SystemExit(f"mlho run packed no features:\n{''.join(lines)}")
    return found


def run_theirs(folder: Path, programs: Path) -> Watched:
    """Run both commands of MEDS-Tab, one after the other."""
    common = [f"input_dir={folder / 'data'}", f"output_dir={folder / 'tab'}"]
    commands = [
        [str(programs / "meds-tab-describe"), *common],
        [
            str(programs / "meds-tab-tabularize-time-series"),
            *common,
            f"input_label_dir={folder / 'labels'}",
            *_THEIRS,
        ],
    ]
    parts = []
    for command in commands:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
        )
        before, watcher = _cpu_of_children(), Watcher(process.pid)
        output, _ = process.communicate()
        wall = time.perf_counter() - started
        watcher.stop()
        parts.append(Watched(wall, _cpu_of_children() - before, watcher.peak_mb))
        if process.returncode:
            raise SystemExit(f"{Path(command[0]).name} failed ({process.returncode}):\n{output[-3000:]}")
    columns = np.array([(usage.wall_seconds, usage.cpu_seconds, usage.peak_mb) for usage in parts])
    wall, cpu = columns[:, :2].sum(axis=0).tolist()
    return Watched(wall, cpu, float(columns[:, 2].max()))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
