"""Compare the AUROC that a run reports with that of its bundle, on ten planted cohorts with 20,000 new patients each.

    python benchmarks/attribution.py [--cohorts 10] [--first 1] [--patients 4000] [--fresh 20000] [--workers 2]

For every combination of ``final.features`` and ``final.classifier``, a model is trained on the cohort and scores new
patients of the same population, who are in no table of the run. The claim, for each combination: the mean of
|reported − actual AUROC on the new patients| is at most 0.02. The same distance is printed for the AUROC of each
iteration's winner, which was reported before.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from mlho import load_bundle
from mlho.method.evaluation.auroc import auroc
from mlho.synthetic import make_cohort
from scheduler.cli.parser import main as mlho

MAX_DISTANCE = 0.02
CANDIDATES = [
    {"classifier": "glmboost", "grid": {"nSteps": [50, 150]}},
    {"classifier": "elasticnet", "grid": {"l1Ratio": [1.0], "c": [0.03, 0.3]}},
    {"classifier": "xgboost", "grid": {"maxDepth": [2], "nRounds": [60]}},
]
COMBINATIONS = [
    (features, classifier)
    for features in ("ranking", "consensus")
    for classifier in ("best", *(candidate["classifier"] for candidate in CANDIDATES))
]
TABLES = ("events", "labels", "demographics")


@dataclass(frozen=True)
class Figures:
    """AUROC of one model: as reported, on the new patients, and of each iteration's winner."""

    claimed: float
    own: float
    winners: float
    n_features: int
    classifier: str


@dataclass(frozen=True)
class Fresh:
    """Patients outside the run, as input of a bundle."""

    events: pd.DataFrame
    index: pd.DataFrame
    demographics: pd.DataFrame
    outcome: pd.Series


def make_world(folder: Path, seed: int, n_patients: int, n_fresh: int) -> Fresh:
    """Write a cohort into ``folder``, and return new patients of the same population."""
    make_cohort(
        folder / "world", n_patients=n_patients + n_fresh, n_codes=200, n_partitions=1, seed=seed,
        rows_per_patient=30, prevalence=0.2,
    )  # fmt: skip
    fresh: dict[str, pd.DataFrame] = {}
    for name in TABLES:
        table = pa.concat_tables(map(pq.read_table, sorted((folder / "world" / name).glob("*.parquet"))))
        is_fresh = pc.greater(table["patient_num"], n_patients)
        pq.write_table(table.filter(pc.invert(is_fresh)), folder / f"{name}.parquet")
        rows = table.filter(is_fresh).rename_columns(
            {"patient_num": "patient_id", "start_date": "time", "phenx": "code", "value": "numeric_value"}
            if name == "events"
            else {"patient_num": "patient_id"}
        )
        fresh[name] = rows.to_pandas().assign(patient_id=lambda frame: frame["patient_id"].astype(str))
    labels = fresh["labels"]
    return Fresh(
        events=fresh["events"],
        index=labels[["patient_id", "index_date"]],
        demographics=fresh["demographics"],
        outcome=labels.set_index("patient_id")["outcome"],
    )


def write_spec(folder: Path, features: str, classifier: str, min_confidence: int) -> Path:
    """Write the specification of one combination."""
    document: dict[str, Any] = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": f"{features}-{classifier}"},
        "spec": {
            "data": {
                "source": "dbmart",
                "uri": str(folder),
                "tables": {name: f"{name}.parquet" for name in TABLES},
            },
            "cohort": {"outcome": "outcome", "index": {"column": "index_date"}},
            "features": {"demographics": ["age", "sex"]},
            "selection": {"nFeatures": 60},
            "validation": {"iterations": 10, "folds": 5, "seed": 7, "bootstrapReplicates": 0},
            "candidates": CANDIDATES,
            "consensus": {"minConfidence": min_confidence},
            "final": {"features": features, "classifier": classifier},
        },
    }
    path = folder / f"{features}-{classifier}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def run(spec: Path, store: Path, n_workers: int) -> Path:
    """Run the specification, and return the folder of the run."""
    before = set(store.glob("runs/*/result.json"))
    with Path("/dev/null").open("w") as quiet:
        shown, sys.stdout = sys.stdout, quiet
        try:
            code = mlho(["run", str(spec), "--store", str(store), "--workers", str(n_workers)])
        finally:
            sys.stdout = shown
    if code:
        raise SystemExit(f"{spec.stem}: the run failed")
    (path,) = set(store.glob("runs/*/result.json")) - before
    return path.parent


def judge(folder: Path, fresh: Fresh) -> Figures:
    """Compare the reported AUROC with that of the bundle."""
    result = json.loads((folder / "result.json").read_text())
    scores = load_bundle(folder / "bundle").predict_events(fresh.events, fresh.index, fresh.demographics)
    y = fresh.outcome.loc[scores["patient_id"]].to_numpy()
    return Figures(
        claimed=result["headline"]["auroc"]["mean"],
        own=auroc(y, scores["probability"].to_numpy()),
        winners=result["winners"]["auroc"]["mean"],
        n_features=result["final_model"]["n_features"],
        classifier=result["final_model"]["classifier"],
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohorts", type=int, default=10)
    parser.add_argument("--first", type=int, default=1, help="seed of the first (default: %(default)s)")
    parser.add_argument("--patients", type=int, default=4_000, help="of a cohort (default: %(default)s)")
    parser.add_argument("--fresh", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-distance", type=float, default=MAX_DISTANCE)
    parser.add_argument("--min-confidence", type=int, default=80, help="(default: %(default)s)")
    parser.add_argument(
        "--combinations", nargs="+", default=["/".join(combination) for combination in COMBINATIONS]
    )
    options = parser.parse_args()
    found: dict[tuple[str, str], list[Figures]] = {
        combination: [] for combination in COMBINATIONS if "/".join(combination) in options.combinations
    }
    for seed in range(options.first, options.first + options.cohorts):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            fresh = make_world(folder, seed, options.patients, options.fresh)
            for combination in found:
                spec = write_spec(folder, *combination, options.min_confidence)
                figures = judge(run(spec, folder / "store", options.workers), fresh)
                found[combination].append(figures)
                print(
                    f"seed {seed}: {'/'.join(combination):<21} {figures.classifier:<10} {figures.n_features:>3} features, claimed "
                    f"{figures.claimed:.4f}, own {figures.own:.4f}, winners {figures.winners:.4f}",
                    flush=True,
                )
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    print(f"mean |claimed − own| and mean claimed − own over {options.cohorts} cohorts; mean |winners − own|")
    is_kept = [show(combination, figures, options.max_distance) for combination, figures in found.items()]
    return 0 if all(is_kept) else 1


def show(combination: tuple[str, str], figures: list[Figures], max_distance: float) -> bool:
    """Print one combination's distances, and return whether the claim holds."""
    errors = [figure.claimed - figure.own for figure in figures]
    distance = math.fsum(map(abs, errors)) / len(errors)
    before = math.fsum(abs(figure.winners - figure.own) for figure in figures) / len(figures)
    is_kept = distance <= max_distance
    print(
        f"  {'/'.join(combination):<21} {distance:.4f}  {statistics.fmean(errors):+.4f}   winners {before:.4f}   "
        f"at most {max_distance:g} {'ok' if is_kept else 'MISSED'}"
    )
    return is_kept


if __name__ == "__main__":
    sys.exit(main())
