"""Leakage check: a single feature that predicts the outcome very well is more often a trace of it than a cause."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.training.iterations.problem import Problem

SUSPICIOUS_AUROC: Final = 0.85  # of the presence of one code; genuine single predictors stay far below
_MOST: Final = 5  # number of codes named in a warning


@dataclass(frozen=True)
class Suspect:
    """A column whose presence alone separates the outcome.

    Attributes
    ----------
    column : int
    auroc : float in [0.5, 1]
        Of presence against absence, in either direction.
    """

    column: int
    auroc: float


def find_suspects(problem: Problem, columns: NDArray[np.int64]) -> list[Suspect]:
    """Return the columns whose presence alone has an AUROC of at least ``SUSPICIOUS_AUROC``, the highest first.

    If a share a of the positive samples and b of the negative ones have the column, the AUROC of its presence is
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
    """Warn about features that alone separate the outcome; no warning if there are none."""
    columns = np.unique(problem.column_of(np.array(features, np.int64)))
    columns = columns[
        columns < problem.n_columns
    ]  # a sequence is a trace of the outcome if one of its codes is
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
        f"date or a gap, or leave it out: {_exclusion(problem, suspects[:_MOST])}."
    ]


def _exclusion(problem: Problem, suspects: Sequence[Suspect]) -> str:
    """The line of the specification that leaves these codes out, in YAML."""
    names = [problem.name_of(own.column * len(problem.aggregates)).code for own in suspects]
    patterns = dict.fromkeys([*(problem.spec.features.exclude or ()), *names])
    return f"features: {{exclude: {json.dumps([*patterns], ensure_ascii=False)}}}"
