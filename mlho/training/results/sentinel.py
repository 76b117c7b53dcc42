"""The leakage sentinel: features that alone say too much are more often a trace of the outcome than a cause."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.training.iterations.problem import Problem

SUSPICIOUS_AUROC: Final = (
    0.85  # of the mere presence of one code; real single predictors of an outcome stay far below
)
_MOST: Final = 5  # named in a warning; the rest is a number


@dataclass(frozen=True)
class Suspect:
    """A column whose mere presence separates the outcome.

    Attributes
    ----------
    column : int
    auroc : float in [0.5, 1]
        Of presence against absence, in whichever direction.
    """

    column: int
    auroc: float


def find_suspects(problem: Problem, columns: NDArray[np.int64]) -> list[Suspect]:
    """Columns whose presence alone has an AUROC of at least ``SUSPICIOUS_AUROC``, the worst first.

    With a share a of the positive samples and b of the negative ones having the column, the AUROC of its presence is
    (1 + a − b) / 2.

    Parameters
    ----------
    problem : Problem
    columns : int64, shape (n_columns,)
    """
    block = problem.matrix.column_block(columns)
    n_positive = int(problem.y.sum())
    n_negative = problem.cohort.n_samples - n_positive
    positives = np.concatenate([[0], np.cumsum(problem.y[block.indices], dtype=np.int64)])
    with_outcome = positives[block.indptr[1:]] - positives[block.indptr[:-1]]
    without = np.diff(block.indptr) - with_outcome
    auroc = (1 + np.abs(with_outcome / n_positive - without / n_negative)) / 2
    found = [
        Suspect(int(column), float(value))
        for column, value in zip(columns, auroc, strict=True)
        if value >= SUSPICIOUS_AUROC
    ]
    return sorted(found, key=lambda own: (-own.auroc, own.column))


def warn_of_leakage(problem: Problem, features: Sequence[int]) -> list[str]:
    """One sentence on the features that alone separate the outcome; none when there is no such feature."""
    columns = np.unique(problem.column_of(np.array(features, np.int64)))
    suspects = find_suspects(problem, columns) if len(columns) else []
    if not suspects:
        return []
    named = "; ".join(
        f"{problem.name_of(own.column * len(problem.aggregates)).code_words} ({own.auroc:.3f})"
        for own in suspects[:_MOST]
    )
    more = f" and {len(suspects) - _MOST} more" if len(suspects) > _MOST else ""
    return [
        f"Possible leakage: the mere presence of one code separates the outcome with an AUROC of {SUSPICIOUS_AUROC} or more: "
        f"{named}{more}. Such a code is usually recorded because of the outcome: check when it is recorded, then set an index "
        "date or a gap, or leave it out."
    ]
