"""Simulate 365 nights of a model in use with planted shifts, evaluated by the code of ``mlho evaluate --by night`` and of scoring runs.

    python benchmarks/simulated_year.py [--years 20] [--losses 200] [--seed 1]

A model (xgboost with its calibrator) is fitted on 20,000 patients with ten features, two of which interact. Every
night 6,000 samples are scored, about 10 % of them with the outcome, and labels arrive at once. The claims:

- a loss of 0.05 in AUROC, planted as a weaker relation between features and outcome, is found within three nights with a power of at least 0.9;
- without a loss there is at most one false alarm a year (the limit is set for one in ten years);
- without labels, in months whose patients differ (covariate shift), the error of the expected AUROC is at most 0.02;
- after the loss the expected AUROC does not move: concept drift cannot be seen without labels.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mlho.method.classifiers import classifier_named
from mlho.method.classifiers.base import FittedClassifier
from mlho.method.evaluation.auroc import auroc, auroc_estimate
from mlho.method.evaluation.calibration import PlattCalibrator, fit_calibrator
from mlho.method.evaluation.expected import expected_auroc
from mlho.method.evaluation.surveillance import LOSS, watch_auroc

N_FEATURES, N_TRAINING, N_REFERENCE, N_NIGHT, NIGHTS = 10, 20_000, 200_000, 6_000, 365
WITHIN, MIN_POWER, MAX_FALSE_ALARMS, MAX_ERROR = 3, 0.9, 1.0, 0.02
N_ROUNDS = 300
_LEARNED = 15.0  # product of rounds and learning rate
_INTERCEPT = -2.9  # 10 % with the outcome
_WEIGHTS = np.array([0.8, 0.6, 0.5, -0.4, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0])

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Patients:
    """Features and outcomes of samples."""

    X: Array
    y: NDArray[np.int64]


def draw(rng: np.random.Generator, n: int, *, strength: float = 1.0, month: int | None = None) -> Patients:
    """Draw samples. ``strength`` scales the relation of features and outcome; ``month`` shifts mean and spread of the features."""
    X = rng.normal(size=(n, N_FEATURES))
    if month is not None:
        angle = 2 * np.pi * month / 12
        X = X * (1 + 0.3 * np.sin(angle)) + 0.4 * np.cos(angle + np.arange(N_FEATURES))
    return Patients(X, outcomes(X, rng.random(n), strength))


def outcomes(X: Array, uniform: Array, strength: float) -> NDArray[np.int64]:
    """Return the outcomes of samples for uniform random numbers."""
    log_odds = _INTERCEPT + strength * (X @ _WEIGHTS + 0.4 * X[:, 0] * X[:, 1])
    return (uniform < 1 / (1 + np.exp(-log_odds))).astype(np.int64)


@dataclass(frozen=True)
class Model:
    """A fitted classifier with its calibrator, and its AUROC on patients like those of training."""

    classifier: FittedClassifier
    calibrator: PlattCalibrator
    reference: float

    def score(self, X: Array) -> Array:
        """Return calibrated probabilities."""
        return np.asarray(self.calibrator.apply(self.classifier.predict_proba(X)))


def fit(rng: np.random.Generator, n_rounds: int) -> Model:
    """Fit classifier and calibrator, the latter on out-of-fold probabilities. With fewer rounds each has more weight."""
    kind = classifier_named("xgboost")
    setting = kind.setting({"maxDepth": 2, "nRounds": n_rounds, "learningRate": _LEARNED / n_rounds})
    patients, is_value = draw(rng, N_TRAINING), np.ones(N_FEATURES, np.bool_)
    fold, outside = np.arange(N_TRAINING) % 5, np.empty(N_TRAINING)
    for number in range(5):
        model = kind.fit(
            patients.X[fold != number], patients.y[fold != number], setting, seed=0, value_columns=is_value
        )
        outside[fold == number] = model.predict_proba(patients.X[fold == number])
    candidate = Model(
        kind.fit(patients.X, patients.y, setting, seed=0, value_columns=is_value),
        fit_calibrator(patients.y, outside),
        0.0,
    )
    fresh = draw(rng, N_REFERENCE)
    return Model(candidate.classifier, candidate.calibrator, auroc(fresh.y, candidate.score(fresh.X)))


def weaker(rng: np.random.Generator, model: Model) -> float:
    """Return the strength of the relation that lowers the AUROC by 0.05."""
    low, high, of_reference = 0.0, 1.0, np.random.default_rng(int(rng.integers(2**32)))
    X = of_reference.normal(size=(N_REFERENCE, N_FEATURES))
    uniform, scores = of_reference.random(N_REFERENCE), model.score(X)
    for _ in range(12):
        middle = (low + high) / 2
        if auroc(outcomes(X, uniform, middle), scores) > model.reference - LOSS:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def nights(
    rng: np.random.Generator, model: Model, n: int, strength: float = 1.0
) -> list[tuple[float, float]]:
    """Return the AUROC of each night, and its standard error."""

    def each() -> Iterator[tuple[float, float]]:
        for _ in range(n):
            patients = draw(rng, N_NIGHT, strength=strength)
            found = auroc_estimate(patients.y, model.score(patients.X))
            assert found.value is not None
            assert found.standard_error is not None
            yield found.value, found.standard_error

    return list(each())


def alarms(model: Model, found: list[tuple[float, float]]) -> tuple[int, ...]:
    """Return the nights of alarms."""
    values, errors = zip(*found, strict=True)
    return watch_auroc(values, errors, reference=model.reference, periods_a_year=NIGHTS).alarms


@dataclass(frozen=True)
class Year:
    """Results of the simulation.

    Attributes
    ----------
    power : float
        Share of losses that were found within three nights.
    false_alarms : float
        Number per year.
    errors : list of float
        Errors of the expected AUROC, by month with shifted patients.
    blind : float
        Change of the expected AUROC by the loss of 0.05.
    aurocs : list of float
        Observed AUROC, by month with shifted patients.
    """

    power: float
    false_alarms: float
    errors: list[float]
    blind: float
    aurocs: list[float]


def simulate(
    *,
    n_years: int,
    n_losses: int,
    seed: int,
    n_before: int = 30,
    n_nights_a_month: int = 30,
    n_rounds: int = N_ROUNDS,
) -> Year:
    """Simulate years without a loss, losses after some nights, and a year with changing patients."""
    rng = np.random.default_rng(seed)
    model = fit(rng, n_rounds)
    strength = weaker(rng, model)
    n_false = sum(len(alarms(model, nights(rng, model, NIGHTS))) for _ in range(n_years))
    n_found = 0
    for _ in range(n_losses):
        found = nights(rng, model, n_before) + nights(rng, model, WITHIN, strength)
        n_found += any(place >= n_before for place in alarms(model, found))
    errors, aurocs = [], []
    for month in range(12):
        patients = draw(rng, N_NIGHT * n_nights_a_month, month=month)
        p = model.score(patients.X)
        expected, observed = expected_auroc(p).value, auroc(patients.y, p)
        assert expected is not None
        errors.append(abs(expected - observed))
        aurocs.append(observed)
    before, after = (
        expected_auroc(model.score(draw(rng, N_REFERENCE, strength=level).X)).value
        for level in (1.0, strength)
    )
    assert before is not None
    assert after is not None
    return Year(n_found / n_losses, n_false / n_years, errors, abs(after - before), aurocs)


def main() -> int:
    """Run the simulation and print the claims; return 1 if one fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("--years", 20), ("--losses", 200), ("--seed", 1)):
        parser.add_argument(name, type=int, default=default)
    options = parser.parse_args()
    found = simulate(n_years=options.years, n_losses=options.losses, seed=options.seed)
    low, high = min(found.aurocs), max(found.aurocs)
    claims = {
        f"power within {WITHIN} nights for a loss of {LOSS}: {found.power:.3f} of {options.losses}; at least {MIN_POWER}": found.power
        >= MIN_POWER,
        f"false alarms a year: {found.false_alarms:.2f} in {options.years} years; at most {MAX_FALSE_ALARMS:g}": found.false_alarms
        <= MAX_FALSE_ALARMS,
        f"error of the expected AUROC in shifted months (AUROC {low:.3f} to {high:.3f}): mean {fmean(found.errors):.4f}, "
        f"largest {max(found.errors):.4f}; at most {MAX_ERROR}": max(found.errors) <= MAX_ERROR,
        f"change of the expected AUROC by the loss, which needs labels to be seen: {found.blind:.4f}; below 0.01": found.blind
        < 0.01,
    }
    for words, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}  {words}")
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
