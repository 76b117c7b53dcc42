"""Parts about a model in use: codes against training, performance expected without labels, surveillance over periods, and advice."""

from typing import Final, Literal

from pydantic import Field

from mlho.report.parts import Estimate, Part

ASSUMES: Final = (
    "These figures take the probabilities as calibrated. They show a change of the patients, and cannot show a change in the relation of "
    "features and outcome: that needs labels."
)
Action = Literal["hold", "recalibrate", "retrain"]


class CodeShift(Part):
    """A code that is new or has vanished."""

    code: str
    training: float
    """Share of the training samples with the code; for a new code, the largest share that it can have had."""
    now: float
    """Share of these samples with the code."""


class CodeDrift(Part):
    """The codes of these samples against those of training, in the longest window of the model."""

    reason: str | None = None
    """Why they are not compared."""
    n_compared: int = 0
    """Codes whose share in training is known."""
    n_new: int = 0
    """Codes of at least 30 samples, beyond chance in more than twice the share that training can have had."""
    new: list[CodeShift] = Field(default_factory=list)
    """The 20 most frequent of them."""
    n_vanished: int = 0
    """Codes that at least 30 of these samples should have, and none has."""
    vanished: list[CodeShift] = Field(default_factory=list)
    """The 20 of them that were most frequent in training."""


class ExpectedPerformance(Part):
    """Performance expected from the probabilities alone."""

    assumes: str = ASSUMES
    auroc: Estimate
    """With the interval for the AUROC that labels would show."""
    training_auroc: float | None
    """Mean test AUROC in training; null if the bundle does not have it."""
    ppv: dict[str, Estimate] = Field(default_factory=dict)
    """By rule of a threshold: share of its alerts expected to have the outcome."""


class Surveillance(Part):
    """Evidence that the AUROC has fallen below that of training, accumulated over months or nights."""

    period: Literal["month", "night"]
    reference: float | None = None
    """Mean test AUROC in training."""
    loss: float | None = None
    """Loss to be found."""
    limit: float | None = None
    """Alarm if the evidence exceeds it."""
    false_alarms_a_year: float | None = None
    """Bound on the rate of alarms without a loss."""
    n_left_out: int = 0
    """Periods without their own AUROC, because they have few patients."""
    evidence: dict[str, float] = Field(default_factory=dict)
    """By period: log-likelihood ratio of a loss against none."""
    alarms: list[str] = Field(default_factory=list)
    """Periods in which the evidence rises above the limit."""
    is_alarmed: bool = False
    """Whether it is above the limit after the last period."""
    since: str | None = None
    """While it is: the period in which the loss began, as estimated."""
    reason: str | None = None
    """Why there is none."""


class Advice(Part):
    """Advice on the use of the model, with the reason."""

    action: Action
    reason: str
    gain: str
    """Expected gain, or why none is stated."""
    correction: Literal["intercept", "line"] | None = None
    """Of ``recalibrate``: a shift of the log-odds, or intercept and slope."""

    @property
    def sentence(self) -> str:
        """The advice in words."""
        return f"Advice: {self.action}. {self.reason} {self.gain}"
