"""The screen: features that are too rare to learn from are dropped before the ranking ("minimise sparsity")."""

import math
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlho.errors import DataError, SpecError, plural

ScreenRule = Literal["at-least", "mlho-r"]


def min_patients(n_patients: int, min_prevalence: float, *, rule: ScreenRule = "at-least") -> int:
    """Return the minimum number of distinct patients for a feature to pass the screen.

    Parameters
    ----------
    n_patients : int
        Training patients, including those without any event; at least 1.
    min_prevalence : float in [0, 1]
        Fraction of patients, taken as the decimal number as written: 0.1 of 30 is 3, although the floating-point
        product is slightly larger.
    rule : {"at-least", "mlho-r"}
        ``at-least``: the smallest integer not below n_patients · min_prevalence.
        ``mlho-r``: one more than ``round(n_patients * min_prevalence)`` in floating-point arithmetic, half to even,
        because the R package requires *more than* that.

    Returns
    -------
    int
        Minimum number of patients.

    Raises
    ------
    SpecError
        The rule is unknown or the prevalence is not a fraction.
    DataError
        There are no patients.

    References
    ----------
    hestiri/mlho, R/MSMR.lite.R, the sparsity screen (rule ``mlho-r``).

    Examples
    --------
    >>> min_patients(1168, 0.005)
    6
    >>> min_patients(1168, 0.005, rule="mlho-r")
    7
    """
    if rule not in get_args(ScreenRule):
        raise SpecError(
            f"selection.screen: expected one of {', '.join(get_args(ScreenRule))}; got {rule!r}. Name one of them."
        )
    if not 0 <= min_prevalence <= 1:
        raise SpecError(
            f"selection.minPrevalence: expected a fraction of patients between 0 and 1; got {min_prevalence}. "
            "Divide a percentage by 100."
        )
    if n_patients < 1:
        raise DataError(
            "screen",
            "no training patients",
            expected="at least one",
            got=str(n_patients),
            remedy="Check the cohort and the test fraction.",
        )
    if rule == "mlho-r":
        # Deliberately in floating-point arithmetic, as in R.
        return round(n_patients * float(min_prevalence)) + 1
    return math.ceil(n_patients * Fraction(str(float(min_prevalence))))


def screen_by_prevalence(
    n_patients_by_column: ArrayLike, n_patients: int, min_prevalence: float, *, rule: ScreenRule = "at-least"
) -> NDArray[np.int64]:
    """Keep the columns with enough patients.

    Parameters
    ----------
    n_patients_by_column : array-like of int, shape (n_columns,)
        Distinct training patients per column.
    n_patients : int
        Training patients, including those without any event.
    min_prevalence : float in [0, 1]
        Fraction of patients.
    rule : {"at-least", "mlho-r"}
        See :func:`min_patients`.

    Returns
    -------
    ndarray of int64, shape (n_kept,)
        Indices of the kept columns, ascending.

    Raises
    ------
    SpecError, DataError
        As :func:`min_patients`; also if a column has more patients than there are.

    References
    ----------
    hestiri/mlho, R/MSMR.lite.R, the sparsity screen (rule ``mlho-r``).

    Examples
    --------
    >>> screen_by_prevalence([1, 40, 5], 100, 0.05).tolist()
    [1, 2]
    """
    bound = min_patients(n_patients, min_prevalence, rule=rule)
    counts = np.asarray(n_patients_by_column)
    if counts.ndim != 1 or (counts.size and counts.dtype.kind not in "iu"):
        raise DataError(
            "screen",
            "patients per column are not counts",
            expected="whole numbers, one per column",
            got=f"dtype {counts.dtype}, shape {counts.shape}",
            remedy="Count distinct patients per column.",
        )
    if counts.size and (counts.min() < 0 or counts.max() > n_patients):
        raise DataError(
            "screen",
            "a column has an impossible number of patients",
            expected=f"between 0 and {plural(n_patients, 'distinct patient')}",
            got=f"between {counts.min()} and {counts.max()}",
            remedy="Count distinct patients of the training set, not rows.",
        )
    return np.flatnonzero(counts >= bound).astype(np.int64)
