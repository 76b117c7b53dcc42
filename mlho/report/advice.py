"""Advice on a model in use: hold, recalibrate or retrain. Pure: figures in, advice out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from mlho.report.monitoring import Advice
from mlho.report.parts import Estimate
from mlho.report.words import capitalized, estimate, plural

#: Smallest loss of AUROC, and smallest gap to the AUROC implied by the probabilities, that justify retraining.
MIN_LOSS: Final = 0.02
#: Smallest shift of the log-odds (odds off by a tenth), and smallest error of the slope, that justify recalibration.
MIN_SHIFT: Final = 0.1
MIN_SLOPE_ERROR: Final = 0.1
_CHANCE: Final = 0.5
_UNCERTAIN: Final = "The gain from another model is too uncertain to state."
_EVALUATE: Final = "Evaluate the model (mlho evaluate) as soon as labels are available."
Correction = Literal["intercept", "line"]


@dataclass(frozen=True)
class Findings:
    """Findings about a model in use; None if a figure is missing."""

    trained: float | None
    """Mean test AUROC in training."""
    expected: Estimate | None
    """AUROC that the probabilities of these samples imply."""
    trained_margin: float = 0.0
    """Half the width of the 95 % interval of ``trained``; 0 if there is none."""
    score_psi: float | None = None
    """Population stability index of the scores, against training, if it is large and beyond chance."""
    vanished: int = 0
    """Features expected in these samples and absent in all of them."""
    missing: int = 0
    """Columns with far more missing values than in training."""
    shifted: int = 0
    compared: int = 0
    """Features whose share of the samples differs from training, and those compared."""
    observed: Estimate | None = None
    """AUROC with labels; None without labels."""
    alarm: str | None = None
    """Period of the last alarm of the surveillance; None if no alarm is active."""
    shift: Estimate | None = None
    slope: Estimate | None = None
    """Calibration in the large, and calibration slope, of labelled samples."""
    log_loss: Mapping[Correction, float] | None = None
    """Log loss as delivered minus log loss after each correction, on patients not used to fit it."""
    unassessed: str | None = None
    """Why the calibration cannot be assessed; None if it can."""
    few: str | None = None
    """Why the AUROC with labels is too uncertain to justify retraining, if there are too few samples."""


def advise(found: Findings) -> Advice:
    """Return the advice that follows from the findings.

    Retrain if features have vanished, or if the AUROC is below that of training, beyond the chance in both, and below what the probabilities imply for these
    patients (a change in case mix alone would lower both), and if there are enough samples. Recalibrate if the probabilities are miscalibrated beyond chance, by a relevant
    amount, a correction improves the log loss of patients not used to fit it, and the calibration can be assessed.
    Otherwise hold.

    Examples
    --------
    >>> auroc = Estimate(value=0.70, low=0.68, high=0.72)
    >>> advise(Findings(trained=0.76, expected=Estimate(value=0.755, low=0.74, high=0.77), observed=auroc)).action
    'retrain'
    >>> advise(Findings(trained=0.76, expected=Estimate(value=0.71, low=0.69, high=0.73), observed=auroc)).action
    'hold'
    """
    if found.vanished:
        was, is_absent = ("was", "is absent") if found.vanished == 1 else ("were", "are absent")
        named = (
            f"{plural(found.vanished, 'feature')} that {was} common in training {is_absent} from all samples."
        )
        return Advice(
            action="retrain",
            reason=f"{named} Check the source of the codes first: retrain only if they are permanently unavailable.",
            gain=_shortfall(found),
        )
    if found.observed is None:
        return _without_labels(found)
    return _retrain(found, found.observed) or _recalibrate(found) or _hold(found, found.observed)


def _shortfall(found: Findings) -> str:
    if found.observed is not None and found.observed.value is not None and found.trained is not None:
        return f"The AUROC is {estimate(found.observed, 3)}, compared with {found.trained:.3f} in training."
    expected = None if found.expected is None else found.expected.value
    if expected is None or found.trained is None:
        return "The expected gain is unknown."
    return (
        f"The AUROC expected without labels is {expected:.3f}, compared with {found.trained:.3f} in training."
    )


def _without_labels(found: Findings) -> Advice:
    doubts = []
    if found.missing:
        verb = "has" if found.missing == 1 else "have"
        doubts.append(
            f"{plural(found.missing, 'column')} {verb} many more missing values than in training (check this first)"
        )
    if found.score_psi is not None:
        doubts.append(
            f"the distribution of the scores differs from that in training (PSI {found.score_psi:.2f})"
        )
    expected, trained = found.expected, found.trained
    if (
        expected is not None
        and expected.value is not None
        and expected.high is not None
        and trained is not None
        and expected.high < trained
        and trained - expected.value >= MIN_LOSS
    ):
        doubts.append(
            f"the expected AUROC is {estimate(expected, 3)}, compared with {trained:.3f} in training"
        )
    reason = "The checks that need no labels found no evidence against the model."
    if doubts:
        reason = f"{capitalized('; '.join(doubts))}. {_EVALUATE}"
    elif found.shifted:
        verb = "is" if found.shifted == 1 else "are"
        reason = (
            f"{found.shifted} of {plural(found.compared, 'feature')} {verb} shifted: the patients, or how they are recorded, differ from training. "
            "This does not show that the model performs worse, and the other checks that need no labels found no evidence of it. Check the "
            f"codes and units of the shifted features. {_EVALUATE}"
        )
    return Advice(
        action="hold", reason=reason, gain="Without labels, the gain from another model cannot be estimated."
    )


def _retrain(found: Findings, observed: Estimate) -> Advice | None:
    expected, trained = found.expected, found.trained
    if observed.value is None or trained is None or not _is_lost(found, observed):
        return None
    if expected is None or expected.value is None or expected.low is None:
        return None
    gap = min(expected.value, trained) - observed.value  # overconfident probabilities imply too much
    if gap < MIN_LOSS or observed.value >= expected.low:
        return None  # case mix explains the loss: another model would not rank these patients better
    since = "" if found.alarm is None else f" (alarm of {found.alarm})"
    compared = (
        f"The AUROC is {estimate(observed, 3)}, compared with {trained:.3f} in training{since}. The probabilities imply "
        f"{estimate(expected, 3)} for these patients"
    )
    if found.few is not None:
        return Advice(
            action="hold",
            reason=f"{compared}. With {found.few}, this is too uncertain to advise retraining.",
            gain=_UNCERTAIN,
        )
    return Advice(
        action="retrain",
        reason=f"{compared}: the association between features and outcome has changed, not only the case mix.{_check_of_labels(observed)}",
        gain=f"Expected gain in AUROC: up to {gap:.3f}.",
    )


def _check_of_labels(observed: Estimate) -> str:
    """Return which error of the labels to exclude before retraining: a model rarely loses its whole discrimination otherwise."""
    if observed.high is not None and observed.high < _CHANCE:
        return " Check the labels first: an AUROC below 0.5 is also found if 0 and 1 are exchanged."
    if observed.low is not None and observed.low <= _CHANCE:
        return " Check the labels first: an AUROC near 0.5 is also found if they belong to other patients or dates."
    return ""


def _is_lost(found: Findings, observed: Estimate) -> bool:
    """Return whether the AUROC is lower than in training beyond chance. An alarm rules out chance in these samples, but not in training."""
    if observed.value is None or observed.high is None or found.trained is None:
        return False
    lost = found.trained - observed.value
    if found.alarm is not None:
        return lost > found.trained_margin
    return lost >= MIN_LOSS and lost > math.hypot(observed.high - observed.value, found.trained_margin)


def _recalibrate(found: Findings) -> Advice | None:
    is_shifted, is_tilted = _is_off(found.shift, 0.0, MIN_SHIFT), _is_off(found.slope, 1.0, MIN_SLOPE_ERROR)
    if not (is_shifted or is_tilted) or found.log_loss is None:
        return None
    correction: Correction = "line" if is_tilted else "intercept"
    gain = found.log_loss.get(correction)
    if gain is None or gain <= 0:
        return None
    reasons = []
    if is_shifted and found.shift is not None:
        reasons.append(f"calibration in the large is {estimate(found.shift)}, where 0 is ideal")
    if is_tilted and found.slope is not None:
        reasons.append(f"the calibration slope is {estimate(found.slope)}, where 1 is ideal")
    if found.unassessed is not None:
        return Advice(
            action="hold",
            reason=f"{capitalized(', and '.join(reasons))}, but the calibration cannot be assessed ({found.unassessed}), so recalibration is not "
            "advised.",
            gain="The gain from recalibration is too uncertain to state.",
        )
    return Advice(
        action="recalibrate",
        reason=f"{capitalized(', and '.join(reasons))}; the AUROC does not justify retraining.",
        gain=f"Expected reduction in log loss: {gain:.4f}, estimated on patients not used to fit the correction.",
        correction=correction,
    )


def _is_off(figure: Estimate | None, ideal: float, least: float) -> bool:
    if figure is None or figure.value is None or figure.low is None or figure.high is None:
        return False
    return abs(figure.value - ideal) >= least and not figure.low <= ideal <= figure.high


def _hold(found: Findings, observed: Estimate) -> Advice:
    trained, expected = found.trained, found.expected
    gain = "No gain is expected from another model." if found.few is None else _UNCERTAIN
    if observed.value is None or trained is None:
        reason = "The AUROC on these data or in training is not available, so the two cannot be compared."
    elif _is_lost(found, observed):
        implied = "" if expected is None else f", and the probabilities imply {estimate(expected, 3)}"
        reason = (
            f"The AUROC is {estimate(observed, 3)}, compared with {trained:.3f} in training{implied}: these patients are harder to rank, "
            "which retraining would not change."
        )
    elif _is_lost(replace(found, trained_margin=0.0), observed):
        reason = (
            f"The AUROC is {estimate(observed, 3)}, compared with {trained:.3f} ± {found.trained_margin:.3f} in training: the uncertainty of both "
            "can explain the difference."
        )
        gain = _UNCERTAIN
    else:
        calibration = (
            "no relevant miscalibration was found"
            if found.unassessed is None
            else f"the calibration cannot be assessed ({found.unassessed})"
        )
        reason = f"The AUROC is {estimate(observed, 3)}, compared with {trained:.3f} in training, and {calibration}."
    return Advice(action="hold", reason=reason, gain=gain)
