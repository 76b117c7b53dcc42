"""Values of the features compared with those of training, so that another unit of a laboratory is found. Pure."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.errors import listed
from mlho.model.parts import BundleFeature, TrainingSamples
from mlho.printable import cut
from mlho.scoring.drift import LARGE, SMALL, FeatureShift, is_beyond_chance, psi_of_share
from mlho.spec.types import MIN_CELL

# 99.9967 % quantile: of the three bounds of a feature together, at most three false findings in 10,000.
_CHANCE_OF_THREE: Final = 17.23
_N_NAMED: Final = 5


def bounds_in_training(
    features: Sequence[BundleFeature], training: TrainingSamples | None
) -> dict[int, tuple[tuple[float, float], ...]]:
    """Return the bounds of the values in training and the shares above them, by place of the feature."""
    known = {} if training is None else training.values or {}
    return {place: known[feature.id] for place, feature in enumerate(features) if feature.id in known}


def find_value_shifts(
    features: Sequence[BundleFeature],
    training: TrainingSamples | None,
    with_value: NDArray[np.int64],
    above: NDArray[np.int64],
    n: int,
    *,
    n_patients: int,
) -> dict[str, FeatureShift | None]:
    """Compare the values of features with training: the share above each bound, by the rule for the prevalence.

    Parameters
    ----------
    with_value : int64, shape (n_features,)
        Samples with a value of each feature.
    above : int64, shape (n_bounds,)
        Samples with a value above each bound of :func:`bounds_in_training`, in its order.

    Returns
    -------
    dict
        By id of each compared feature: the bound with the largest PSI, or None without a shift.
    """
    if training is None:
        return {}
    found: dict[str, FeatureShift | None] = {}
    counts = iter(above.tolist())
    for place, bounds in bounds_in_training(features, training).items():
        feature, n_values = features[place], int(with_value[place])
        above_each = [(bound, then, next(counts)) for bound, then in bounds]
        if n_values < 2 * MIN_CELL:
            continue
        independent = max(1, n_values * n_patients // n)
        n_then = round((training.n_samples or 0) * (1 - (training.missing or {}).get(feature.id, 0.0)))
        shifts = []
        for bound, then, count in above_each:
            if not is_beyond_chance(count / n_values, then, independent, n_then, limit=_CHANCE_OF_THREE):
                continue
            if 0 < count < n_values:
                count = min(max(count, MIN_CELL), n_values - MIN_CELL)
            now, index = round(count / n_values, 4), round(psi_of_share(then, count, n_values), 4)
            shifts.append(
                FeatureShift(
                    feature=feature.id, words=feature.words, training=then, now=now, psi=index, bound=bound
                )
            )
        largest = max(shifts, key=lambda shift: shift.psi or 0.0, default=None)
        found[feature.id] = largest if largest is not None and (largest.psi or 0.0) >= SMALL else None
    return found


def value_warnings(shifted: Sequence[FeatureShift]) -> list[str]:
    """Return a warning about features whose values differ far from those in training.

    Examples
    --------
    >>> creatinine = FeatureShift(feature="CREA|all|last", words="Creatinine", training=0.05, now=1.0, psi=7.2, bound=1.9)
    >>> value_warnings([creatinine])
    ['Values differ from those in training; a unit may have changed: Creatinine (100.0 % of the values exceed 1.9; 5.0 % in training). Check the units of these codes.']
    """
    named = [
        f"{cut(shift.words)} ({100 * shift.now:.1f} % of the values exceed {shift.bound:g}; {100 * shift.training:.1f} % in training)"
        for shift in shifted
        if shift.bound is not None and shift.now is not None and shift.psi is not None and shift.psi > LARGE
    ]
    if not named:
        return []
    return [
        f"Values differ from those in training; a unit may have changed: {listed(named, _N_NAMED, '; ')}. Check the units of these codes."
    ]
