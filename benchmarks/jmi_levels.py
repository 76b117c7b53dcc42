"""The rank of a predictor among noise with many levels, and the effect of the correction on real data.

    python benchmarks/jmi_levels.py [planted] [counts] [values] [--iterations 5] [--store FOLDER]

``planted``: 20 cohorts of 1,125 samples, 99 of them positive, with 300 noise counts of 20 to 200 levels and one code
whose presence has an AUROC of 0.66 or 0.575. It must be among the first 3 picks in all cohorts, or within 25 picks in 18.
The AUROC is exact in each cohort; the code's prevalence without the outcome goes from 5 % to 30 %.

``counts``, ``values``: ``uci_diabetes130`` with the specifications of ``real_data.py``. For each iteration and
candidate, the difference of two test AUROCs: features ranked by terciles of a count or value with bias correction,
minus features ranked by every distinct count as a level, or quarters of values, without correction. Both fit the last
setting of the grid; the mean difference may not be below −0.002.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import fmean

import numpy as np
from _command import DATA, write_spec
from _problem import prepare

from mlho.method.classifiers import classifier_named
from mlho.method.evaluation.auroc import auroc
from mlho.method.selection.jmi import rank_columns
from mlho.method.selection.levels import ColumnBlock, cut_at_terciles
from mlho.training.iterations.design import learn_design
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import cells_of, select
from mlho.training.iterations.splits import seed_of

N_COHORTS, N_SAMPLES, N_POSITIVE, N_NOISE = 20, 1_125, 99, 300
PREVALENCES = (0.05, 0.1, 0.2, 0.3)
#: AUROC, number of picks, and the number of cohorts in which the code is within these picks.
CLAIMS = ((0.66, 3, 20), (0.575, 25, 18))
WORST_DIFFERENCE = -0.002


def make_cohort(seed: int, area: float) -> tuple[np.ndarray, np.ndarray]:
    """Return counts and labels; the predictor is the last column."""
    rng = np.random.default_rng(seed)
    y = np.zeros(N_SAMPLES, dtype=np.int64)
    y[rng.permutation(N_SAMPLES)[:N_POSITIVE]] = 1
    n_levels, share = rng.integers(20, 201, N_NOISE), rng.uniform(0.2, 1.0, N_NOISE)
    noise = rng.integers(1, n_levels + 1, (N_SAMPLES, N_NOISE)) * (rng.random((N_SAMPLES, N_NOISE)) < share)
    predictor = np.zeros(N_SAMPLES, dtype=np.int64)
    absent = PREVALENCES[seed % len(PREVALENCES)]
    for label, present in ((1, absent + 2 * area - 1), (0, absent)):
        members = rng.permutation(np.flatnonzero(y == label))
        predictor[members[: round(present * members.size)]] = 1
    return np.column_stack([noise, predictor]), y


def as_columns(counts: np.ndarray, *, every_count: bool) -> ColumnBlock:
    """Return columns with the counts themselves or, as in a run, with their terciles."""
    samples = [np.flatnonzero(column) for column in counts.T]
    present = [column[rows] for column, rows in zip(counts.T, samples, strict=True)]
    levels = present if every_count else [cut_at_terciles(values) for values in present]
    indptr = np.concatenate([[0], np.cumsum([rows.size for rows in samples])])
    return ColumnBlock(
        len(counts), indptr, np.concatenate(samples).astype(np.int32), np.concatenate(levels).astype(np.int32)
    )


def place_of_predictor(seed: int, area: float, *, every_count: bool) -> int:
    """Return the position of the predictor in the ranking, from 1."""
    counts, y = make_cohort(seed, area)
    columns = as_columns(counts, every_count=every_count)
    order = rank_columns(columns, y, columns.n_columns, correct_bias=not every_count).order
    return int(np.flatnonzero(order == N_NOISE)[0]) + 1


def show_planted() -> bool:
    """Print the ranks of the predictors, and return whether the claims hold."""
    kept = []
    for area, within, at_least in CLAIMS:
        for every_count in (True, False):
            places = sorted(
                place_of_predictor(seed, area, every_count=every_count) for seed in range(N_COHORTS)
            )
            n_within = sum(place <= within for place in places)
            name = "every count is a level" if every_count else "corrected terciles"
            verdict = "" if every_count else " ok" if n_within >= at_least else " MISSED"
            print(
                f"AUROC {area:g}, {name}: within {within} picks in {n_within} of {N_COHORTS} (promised {at_least}), "
                f"median place {places[N_COHORTS // 2]}, last {places[-1]}{verdict}",
                flush=True,
            )
            kept += [] if every_count else [n_within >= at_least]
    return all(kept)


def select_uncorrected(problem: Problem, train: np.ndarray, screened: np.ndarray) -> np.ndarray:
    """Return the features that plain ``jmi`` selects if every distinct count is a level and values are cut into quarters."""
    indptr, samples, levels = [0], [], []
    for feature, cells in zip(screened, cells_of(problem, screened, train), strict=True):
        rows, codes = cells.samples, np.ones(cells.samples.size)
        if problem.aggregate_of(int(feature)) == "count":
            codes = cells.counts
        elif problem.aggregate_of(int(feature)) == "last":
            is_known = ~np.isnan(cells.values)
            rows, values = rows[is_known], cells.values[is_known]
            edges = np.unique(np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf"))
            codes = 1 + np.searchsorted(edges[edges < values.max()], values)
        samples.append(rows)
        levels.append(codes.astype(np.int32))
        indptr.append(indptr[-1] + rows.size)
    columns = ColumnBlock(int(train.sum()), np.array(indptr), np.concatenate(samples), np.concatenate(levels))
    order = rank_columns(columns, problem.y[train], problem.spec.selection.n_features).order
    return screened[order]


def show_real(kind: str, iterations: int, store: Path) -> bool:
    """Print the paired differences of one specification, and return whether no candidate is worse."""
    with tempfile.TemporaryDirectory() as scratch:
        spec = write_spec(f"uci_{kind}", DATA / "uci_diabetes130", Path(scratch), {})
        problem = prepare(spec, DATA / "uci_diabetes130", store)
    everything = problem.spec.selection.model_copy(update={"n_features": 10_000, "ranking": "mim"})
    whole = problem.spec.model_copy(update={"selection": everything})
    differences: dict[str, list[float]] = {}
    for iteration in range(1, iterations + 1):
        parts = problem.partition(iteration)
        train, test = problem.samples_of(parts.is_train), problem.samples_of(parts.is_test)
        screened = np.sort(
            select(
                Problem(whole, problem.cohort, problem.matrix, problem.codes, problem.concepts), train
            ).features
        )
        sets = (select_uncorrected(problem, train, screened), select(problem, train).features)
        areas = [areas_of(problem, features, train, test, iteration) for features in sets]
        for name, before in areas[0].items():
            differences.setdefault(name, []).append(areas[1][name] - before)
            print(
                f"  {kind}, iteration {iteration}, {name}: {before:.4f} before, {areas[1][name]:.4f} now "
                f"({differences[name][-1]:+.4f}); {np.intersect1d(*sets).size} of {sets[0].size} features the same",
                flush=True,
            )
    for name, values in differences.items():
        verdict = "ok" if fmean(values) >= WORST_DIFFERENCE else "MISSED"
        print(f"{kind}, {name}: mean difference {fmean(values):+.4f} (at least {WORST_DIFFERENCE}) {verdict}")
    return all(fmean(values) >= WORST_DIFFERENCE for values in differences.values())


def areas_of(
    problem: Problem, features: np.ndarray, train: np.ndarray, test: np.ndarray, iteration: int
) -> dict[str, float]:
    """Return the test AUROC of every candidate, fitted with the last setting of its grid."""
    design = learn_design(problem, features, train)
    X, X_test = design.matrix(problem, train), design.matrix(problem, test)
    areas = {}
    for candidate in problem.spec.candidates:
        classifier = classifier_named(candidate.classifier)
        seed = seed_of(problem.spec.validation.seed, candidate.classifier, iteration)
        model = classifier.fit(X, problem.y[train], classifier.settings(candidate.grid)[-1], seed=seed)
        areas[candidate.classifier] = auroc(problem.y[test], model.predict_proba(X_test))
    return areas


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", default=["planted", "counts", "values"], metavar="KIND")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--store", type=Path, help="keep the encoded data here (default: a temporary folder)")
    options = parser.parse_args()
    kept = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in options.kinds:
            if kind == "planted":
                kept.append(show_planted())
            else:
                kept.append(show_real(kind, options.iterations, options.store or Path(scratch)))
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
