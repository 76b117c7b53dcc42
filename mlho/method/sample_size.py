"""Minimum sample size for developing a prediction model of a binary outcome.

The criteria bound overfitting and the error of the mean risk. They assume unpenalised regression on candidate
parameters chosen beforehand; selection and penalties change the number of parameters that a sample can support.

References
----------
Riley RD, Snell KIE, Ensor J, et al. Minimum sample size for developing a multivariable prediction model: Part II, binary and
time-to-event outcomes. Statistics in Medicine 2019; 38: 1276-1296.
Riley RD, Ensor J, Snell KIE, et al. Calculating the sample size required for developing a clinical prediction model. BMJ
2020; 368: m441.
"""

import math
from dataclasses import dataclass
from typing import Final

SHRINKAGE: Final = 0.9  # at least; at most 10 % overfitting
OPTIMISM: Final = 0.05  # at most, of the apparent Nagelkerke R²
MARGIN: Final = 0.05  # at most, of the estimated overall risk
ASSUMED_R2: Final = 0.15  # Nagelkerke R² without an earlier model, as Riley et al. 2020 recommend
_Z95: Final = 1.96


@dataclass(frozen=True)
class SampleSize:
    """Patients needed by each criterion."""

    shrinkage: int
    """For an expected uniform shrinkage of ``SHRINKAGE`` or more."""
    optimism: int
    """For an optimism of the apparent Nagelkerke R² of ``OPTIMISM`` or less."""
    intercept: int
    """For a margin of error of the overall risk of ``MARGIN`` or less."""

    @property
    def needed(self) -> int:
        """Patients that meet every criterion."""
        return max(self.shrinkage, self.optimism, self.intercept)


def largest_r2(prevalence: float) -> float:
    """Return the largest possible Cox-Snell R² for an outcome with this prevalence.

    Examples
    --------
    >>> round(largest_r2(0.1), 2)
    0.48
    """
    log_likelihood = prevalence * math.log(prevalence) + (1 - prevalence) * math.log(1 - prevalence)
    return 1 - math.exp(2 * log_likelihood)


def sample_size(n_parameters: int, prevalence: float, *, r2: float | None = None) -> SampleSize:
    """Return the number of patients that a prediction model needs.

    Parameters
    ----------
    n_parameters : int
        Candidate parameters, at least 1.
    prevalence : float in (0, 1)
        Share of patients with the outcome.
    r2 : float in (0, 1), optional
        Expected Cox-Snell R² of the model; by default ``ASSUMED_R2`` of the largest possible one.

    Examples
    --------
    >>> sample_size(24, 0.174, r2=0.288)
    SampleSize(shrinkage=623, optimism=662, intercept=221)
    """
    expected, stricter = _expected(prevalence, r2)
    return SampleSize(
        shrinkage=math.ceil(n_parameters * _each(expected, SHRINKAGE)),
        optimism=math.ceil(n_parameters * _each(expected, stricter)),
        intercept=math.ceil((_Z95 / MARGIN) ** 2 * prevalence * (1 - prevalence)),
    )


def most_parameters(n_patients: int, prevalence: float, *, r2: float | None = None) -> int:
    """Return the largest number of candidate parameters for which shrinkage and optimism are met; 0 if there is none.

    Examples
    --------
    >>> most_parameters(662, 0.174, r2=0.288)
    24
    """
    expected, stricter = _expected(prevalence, r2)
    return math.floor(n_patients / max(_each(expected, SHRINKAGE), _each(expected, stricter)))


def _expected(prevalence: float, r2: float | None) -> tuple[float, float]:
    """Return the expected Cox-Snell R², and the shrinkage at which the optimism is ``OPTIMISM``."""
    largest = largest_r2(prevalence)
    expected = ASSUMED_R2 * largest if r2 is None else r2
    return expected, expected / (expected + OPTIMISM * largest)


def _each(r2: float, shrinkage: float) -> float:
    """Return the patients needed for each parameter at an expected shrinkage."""
    return 1 / ((shrinkage - 1) * math.log(1 - r2 / shrinkage))
