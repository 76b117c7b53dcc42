"""Net benefit: the benefit of acting on the model, compared with treating all or treating none."""

from dataclasses import dataclass

import numpy as np

from mlho.method.evaluation.tally import FloatArray, IntArray, Tally

# Plausible treatment thresholds, 1 % to 50 %; few interventions require a higher risk.
DEFAULT_THRESHOLDS = tuple(i / 100 for i in range(1, 51))


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit over the risk threshold for acting."""

    thresholds: FloatArray
    """Shape (n_thresholds,), in (0, 1)."""
    model: FloatArray
    treat_all: FloatArray
    """True positives per sample, minus false positives per sample weighted by threshold / (1 − threshold). Treating none has net benefit 0.
    Shape (n_thresholds,)."""
    n_true_positive: IntArray
    n_false_positive: IntArray
    """Samples with p ≥ threshold, by outcome. Shape (n_thresholds,)."""
    n: int
    """Number of samples."""


def decision_curve_of(t: Tally, *, thresholds: FloatArray) -> DecisionCurve:
    """Return the decision curve of a model whose predictions are calibrated risks.

    Parameters
    ----------
    t : Tally
        Thresholds are risks: pass calibrated probabilities.
    thresholds : float64 array in (0, 1)

    References
    ----------
    Vickers & Elkin (2006), Medical Decision Making 26.

    Examples
    --------
    >>> from mlho.method.evaluation.tally import tally
    >>> t = tally([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.9])
    >>> decision_curve_of(t, thresholds=np.array([0.2])).model.tolist()
    [0.4375]
    """
    alerted_cells = t.p.size - np.searchsorted(t.p, thresholds, side="left")
    tp, fp = (counts[alerted_cells] for counts in t.operating_points)
    n = t.n_total
    return DecisionCurve(
        thresholds=thresholds,
        model=net_benefit(tp, fp, n, thresholds),
        treat_all=net_benefit(t.n_positive_total, t.n_negative_total, n, thresholds),
        n_true_positive=tp.astype(np.int64),
        n_false_positive=fp.astype(np.int64),
        n=int(n),
    )


def net_benefit(
    tp: float | FloatArray, fp: float | FloatArray, n: float | FloatArray, thresholds: FloatArray
) -> FloatArray:
    """Return true positives per sample minus weighted false positives per sample."""
    benefit: FloatArray = tp / n - fp / n * (thresholds / (1.0 - thresholds))
    return benefit
