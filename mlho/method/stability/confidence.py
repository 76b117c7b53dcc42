"""Confidence scores: how often, and with how consistent a sign, a feature was used over the iterations."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlho.errors import DataError
from mlho.method.stability.student_t import t_quantile

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MaskedFloats = np.ma.MaskedArray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class ConfidenceTable:
    """One entry per feature; an odds ratio that does not exist is masked, never NaN."""

    n_seen: IntArray
    n_positive: IntArray
    n_negative: IntArray
    """Iterations with a non-zero coefficient; those with odds ratio above and below one. Shape (n_features,)."""
    mean_odds_ratio: MaskedFloats
    """exp(mean log odds ratio) over the iterations with a non-zero coefficient; masked if there are none. Shape (n_features,)."""
    adjusted_count: IntArray
    """Iterations that agree with the direction of the mean, minus twice those that do not; zero if the mean is one. Compared with R's.
    Shape (n_features,)."""
    score: IntArray
    """round(100 · adjusted_count / planned iterations), half to even as R rounds. At most 100, above -200; negative if a few large
    effects outweigh a larger number of small ones of the opposite sign. Shape (n_features,)."""
    low95: MaskedFloats
    high95: MaskedFloats
    low99: MaskedFloats
    high99: MaskedFloats
    """t-intervals of the mean log odds ratio, as odds ratios; masked if fewer than two coefficients are non-zero, or if the limit
    exceeds the range of floats (two iterations that hardly agree). Shape (n_features,)."""


def confidence_scores(log_odds_ratios: FloatArray, *, n_iterations_planned: int) -> ConfidenceTable:
    """Score each feature by the number of iterations in which its coefficient had a consistent sign.

    Parameters
    ----------
    log_odds_ratios : float64, shape (n_iterations, n_features)
        One row per finished iteration. NaN and zero mean that the iteration did not use the feature.
    n_iterations_planned : int
        At least the number of rows. Failed iterations count against every feature; R divides by the largest surviving iteration.

    Returns
    -------
    ConfidenceTable
        Sums are correctly rounded (``math.fsum``) and independent of the order of the iterations.

    Raises
    ------
    DataError
        A log odds ratio is infinite.

    Notes
    -----
    MLHO's papers keep features with a score of at least 80 (above 80 in the PASC paper). A mean of exactly
    one, as from mirrored coefficients, has no direction and scores zero.

    References
    ----------
    Estiri et al. 2021, MLHO; hestiri/mlho, ``R/mlho.cs.R`` (adjusted count and score), intervals as
    ``Rmisc::CI``.

    Examples
    --------
    >>> table = confidence_scores(np.log([[2.0, 1.2], [2.0, 0.9]]), n_iterations_planned=2)
    >>> table.score.tolist()
    [100, -50]
    """
    values, is_seen = _checked(log_odds_ratios)
    n_features = values.shape[1]
    mean = np.zeros(n_features)
    standard_error = np.zeros(n_features)
    n_seen = np.count_nonzero(is_seen, axis=0)
    for feature in range(n_features):
        mean[feature], standard_error[feature] = _mean_and_error(
            values[is_seen[:, feature], feature].tolist()
        )
    n_positive = np.count_nonzero(is_seen & (values > 0), axis=0)
    n_negative = n_seen - n_positive
    mean_odds_ratio = _odds(mean, n_seen < 1)
    adjusted = np.where(mean_odds_ratio.data > 1, n_positive - 2 * n_negative, n_negative - 2 * n_positive)
    adjusted = np.where(mean_odds_ratio.data == 1, 0, adjusted)
    low95, high95 = _interval(mean, standard_error, n_seen, level=0.95)
    low99, high99 = _interval(mean, standard_error, n_seen, level=0.99)
    return ConfidenceTable(
        n_seen=n_seen.astype(np.int64),
        n_positive=n_positive.astype(np.int64),
        n_negative=n_negative.astype(np.int64),
        mean_odds_ratio=mean_odds_ratio,
        adjusted_count=adjusted.astype(np.int64),
        # rint rounds half to even, and a half is exact here: 100 · count / n is a half only if it is a
        # float's half.
        score=np.rint(100 * adjusted / n_iterations_planned).astype(np.int64),
        low95=low95,
        high95=high95,
        low99=low99,
        high99=high99,
    )


def _checked(log_odds_ratios: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    values = np.asarray(log_odds_ratios, dtype=np.float64)
    is_seen = ~np.isnan(values) & (values != 0)
    if np.any(np.isinf(values[is_seen])):
        raise DataError(
            "confidence scores",
            "odds ratios must be finite",
            expected="finite logarithms",
            got=f"{int(np.count_nonzero(np.isinf(values[is_seen])))} infinite",
            remedy="The classifier of the consensus diverged: look at its iterations.",
        )
    return np.where(is_seen, values, 0.0), is_seen


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    """Return the mean and its standard error (zero, and not to be used, for fewer than two values or equal values)."""
    n = len(values)
    if n == 0:
        return 0.0, 0.0
    mean = math.fsum(values) / n
    if n == 1 or max(values) == min(values):
        return mean, 0.0
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def _interval(
    mean: FloatArray, standard_error: FloatArray, n_seen: npt.NDArray[np.intp], *, level: float
) -> tuple[MaskedFloats, MaskedFloats]:
    quantiles = np.array(
        [t_quantile(0.5 + level / 2, n - 1) if n > 1 else 0.0 for n in n_seen.tolist()], dtype=np.float64
    )
    half_width = quantiles * standard_error
    # For equal values the interval would have zero width, as if the odds ratio were known exactly.
    absent = (n_seen < 2) | (standard_error == 0)
    return _odds(mean - half_width, absent), _odds(mean + half_width, absent)


def _odds(log_odds: FloatArray, absent: npt.NDArray[np.bool_]) -> MaskedFloats:
    """Exponentiate, masking values that are absent or exceed the range of floats (with one as a placeholder)."""
    beyond = np.abs(log_odds) > 700.0
    # Python's exp, because numpy's vectorised kernels differ between CPUs in the last bit.
    odds = np.array([math.exp(value) for value in np.where(beyond, 0.0, log_odds).tolist()], dtype=np.float64)
    return np.ma.MaskedArray(odds, mask=absent | beyond, fill_value=1.0)
