"""The design of a fit: the features and demographics of a classifier, and their numeric encoding."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.demographics import DemographicsEncoder, encode_demographics
from mlho.method.classifiers.tree_matrix import Absent
from mlho.method.selection.features import Encoding
from mlho.model.design import build_design, build_tree_design, monotone_directions, value_columns
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import cells_of, learn_encodings


@dataclass(frozen=True)
class Design:
    """Encodings learned on training samples, from which the matrix of any samples is built."""

    features: NDArray[np.int64]
    """In the order of the columns of the design matrix. Shape (n_features,)."""
    encodings: list[Encoding]
    demographics: DemographicsEncoder | None
    """Its columns follow those of the features."""
    absent: Absent = "zero"
    """``zero``: for linear models, with medians and indicators. ``missing``: for trees, without imputation."""

    def with_absent(self, absent: Absent) -> "Design":
        """Return the design for classifiers of this kind, without the parts learned for the other kind."""
        if absent == self.absent:
            return self
        if absent == "zero":
            raise ValueError("a design for trees has no medians: start from the one that was learned")
        encodings = [replace(encoding, centre=0.0) for encoding in self.encodings]
        demographics = self.demographics.for_trees() if self.demographics else None
        return Design(self.features, encodings, demographics, absent)

    @property
    def value_columns(self) -> NDArray[np.bool_] | None:
        """Value columns of a design for trees, bool, shape (n_columns,); None for linear models."""
        return None if self.absent == "zero" else value_columns(self.encodings, self.demographics)

    def column_names(self, problem: Problem) -> list[str]:
        """Return the ids of the features, then the names of the demographics."""
        return [problem.name_of(feature).id for feature in self.features.tolist()] + [*self.demographic_names]

    def monotone(self, problem: Problem) -> NDArray[np.int8]:
        """Return the declared direction of each value column of a design for trees, int8, shape (n_columns,)."""
        declared = problem.spec.features.monotone
        if not declared:  # the names of hundreds of columns take longer than a small fit
            return np.zeros(self.features.size + len(self.demographic_names), np.int8)
        return monotone_directions(self.column_names(problem), declared, self.value_columns)

    @property
    def demographic_names(self) -> tuple[str, ...]:
        """Readable names of the columns after the features."""
        return self.demographics.names if self.demographics else ()

    def matrix(self, problem: Problem, samples: NDArray[np.bool_]) -> Any:
        """Return the matrix of these samples, in their order: CSC for linear models, CSR of float32 for trees."""
        cells = cells_of(problem, self.features, samples)
        extra = None
        if self.demographics:
            extra = self.demographics.transform(problem.cohort.demographics)[samples]
        n_samples, is_value = int(np.count_nonzero(samples)), self.value_columns
        if is_value is None:
            return build_design(self.encodings, cells, n_samples, extra)
        names = self.column_names(problem)
        return build_tree_design(self.encodings, cells, n_samples, extra, is_value=is_value, names=names)


def learn_design(problem: Problem, features: NDArray[np.int64], train: NDArray[np.bool_]) -> Design:
    """Learn centres, fences, medians and levels on training samples. The result is a design for linear models.

    Parameters
    ----------
    features : int64, shape (n_features,)
        Selected features; the design has them in ascending order, independent of the ranking.
    train : bool, shape (n_samples,)
    """
    ordered = np.sort(features)
    columns = problem.cohort.demographics
    return Design(
        ordered,
        learn_encodings(problem, ordered, train),
        encode_demographics(columns, train, categorical=problem.spec.features.categorical)
        if columns
        else None,
    )
