"""Feature selection on the training samples of one iteration or fold: screening, then ranking."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.errors import DataError
from mlho.method.selection.features import Cells, Encoding, learn_encoding, levels_for_ranking
from mlho.method.selection.jmi import Ranking, rank_columns
from mlho.method.selection.levels import ColumnBlock as LevelBlock
from mlho.method.selection.levels import ColumnBlocks
from mlho.method.selection.screen import screen_by_prevalence
from mlho.spec.features import NUMBERS
from mlho.training.iterations.permutation import permuted_labels, shadow_block, shadow_cells
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.sequences import candidate_sequences, shadow_sequences

# Columns read and packed at a time: bounds memory without changing results.
_COLUMNS_AT_ONCE = 256


@dataclass(frozen=True)
class Selection:
    """Selected features in ranking order."""

    features: NDArray[np.int64]
    """Feature numbers; see :class:`mlho.training.iterations.problem.Problem`. Shape (n_selected,)."""
    scores: NDArray[np.float64]
    """Ranking scores in nats, at the time of selection. Significant sequences are first, with their I(pair; Y | both codes). Shape
    (n_selected,)."""
    n_screened: int
    """Number of features that were ranked: those that passed the screen, and candidate sequences."""
    shadows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Features whose shadow would have been selected if it alone had been added; ascending. Empty without shadows. Shape (n_shadows,)."""
    of_permuted: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Features selected by the same procedure with permuted labels. Empty if not requested. Shape (n_selected,)."""


def select(problem: Problem, train: NDArray[np.bool_], *, beside_chance: bool = False) -> Selection:
    """Screen and rank on training samples only.

    Parameters
    ----------
    train : bool, shape (n_samples,)
    beside_chance : bool
        Also compute the shadows that would have been selected, and the selection for permuted labels. Neither changes the
        features or their scores.

    Raises
    ------
    DataError
        No feature passes the screen.
    """
    asked = problem.spec.selection
    screened, n_patients = _screen(problem, train)
    if not screened.size:
        raise DataError(
            "selection.minPrevalence",
            "no feature passes the screen",
            expected=f"at least one feature that enough training patients have (a share of {asked.min_prevalence:g})",
            got=f"none of {len(problem.codes) * problem.n_windows * len(problem.aggregates)} columns",
            remedy="Lower selection.minPrevalence, or widen the look-back.",
        )
    sequences = candidate_sequences(problem, train, screened, problem.y[train])
    features = np.concatenate([screened, sequences.ranked])
    columns, shadow_features, shadows = _level_columns(problem, features, train), features, None
    seen_first = np.empty(0, np.int64)
    if beside_chance and has_shadows(problem):
        of_shadows = shadow_sequences(problem, train, screened)
        seen_first, shadow_features = of_shadows.significant, np.concatenate([screened, of_shadows.ranked])
        shadows = _level_columns(problem, shadow_features, train, of_shadows=True)
    n_ranked = asked.n_features - len(sequences.significant)
    ranking = _rank(problem, columns, n_patients, problem.y[train], shadows, n_features=n_ranked)
    of_permuted = np.empty(0, np.int64)
    if beside_chance:
        labels = permuted_labels(problem)[train]
        if 0 < np.count_nonzero(labels) < labels.size:
            of_permuted = _rank_labels(problem, train, screened, columns, n_patients, labels)
    return Selection(
        np.concatenate([sequences.significant, features[ranking.order]]),
        np.concatenate([sequences.information, ranking.scores]),
        len(features) + len(sequences.significant),
        np.sort(np.concatenate([seen_first, shadow_features[ranking.shadows]])),
        of_permuted,
    )


def _rank_labels(
    problem: Problem,
    train: NDArray[np.bool_],
    screened: NDArray[np.int64],
    columns: ColumnBlocks,
    n_patients: NDArray[np.int64],
    labels: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """Return the features that the same procedure selects for other labels; candidate sequences are chosen by them, too."""
    sequences = candidate_sequences(problem, train, screened, labels)
    features = np.concatenate([screened, sequences.ranked])
    if problem.spec.features.sequences is not None:
        columns = _level_columns(problem, features, train)
    n_ranked = problem.spec.selection.n_features - len(sequences.significant)
    order = _rank(problem, columns, n_patients, labels, None, n_features=n_ranked).order
    return np.concatenate([sequences.significant, features[order]])


def has_shadows(problem: Problem) -> bool:
    """Whether the ranking can report which shadows it would have selected. R's cut-off cannot."""
    return not _ranks_as_r(problem)


def _rank(
    problem: Problem,
    columns: ColumnBlocks,
    n_patients: NDArray[np.int64],
    labels: NDArray[np.uint8],
    shadows: ColumnBlocks | None,
    *,
    n_features: int,
) -> Ranking:
    return rank_columns(
        columns,
        labels,
        n_features,
        ranking=problem.spec.selection.ranking,
        n_patients_by_column=n_patients if _ranks_as_r(problem) else None,
        correct_bias=not _ranks_as_r(problem),
        shadows=shadows,
    )


def cells_of(problem: Problem, features: NDArray[np.int64], samples: NDArray[np.bool_] | None) -> list[Cells]:
    """Return the non-zeros of these features' columns on these samples, which are renumbered from 0 in their order."""
    numbers = problem.numbers_of(features)
    block = problem.matrix.column_block(problem.column_of(features), samples, numbers=numbers)
    bounds = block.indptr.tolist()
    return [
        Cells(
            block.indices[start:stop],
            block.count[start:stop],
            None if block.number is None else block.number[start:stop],
        )
        for start, stop in itertools.pairwise(bounds)
    ]


def learn_encodings(
    problem: Problem, features: NDArray[np.int64], train: NDArray[np.bool_]
) -> list[Encoding]:
    """Learn the numeric encoding of each feature on training samples."""
    cells = cells_of(problem, features, train)
    return [
        learn_feature(problem, int(feature), feature_cells)
        for feature, feature_cells in zip(features, cells, strict=True)
    ]


def learn_feature(problem: Problem, feature: int, cells: Cells) -> Encoding:
    """Learn the numeric encoding of one feature on these cells."""
    return learn_encoding(
        problem.aggregate_of(feature),
        cells,
        level_cuts=problem.spec.features.level_cuts,
        known_range=problem.known_range_of(feature // len(problem.aggregates)),
    )


def _screen(problem: Problem, train: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the features that pass the screen, and their numbers of training patients."""
    asked, n_aggregates = problem.spec.selection, len(problem.aggregates)
    n_train = n_distinct(problem.cohort.patient_of[train])
    with_event = problem.matrix.patients_per_column(train)
    by_aggregate = [
        problem.matrix.patients_per_column(train, NUMBERS[aggregate]) if aggregate in NUMBERS else with_event
        for aggregate in problem.aggregates
    ]
    n_patients = np.stack(by_aggregate, axis=1).reshape(-1) if n_aggregates > 1 else by_aggregate[0]
    kept = screen_by_prevalence(n_patients, n_train, asked.min_prevalence, rule=asked.screen)
    kept = kept[n_patients[kept] > 0]  # at a bound of 0: columns without training patients
    return kept, n_patients[kept]


def _level_columns(
    problem: Problem, features: NDArray[np.int64], train: NDArray[np.bool_], *, of_shadows: bool = False
) -> ColumnBlocks:
    """Return the discrete levels of the features, or of their shadows, on the training samples; read in blocks."""
    n_train, is_binary = int(np.count_nonzero(train)), problem.is_presence_only
    make = _presence_block if is_binary else _level_block

    def blocks() -> Iterator[LevelBlock]:
        for start in range(0, features.size, _COLUMNS_AT_ONCE):
            yield make(problem, features[start : start + _COLUMNS_AT_ONCE], train, n_train, of_shadows)

    return ColumnBlocks(n_train, features.size, blocks, is_binary=is_binary)


def _presence_block(
    problem: Problem, features: NDArray[np.int64], train: NDArray[np.bool_], n_train: int, of_shadows: bool
) -> LevelBlock:
    columns = problem.column_of(features)
    if of_shadows:
        block = shadow_block(problem, columns, train)
    else:
        block = problem.matrix.column_samples(columns, train)
    return LevelBlock(n_train, block.indptr, block.indices, np.ones(len(block.indices), np.uint8))


def _level_block(
    problem: Problem, features: NDArray[np.int64], train: NDArray[np.bool_], n_train: int, of_shadows: bool
) -> LevelBlock:
    cells = (shadow_cells if of_shadows else cells_of)(problem, features, train)
    every_count = _ranks_as_r(problem)
    levels = [
        levels_for_ranking(
            learn_feature(problem, int(feature), feature_cells), feature_cells, every_count=every_count
        )
        for feature, feature_cells in zip(features, cells, strict=True)
    ]
    return _block_of(levels, n_train)


def _ranks_as_r(problem: Problem) -> bool:
    """Whether every distinct count is a level and no correction is applied, as in R MLHO."""
    return problem.spec.selection.ranking == "mlho-r"


def _block_of(columns: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]], n_samples: int) -> LevelBlock:
    indptr = np.zeros(len(columns) + 1, np.int64)
    np.cumsum([len(samples) for samples, _ in columns], out=indptr[1:])
    indices = np.concatenate([samples for samples, _ in columns])
    return LevelBlock(n_samples, indptr, indices, np.concatenate([levels for _, levels in columns]))
