"""Predictions that several tests of the evaluation share."""

import numpy as np


def calibrated_predictions(seed: int, n: int = 300):
    """Draw risks, and outcomes that have them."""
    rng = np.random.default_rng(seed)
    risk = rng.beta(1, 4, n)
    return (rng.random(n) < risk).astype(int), risk


def tied_predictions(seed: int, n: int = 200, decimals: int = 2):
    """Draw as :func:`calibrated_predictions`, and round the risks, so that many are equal."""
    y, risk = calibrated_predictions(seed, n)
    return y, np.round(risk, decimals)


def two_groups():
    """Return 20 samples predicted at 0.2 with 3 events, and 30 predicted at 0.8 with 21 events."""
    y = np.repeat([1, 0, 1, 0], [3, 17, 21, 9])
    return y, np.repeat([0.2, 0.8], [20, 30])
