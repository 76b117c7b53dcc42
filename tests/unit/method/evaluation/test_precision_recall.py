"""Precision–recall figures."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from sklearn.metrics import average_precision_score

from mlho.method.evaluation.precision_recall import pr_curve_of, pr_davis_goadrich_of
from mlho.method.evaluation.tally import tally
from tests.unit.method.evaluation.one_tally import average_precision_of, pr_integral_of
from tests.unit.method.evaluation.predictions import tied_predictions


def integral_by_quadrature(y, p):
    """Interpolate true and false positives in proportion between thresholds, and integrate numerically."""
    points = [(0, 0)] + [(sum(y[p >= c]), sum(1 - y[p >= c])) for c in np.unique(p)[::-1]]
    area = 0.0
    for (ta, fa), (tb, fb) in itertools.pairwise(points):
        if tb > ta:
            slope = (fb - fa) / (tb - ta)
            area += quad(lambda x, f=fa, s=slope, t=ta: x / (x + f + s * (x - t)), ta, tb)[0]
    return area / y.sum()


def test_average_precision_of_a_worked_example():
    """The first positive has precision 1 and the second 2/3, so their mean is 5/6."""

    assert average_precision_of(tally([0, 1, 1], [0.5, 0.4, 0.9])) == pytest.approx(5 / 6, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 6])
def test_average_precision_equals_scikit_learn(seed, decimals):
    """Average precision equals scikit-learn's, with many ties and with none."""
    y, p = tied_predictions(seed, decimals=decimals)

    assert average_precision_of(tally(y, p)) == pytest.approx(average_precision_score(y, p), abs=1e-14)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [1, 6])
def test_integral_equals_quadrature(seed, decimals):
    """The closed form equals the numerical integral of the interpolated curve."""
    y, p = tied_predictions(seed, n=80, decimals=decimals)

    assert pr_integral_of(tally(y, p)) == pytest.approx(integral_by_quadrature(y, p), abs=1e-7)


@pytest.mark.parametrize("figure", [average_precision_of, pr_integral_of, pr_davis_goadrich_of])
def test_constant_predictions_give_the_prevalence(figure):
    """For constant predictions, each area is the prevalence."""

    assert figure(tally([0, 0, 0, 1], [0.3, 0.3, 0.3, 0.3])) == pytest.approx(0.25, abs=1e-15)


@pytest.mark.parametrize("figure", [average_precision_of, pr_integral_of, pr_davis_goadrich_of])
def test_perfect_ranking_gives_one(figure):
    """If all positives are ranked first, each area is 1."""

    assert figure(tally([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    "figure",
    [average_precision_of, pr_integral_of, pr_davis_goadrich_of, pr_curve_of],
)
def test_no_positive_is_absent(figure):
    """Without a positive, each precision–recall figure is None."""

    assert figure(tally([0, 0], [0.1, 0.2])) is None


@pytest.mark.parametrize("figure", [average_precision_of, pr_integral_of, pr_davis_goadrich_of])
def test_all_positive_gives_one(figure):
    """If all samples are positive, each area is 1."""

    assert figure(tally([1, 1, 1], [0.1, 0.2, 0.2])) == pytest.approx(1.0, abs=1e-15)


def test_davis_goadrich_of_a_worked_example():
    """If a negative is ranked before a positive, the line from precision 0 at recall 0 to 1/2 at recall 1 has the area 1/4."""

    assert pr_davis_goadrich_of(tally([0, 1], [0.9, 0.1])) == 0.25


@pytest.mark.parametrize("seed", range(3))
def test_davis_goadrich_is_close_to_the_integral(seed):
    """With many positives, the straight lines approximate the hyperbolas."""
    y, p = tied_predictions(seed, n=3000)

    assert pr_davis_goadrich_of(tally(y, p)) == pytest.approx(pr_integral_of(tally(y, p)), abs=2e-3)


def test_curve_ends_at_the_prevalence():
    """At recall 1, where all samples are alerted, precision is the prevalence, also after thinning to 200 points."""
    y, p = tied_predictions(7, n=5000, decimals=9)
    curve = pr_curve_of(tally(y, p))

    assert curve.recall.size <= 200
    assert (curve.recall[-1], curve.precision[-1]) == (1.0, y.mean())
    assert (np.diff(curve.recall) >= 0).all()
