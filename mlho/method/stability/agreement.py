"""Agreement of the selected sets of the iterations, and bounds on the expected number of false features."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mlho.errors import DataError

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StabilityEstimate:
    """A stability with its interval; absent values are ``None``, with the reason in ``reason``."""

    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    level: float
    reason: str | None

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain numbers."""
        return dict(vars(self))


@dataclass(frozen=True)
class Bound:
    """An upper bound on an expected number of features; ``None`` with a reason if it does not apply."""

    value: float | None
    assumptions: str
    reason: str | None

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain numbers."""
        return dict(vars(self))


@dataclass(frozen=True)
class FalseSelectionBounds:
    """Bounds on the expected number of falsely selected features, from the strongest to the weakest assumptions.

    Attributes
    ----------
    n_selected_mean : float
        Features selected per iteration, q.
    threshold : float
        Fraction of the iterations in which a feature must be selected.
    meinshausen_buhlmann : Bound
        q² / ((2 threshold - 1) p): bound on falsely selected features.
    shah_samworth : Bound
        The same bound for complementary pairs, for features with a selection probability of at most q/p.
    shah_samworth_unimodal : Bound
        The sharper bound for a unimodal distribution of the number of selections.
    """

    n_features: int
    n_selected_mean: float
    threshold: float
    meinshausen_buhlmann: Bound
    shah_samworth: Bound
    shah_samworth_unimodal: Bound

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain numbers."""
        return {
            name: value.to_json() if isinstance(value, Bound) else value for name, value in vars(self).items()
        }


def selection_frequency(selected: BoolArray) -> npt.NDArray[np.float64]:
    """Return the fraction of the iterations that selected each feature.

    Parameters
    ----------
    selected : bool, shape (n_iterations, n_features)

    Returns
    -------
    float64, shape (n_features,), in [0, 1]
    """
    chosen = _checked(selected)
    frequency: npt.NDArray[np.float64] = np.count_nonzero(chosen, axis=0) / chosen.shape[0]
    return frequency


def nogueira_stability(selected: BoolArray, *, level: float = 0.95) -> StabilityEstimate:
    """Measure the agreement of the selected sets, corrected for chance.

    Parameters
    ----------
    selected : bool, shape (n_iterations, n_features)
        Columns are all features that could have been selected, including those never selected: the correction for
        chance depends on them.
    level : float in (0, 1)
        Level of the interval.

    Returns
    -------
    StabilityEstimate
        1 for identical sets; about 0 for random sets; at least -1/(n_iterations - 1). Above 0.75
        is called excellent and below 0.40 poor (the paper, after Fleiss). The interval is the paper's
        asymptotic one, clipped at 1. It is optimistic for few iterations, the more so because iterations share
        patients. Without a value if there are fewer than two sets, or only empty or full sets;
        without an interval where all sets are equal.

    References
    ----------
    Nogueira, Sechidis and Brown 2018, JMLR 18(174): definition 4, theorem 7 and corollary 8.

    Examples
    --------
    >>> nogueira_stability(np.array([[True, False], [False, True]])).value
    -1.0
    """
    chosen = _checked(selected)
    n_iterations, n_features = chosen.shape
    counts = np.count_nonzero(chosen, axis=0)
    sizes = np.count_nonzero(chosen, axis=1)
    total = int(sizes.sum())
    if n_iterations < 2:
        return StabilityEstimate(None, None, None, None, level, "fewer than two iterations")
    if total in (0, n_iterations * n_features):
        reason = "no feature was ever selected" if total == 0 else "every feature was always selected"
        return StabilityEstimate(None, None, None, None, level, reason)
    # Integers as far as possible: M² · sum of p(1 - p) is an integer, so that the order of summation has no effect.
    spread = int(np.sum(counts * (n_iterations - counts)))
    share = total / (n_iterations * n_features)
    chance = share * (1 - share)
    value = 1 - spread / (n_iterations * (n_iterations - 1) * n_features) / chance
    if spread == 0:
        return StabilityEstimate(1.0, 0.0, None, None, level, "all sets are equal: the interval has no width")
    # Influence of one iteration on the estimate, halved (the paper's phi_i); its overlap is also an integer.
    overlap = chosen.astype(np.int64) * counts[np.newaxis, :]
    overlaps = overlap.sum(axis=1) / (n_iterations * n_features)
    fractions = sizes / n_features
    influence = (
        overlaps - fractions * share + value / 2 * (2 * share * fractions - fractions - share + 1)
    ) / chance
    mean = math.fsum(influence.tolist()) / n_iterations
    variance = 4 / n_iterations**2 * math.fsum((part - mean) ** 2 for part in influence.tolist())
    error = math.sqrt(variance)
    width = NormalDist().inv_cdf((1 + level) / 2) * error
    return StabilityEstimate(value, error, value - width, min(1.0, value + width), level, None)


def bound_false_selections(
    selected: BoolArray, *, threshold: float, training_fraction: float, complementary_pairs: bool = False
) -> FalseSelectionBounds:
    """Bound the expected number of features that are falsely selected at ``threshold``.

    Parameters
    ----------
    selected : bool, shape (n_iterations, n_features)
        Features selected in each iteration, among all that could be selected.
    threshold : float in (0.5, 1]
        Minimum fraction of iterations for a feature to be kept. For features kept by a confidence score of at
        least s use (s - 0.5) / 100: apart from rounding, no score exceeds the selection frequency.
    training_fraction : float in (0, 1)
        Training share of the patients. The theorems apply to subsamples of one half drawn without replacement; anything
        else has no bound, and a reason is given.
    complementary_pairs : bool
        Whether iterations 2b and 2b + 1 train on the two halves of one split.

    Returns
    -------
    FalseSelectionBounds
        Expected numbers of features, from 0 to n_features. q is the mean size of the selected sets.

    Notes
    -----
    *Meinshausen and Bühlmann* assume that the noise features are exchangeable in their selection and that the
    selection is not worse than guessing: E[V] ≤ q² / ((2 threshold - 1) p). Patients are treated as independent
    draws. Codes of very different prevalence are hardly exchangeable: treat it as an order of magnitude. *Shah
    and Samworth* need neither assumption; they call a feature "false" if its selection probability is at
    most q/p in a half sample. Their bound with unimodality multiplies θ q, θ = q/p, by C(threshold, B) for B
    pairs, where θ ≤ 1/√3. Their r-concave bound is not implemented.

    References
    ----------
    Meinshausen and Bühlmann 2010, JRSS B 72:417, theorem 1. Shah and Samworth 2013, JRSS B 75:55, theorems 1
    and 2.

    Examples
    --------
    >>> halves = np.zeros((100, 1000), dtype=bool)
    >>> halves[:, :10] = True
    >>> bounds = bound_false_selections(halves, threshold=0.9, training_fraction=0.5)
    >>> round(bounds.meinshausen_buhlmann.value, 3)
    0.125
    """
    chosen = _checked(selected)
    if not 0 < training_fraction < 1:
        raise ValueError(f"false selections: training_fraction must lie in (0, 1); got {training_fraction}.")
    n_iterations, n_features = chosen.shape
    q = int(np.count_nonzero(chosen)) / n_iterations
    pairs = _no_pairs(n_iterations, threshold, training_fraction, complementary_pairs)
    mb = _no_halves(threshold, training_fraction)
    classical = None if mb else _limit(q * q / ((2 * threshold - 1) * n_features), n_features)
    paired = None if pairs else _limit(q * q / ((2 * threshold - 1) * n_features), n_features)
    unimodal, why = (
        _unimodal_bound(q, n_features, threshold, n_iterations // 2) if not pairs else (None, pairs)
    )
    return FalseSelectionBounds(
        n_features=n_features,
        n_selected_mean=q,
        threshold=threshold,
        meinshausen_buhlmann=Bound(classical, "noise features are exchangeable; better than guessing", mb),
        shah_samworth=Bound(paired, "none beyond complementary pairs", pairs),
        shah_samworth_unimodal=Bound(unimodal, "unimodal number of selections per feature", why),
    )


def _unimodal_bound(
    q: float, n_features: int, threshold: float, n_pairs: int
) -> tuple[float | None, str | None]:
    """Shah and Samworth's theorem 2."""
    theta = q / n_features
    if theta > 1 / math.sqrt(3):
        return None, "more than 58 % of the features are selected per iteration"
    # Frequencies are multiples of 1/(2B): round the threshold up to the next of them, with a tolerance for the rounding of
    # the product.
    tau = math.ceil(2 * n_pairs * threshold - 1e-9) / (2 * n_pairs)
    above = 0.5 + min(theta**2, 1 / (2 * n_pairs) + 0.75 * theta**2)
    if tau <= above or tau < 0.5 + 1 / n_pairs - 1e-12:
        return None, "the threshold is too near to one half for so few pairs"
    if tau <= 0.75:
        factor = 1 / (2 * (2 * tau - 1 - 1 / (2 * n_pairs)))
    else:
        factor = 4 * (1 - tau + 1 / (2 * n_pairs)) / (1 + 1 / n_pairs)
    return _limit(factor * theta * q, n_features), None


def _no_halves(threshold: float, training_fraction: float) -> str | None:
    """Return the reason why no bound applies, if any."""
    if training_fraction != 0.5:
        return "iterations do not train on half of the patients"
    if not 0.5 < threshold <= 1:
        return "the threshold does not lie in (0.5, 1]"
    return None


def _no_pairs(
    n_iterations: int, threshold: float, training_fraction: float, complementary_pairs: bool
) -> str | None:
    reason = _no_halves(threshold, training_fraction)
    if reason is None and not (complementary_pairs and n_iterations % 2 == 0):
        reason = "iterations are not complementary pairs"
    return reason


def _limit(bound: float, n_features: int) -> float:
    """Limit a bound to the number of features."""
    return min(bound, float(n_features))


def _checked(selected: BoolArray) -> BoolArray:
    chosen = np.asarray(selected)
    if chosen.ndim != 2 or chosen.dtype != np.bool_ or 0 in chosen.shape:
        raise DataError(
            "stability of selection",
            "the selected sets must be a table",
            expected="bool of shape (n_iterations, n_features), neither of them zero",
            got=f"{chosen.dtype} of shape {chosen.shape}",
            remedy="Give one row per iteration and one column per feature that could be selected.",
        )
    return chosen
