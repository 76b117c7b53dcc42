"""The design of a fit: which features and demographics a classifier sees, and how they become numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.demographics import DemographicsEncoder, encode_demographics
from mlho.method.features import Encoding
from mlho.model.design import build_design
from mlho.training.problem import Problem
from mlho.training.selection import cells_of, learn_encodings


@dataclass(frozen=True)
class Design:
    """Learned on training samples; gives the matrix of any samples.

    Attributes
    ----------
    features : int64, shape (n_features,)
        In the order of the matrix's columns.
    encodings : list of Encoding
    demographics : DemographicsEncoder or None
        Its columns follow the features.
    """

    features: NDArray[np.int64]
    encodings: list[Encoding]
    demographics: DemographicsEncoder | None

    @property
    def demographic_names(self) -> tuple[str, ...]:
        """Columns after the features, in words."""
        return self.demographics.names if self.demographics else ()

    def matrix(self, problem: Problem, samples: NDArray[np.bool_]) -> Any:
        """CSC matrix of these samples, in their order, as a classifier takes it."""
        cells = cells_of(problem, problem.column_of(self.features), samples)
        extra = None
        if self.demographics:
            extra = self.demographics.transform(problem.cohort.demographics)[samples]
        return build_design(self.encodings, cells, int(np.count_nonzero(samples)), extra)


def learn_design(problem: Problem, features: NDArray[np.int64], train: NDArray[np.bool_]) -> Design:
    """Learn centres, fences, medians and levels on training samples.

    Parameters
    ----------
    problem : Problem
    features : int64, shape (n_features,)
        The selected features; the design has them in rising order, whatever the ranking said.
    train : bool, shape (n_samples,)
    """
    ordered = np.sort(features)
    columns = problem.cohort.demographics
    return Design(
        ordered,
        learn_encodings(problem, ordered, train),
        encode_demographics(columns, train) if columns else None,
    )
