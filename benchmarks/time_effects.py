"""Measure how close a run comes to the attainable AUROC when time matters, on the synthetic cohort with its true risks.

    python benchmarks/time_effects.py [--patients 250000] [--fresh 50000] [--workers 2] [--short]

Trains on all history: presence, the order of first events (``features.sequences``), age, sex, race and index year. The bundle
scores new patients of the same population, who are in no table of the run. The claims: the AUROC of the bundle is at most
0.010 below that of the true risks of the same patients (with a paired interval), and each planted order is in the consensus,
in the right direction. Prints the other pairs of the consensus, too. ``--short`` only checks that everything works: with
2,000 patients, the gap is larger and rare pairs are not significant.
"""

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from _command import read_result, run_mlho
from numpy.typing import NDArray

from mlho import load_bundle
from mlho.synthetic import Truth, make_cohort, read_truth

MAX_GAP, MAX_GAP_SHORT = 0.010, 0.10
SHORT = {
    "patients": 2_000,
    "fresh": 2_000,
    "iterations": 2,
    "features": 40,
    "rounds": [40],
    "codes": 200,
    "rows_each": 30,
}
TABLES = ("events", "labels", "demographics")
PATIENTS_A_FILE = 25_000
XGBOOST = {
    "maxDepth": [2],
    "learningRate": [0.07],
    "minChildWeight": [10],
    "subsample": [0.8],
    "colsample": [0.3],
}


@dataclass(frozen=True)
class Gap:
    """Difference between two AUROCs of the same patients, with a 95 % interval (DeLong)."""

    of_truth: float
    of_model: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Return the AUROC of the truth minus that of the model."""
        return self.of_truth - self.of_model


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=250_000)
    parser.add_argument("--fresh", type=int, default=50_000)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--codes", type=int, default=1_000)
    parser.add_argument("--rows-each", type=int, default=200, help="rows of a patient (default: %(default)s)")
    parser.add_argument("--features", type=int, default=350, help="nFeatures (default: %(default)s)")
    parser.add_argument("--rounds", type=int, nargs="+", default=[600])
    parser.add_argument("--classifiers", nargs="+", default=["glmboost", "xgboost"])
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    if options.short:
        parser.set_defaults(**SHORT)
        options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.perf_counter()
        make_data(folder, options)
        simulated = time.perf_counter()
        bundle = run(folder, options)
        trained = time.perf_counter()
        gaps = compare_with_truth(folder, bundle)
        print(
            f"{options.patients:,} patients: cohort {simulated - started:.0f} s, run {trained - simulated:.0f} s, scores {time.perf_counter() - trained:.0f} s"
        )
        result = read_result(folder / "store")
        found = show_pairs(read_truth(folder / "world"), result)
    for candidate in result["candidates"]:
        print(
            f"  {candidate['classifier']:<10} AUROC {candidate['test']['auroc']['mean']:.4f} on test patients"
        )
    is_small = show_gap(gaps, MAX_GAP_SHORT if options.short else MAX_GAP)
    return 0 if is_small and (found or options.short) else 1


def make_data(folder: Path, options: argparse.Namespace) -> None:
    """Write one population. The files of the last patients are not used by the run."""
    n_patients, n_fresh = options.patients, options.fresh
    size = math.gcd(PATIENTS_A_FILE, math.gcd(n_patients, n_fresh))
    n_files = (n_patients + n_fresh) // size
    make_cohort(
        folder / "world",
        n_patients=n_patients + n_fresh,
        n_codes=options.codes,
        n_partitions=n_files,
        rows_per_patient=options.rows_each,
        n_workers=options.workers,
    )
    for name in TABLES:
        files = sorted((folder / "world" / name).glob("*.parquet"))
        (folder / "fresh" / name).mkdir(parents=True)
        for path in files[n_patients // size :]:
            path.rename(folder / "fresh" / name / path.name)


def run(folder: Path, options: argparse.Namespace) -> Path:
    """Run the specification, and return the folder of its bundle."""
    grids = {"glmboost": {"nSteps": [600]}, "xgboost": {**XGBOOST, "nRounds": options.rounds}}
    document = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "time-effects"},
        "spec": {
            "data": {
                "source": "dbmart",
                "uri": str(folder / "world"),
                "tables": {name: f"{name}/" for name in TABLES},
                "partitionedBy": "patient",
            },
            "cohort": {"outcome": "outcome", "index": {"column": "index_date"}},
            "features": {
                "sequences": {"order": "first", "maxCandidates": 200},
                "demographics": ["age", "sex", "race", "index_year"],
            },
            "selection": {"nFeatures": options.features, "scope": "iteration"},
            "validation": {
                "iterations": options.iterations,
                "folds": 2,
                "seed": 7,
                "bootstrapReplicates": 0,
            },
            "candidates": [{"classifier": name, "grid": grids[name]} for name in options.classifiers],
        },
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    run_mlho(path, folder / "store", n_workers=options.workers)
    (found,) = (folder / "store").glob("runs/*/bundle")
    return found


def compare_with_truth(folder: Path, bundle_folder: Path) -> Gap:
    """Score the new patients, one file after another."""
    bundle = load_bundle(bundle_folder)
    tables = {name: sorted((folder / "fresh" / name).glob("*.parquet")) for name in TABLES}
    scored = []
    for events, labels, demographics in zip(*tables.values(), strict=True):
        samples, people = (_with_text_ids(pd.read_parquet(path)) for path in (labels, demographics))
        rows = _with_text_ids(pd.read_parquet(events, columns=["patient_num", "start_date", "phenx"]))
        rows = rows.rename(columns={"start_date": "time", "phenx": "code"})
        scores = bundle.predict_events(rows, samples[["patient_id", "index_date"]], people)
        truth = samples.set_index("patient_id").loc[scores["patient_id"], ["outcome", "true_risk"]]
        scored.append(np.column_stack([truth.to_numpy(), scores["probability"].to_numpy()]))
    y, risk, probability = np.concatenate(scored).T
    return gap_of(y, risk, probability)


def _with_text_ids(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"patient_num": "patient_id"}).assign(
        patient_id=lambda table: table["patient_id"].astype(str)
    )


def gap_of(y: NDArray[np.float64], risk: NDArray[np.float64], probability: NDArray[np.float64]) -> Gap:
    """Return the difference between the AUROCs of ``risk`` and ``probability``, with DeLong's paired interval."""
    is_case = y == 1
    shares = [_placements(is_case, score) for score in (risk, probability)]
    (of_truth, _), (of_model, _) = ((cases.mean(), controls.mean()) for cases, controls in shares)
    differences = [by_risk - by_probability for by_risk, by_probability in zip(*shares, strict=True)]
    margin = 1.96 * math.sqrt(sum(difference.var(ddof=1) / len(difference) for difference in differences))
    gap = of_truth - of_model
    return Gap(float(of_truth), float(of_model), float(gap - margin), float(gap + margin))


def _placements(
    is_case: NDArray[np.bool_], score: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of controls below each case, and of cases above each control; ties count half."""
    cases, controls = np.sort(score[is_case]), np.sort(score[~is_case])

    def below(values: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
        sides = [np.searchsorted(among, values, side=side) for side in ("left", "right")]
        return np.asarray(sum(sides) / 2 / len(among))

    return below(score[is_case], controls), 1 - below(score[~is_case], cases)


def show_gap(gap: Gap, most: float) -> bool:
    """Print the AUROCs of the new patients, and return whether the gap is within its limit."""
    is_ok = gap.value <= most
    print(
        f"fresh patients: AUROC of the true risks {gap.of_truth:.4f}, of the bundle {gap.of_model:.4f}; "
        f"gap {gap.value:.4f} (95 % CI {gap.low:.4f} to {gap.high:.4f}), at most {most:.3f} {'ok' if is_ok else 'MISSED'}"
    )
    return is_ok


def show_pairs(truth: Truth, result: dict) -> bool:
    """Print each planted order and the other pairs of the consensus, and return whether each order was found."""
    features = {feature["code"]: feature for feature in result["features"] if feature["kind"] == "feature"}
    planted = {f"{sequence.first}→{sequence.then}": sequence.odds_ratio for sequence in truth.sequences}
    n_found = 0
    for code, odds_ratio in planted.items():
        feature = features.get(code)
        score = feature["confidence"]["score"] if feature and feature["confidence"] else None
        ratio = feature["odds_ratio"]["per_unit"] if feature and feature["odds_ratio"] else None
        is_found = bool(feature and feature["in_consensus"] and ratio and (ratio > 1) == (odds_ratio > 1))
        n_found += is_found
        print(
            f"  {code}: planted {odds_ratio:g}, odds ratio {ratio and round(ratio, 2)}, confidence {score} {'ok' if is_found else 'MISSED'}"
        )
    others = sorted(
        code
        for code, feature in features.items()
        if "→" in code and feature["in_consensus"] and code not in planted
    )
    print(
        f"planted orders found: {n_found} of {len(planted)}; other pairs in the consensus: {len(others)} {' '.join(others)}"
    )
    return n_found == len(planted)


if __name__ == "__main__":
    sys.exit(main())
