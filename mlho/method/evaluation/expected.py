"""Performance expected without labels: the AUROC and PPV that calibrated probabilities imply.

If each probability is the chance of its sample's outcome, the outcomes are independent draws, and any figure of them has an
expectation and a variance that follow from the probabilities alone. A change of the patients (covariate shift) shows in both. A change
of the relation between features and outcome (concept drift) does not: the probabilities are then wrong, and labels are needed to see it.

References
----------
Van Klaveren et al. (2016), Statistics in Medicine 35 (model-based concordance); Guillory et al. (2021), ICCV; NannyML, confidence-based
performance estimation.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from mlho.method.evaluation.metrics import Z_95, Estimate
from mlho.method.evaluation.tally import FloatArray

METHOD: Final = "expected from the probabilities, taken as calibrated; interval of the observed figure"
#: Expected outcomes, and expected samples without, from which the normal approximation is used.
FEWEST: Final = 5.0


def expected_auroc(p: ArrayLike) -> Estimate:
    """Return the AUROC that these samples would show on average if their probabilities are calibrated.

    Parameters
    ----------
    p : array of float in [0, 1], shape (n_samples,)
        Calibrated probabilities.

    Returns
    -------
    Estimate
        The interval covers, with probability 0.95, the AUROC that labels of these samples would show; samples count as
        independent. Absent, with the reason, if fewer than five samples with or without the outcome are expected.

    Notes
    -----
    The value is the ratio of expected concordant pairs and expected pairs of two different samples. The variance is that of the
    outcomes, to first order: sample i adds F₀(pᵢ) − A to the positives or S₁(pᵢ) − A to the negatives (the components of
    DeLong). O(n log n).

    Examples
    --------
    >>> round(expected_auroc(np.repeat([0.1, 0.9], 50)).value, 3)
    0.901
    """
    ordered = np.sort(np.asarray(p, np.float64))
    n_positive = math.fsum(ordered.tolist())
    n_negative = math.fsum((1.0 - ordered).tolist())
    if min(n_positive, n_negative) < FEWEST:
        return Estimate.absent(
            f"fewer than {FEWEST:.0f} samples with or without the outcome are expected", METHOD
        )
    positive_below, negative_below = _below(ordered, ordered), _below(ordered, 1.0 - ordered)
    self_pairs = ordered * (1.0 - ordered)  # a sample does not form a pair with itself
    within = math.fsum(self_pairs.tolist())
    concordant = math.fsum((ordered * negative_below).tolist()) - within / 2.0
    value = concordant / (n_positive * n_negative - within)
    as_positive = negative_below / n_negative - value
    as_negative = 1.0 - positive_below / n_positive - value
    influence = as_positive / n_positive - as_negative / n_negative
    variance = math.fsum((self_pairs * influence**2).tolist())
    return _normal(value, math.sqrt(variance))


def expected_ppv(p: ArrayLike, threshold: float) -> Estimate:
    """Return the share of alerts expected to have the outcome if the probabilities are calibrated.

    Parameters
    ----------
    p : array of float in [0, 1], shape (n_samples,)
    threshold : float
        Alert if and only if p is at least this.

    Returns
    -------
    Estimate
        Absent, with the reason, if there is no alert. The interval is also absent if fewer than five alerts with or without the
        outcome are expected.

    Examples
    --------
    >>> round(expected_ppv([0.1, 0.4, 0.6], 0.3).value, 3)
    0.5
    """
    alerts = np.sort(np.asarray(p, np.float64))
    alerts = alerts[np.searchsorted(alerts, threshold, side="left") :]
    if not alerts.size:
        return Estimate.absent("no sample is flagged", METHOD)
    expected = math.fsum(alerts.tolist())
    value = expected / alerts.size
    if min(expected, alerts.size - expected) < FEWEST:
        why = f"no interval: fewer than {FEWEST:.0f} alerts with or without the outcome are expected"
        return Estimate(value, None, None, None, METHOD, why)
    variance = math.fsum((alerts * (1.0 - alerts)).tolist()) / alerts.size**2
    return _normal(value, math.sqrt(variance))


def _below(ordered: FloatArray, weight: FloatArray) -> FloatArray:
    """Return for each sample the weight of those with a lower prediction, plus half of those with the same."""
    total = np.concatenate([[0.0], np.cumsum(weight)])
    first, last = (np.searchsorted(ordered, ordered, side=side) for side in ("left", "right"))
    below: FloatArray = (total[first] + total[last]) / 2.0
    return below


def _normal(value: float, standard_error: float) -> Estimate:
    half = Z_95 * standard_error
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), standard_error, METHOD)
