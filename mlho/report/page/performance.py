"""Small multiples of a model's performance by month or night, from evaluations with labels."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from mlho.report import words
from mlho.report.site import EvaluatedFacts, Evaluation, Figure, PeriodFacts
from mlho.report.svg.timeline import DayValue, timeline
from mlho.spec.types import MIN_CELL

Chart = tuple[str, str, Markup]  # title, how to read it, the chart


@dataclass(frozen=True)
class Panel[Facts]:
    """One of the small multiples: a figure of each period or scoring run."""

    name: str
    title: str
    reading: str
    value: Callable[[Facts], float | Figure | None]
    references: tuple[float, ...] = ()
    is_from_zero: bool = True

    def chart(
        self,
        name: str,
        title: str,
        description: str,
        values: Sequence[DayValue],
        changes: Sequence[dt.date],
        *,
        note: str = "",
    ) -> Chart:
        """Draw the values over days; ``changes`` are the days on which the model version changed."""
        drawn = timeline(
            name,
            title,
            description,
            values,
            references=self.references,
            changes=changes,
            is_from_zero=self.is_from_zero,
        )
        change = " A dotted line marks a change of the model version." if changes else ""
        return title, f"{self.reading}{note}{change}", drawn


_RATIO: Final = Panel[PeriodFacts](
    "ratio",
    "Observed / expected",
    "Observed number of samples with the outcome, divided by the number expected from the probabilities; 1 is ideal.",
    lambda period: period.observed_expected,
    (1.0,),
    is_from_zero=False,
)
_RATE: Final = Panel[PeriodFacts](
    "rate",
    "Share with the outcome",
    f"Of the samples. Periods with fewer than {MIN_CELL} samples with the outcome are not shown, so the share in the others is above the mean of all.",
    lambda period: period.outcome_rate,
)


def performance_charts(evaluations: Sequence[Evaluation]) -> Iterator[Chart]:
    """Yield AUROC, observed / expected and share with the outcome, by month and by night.

    If a period is in several evaluations, the one with the most samples is shown.
    """
    for by in ("month", "night"):
        found = periods_by_day(evaluations, by)
        changes = [b for a, b in pairwise(found) if found[a][1].bundle != found[b][1].bundle]
        auroc = newest_of(facts.training_auroc for _, facts in found.values())
        references = () if auroc is None else (auroc,)
        dashed = " Dashed: in training." if references else ""
        first = Panel[PeriodFacts](
            "auroc",
            "AUROC",
            f"With its 95 % interval.{dashed}",
            lambda period: period.auroc,
            references,
            is_from_zero=False,
        )
        for panel in (first, _RATIO, _RATE):
            values = [value_of(day, panel.value(period)) for day, (period, _) in found.items()]
            if all(value.value is None for value in values):
                continue
            title = f"{panel.title} by {by}"
            description = f"{title}, of {words.plural(len(values), by)} with labels."
            yield panel.chart(f"performance-{by}-{panel.name}", title, description, values, changes)


def periods_by_day(
    evaluations: Sequence[Evaluation], by: str
) -> Mapping[dt.date, tuple[PeriodFacts, EvaluatedFacts]]:
    """Return each period with the evaluation that contains it, in order of date."""
    ranked = sorted(
        (
            (period.day, period.n_samples or 0, evaluation.id, period, evaluation.facts)
            for evaluation in evaluations
            if evaluation.facts.by == by
            for period in evaluation.facts.periods
        ),
        key=lambda entry: entry[:3],
    )
    return {day: (period, facts) for day, _, _, period, facts in ranked}  # keep the last one of a day


def value_of(day: dt.date, value: float | Figure | None) -> DayValue:
    """Return a figure of a day for a chart."""
    if isinstance(value, Figure):
        return DayValue(day, value.value, value.low, value.high)
    return DayValue(day, value)


def newest_of(values: Iterable[float | None]) -> float | None:
    """Return the last value that is not None."""
    return next((value for value in reversed(list(values)) if value is not None), None)
