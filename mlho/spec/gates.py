"""The section ``gates`` of a specification: bounds that a model must reach before it may be promoted to a channel."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, StringConstraints, model_validator
from pydantic.alias_generators import to_snake

from mlho.spec.types import OMITTED, ColumnName, SpecPart

Metric = Literal[
    "auroc",
    "averagePrecision",
    "brier",
    "scaledBrier",
    "logLoss",
    "calibrationSlope",
    "calibrationIntercept",
    "calibrationIci",
    "observedExpected",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "alertsPer100",
    "numberNeededToEvaluate",
    "calibrationInTheLarge",
    "expectedCalibrationError",
    "equalOpportunity",
    "equalisedOdds",
    "demographicParity",
]
#: Names of the metrics in ``headline`` and ``groups`` of a result.
METRIC_KEYS: Final[dict[str, str]] = {name: to_snake(name) for name in get_args(Metric)} | {
    "calibrationInTheLarge": "in_the_large",
    "expectedCalibrationError": "ece_equal_count",
}
#: Gaps between the groups of a column.
GAPS: Final = ("equalOpportunity", "equalisedOdds", "demographicParity")
#: Metrics at a threshold, for which a gate must name the rule.
AT_THRESHOLD: Final = (
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "alertsPer100",
    "numberNeededToEvaluate",
    *GAPS,
)
#: Metrics that a result has for groups.
OF_GROUPS: Final = (
    "auroc",
    "brier",
    "observedExpected",
    "calibrationInTheLarge",
    "expectedCalibrationError",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "alertsPer100",
)
#: Figures of groups that are not compared with a reference group.
NOT_COMPARED: Final = ("expectedCalibrationError",)

#: Metrics of the paired comparison with the model of a channel.
AGAINST_CHAMPION: Final = ("auroc", "brier", "logLoss")

Bound = Annotated[float, Field(allow_inf_nan=False)]
ChannelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
MaybeBound = Annotated[Bound | None, OMITTED]


class Limits(SpecPart):
    """Bounds of one end of the 95 % interval, inclusive."""

    min: MaybeBound = None
    """Lowest value that passes."""
    max: MaybeBound = None
    """Highest value that passes."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a bound of an interval requires min or max, such as {min: 0.75}")
        return self


class Gate(SpecPart):
    """A condition on one figure of the result. All its bounds are inclusive and must hold; a figure without a value fails."""

    metric: Metric
    """A figure of ``headline``: of models built like the final one, on patients outside their training data."""
    threshold: Annotated[Literal["youden", "fixed-alert-rate", "fixed-sensitivity"] | None, OMITTED] = None
    """Rule of the threshold, for ``sensitivity``, ``specificity``, ``ppv``, ``npv``, ``alertsPer100``,
    ``numberNeededToEvaluate`` and the gaps between groups."""
    group: Annotated[
        dict[ColumnName, Annotated[str, StringConstraints(min_length=1, max_length=128)]] | None,
        Field(min_length=1, max_length=1),
        OMITTED,
    ] = None
    """One level of a demographic, such as ``{sex: female}`` or ``{age: "65-79"}``, as the report names it. The metrics of groups
    are ``auroc``, ``brier``, ``observedExpected``, ``calibrationInTheLarge``, ``expectedCalibrationError`` and, at a threshold,
    ``sensitivity``, ``specificity``, ``ppv``, ``npv`` and ``alertsPer100``."""
    versus: Annotated[Literal["difference", "ratio", "perYear"] | None, OMITTED] = None
    """Comparison to use instead of the group's figure itself: its difference from the reference group, its ratio to it, or its
    change per year (with ``bias.periods``)."""
    groups_by: Annotated[ColumnName | None, OMITTED] = None
    """A demographic, for ``equalOpportunity`` (sensitivity), ``equalisedOdds`` (the larger of sensitivity and specificity) and
    ``demographicParity`` (share with an alert): the largest difference between any two of its groups."""
    champion: Annotated[ChannelName | None, OMITTED] = None
    """A channel. The figure is then the difference from the model that the channel shows at promotion: this model minus that one,
    on the samples that both runs have tested (``auroc``, ``brier``, ``logLoss``), with an interval from a paired bootstrap of
    patients. If the channel has no model, the gate passes."""
    min_difference: MaybeBound = None
    """Lowest difference from the champion that passes, such as ``-0.01``. ``lower95`` and ``upper95`` bound its interval."""
    max_difference: MaybeBound = None
    """Highest difference from the champion that passes."""
    min: MaybeBound = None
    """Lowest mean over the test sets that passes."""
    max: MaybeBound = None
    """Highest mean over the test sets that passes."""
    between: Annotated[tuple[Bound, ...] | None, Field(min_length=2, max_length=2), OMITTED] = None
    """Lowest and highest mean that pass, such as ``[0.8, 1.25]``."""
    lower95: Annotated[Limits | None, OMITTED] = None
    """Bounds of the lower end of the 95 % interval, such as ``{min: 0.75}``."""
    upper95: Annotated[Limits | None, OMITTED] = None
    """Bounds of the upper end of the 95 % interval."""

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        if not list(self.bounds()):
            raise ValueError(
                "a gate requires a bound: min, max, between, lower95 or upper95; with a champion minDifference, maxDifference, "
                "lower95 or upper95"
            )
        self._check_champion()
        if (self.threshold is not None) != (self.metric in AT_THRESHOLD):
            raise ValueError(
                f"threshold is required for {', '.join(AT_THRESHOLD)}, and not allowed for other metrics"
            )
        self._check_groups()
        if self.between is not None and self.between[0] > self.between[1]:
            raise ValueError("between must be the lowest and the highest value, such as [0.8, 1.25]")
        return self

    def _check_groups(self) -> None:
        of_groups = ("observedExpected", "calibrationInTheLarge", "expectedCalibrationError")
        if self.group is None and (self.metric in of_groups or self.versus is not None):
            named = self.metric if self.versus is None else "versus"
            raise ValueError(f"{named} requires a group, such as group: {{sex: female}}")
        if self.group is not None and self.metric not in OF_GROUPS:
            raise ValueError(f"group requires one of the metrics {', '.join(OF_GROUPS)}. Got {self.metric}")
        if self.versus is not None and self.metric in NOT_COMPARED:
            raise ValueError(f"{self.metric} is not compared between groups. Remove versus")
        if (self.groups_by is not None) != (self.metric in GAPS):
            raise ValueError(
                f"groupsBy is required for {', '.join(GAPS)}, and not allowed for other metrics, such as groupsBy: sex"
            )

    def _check_champion(self) -> None:
        differences = {"minDifference": self.min_difference, "maxDifference": self.max_difference}
        others = {"min": self.min, "max": self.max, "between": self.between, "group": self.group}
        wrong = differences if self.champion is None else {**others, "threshold": self.threshold}
        if named := [name for name, value in wrong.items() if value is not None]:
            rule = "requires a champion" if self.champion is None else "cannot be combined with a champion"
            raise ValueError(f"{named[0]} {rule}, such as champion: production with minDifference: -0.01")
        if self.champion is not None and self.metric not in AGAINST_CHAMPION:
            raise ValueError(
                f"champion requires one of the metrics {', '.join(AGAINST_CHAMPION)}. Got {self.metric}"
            )

    def bounds(self) -> Iterator[tuple[Literal["mean", "low", "high"], float | None, float | None]]:
        """Yield the part of the figure, the lowest and the highest value that pass, for each bound."""
        low, high = self.between if self.between is not None else (None, None)
        for bound in ((self.min, self.max), (low, high), (self.min_difference, self.max_difference)):
            if bound != (None, None):
                yield "mean", *bound
        if self.lower95 is not None:
            yield "low", self.lower95.min, self.lower95.max
        if self.upper95 is not None:
            yield "high", self.upper95.min, self.upper95.max


Gates = Annotated[tuple[Gate, ...] | None, Field(min_length=1, max_length=50), OMITTED]
