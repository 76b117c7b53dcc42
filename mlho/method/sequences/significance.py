"""Pairs whose order is significantly associated with the outcome, given that both codes are present."""

from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Probability that any pair is significant if no order has an association (Bonferroni).
FAMILY_ERROR: Final = 0.05


def is_significant(information: NDArray[np.float64], *, n_units: int, n_tests: int) -> NDArray[np.bool_]:
    """Test I(pair; Y | first, then) = 0 with the G-test, corrected for the number of pairs.

    A pair is present only in samples with both codes. The test therefore has one degree of freedom: order × outcome among
    these samples. G = 2 · n · I is compared with the χ² quantile at ``FAMILY_ERROR / n_tests``.

    Parameters
    ----------
    information : float64, shape (n_pairs,)
        In nats.
    n_units : int
        Number of patients. With several samples per patient, G counts each patient once, because their samples are not
        independent.
    n_tests : int
        Number of pairs from which these were chosen.

    Returns
    -------
    bool, shape (n_pairs,)

    Examples
    --------
    >>> is_significant(np.array([0.001, 0.0001]), n_units=20_000, n_tests=100_000).tolist()
    [True, False]
    """
    if not n_tests:
        return np.zeros(len(information), np.bool_)
    bound = NormalDist().inv_cdf(FAMILY_ERROR / n_tests / 2) ** 2
    return np.asarray(2.0 * n_units * information > bound)
