"""The problem shared by all learning tasks: specification, cohort, matrix, and column names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.events.concepts import Concepts
from mlho.encoding.events.matrix import Matrix
from mlho.method.selection.features import AGGREGATES, Range
from mlho.spec.features import NUMBERS
from mlho.spec.training import TrainingSpec
from mlho.training.iterations.splits import Iteration, Partition, partition

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
}


@dataclass(frozen=True)
class FeatureName:
    """The identity of a feature: code, look-back window and aggregate."""

    code: str
    window_days: int | None
    aggregate: str
    description: str | None = None
    is_among_windows: bool = False
    """All history is one window of several."""

    @property
    def id(self) -> str:
        """Unique identifier within a run, such as ``E11.9|730d|presence``."""
        window = "all" if self.window_days is None else f"{self.window_days}d"
        return f"{self.code}|{window}|{self.aggregate}"

    @property
    def code_words(self) -> str:
        """The code for display, with its description if there is one."""
        return f"{self.description} ({self.code})" if self.description else self.code

    @property
    def words(self) -> str:
        """The feature for display, with its window."""
        if self.window_days is not None:
            when = f", in the {self.window_days} days before the index date"
        else:
            when = ", in all history before the index date" if self.is_among_windows else ""
        return f"{self.code_words}: {_WORDS[self.aggregate]}{when}"


@dataclass(frozen=True)
class Problem:
    """The data of a learning task.

    A *feature* is numbered ``column * n_aggregates + aggregate``. Features are therefore ordered by (code, window,
    aggregate), which breaks ties.
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
    def n_windows(self) -> int:
        """Number of columns per code."""
        return len(self.spec.windows)

    @property
    def y(self) -> NDArray[np.uint8]:
        """Outcome of each sample."""
        return self.cohort.outcome

    def column_of(self, features: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the matrix column of each feature."""
        return features // len(self.aggregates)

    def aggregate_of(self, feature: int) -> str:
        """Return the aggregate of a feature."""
        return self.aggregates[feature % len(self.aggregates)]

    def numbers_of(self, features: NDArray[np.int64]) -> list[str | None]:
        """Return the name of the cell's number that each feature needs; None if it needs the count only."""
        return [NUMBERS.get(self.aggregate_of(feature)) for feature in features.tolist()]

    def name_of(self, feature: int) -> FeatureName:
        """Return the name of a feature."""
        column = feature // len(self.aggregates)
        code = self.codes[column // self.n_windows]
        window = self.spec.windows[column % self.n_windows]
        description = self.concepts.descriptions.get(code)
        return FeatureName(code, window, self.aggregate_of(feature), description, self.n_windows > 1)

    def known_range_of(self, column: int) -> Range | None:
        """Return the reference range of a column's code, if the concepts give one; a missing bound is infinite."""
        code = self.codes[column // self.n_windows]
        low, high = self.concepts.low.get(code), self.concepts.high.get(code)
        if low is None and high is None:
            return None
        return Range(-np.inf if low is None else low, np.inf if high is None else high)

    def partition(self, iteration: Iteration) -> Partition:
        """Return the training and test units of an iteration. The last result is kept, because it hashes every unit."""
        if iteration not in self._partitions:
            self._partitions.clear()
            self._partitions[iteration] = partition(self.spec, self.cohort, iteration)
        return self._partitions[iteration]

    @cached_property
    def rings(self) -> dict[str, NDArray[np.int64]]:
        """Rings of samples by purpose; see :func:`mlho.training.iterations.permutation.sample_ring`."""
        return {}

    @cached_property
    def _partitions(self) -> dict[Iteration, Partition]:
        return {}

    def samples_of(self, units: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask of the samples of these units: patients, or persons where they are named."""
        return units[self.cohort.unit_of]
