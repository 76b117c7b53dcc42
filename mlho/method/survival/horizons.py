"""Figures at a horizon: discrimination, error and calibration of the risk of an event up to a day."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlho.method.survival.censoring import censoring_weights
from mlho.method.survival.curves import StepFunction, cumulative_incidence
from mlho.method.survival.times import EventTimes, Floats

N_GROUPS: Final = 5  # by the predicted risk


@dataclass(frozen=True)
class RiskGroup:
    """Samples of similar predicted risk."""

    predicted: float
    """Mean predicted risk."""
    observed: float
    """Cumulative incidence at the horizon."""
    samples: tuple[int, ...]
    """Their positions."""


@dataclass(frozen=True)
class HorizonFigures:
    """Figures at one horizon; ``None`` where a figure does not exist."""

    auroc: float | None
    """Cumulative/dynamic: the probability that a sample with an event up to the horizon scores above one without."""
    brier: float
    """Mean squared error of the risk."""
    observed: float
    predicted: float
    """Cumulative incidence, and mean predicted risk."""
    groups: tuple[RiskGroup, ...]
    """By fifths of the predicted risk, ascending."""

    @property
    def observed_expected(self) -> float | None:
        """Observed over predicted risk; 1 is ideal."""
        return self.observed / self.predicted if self.predicted > 0.0 else None


def figures_at(times: EventTimes, risk: Floats, observed: StepFunction, horizon: float) -> HorizonFigures:
    """Return the figures of a predicted risk at a horizon, corrected for censoring.

    Parameters
    ----------
    risk : float64, shape (n_samples,)
        Predicted probability of an event up to the horizon.
    observed : StepFunction
        Probability of still being observed, from :func:`mlho.method.survival.curves.uncensored`.

    Notes
    -----
    AUROC and Brier score weight the samples whose status is known by :func:`mlho.method.survival.censoring.censoring_weights`.
    Observed risks are Aalen–Johansen estimates, which use the censored samples too.

    References
    ----------
    AUROC: Uno et al. (2007), JASA 102; competing events: Blanche et al. (2013), Statistics in Medicine 32. Brier score: Graf et al.
    (1999), Statistics in Medicine 18.
    """
    weights, is_event = censoring_weights(times, observed, horizon), times.status_at(horizon) == 1
    errors = weights * np.square(is_event - risk)
    return HorizonFigures(
        auroc=weighted_auroc(is_event, risk, weights),
        brier=math.fsum(errors.tolist()) / len(times),
        observed=observed_risk(times, horizon),
        predicted=math.fsum(risk.tolist()) / len(times),
        groups=tuple(_groups(times, risk, horizon)),
    )


def observed_risk(times: EventTimes, horizon: float) -> float:
    """Return the cumulative incidence at a horizon."""
    return float(cumulative_incidence(times)(horizon))


def weighted_auroc(is_positive: Floats, scores: Floats, weights: Floats) -> float | None:
    """Return the AUROC of weighted samples, ties counting half; None if a class has no weight."""
    place = np.unique(scores, return_inverse=True)[1]
    positive = np.bincount(place, weights=np.where(is_positive, weights, 0.0))
    negative = np.bincount(place, weights=np.where(is_positive, 0.0, weights))
    below = np.cumsum(negative) - negative
    of_pairs = math.fsum(positive.tolist()) * math.fsum(negative.tolist())
    if of_pairs == 0.0:
        return None
    return math.fsum((positive * (below + 0.5 * negative)).tolist()) / of_pairs


def _groups(times: EventTimes, risk: Floats, horizon: float) -> list[RiskGroup]:
    """Return the groups by fifths; equal risks are never separated."""
    cuts = np.unique(np.quantile(risk, np.arange(1, N_GROUPS) / N_GROUPS, method="inverted_cdf"))
    group = np.searchsorted(cuts, risk, side="left")
    found = []
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        predicted = math.fsum(risk[members].tolist()) / len(members)
        found.append(RiskGroup(predicted, observed_risk(times[members], horizon), tuple(members.tolist())))
    return found
