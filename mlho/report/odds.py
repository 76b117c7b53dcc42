"""Choice of the displayed odds ratio: per unit, or per standard deviation if the effect of one unit is too small to show."""

import math
from dataclasses import dataclass

from mlho.report.result import HazardRatio, OddsRatio
from mlho.report.words import ratio

# An odds ratio within this distance of 1 is printed as 1.00; half of the last digit.
_UNSEEN_LOG = math.log(1.005)
_SD_DIGITS = 2


@dataclass(frozen=True)
class ShownOdds:
    """An odds ratio with its interval and unit."""

    value: float
    low: float | None
    high: float | None
    unit: str
    """Empty for one unit of the feature; otherwise, for example, ``per SD of 85``."""


def shown_odds(odds: OddsRatio) -> ShownOdds | None:
    """Return the more informative odds ratio; None if the model has none.

    One more platelet per microlitre does not change the odds visibly. If the odds ratio per unit would be printed as 1.00,
    return the one per standard deviation of the samples, with the standard deviation.
    """
    if odds.per_unit is None:
        return None
    has_profile = odds.profile_low is not None and odds.profile_high is not None
    low, high = (odds.profile_low, odds.profile_high) if has_profile else (odds.wald_low, odds.wald_high)
    if odds.per_sd is None or odds.sd is None or not _says_more(math.log(odds.per_unit), odds.sd):
        return ShownOdds(odds.per_unit, low, high, "")
    return ShownOdds(odds.per_sd, odds.per_sd_low, odds.per_sd_high, f"per SD of {_rounded(odds.sd)}")


def shown_hazard(hazard: HazardRatio) -> ShownOdds | None:
    """Return the more informative hazard ratio, by the rule of the odds ratios; None if there is none."""
    return shown_odds(
        OddsRatio(
            per_unit=hazard.per_unit,
            wald_low=hazard.low,
            wald_high=hazard.high,
            sd=hazard.sd,
            per_sd=hazard.per_sd,
            per_sd_low=hazard.per_sd_low,
            per_sd_high=hazard.per_sd_high,
        )
    )


def _says_more(coefficient: float, deviation: float) -> bool:
    """Return whether to show the odds ratio per standard deviation: that per unit rounds to 1.00, and the deviation exceeds 1."""
    return abs(coefficient) < _UNSEEN_LOG and coefficient != 0 and deviation > 1


def _rounded(deviation: float) -> str:
    return f"{float(f'{deviation:.{_SD_DIGITS}g}'):,.10g}"


def odds_in_words(coefficient: float, deviation: float) -> str:
    """Format the odds ratio of a coefficient of the final model, per standard deviation if that per unit rounds to 1.00."""
    if _says_more(coefficient, deviation):
        return f"{ratio(_exp(coefficient * deviation))} per SD of {_rounded(deviation)}"
    return ratio(_exp(coefficient))


def _exp(log_odds: float) -> float:
    return math.exp(min(log_odds, 700.0))  # exp(710) overflows
