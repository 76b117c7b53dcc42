"""The audit of groups and months: its speed, and the coverage of its intervals.

    python benchmarks/bias.py [--cohorts 2000] [--replicates 1000] [--no-speed] [--no-coverage]

Speed: 56,000 patients, four models, 20 groups in 12 months with 1,000 bootstrap replicates of patients, on two
threads, in at most 60 seconds. Coverage: in cohorts with at least 50 patients of each class, 93 to 97 % of the 95 %
intervals contain the figure of the population. With fewer than 2,000 cohorts, the limits are wider.
"""

import argparse
import math
import sys
import time
from typing import Any

import numpy as np
from _figures import show

from mlho.method.bias.audit import audit
from mlho.method.bias.groups import Grouping, Periods

N_PATIENTS, N_MODELS, N_MONTHS, N_THREADS, LIMIT_SECONDS = 56_000, 4, 12, 2, 60.0
LEVELS = {"sex": 2, "race": 5, "age": 5, "sex × age": 8}  # 20 groups
COVERED = ("auroc", "brier", "in_the_large", "rule/sensitivity", "rule/specificity")
LOWEST, HIGHEST = 0.93, 0.97
# Patients, and mean and standard deviation of the log-odds. In all but one of a thousand cohorts each class has 50 patients
# or more.
SETTINGS = {"balanced": (150, 0.0, 1.2), "rare": (1000, -2.6, 1.2), "sharp": (150, 0.0, 2.4)}


def risks(rng: np.random.Generator, n: int, mean: float, spread: float) -> tuple[Any, Any]:
    """Return the outcomes, and the predictions of a model that are too extreme and too low."""
    logit = rng.normal(mean, spread, n)
    y = rng.random(n) < 1.0 / (1.0 + np.exp(-(0.9 * logit + 0.2)))
    return y.astype(np.uint8), 1.0 / (1.0 + np.exp(-logit))


def seconds_of_audits(n_replicates: int) -> float:
    """Return the wall time of the audits of four models."""
    rng = np.random.default_rng(1)
    y, p = risks(rng, N_PATIENTS, -2.5, 1.2)
    groupings = [
        Grouping(name, tuple(str(level) for level in range(n)), rng.integers(0, n, N_PATIENTS))
        for name, n in LEVELS.items()
    ]
    months = Periods(
        "month",
        tuple(f"2020-{month + 1:02}" for month in range(N_MONTHS)),
        rng.integers(0, N_MONTHS, N_PATIENTS),
        np.arange(N_MONTHS) / N_MONTHS,
    )
    folds = rng.integers(0, 5, N_PATIENTS)

    def run(p: Any, n_replicates: int) -> None:
        alerts = {f"rule {cut}": p >= cut for cut in (0.1, 0.2, 0.3)}
        audit(
            y, p, groupings, patients=None, alerts=alerts, seed=[1], periods=months, folds=folds,
            n_replicates=n_replicates, n_threads=N_THREADS,
        )  # fmt: skip

    run(p, 2)  # compiles
    start = time.perf_counter()
    for model in range(N_MODELS):
        run(p ** (1.0 + model / 10), n_replicates)
    return time.perf_counter() - start


def coverage(name: str, n_cohorts: int, n_replicates: int) -> bool:
    """Print the share of cohorts whose interval contains the figure of the population, and return whether all are within the limits."""
    n, mean, spread = SETTINGS[name]
    rng = np.random.default_rng(11)
    cut = 1.0 / (1.0 + math.exp(-mean))

    def figures(y: Any, p: Any, replicates: int) -> Any:
        found = audit(y, p, [], patients=None, alerts={"rule": p >= cut}, seed=[1], n_replicates=replicates)
        return found.groups[0].figures

    truth = figures(*risks(rng, 200_000, mean, spread), 0)
    hits = dict.fromkeys(COVERED, 0)
    for _ in range(n_cohorts):
        metrics = figures(*risks(rng, n, mean, spread), n_replicates)
        for metric in COVERED:
            hits[metric] += metrics[metric].low <= truth[metric].value <= metrics[metric].high
    allowance = 2.5 * math.sqrt(0.95 * 0.05 * max(0.0, 1 / n_cohorts - 1 / 2000))
    is_ok = True
    for metric, count in hits.items():
        share = count / n_cohorts
        within = LOWEST - allowance <= share <= HIGHEST + allowance
        is_ok &= within
        print(
            f"{name:<9} {n:>5} patients {metric:<18} {truth[metric].value:>7.3f} covered {100 * share:5.1f} % {'ok' if within else 'MISSED'}"
        )
    return is_ok


def main() -> int:
    """Run the requested parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--no-coverage", action="store_true")
    args = parser.parse_args()
    results = []
    if not args.no_speed:
        title = (
            f"{N_PATIENTS:,} patients, {N_MODELS} models, {sum(LEVELS.values())} groups, {N_MONTHS} months"
        )
        results.append(show(title, seconds_of_audits(args.replicates), LIMIT_SECONDS, "s"))
    if not args.no_coverage:
        results += [coverage(name, args.cohorts, args.replicates) for name in SETTINGS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
