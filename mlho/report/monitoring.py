"""Parts about a model in use: codes against training, performance expected without labels, surveillance over periods, and advice."""

from typing import Final, Literal

from pydantic import Field

from mlho.report.parts import Estimate, Part

ASSUMES: Final = (
    "These figures assume that the probabilities are calibrated. They reflect changes in case mix, but cannot show a change in the "
    "association between features and outcome, which requires labels."
)
Action = Literal["hold", "recalibrate", "retrain"]


class CodeShift(Part):
    """A code that is new or has vanished."""

    code: str
    training: float
    """Share of the training samples with the code; for a new code, an upper bound on that share."""
    now: float
    """Share of these samples with the code."""


class CodeDrift(Part):
    """The codes of these samples compared with those of training, in the longest window of the model."""

    reason: str | None = None
    """Why the codes are not compared."""
    n_compared: int = 0
    """Codes whose share in training is known."""
    n_new: int = 0
    """Codes found in at least 30 samples whose share exceeds, beyond chance, twice the upper bound on their share in training."""
    new: list[CodeShift] = Field(default_factory=list)
    """The 20 most frequent new codes."""
    n_vanished: int = 0
    """Codes expected in at least 30 of these samples and found in none."""
    vanished: list[CodeShift] = Field(default_factory=list)
    """The 20 vanished codes that were most frequent in training."""


class ExpectedPerformance(Part):
    """Performance expected from the probabilities alone."""

    assumes: str = ASSUMES
    auroc: Estimate
    """With an interval for the AUROC that would be observed with labels."""
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
    """Loss of AUROC to be detected."""
    limit: float | None = None
    """Evidence above which an alarm is raised."""
    false_alarms_a_year: float | None = None
    """Upper bound on the number of false alarms per year."""
    n_left_out: int = 0
    """Periods left out because they have too few patients for an AUROC."""
    evidence: dict[str, float] = Field(default_factory=dict)
    """By period: log-likelihood ratio of a loss against none."""
    alarms: list[str] = Field(default_factory=list)
    """Periods in which the evidence rises above the limit."""
    is_alarmed: bool = False
    """Whether the evidence is above the limit after the last period."""
    since: str | None = None
    """Estimated period in which the loss began; null unless the evidence is above the limit."""
    reason: str | None = None
    """Why there is no surveillance."""


class Advice(Part):
    """Advice on the use of the model, with the reason."""

    action: Action
    reason: str
    gain: str
    """Expected gain, or the reason why none is stated."""
    correction: Literal["intercept", "line"] | None = None
    """For ``recalibrate``: a shift of the log-odds, or intercept and slope."""

    @property
    def sentence(self) -> str:
        """The advice in words."""
        return f"Advice: {self.action}. {self.reason} {self.gain}"
