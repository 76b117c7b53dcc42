"""Check the estimate of false features from shadow features: 20 planted cohorts of 10,000 patients and 1,000 codes.

    python benchmarks/false_features.py [--seeds 20] [--keep FOLDER]

For each cohort, the confidence scores of features and shadows are computed over 20 splits, each with its own selection of 200
features and a glmboost of 300 steps. Cross-validation would choose this number in all of these cohorts; leaving it out saves
hours. The claims:

- at a score of 80, the expected and the true number of noise codes differ on average by at most 0.5. The expected
  number is that of shadows of noise columns. All shadows are shown as well: more than half of the columns belong to
  harmless conditions, or have a name that depends on the calendar;
- with ``consensus.maxFalseShare: 0.1``, the mean true share of noise codes is at most 0.1, and every planted code
  with an odds ratio of 2.2 or more that does not vanish stays.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from _problem import prepare

from mlho.method.classifiers import classifier_named
from mlho.method.stability.confidence import confidence_scores
from mlho.synthetic import Truth, read_truth
from mlho.synthetic.verdict import is_expected
from mlho.training.iterations.design import learn_design
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import select
from mlho.training.iterations.shadows import choose_threshold, levels_of, see_shadows
from scheduler.cli.demo import make_demo

N_PATIENTS, N_ITERATIONS, N_STEPS = 10_000, 20, 300
MIN_CONFIDENCE, MAX_SHARE, MAX_DIFFERENCE = 80, 0.1, 0.5

Scores = dict[int, int]


def scores_of(problem: Problem) -> tuple[Scores, Scores]:
    """Return the confidence scores of the features and of the shadows by feature number."""
    classifier = classifier_named("glmboost")
    setting = classifier.setting({"nSteps": N_STEPS})
    real, shadows = [], []
    for iteration in range(1, N_ITERATIONS + 1):
        train = problem.samples_of(problem.partition(iteration).is_train)
        selection = select(problem, train, beside_chance=True)
        design = learn_design(problem, selection.features, train)
        X = design.matrix(problem, train)
        model = classifier.fit(X, problem.y[train], setting, seed=0)
        fitted = model.coefficients()
        per_sd = fitted.values * fitted.scale
        real.append(dict(zip(design.features.tolist(), per_sd.tolist(), strict=False)))
        seen = see_shadows(problem, selection, train, X, model, setting)
        shadows.append(dict(zip(seen.features, seen.log_odds, strict=True)))
    return _scores(real), _scores(shadows)


def _scores(by_iteration: Sequence[dict[int, float]]) -> Scores:
    keys = sorted({key for scores in by_iteration for key in scores})
    log_odds = np.array([[scores.get(key, np.nan) for key in keys] for scores in by_iteration])
    return dict(
        zip(keys, confidence_scores(log_odds, n_iterations_planned=N_ITERATIONS).score.tolist(), strict=True)
    )


def judge(problem: Problem, truth: Truth, real: Scores, shadows: Scores) -> dict[str, float]:
    """Return the figures of one cohort."""

    def is_noise(feature: int) -> bool:
        return truth.role_of(problem.name_of(feature).code) == "noise"

    def at_least(scores: Scores, threshold: int) -> list[int]:
        return [feature for feature, score in scores.items() if score >= threshold]

    levels = levels_of(np.array([*real.values()]), np.array([*shadows.values()], dtype=np.int64))
    threshold = choose_threshold(levels, MAX_SHARE)
    chosen = at_least(real, threshold)
    codes = {problem.name_of(feature).code for feature in chosen}
    expected = [causal.code for causal in truth.causal if is_expected(causal)]
    return {
        "features": len(at_least(real, MIN_CONFIDENCE)),
        "noise": sum(map(is_noise, at_least(real, MIN_CONFIDENCE))),
        "expected": sum(map(is_noise, at_least(shadows, MIN_CONFIDENCE))),
        "shadows": len(at_least(shadows, MIN_CONFIDENCE)),
        "threshold": threshold,
        "chosen": len(chosen),
        "share": sum(map(is_noise, chosen)) / len(chosen) if chosen else 0.0,
        "missed": sum(code not in codes for code in expected),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="keep the cohorts here (default: a temporary folder)")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(1, options.seeds + 1):
            folder = (options.keep or Path(scratch)) / str(seed)
            spec = make_demo(folder / "cohort", n_patients=N_PATIENTS, seed=seed, with_rival=False)
            problem = prepare(spec, folder / "cohort", folder / "store")
            found.append(judge(problem, read_truth(folder / "cohort"), *scores_of(problem)))
            print(
                f"seed {seed}: " + ", ".join(f"{name} {value:g}" for name, value in found[-1].items()),
                flush=True,
            )
    mean = {name: fmean(counts[name] for counts in found) for name in found[0]}
    difference = mean["expected"] - mean["noise"]
    claims = [
        (f"noise codes at {MIN_CONFIDENCE}: expected {mean['expected']:.2f}, true {mean['noise']:.2f}", abs(difference) <= MAX_DIFFERENCE),
        (f"maxFalseShare {MAX_SHARE}: mean true share {mean['share']:.3f} of {mean['chosen']:.1f} features", mean["share"] <= MAX_SHARE),
        (f"planted codes of 2.2 or more that went missing: {sum(counts['missed'] for counts in found):g}", not mean["missed"]),
    ]  # fmt: skip
    print(f"all shadows at {MIN_CONFIDENCE}: {mean['shadows']:.2f}, of {mean['features']:.1f} features")
    for words, holds in claims:
        print(f"{words}: {'ok' if holds else 'MISSED'}")
    return 0 if all(holds for _, holds in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
