"""The constants of the planted world: how patients and their records are drawn, and what changes their risk.

None is fitted to a data set. They are chosen to give a cohort the difficulties of EHR data: heavy-tailed numbers of rows,
confounding by morbidity, records that follow from causes without being causes, and errors.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Race:
    """A group: its share of the patients, the share of its rows that were not recorded, and its effect on log-odds."""

    name: str
    share: float
    rows_lost: float
    log_odds: float


@dataclass(frozen=True)
class ErrorRates:
    """Share of rows with each recording error."""

    duplicate: float = 0.02
    """Rows with the same patient, day and code as another row. Each has its own value and its own errors."""
    future_date: float = 0.001
    before_birth: float = 0.0005
    missing_date: float = 0.002
    missing_code: float = 0.001
    lower_case: float = 0.001
    unit_x1000: float = 0.002
    """Values that are 1,000 times too large."""


@dataclass(frozen=True)
class WorldSettings:
    """Constants of the world."""

    first_day: dt.date = dt.date(2010, 1, 1)
    last_day: dt.date = dt.date(2025, 1, 1)
    """The observed calendar; ``last_day`` is the first day beyond it."""
    recode_day: dt.date = dt.date(2015, 10, 1)
    """First day on which ``recoded_share`` of the diagnoses have a new name (like ICD-9 → ICD-10 on 2015-10-01)."""
    new_drug_day: dt.date = dt.date(2017, 1, 1)
    """First day on which the new drug's code exists."""
    vanish_day: dt.date = dt.date(2019, 1, 1)
    """From this index date on, the causal codes at the positions ``vanishing`` have no effect."""
    causal_odds_ratios: tuple[float, ...] = (
        *(3.0, 2.5, 2.2, 2.0, 2.0, 1.8, 1.8, 1.6, 1.6, 1.5, 1.5, 1.4, 1.4, 1.3, 1.3),
        *(0.75, 0.7, 0.6, 0.5, 0.4),
    )
    """Odds ratio of each causal code."""
    vanishing: tuple[int, ...] = (4, 6)
    """Positions in ``causal_odds_ratios``."""
    interacting: tuple[int, int] = (9, 10)
    """Positions of two causal codes. ``interaction_odds_ratio`` is the additional effect for patients with both."""
    interaction_odds_ratio: float = 2.0
    sequence_odds_ratios: tuple[float, ...] = (2.5, 2.2, 2.0, 1.8, 0.5)
    """Odds ratio of each ordered pair, if A is recorded before B."""
    n_with_proxies: int = 10
    n_proxies: int = 3
    """The first ``n_with_proxies`` causal codes have ``n_proxies`` proxies each. A proxy is recorded for the share
    ``proxy_sensitivity`` of patients with the cause, and ``proxy_background`` of the others."""
    proxy_sensitivity: float = 0.6
    proxy_background: float = 0.05
    n_conditions: int = 20
    n_harmful: int = 3
    """Number of latent conditions, each with a cluster of codes, and of those that raise the log-odds by ``harmful_log_odds``."""
    harmful_log_odds: float = 0.35
    races: tuple[Race, ...] = (
        Race("White", 0.60, 0.00, 0.00),
        Race("Black", 0.18, 0.20, 0.30),
        Race("Hispanic", 0.13, 0.15, 0.15),
        Race("Asian", 0.06, 0.00, -0.10),
        Race("Other", 0.03, 0.00, 0.00),
    )
    log_odds_per_year_of_age: float = 0.02
    log_odds_of_men: float = 0.1
    log_odds_per_calendar_year: float = 0.06
    leak_sensitivity: float = 0.7
    """Share of patients with the outcome who have the leak code after it."""
    outcome_sensitivity: float = 0.85
    outcome_false_positive: float = 0.01
    """Share of patients with the outcome, and of those without it, who have the outcome code."""
    rows_per_visit: float = 4.0
    """Mean number of background events per visit."""
    recoded_share: float = 0.3
    trend_share: float = 0.05
    """Share of codes whose frequency rises over the calendar, and of codes whose frequency falls."""
    errors: ErrorRates = field(default_factory=ErrorRates)

    @property
    def n_causal(self) -> int:
        """Number of causal codes."""
        return len(self.causal_odds_ratios)

    @property
    def n_sequences(self) -> int:
        """Number of ordered pairs."""
        return len(self.sequence_odds_ratios)

    @property
    def n_days(self) -> int:
        """Number of days of the observed calendar."""
        return self.day_of(self.last_day)

    def day_of(self, date: dt.date) -> int:
        """Return the days since ``first_day``, the unit of every time in this package."""
        return (date - self.first_day).days


SETTINGS: Final = WorldSettings()
