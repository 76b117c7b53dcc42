"""Confidence scores: iterations worked by hand, the t quantile, and invalid input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.errors import DataError
from mlho.method.stability.confidence import confidence_scores

NAN = float("nan")


@pytest.mark.parametrize(
    ("odds_ratios", "planned", "seen", "positive", "adjusted", "score"),
    [
        pytest.param([2, 2, 2, 2], 4, 4, 4, 4, 100, id="always risk"),
        pytest.param([0.5, 0.5, 0.5, NAN], 4, 3, 0, 3, 75, id="protective, missed once"),
        pytest.param([2, 2, 2, 0.9], 4, 4, 3, 1, 25, id="one against three costs two"),
        pytest.param([8, 0.9, 0.9, NAN], 4, 3, 1, -3, -75, id="one large effect outweighs two small ones"),
        pytest.param([0.5, 2, NAN, NAN], 4, 2, 1, 0, 0, id="mirrored: the mean is one"),
        pytest.param([2, NAN, NAN, NAN], 4, 1, 1, 1, 25, id="seen once"),
        pytest.param([NAN, NAN, NAN, NAN], 4, 0, 0, 0, 0, id="never seen"),
        pytest.param([2, 2, 2, 2], 5, 4, 4, 4, 80, id="an iteration failed"),
        pytest.param([2, NAN, NAN], 8, 1, 1, 1, 12, id="12.5 rounds to even, as in R"),
        pytest.param([2, 2, 2], 8, 3, 3, 3, 38, id="37.5 rounds to even, as in R"),
        pytest.param([1, 2, 2], 3, 2, 2, 2, 67, id="a coefficient of zero is not seen"),
    ],
)
def test_score_counts_agreeing_iterations_less_twice_the_others(
    odds_ratios, planned, seen, positive, adjusted, score
):
    """The score is round(100 (agreeing - 2 opposing) / planned), worked by hand."""
    table = confidence_scores(np.log([odds_ratios]).T, n_iterations_planned=planned)

    assert (table.n_seen[0], table.n_positive[0], table.n_negative[0]) == (seen, positive, seen - positive)
    assert (table.adjusted_count[0], table.score[0]) == (adjusted, score)


def test_intervals_are_t_intervals_of_the_log_odds_ratio():
    """For log OR 0.1, 0.2, 0.3: mean 0.2, standard error 0.1/sqrt(3), t(0.975, 2) = 4.302653, t(0.995, 2) = 9.924843."""
    table = confidence_scores(np.array([[0.1], [0.2], [0.3]]), n_iterations_planned=3)

    error = 0.1 / math.sqrt(3)
    assert table.mean_odds_ratio[0] == pytest.approx(math.exp(0.2), rel=1e-15)
    assert table.low95[0] == pytest.approx(math.exp(0.2 - 4.302652729911 * error), rel=1e-11)
    assert table.high95[0] == pytest.approx(math.exp(0.2 + 4.302652729911 * error), rel=1e-11)
    assert table.low99[0] == pytest.approx(math.exp(0.2 - 9.924843200918 * error), rel=1e-11)
    assert table.high99[0] == pytest.approx(math.exp(0.2 + 9.924843200918 * error), rel=1e-11)


def test_missing_figures_are_absent_and_never_nan():
    """A feature seen once has no interval, and one never seen has no mean; as lists both are None."""
    table = confidence_scores(np.array([[0.5, NAN], [NAN, NAN]]), n_iterations_planned=2)

    assert table.mean_odds_ratio.tolist() == [pytest.approx(math.exp(0.5)), None]
    assert table.low95.tolist() == table.high99.tolist() == [None, None]


def test_a_limit_beyond_a_float_is_absent():
    """Two iterations that are 40 apart have a 99 % interval to exp(±1273), which is absent."""
    table = confidence_scores(np.array([[20.0], [-20.0]]), n_iterations_planned=2)

    assert table.high99.tolist() == [None]
    assert table.mean_odds_ratio.tolist() == [1.0]


@given(st.lists(st.floats(-5, 5) | st.just(NAN), min_size=1, max_size=30), st.randoms())
def test_order_of_iterations_cannot_show(values, random):
    """Any order of the iterations gives the same table, to the last bit."""
    shuffled = random.sample(values, len(values))

    first, second = (
        confidence_scores(np.array([row]).T, n_iterations_planned=len(values)) for row in (values, shuffled)
    )
    # The squared deviations are summed exactly, too, so that even the limits agree.
    for name in ("n_seen", "n_positive", "mean_odds_ratio", "score", "low95", "high95", "low99", "high99"):
        assert getattr(first, name).tolist() == getattr(second, name).tolist()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_turning_every_odds_ratio_over_keeps_the_score(values):
    """Inverting every odds ratio keeps the score, and a score never exceeds the frequency."""
    up = confidence_scores(np.array([values]).T, n_iterations_planned=len(values))
    down = confidence_scores(-np.array([values]).T, n_iterations_planned=len(values))

    if up.mean_odds_ratio[0] != 1 and down.mean_odds_ratio[0] != 1:
        assert up.score[0] == down.score[0]
    assert -200 < up.score[0] <= round(100 * int(up.n_seen[0]) / len(values))


def test_an_infinite_odds_ratio_is_refused():
    """An infinite odds ratio is refused, because it would make the mean infinite."""
    with pytest.raises(DataError, match="1 infinite"):
        confidence_scores(np.array([[np.inf, 0.1]]), n_iterations_planned=1)
