"""A metric over iterations: its mean and spread."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlho.method.stability.student_t import t_quantile

# Upper end of a central interval of 95 %.
_END = 0.5 + 0.95 / 2.0


@dataclass(frozen=True)
class Spread:
    """Mean of a metric over iterations, with its spread."""

    mean: float | None
    sd: float | None
    """``sd`` with n − 1; None with fewer than two values."""
    low: float | None
    high: float | None
    """95 % corrected resampled t-interval of the mean (Nadeau & Bengio); None without ``test_fraction``, with fewer than two values, or if
    all are equal."""
    minimum: float | None
    maximum: float | None
    n: int
    n_absent: int
    """Iterations with and without a value."""
    reason: str | None
    """Reason why mean or interval is absent."""


def mean_with_spread(values: Sequence[float | None], *, test_fraction: float | None = None) -> Spread:
    """Return the mean of a metric over iterations, which share patients and are therefore not independent.

    Parameters
    ----------
    values : sequence of float or None
        One per iteration.
    test_fraction : float in (0, 1), or None
        Share of patients in each test set; needed for ``low`` and ``high``.

    Notes
    -----
    The variance of the mean is estimated as (1/n + n_test/n_train) · sd²: the second term accounts for the overlap of the
    training sets and does not shrink with more iterations. The plain sd/√n would converge to zero, as if repeated
    splits added patients.

    References
    ----------
    Nadeau & Bengio (2003), Machine Learning 52.
    """
    present = [float(v) for v in values if v is not None]
    n, n_absent = len(present), len(values) - len(present)
    if not present:
        return Spread(None, None, None, None, None, None, 0, n_absent, "no iteration has a value")
    mean = math.fsum(present) / n
    sd = low = high = None
    reason = "no interval: only one iteration has a value" if n == 1 else None
    if n > 1:
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in present) / (n - 1))
        if max(present) == min(present):
            # The t-interval would have zero width, as if the value were known exactly.
            sd, reason = 0.0, "no interval: all values are equal"
        elif test_fraction is None:
            reason = "no interval: the test fraction was not given"
        else:
            ratio = test_fraction / (1.0 - test_fraction)
            half = t_quantile(_END, n - 1) * sd * math.sqrt(1.0 / n + ratio)
            low, high = mean - half, mean + half
    return Spread(
        mean=mean,
        sd=sd,
        low=low,
        high=high,
        minimum=min(present),
        maximum=max(present),
        n=n,
        n_absent=n_absent,
        reason=reason,
    )
