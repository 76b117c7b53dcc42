"""Performance of a scoring run without labels: expected AUROC and PPV of its alerts, if the bundle is still calibrated. Pure."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.method.evaluation.expected import expected_auroc, expected_ppv
from mlho.method.evaluation.metrics import Estimate as Figure
from mlho.method.evaluation.thresholds import alerting
from mlho.model.document import BundleDocument
from mlho.report.monitoring import ExpectedPerformance
from mlho.report.parts import Estimate
from mlho.spec.types import MIN_CELL

_DIGITS: Final = 4


def expected_performance(probability: NDArray[np.float64], document: BundleDocument) -> ExpectedPerformance:
    """Return the performance expected of these scores.

    Parameters
    ----------
    probability : float64, shape (n_samples,)
        Calibrated probabilities.
    """
    trained = document.metrics.get("auroc", {}).get("mean")
    thresholds = alerting(document.thresholds)
    reason = _reason(len(probability), document.calibrator.reason)
    if reason is not None:
        absent = Estimate(value=None, reason=reason)
        return ExpectedPerformance(
            auroc=absent, training_auroc=trained, ppv=dict.fromkeys(thresholds, absent)
        )
    return ExpectedPerformance(
        auroc=_rounded(expected_auroc(probability)),
        training_auroc=trained,
        ppv={rule: _ppv(probability, value) for rule, value in thresholds.items()},
    )


def _reason(n: int, not_calibrated: str | None) -> str | None:
    if not_calibrated is not None:
        return f"the bundle's probabilities are {not_calibrated}"
    return f"fewer than {10 * MIN_CELL} samples" if n < 10 * MIN_CELL else None


def _ppv(probability: NDArray[np.float64], value: float) -> Estimate:
    if 0 < np.count_nonzero(probability >= value) < MIN_CELL:
        return Estimate(value=None, reason=f"fewer than {MIN_CELL} alerts")
    return _rounded(expected_ppv(probability, value))


def _rounded(figure: Figure) -> Estimate:
    value, low, high = (
        None if number is None else round(number, _DIGITS)
        for number in (figure.value, figure.low, figure.high)
    )
    return Estimate(value=value, low=low, high=high, method=figure.method, reason=figure.reason)
