"""Quantiles of Student's t."""

import pytest
from scipy.stats import t as student

from mlho.method.stability.student_t import t_quantile


@pytest.mark.parametrize(
    ("level", "degrees", "expected"),
    # Printed tables of Student's t (for example NIST/SEMATECH e-Handbook, 1.3.6.7.2), three decimals.
    [
        (0.95, 1, 12.706),
        (0.99, 1, 63.657),
        (0.95, 2, 4.303),
        (0.95, 6, 2.447),
        (0.99, 6, 3.707),
        (0.95, 19, 2.093),
        (0.99, 30, 2.750),
        (0.95, 100, 1.984),
    ],
)
def test_t_quantile_is_the_printed_one(level, degrees, expected):
    """The finite sums of Abramowitz and Stegun give the printed figures."""
    assert round(t_quantile(0.5 + level / 2, degrees), 3) == expected


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 6, 7, 19, 30, 199])
@pytest.mark.parametrize("probability", [0.005, 0.4, 0.5, 0.6, 0.975, 0.995])
def test_t_quantile_equals_scipy(df, probability):
    """Quantiles equal scipy's for odd and even degrees of freedom, in both tails and the middle."""

    assert t_quantile(probability, df) == pytest.approx(student.ppf(probability, df), rel=1e-10, abs=1e-15)
