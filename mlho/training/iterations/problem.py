"""The problem shared by all learning tasks: specification, cohort, matrix, and column names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.events.concepts import Concepts
from mlho.encoding.events.matrix import Matrix
from mlho.errors import plural
from mlho.method.classifiers import classifier_named
from mlho.method.selection.features import AGGREGATES, DURATIONS, Range
from mlho.method.survival.times import EventTimes
from mlho.spec.features import NUMBERS, After
from mlho.spec.training import TrainingSpec
from mlho.training.iterations.copies import counted, times_of
from mlho.training.iterations.splits import Iteration, Partition, partition

_DAYS_A_YEAR = 365
_WORDS = {
    "presence": "ever recorded",
    "count": "number of times recorded",
    "levels": "number of times recorded, in levels",
    "recency": "days since it was last recorded",
    "last": "latest value",
    "first": "earliest value",
    "min": "lowest value",
    "max": "highest value",
    "mean": "mean value",
    "slope": "change of the value per year",
    "outOfRange": "latest value out of range",
    "minDays": "shortest time from one to the other, in days",
    "meanDays": "mean time from one to the other, in days",
    "maxDays": "longest time from one to the other, in days",
}

# The end of an iteration often comes after the first folds of the next ones.
_KEPT_PARTITIONS: Final = 4


@dataclass(frozen=True)
class FeatureName:
    """The identity of a feature: code, look-back window and aggregate."""

    code: str
    window_days: int | None
    aggregate: str
    description: str | None = None
    is_among_windows: bool = False
    """All history is one window of several."""
    after: After | None = None
    """A window after the index date, in which the code is new."""

    @property
    def id(self) -> str:
        """Unique identifier within a run, such as ``E11.9|730d|presence``."""
        window = "all" if self.window_days is None else f"{self.window_days}d"
        return f"{self.shown_code}|{window}|{self.aggregate}"

    @property
    def shown_code(self) -> str:
        """The code."""
        return self.code

    @property
    def shown_description(self) -> str | None:
        """The description of the code."""
        return self.description

    @property
    def recorded(self) -> str:
        """Meaning of the number."""
        return _WORDS[self.aggregate]

    @property
    def code_words(self) -> str:
        """The code for display, with its description if there is one."""
        words = self.shown_description
        return f"{words} ({self.shown_code})" if words else self.shown_code

    @property
    def words(self) -> str:
        """The feature for display, with its window."""
        if self.after is not None:
            return f"{self.code_words}: new, {self.recorded}, {self.after.words}"
        if self.window_days is not None:
            when = f", in the {self.window_days} days before the index date"
        else:
            when = ", in all history before the index date" if self.is_among_windows else ""
        return f"{self.code_words}: {self.recorded}{when}"


def band_text(low: int, high: int | None) -> str:
    """Return a band of days as part of an id, such as ``366-1095d`` or ``1096d-``."""
    return f"{low + 1}d-" if high is None else f"{low + 1}-{high}d"


def band_words(low: int, high: int | None) -> str:
    """Return a band of days in words: in years if its bounds are whole years.

    Examples
    --------
    >>> band_words(365, 1095), band_words(0, 365), band_words(90, None)
    ('within 1–3 years', 'within 1 year', 'more than 90 days apart')
    """
    is_whole = all(days is None or days % _DAYS_A_YEAR == 0 for days in (low, high))
    unit, size = ("year", _DAYS_A_YEAR) if is_whole else ("day", 1)
    if high is None:
        return f"more than {plural(low // size, unit)} apart"
    upper = plural(high // size, unit)
    return f"within {low // size}–{upper}" if low else f"within {upper}"


@dataclass(frozen=True)
class SequenceName(FeatureName):
    """The identity of a sequence: ``code`` before ``then``."""

    then: str = ""
    then_description: str | None = None
    co_occurrence_days: int = 0
    is_of_first: bool = False
    """The first events of both codes are compared."""
    band: tuple[int, int | None] | None = None
    """The second one is more than this number of days later, and at most that one; None for any number."""

    @property
    def id(self) -> str:
        """Unique identifier, such as ``E11→N18|all|presence``, ``E11→N18|all|minDays`` or ``E11→N18|all|first``."""
        if not self.is_of_first:
            return super().id
        band = "" if self.band is None else f" {band_text(*self.band)}"
        return f"{super().id.removesuffix('presence')}first{band}"

    @property
    def shown_code(self) -> str:
        """Both codes, such as ``E11→N18``."""
        return f"{self.code}→{self.then}"

    @property
    def shown_description(self) -> str | None:
        """Both codes in words, such as ``diabetes, then kidney disease``; None if neither is described."""
        if not (self.description or self.then_description):
            return None
        then = "the same again" if self.then == self.code else self.then_description or self.then
        return f"{self.description or self.code}, then {then}"

    @property
    def recorded(self) -> str:
        """Meaning of a 1, or of the number of a duration."""
        days = self.co_occurrence_days
        if self.aggregate in DURATIONS:
            return super().recorded + (f", more than {plural(days, 'day')} apart" if days else "")
        if self.band is not None:
            return f"first recorded in this order, {band_words(*self.band)}"
        first = "first " if self.is_of_first else ""
        return f"{first}recorded in this order" + (f", more than {plural(days, 'day')} apart" if days else "")


@dataclass(frozen=True)
class Problem:
    """The data of a learning task.

    A *feature* is numbered ``column * n_aggregates + aggregate``. Features are therefore ordered by (code, window,
    aggregate), which breaks ties. With sequences, the columns of the codes are followed by one for each ordered pair of codes,
    by (first, then), which has the aggregate ``presence``, and then by its bands or durations.
    """

    spec: TrainingSpec
    cohort: Cohort
    matrix: Matrix
    codes: Sequence[str]
    concepts: Concepts

    @cached_property
    def aggregates(self) -> tuple[str, ...]:
        """Requested aggregates, in their canonical order."""
        return tuple(name for name in AGGREGATES if name in self.spec.features.aggregates)

    @property
    def is_presence_only(self) -> bool:
        """Whether every feature has two levels: present or not."""
        return self.aggregates == ("presence",) and not self._durations

    @cached_property
    def windows(self) -> tuple[int | None, ...]:
        """Windows in days, as the specification states them."""
        return self.spec.windows

    @cached_property
    def n_windows(self) -> int:
        """Number of columns per code."""
        return len(self.windows)

    @property
    def y(self) -> NDArray[np.uint8]:
        """Outcome of each sample."""
        return self.cohort.outcome

    @cached_property
    def times(self) -> EventTimes | None:
        """Times to the event of each sample, if the outcome is one."""
        return times_of(self.spec, self.cohort)

    def target_of(self, classifier: str) -> Any:
        """Return the target of a classifier by sample: the outcome, or the times to the event."""
        return self.times if classifier_named(classifier).target == "time" else self.y

    def counted(self, samples: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the positions among these samples that figures of their scores count; see :func:`counted`."""
        return counted(self.times, samples, scores, self.spec)

    def column_of(self, features: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the matrix column of each feature."""
        return features // len(self.aggregates)

    @cached_property
    def n_columns(self) -> int:
        """Number of columns of codes; higher columns are pairs."""
        return len(self.codes) * self.n_windows

    @cached_property
    def longest_columns(self) -> NDArray[np.int64]:
        """Column of each code in the longest window, shape (n_codes,)."""
        return np.arange(len(self.codes), dtype=np.int64) * self.n_windows + self.n_windows - 1

    def presence_of(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the feature of each column's presence."""
        return columns * len(self.aggregates) + self.aggregates.index("presence")

    def pair_of(self, column: int) -> tuple[str, str] | None:
        """Return the codes of a pair; None for a column of a code."""
        first, then = divmod(column - self.n_columns, len(self.codes))
        return None if first < 0 else (self.codes[first % len(self.codes)], self.codes[then])

    def part_of(self, column: int) -> int:
        """Return the part of a pair's column, a band or a duration; 0 for its presence, and for a column of a code."""
        return max(0, column - self.n_columns) // len(self.codes) ** 2

    def band_of(self, column: int) -> int:
        """Return the band of a pair's column; 0 for any number of days, for a duration, and for a column of a code."""
        return 0 if self._durations else self.part_of(column)

    def window_of(self, column: int) -> int:
        """Return the number of a column's window; pairs are in the longest one."""
        return self.n_windows - 1 if column >= self.n_columns else column % self.n_windows

    def shadow_of(self, column: int) -> str:
        """Return the text that decides the shift of a column's shadow, common to the columns of a code and to all pairs."""
        return "" if column >= self.n_columns else self.codes[column // self.n_windows]

    def aggregate_of(self, feature: int) -> str:
        """Return the aggregate of a feature."""
        part = self.part_of(feature // len(self.aggregates)) if self._durations else 0
        return self._durations[part - 1] if part else self.aggregates[feature % len(self.aggregates)]

    def numbers_of(self, features: NDArray[np.int64]) -> list[str | None]:
        """Return the name of the cell's number that each feature needs; None if it needs the count only."""
        return [NUMBERS.get(self.aggregate_of(feature)) for feature in features.tolist()]

    def name_of(self, feature: int) -> FeatureName:
        """Return the name of a feature."""
        column = feature // len(self.aggregates)
        window = self.windows[self.window_of(column)]
        code, *then = self.pair_of(column) or (self.codes[column // self.n_windows],)
        names = (window, self.aggregate_of(feature), self.concepts.descriptions.get(code), self.n_windows > 1)
        if not then:
            return FeatureName(code, *names, after=self.spec.features.after)
        asked = self.spec.features.sequences
        assert asked is not None
        return SequenceName(
            code,
            *names,
            then=then[0],
            then_description=self.concepts.descriptions.get(then[0]),
            co_occurrence_days=asked.co_occurrence_days,
            is_of_first=asked.order == "first",
            band=asked.days_of_band(self.band_of(column)),
        )

    def known_range_of(self, column: int) -> Range | None:
        """Return the reference range of a column's code, if the concepts give one; a missing bound is infinite."""
        if column >= self.n_columns:
            return None
        code = self.codes[column // self.n_windows]
        low, high = self.concepts.low.get(code), self.concepts.high.get(code)
        if low is None and high is None:
            return None
        return Range(-np.inf if low is None else low, np.inf if high is None else high)

    def partition(self, iteration: Iteration) -> Partition:
        """Return the training and test units of an iteration. The last few results are kept, because each hashes every unit."""
        last = self._partitions
        found = last.pop(iteration, None)
        last[iteration] = partition(self.spec, self.cohort, iteration) if found is None else found
        if len(last) > _KEPT_PARTITIONS:
            del last[next(iter(last))]
        return last[iteration]

    @cached_property
    def rings(self) -> dict[str, NDArray[np.int64]]:
        """Rings of samples by purpose; see :func:`mlho.training.iterations.permutation.sample_ring`."""
        return {}

    @cached_property
    def _durations(self) -> tuple[str, ...]:
        """Aggregates of the durations of pairs, in the order of their parts."""
        sequences = self.spec.features.sequences
        asked = () if sequences is None else sequences.durations or ()
        return tuple(f"{name}Days" for name in sorted(asked))

    @cached_property
    def _partitions(self) -> dict[Iteration, Partition]:
        return {}

    def samples_of(self, units: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask of the samples of these units: patients, or persons where they are named."""
        return units[self.cohort.unit_of]
