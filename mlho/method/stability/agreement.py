"""Agreement of the selected sets of the iterations, and a bound on the expected number of false features."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]

_Z_95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class StabilityEstimate:
    """A stability with its 95 % interval; absent values are ``None``, with the reason in ``reason``."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None


@dataclass(frozen=True)
class Bound:
    """An upper bound on an expected number of features; ``None`` with a reason if it does not apply."""

    value: float | None
    assumptions: str
    reason: str | None


def nogueira_stability(selected: BoolArray) -> StabilityEstimate:
    """Measure the agreement of the selected sets, corrected for chance.

    Parameters
    ----------
    selected : bool, shape (n_iterations, n_features)
        Columns are all features that could have been selected, including those never selected: the correction for
        chance depends on them.

    Returns
    -------
    StabilityEstimate
        1 for identical sets; about 0 for random sets; at least -1/(n_iterations - 1). Above 0.75
        is called excellent and below 0.40 poor (the paper, after Fleiss). The interval is the paper's
        asymptotic one, clipped at 1. It is optimistic for few iterations, the more so because iterations share
        patients. There is no value if there are fewer than two sets, or only empty or full sets, and no interval if all sets are
        equal.

    References
    ----------
    Nogueira, Sechidis and Brown 2018, JMLR 18(174): definition 4, theorem 7 and corollary 8.

    Examples
    --------
    >>> nogueira_stability(np.array([[True, False], [False, True]])).value
    -1.0
    """
    n_iterations, n_features = selected.shape
    counts = np.count_nonzero(selected, axis=0)
    sizes = np.count_nonzero(selected, axis=1)
    total = int(sizes.sum())
    if n_iterations < 2:
        return StabilityEstimate(None, None, None, "fewer than two iterations")
    if total in (0, n_iterations * n_features):
        reason = "no feature was ever selected" if total == 0 else "every feature was always selected"
        return StabilityEstimate(None, None, None, reason)
    # Integers as far as possible: M² · sum of p(1 - p) is an integer, so the order of summation has no effect.
    spread = int(np.sum(counts * (n_iterations - counts)))
    share = total / (n_iterations * n_features)
    chance = share * (1 - share)
    value = 1 - spread / (n_iterations * (n_iterations - 1) * n_features) / chance
    if spread == 0:
        return StabilityEstimate(
            1.0, None, None, "no interval: all sets are equal, so its width would be zero"
        )
    # Influence of one iteration on the estimate, halved (the paper's phi_i); its overlap is also an integer.
    overlap = selected.astype(np.int64) * counts[np.newaxis, :]
    overlaps = overlap.sum(axis=1) / (n_iterations * n_features)
    fractions = sizes / n_features
    influence = (
        overlaps - fractions * share + value / 2 * (2 * share * fractions - fractions - share + 1)
    ) / chance
    mean = math.fsum(influence.tolist()) / n_iterations
    variance = 4 / n_iterations**2 * math.fsum((part - mean) ** 2 for part in influence.tolist())
    width = _Z_95 * math.sqrt(variance)
    return StabilityEstimate(value, value - width, min(1.0, value + width), None)


def bound_false_selections(selected: BoolArray, *, threshold: float, training_fraction: float) -> Bound:
    """Bound the expected number of features that are falsely selected at ``threshold``.

    Parameters
    ----------
    selected : bool, shape (n_iterations, n_features)
        Features selected in each iteration, among all that could be selected.
    threshold : float in (0.5, 1]
        Minimum fraction of iterations for a feature to be kept. For features kept by a confidence score of at
        least s use (s - 0.5) / 100: apart from rounding, no score exceeds the selection frequency.
    training_fraction : float in (0, 1)
        Training share of the patients. The theorem applies to subsamples of one half drawn without replacement; for other fractions
        there is no bound, and a reason is given.

    Returns
    -------
    Bound
        q² / ((2 threshold - 1) p) for p features and sets of mean size q, at most p.

    Notes
    -----
    The noise features are assumed to be exchangeable in their selection, and the selection to be no worse than guessing.
    Patients are treated as independent draws. Codes of very different prevalence are hardly exchangeable: treat the bound as
    an order of magnitude.

    References
    ----------
    Meinshausen and Bühlmann 2010, JRSS B 72:417, theorem 1.

    Examples
    --------
    >>> halves = np.zeros((100, 1000), dtype=bool)
    >>> halves[:, :10] = True
    >>> round(bound_false_selections(halves, threshold=0.9, training_fraction=0.5).value, 3)
    0.125
    """
    n_iterations, n_features = selected.shape
    assumptions = "noise features are exchangeable; better than guessing"
    if training_fraction != 0.5:
        return Bound(None, assumptions, "iterations do not train on half of the patients")
    if not 0.5 < threshold <= 1:
        return Bound(None, assumptions, "the threshold does not lie in (0.5, 1]")
    q = int(np.count_nonzero(selected)) / n_iterations
    return Bound(min(q * q / ((2 * threshold - 1) * n_features), float(n_features)), assumptions, None)
