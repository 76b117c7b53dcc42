"""Surveillance of the AUROC over periods: a CUSUM of log-likelihood ratios that finds a lasting loss early."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Smallest loss that matters and must be detected within days. A smaller loss is detected later, a loss below half of it only by
#: chance.
LOSS: Final = 0.05
#: Bound on the rate of alarms without a loss. With 6,000 samples a night, 10 % of them with the outcome, a loss is still found within three nights
#: (benchmarks/simulated_year.py: 100 of 100).
FALSE_ALARMS_A_YEAR: Final = 0.1


@dataclass(frozen=True)
class Watch:
    """Evidence of a loss after each period."""

    evidence: tuple[float, ...]
    """Log-likelihood ratio of a loss that began in some period against none, at most twice the limit. At least 0."""
    limit: float
    """Evidence above which there is an alarm."""

    @property
    def alarms(self) -> tuple[int, ...]:
        """Periods in which the evidence rises above the limit."""
        above = [False, *(value > self.limit for value in self.evidence)]
        return tuple(place for place in range(len(self.evidence)) if above[place + 1] and not above[place])

    @property
    def began(self) -> int | None:
        """Estimated first period of the loss: the first one since which the evidence has been above 0. None while it is 0."""
        began = None
        for place in reversed(range(len(self.evidence))):
            if not self.evidence[place]:
                break
            began = place
        return began

    @property
    def is_alarmed(self) -> bool:
        """Whether the evidence is above the limit after the last period."""
        return bool(self.evidence) and self.evidence[-1] > self.limit


def watch_auroc(
    values: Sequence[float],
    standard_errors: Sequence[float],
    *,
    reference: float,
    periods_a_year: float,
) -> Watch:
    """Accumulate the evidence that the AUROC is lower than the reference by ``LOSS``.

    Parameters
    ----------
    values, standard_errors : sequence of float, shape (n_periods,)
        AUROC of each period and its standard error, in chronological order.
    reference : float
        AUROC without a loss.
    periods_a_year : float
        365 for nights, 12 for months.

    Notes
    -----
    A period with value a and standard error s adds (LOSS / s²) · (reference − a − LOSS / 2), the log-likelihood ratio of two normal
    distributions; the sum restarts at 0. The mean time between false alarms of such a CUSUM is at least e^limit periods, for
    independent periods, so the limit is ln(periods_a_year / FALSE_ALARMS_A_YEAR). The evidence is capped, so that it falls soon
    after the loss has ended.

    References
    ----------
    Page (1954), Biometrika 41; Lorden (1971), Annals of Mathematical Statistics 42 (the bound).

    Examples
    --------
    >>> found = watch_auroc([0.75, 0.76, 0.70, 0.71], [0.012] * 4, reference=0.75, periods_a_year=365)
    >>> round(found.limit, 2), found.alarms
    (8.2, (2,))
    """
    limit = math.log(periods_a_year / FALSE_ALARMS_A_YEAR)
    evidence, total = [], 0.0
    for value, error in zip(values, standard_errors, strict=True):
        total += LOSS / error**2 * (reference - value - LOSS / 2.0)
        total = min(max(total, 0.0), 2.0 * limit)
        evidence.append(total)
    return Watch(tuple(evidence), limit)
