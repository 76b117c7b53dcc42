"""Advice on a model in use: hold, recalibrate or retrain. Pure: figures in, advice out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from mlho.report.monitoring import Advice
from mlho.report.parts import Estimate
from mlho.report.words import capitalized, estimate, plural

#: Smallest loss of AUROC, and smallest gap to the AUROC that the probabilities imply, that justify another fit.
MIN_LOSS: Final = 0.02
#: Smallest shift of the log-odds (odds wrong by a tenth), and smallest error of the slope, that justify a new calibrator.
MIN_SHIFT: Final = 0.1
MIN_SLOPE_ERROR: Final = 0.1
LARGE_PSI: Final = 0.25
Correction = Literal["intercept", "line"]


@dataclass(frozen=True)
class Findings:
    """Findings about a model in use; None if a figure is missing."""

    trained: float | None
    """Mean test AUROC in training."""
    expected: Estimate | None
    """AUROC that the probabilities of these samples imply."""
    score_psi: float | None = None
    """Population stability index of the scores, against training."""
    vanished: int = 0
    """Features expected in these samples and seen in none."""
    missing: int = 0
    """Columns with far more missing values than in training."""
    observed: Estimate | None = None
    """AUROC with labels; None without labels."""
    alarm: str | None = None
    """Period of the last alarm of the surveillance, while it lasts."""
    shift: Estimate | None = None
    slope: Estimate | None = None
    """Calibration in the large, and calibration slope, of labelled samples."""
    log_loss: Mapping[Correction, float] | None = None
    """Log loss as delivered minus log loss corrected, on patients outside each fit."""


def advise(found: Findings) -> Advice:
    """Return the advice that follows from the findings.

    Retrain if features have vanished, or if the AUROC is below that of training and below what the probabilities imply for these
    patients: a change of the patients alone would lower both. Recalibrate if calibration is off beyond chance, by an amount that matters, and
    a correction improves the log loss of patients outside its fit. Otherwise hold.

    Examples
    --------
    >>> auroc = Estimate(value=0.70, low=0.68, high=0.72)
    >>> advise(Findings(trained=0.76, expected=Estimate(value=0.755, low=0.74, high=0.77), observed=auroc)).action
    'retrain'
    >>> advise(Findings(trained=0.76, expected=Estimate(value=0.71, low=0.69, high=0.73), observed=auroc)).action
    'hold'
    """
    if found.vanished:
        named = f"{plural(found.vanished, 'feature')} that training had often {'is' if found.vanished == 1 else 'are'} absent in all samples."
        return Advice(
            action="retrain",
            reason=f"{named} Check the feed of codes first: retrain only if they are gone for good.",
            gain=_shortfall(found),
        )
    if found.observed is None:
        return _without_labels(found)
    return _retrain(found, found.observed) or _recalibrate(found) or _hold(found, found.observed)


def _shortfall(found: Findings) -> str:
    expected = None if found.expected is None else found.expected.value
    if expected is None or found.trained is None:
        return "The gain is unknown."
    return f"The AUROC expected without labels is {expected:.3f}; it was {found.trained:.3f} in training."


def _without_labels(found: Findings) -> Advice:
    doubts = []
    if found.missing:
        verb = "misses" if found.missing == 1 else "miss"
        doubts.append(
            f"{plural(found.missing, 'column')} {verb} many more values than in training, which is to be checked first"
        )
    if found.score_psi is not None and found.score_psi > LARGE_PSI:
        doubts.append(f"the scores are distributed differently from training (PSI {found.score_psi:.2f})")
    expected, trained = found.expected, found.trained
    if (
        expected is not None
        and expected.value is not None
        and expected.high is not None
        and trained is not None
        and expected.high < trained
        and trained - expected.value >= MIN_LOSS
    ):
        doubts.append(f"the expected AUROC is {estimate(expected, 3)}, in training {trained:.3f}")
    reason = "Nothing seen without labels speaks against the model."
    if doubts:
        reason = f"{capitalized(' and '.join(doubts))}. Evaluate the model as soon as there are labels (mlho evaluate)."
    return Advice(action="hold", reason=reason, gain="The gain of another model is unknown without labels.")


def _retrain(found: Findings, observed: Estimate) -> Advice | None:
    expected, trained = found.expected, found.trained
    if observed.value is None or observed.high is None or trained is None:
        return None
    lost = trained - observed.value
    is_lost = found.alarm is not None or (observed.high < trained and lost >= MIN_LOSS)
    if not is_lost or expected is None or expected.value is None or expected.low is None:
        return None
    gap = min(expected.value, trained) - observed.value  # overconfident probabilities imply too much
    if gap < MIN_LOSS or observed.value >= expected.low:
        return None  # the patients explain the loss: another model would rank them no better
    since = "" if found.alarm is None else f" (alarm of {found.alarm})"
    return Advice(
        action="retrain",
        reason=f"The AUROC is {estimate(observed, 3)}, in training {trained:.3f}{since}. The probabilities imply {estimate(expected, 3)} for "
        "these patients, so that the relation of features and outcome has changed, and not only the patients.",
        gain=f"Expected gain: up to {gap:.3f} of AUROC.",
    )


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
    return Advice(
        action="recalibrate",
        reason=f"{capitalized(' and '.join(reasons))}; the AUROC does not justify another fit.",
        gain=f"Expected gain: {gain:.4f} of log loss, on patients outside the fit of the correction.",
        correction=correction,
    )


def _is_off(figure: Estimate | None, ideal: float, least: float) -> bool:
    if figure is None or figure.value is None or figure.low is None or figure.high is None:
        return False
    return abs(figure.value - ideal) >= least and not figure.low <= ideal <= figure.high


def _hold(found: Findings, observed: Estimate) -> Advice:
    trained, expected = found.trained, found.expected
    if observed.value is None or trained is None:
        reason = "There is no AUROC of these data or of training to compare."
    elif observed.high is not None and observed.high < trained and trained - observed.value >= MIN_LOSS:
        implied = "" if expected is None else f", and the probabilities imply {estimate(expected, 3)}"
        reason = (
            f"The AUROC is {estimate(observed, 3)}, in training {trained:.3f}{implied}: the patients are harder to rank, which another fit does "
            "not change."
        )
    else:
        reason = f"The AUROC is {estimate(observed, 3)}, in training {trained:.3f}, and calibration is not off by an amount that matters."
    return Advice(action="hold", reason=reason, gain="No gain is expected of another model.")
