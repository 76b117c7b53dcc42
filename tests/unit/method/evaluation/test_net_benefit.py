"""Decision curves."""

import numpy as np
import pytest

from mlho.method.evaluation.net_benefit import DEFAULT_THRESHOLDS, decision_curve_of
from mlho.method.evaluation.tally import tally


def decision_curve(y, p, *, thresholds=DEFAULT_THRESHOLDS):
    return decision_curve_of(tally(y, p), thresholds=np.array(thresholds))


def test_net_benefit_of_a_worked_example():
    """At 0.2, 2 true and 1 false positive of 4 with weight 1/4 give 0.5 − 0.0625, and acting on all gives 0.5 − 0.125."""
    curve = decision_curve([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.9], thresholds=[0.2])

    assert (curve.model.tolist(), curve.treat_all.tolist()) == ([0.4375], [0.375])
    assert (curve.n_true_positive.tolist(), curve.n_false_positive.tolist(), curve.n) == ([2], [1], 4)


def test_a_prediction_at_the_threshold_is_acted_on():
    """A sample is acted on if p ≥ threshold, as in all other figures."""

    assert decision_curve([1], [0.2], thresholds=[0.2]).n_true_positive.tolist() == [1]


def test_below_every_prediction_the_model_acts_on_all_and_above_on_none():
    """Below every prediction the net benefit is that of treating all, and above every prediction it is zero."""
    curve = decision_curve([0, 1, 0, 1], [0.2, 0.3, 0.3, 0.4], thresholds=[0.1, 0.5])

    assert curve.model[0] == pytest.approx(curve.treat_all[0], abs=1e-15)
    assert curve.model[1] == 0.0


def test_default_thresholds_are_1_to_50_percent():
    """The default is fifty thresholds; acting on all has no benefit at the prevalence."""
    curve = decision_curve([0] * 9 + [1], np.linspace(0.01, 0.9, 10))

    assert curve.thresholds.tolist() == [i / 100 for i in range(1, 51)]
    assert curve.treat_all[9] == pytest.approx(0.0, abs=1e-15)
