"""The part of a result about the time to an event."""

from pydantic import Field

from mlho.report.parts import Part, Spread


class RiskGroup(Part):
    """A fifth of the test samples by predicted risk, mean over the test sets."""

    predicted: float
    observed: float | None
    """Cumulative incidence; ``null`` where any test set has fewer than ``minCell`` patients in it with an event, or known to be without one."""


class HorizonPerformance(Part):
    """The risk of an event up to a day, of models built like the final one."""

    days: int
    figures: dict[str, Spread]
    """``auroc`` (cumulative/dynamic, censoring weighted), ``brier`` (censoring weighted), ``observed`` (cumulative incidence),
    ``predicted`` (mean risk) and ``observed_expected``: mean over test sets with spread."""
    groups: list[RiskGroup] = Field(default_factory=list)
    """Calibration by fifths of the predicted risk; empty if a test set has fewer groups."""


class TimeToEventPerformance(Part):
    """Figures of the time to an event, corrected for censoring."""

    n_events: int | None
    """Samples whose first end is the event; ``null`` where small, or where another count would follow."""
    n_competing: int | None
    n_censored: int | None
    n_unknown: list[int | None]
    """Samples censored before each horizon, whose status there is unknown."""
    median_days: float
    """Median time until the event, the competing event or the end of observation."""
    harrell: Spread
    """Harrell's concordance of the events up to the last horizon."""
    uno: Spread
    """Uno's concordance up to the last horizon, which does not depend on the censoring."""
    horizons: list[HorizonPerformance]
