"""Joint mutual information: ranking of features ("maximise relevance"), and related criteria."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlho.errors import SpecError
from mlho.method.selection.bits import entropy_table
from mlho.method.selection.contingency import BitColumns, LevelColumns, pack_blocks
from mlho.method.selection.levels import ColumnBlock, ColumnBlocks
from mlho.method.selection.matrix import Mode, bad_matrix, layout_of, pack_matrix, shape_of

RankingName = Literal["jmi", "mlho-r", "mim", "mrmr", "cmim", "jmim"]

# Scores within this distance (in nats) are equal; the lowest column index is then selected.
TIE = 1e-12


@dataclass(frozen=True, eq=False)
class Ranking:
    """Selected columns in the order of selection."""

    order: NDArray[np.int32]
    """Column indices. Shape (n_picks,)."""
    scores: NDArray[np.float64]
    """Score of each selection at that time, in nats. The first is I(X;Y). With ``jmi`` the second is I((X,W);Y) with the first selection W,
    and later ones are sums over all previous selections: they rise and fall. Shape (n_picks,)."""
    shadows: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))


def rank(
    X: Any,
    y: ArrayLike,
    n_features: int,
    *,
    mode: Mode = "presence",
    mask: NDArray[np.bool_] | None = None,
    ranking: RankingName = "jmi",
    cut_points: Sequence[int] = (1, 2, 3),
    n_patients_by_column: ArrayLike | None = None,
) -> Ranking:
    """Select features one by one by their joint information about the label with those already selected.

    Parameters
    ----------
    X : scipy CSR or CSC, or array, shape (n_samples, n_columns)
        Non-negative integer counts.
    y : array-like of 0/1, shape (n_samples,)
        Labels.
    n_features : int
        Number of features to select, at least 1; with fewer columns all of them are ranked.
    mode : {"presence", "levels", "counts"}
        Levels of a feature: present or not; counts cut at ``cut_points``; or every distinct count as a level, as
        praznik treats R's integers. There is no correction for the number of levels: with ``counts``, columns with many levels rank
        first regardless of content. Runs rank corrected terciles instead; see :func:`rank_columns`.
    mask : ndarray of bool, shape (n_samples,), optional
        Samples to include; default: all.
    ranking : {"jmi", "mlho-r", "mim", "mrmr", "cmim", "jmim"}
        S denotes the previous selections; the first one is always the X with the largest I(X;Y).
        ``jmi``: the sum of I((X,W);Y) over W in S. ``mim``: I(X;Y). ``mrmr``: I(X;Y) − mean over S of I(X;W). ``cmim``:
        min(I(X;Y), min over S of I(X;Y|W)). ``jmim``: min over S of I((X,W);Y).
        ``mlho-r``: ``jmi`` of all columns, then :func:`cut_as_mlho_r`, which is not in the order of selection.
    cut_points : sequence of int
        For ``levels``; see :func:`mlho.method.selection.levels.cut_levels`.
    n_patients_by_column : array-like of int, shape (n_columns,), optional
        For ``mlho-r``: distinct patients with the feature. Default: the masked samples with the feature, which is
        the same with one sample per patient.

    Returns
    -------
    Ranking
        ``min(n_features, n_columns)`` columns. Scores within 1e-12 nats are tied: the lowest column index is selected.

    Raises
    ------
    SpecError
        ``n_features``, ``mode``, ``ranking`` or ``cut_points`` is invalid.
    DataError
        Shapes differ, a value is negative, missing or not an integer, or the masked labels are not both 0
        and 1.

    References
    ----------
    Yang & Moody (1999) for JMI; Peng et al. (2005) mRMR; Fleuret (2004) CMIM; Bennasar et al. (2015) JMIM; Brown et al.
    (2012) for the family. R: praznik::JMI 13.0.0, on which MLHO's MSMR.lite is based.

    Examples
    --------
    >>> X = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    >>> rank(X, [1, 1, 0, 0], 2).order.tolist()
    [0, 1]
    """
    _check_choice("mode", mode, get_args(Mode))
    _check_options(n_features, ranking)
    X = X if hasattr(X, "tocsc") else np.asarray(X)
    layout = layout_of(y, mask, shape_of(X))
    columns = pack_matrix(X, mode, cut_points, layout)
    return _rank(columns, n_features, ranking, n_patients_by_column)


def rank_columns(
    columns: ColumnBlock | ColumnBlocks,
    y: ArrayLike,
    n_features: int,
    *,
    mask: NDArray[np.bool_] | None = None,
    ranking: RankingName = "jmi",
    n_patients_by_column: ArrayLike | None = None,
    correct_bias: bool = False,
    shadows: ColumnBlock | ColumnBlocks | None = None,
) -> Ranking:
    """Rank columns of level codes; otherwise as :func:`rank`.

    Parameters
    ----------
    columns : ColumnBlock or ColumnBlocks
        Every distinct code of a column is a level; columns with two and with more levels may be mixed.
    y, n_features, mask, ranking, n_patients_by_column
        See :func:`rank`.
    correct_bias : bool
        Subtract from every mutual information the first-order bias of its plug-in estimate: with L observed levels and
        n samples, (L_x − 1) / 2n from I(X;Y), (L_x·L_w − 1) / 2n from I((X,W);Y) and (L_x − 1)(L_w − 1) / 2n from I(X;W).
        Otherwise columns with many levels rank first regardless of content. If no column has more than two levels, nothing
        is subtracted, because for ``jmi``, ``mim`` and ``jmim`` the correction would be equal for all columns.
    shadows : ColumnBlock or ColumnBlocks, optional
        Columns over the same samples that are never selected. Each is scored together with the remaining columns, and
        reported if it would be selected at some step, which is equivalent to adding it alone. Shadows change neither the
        selection nor the scores. Not available for ``mlho-r``, which has no such steps.

    References
    ----------
    Miller (1955) and Panzeri & Treves (1996) for the bias.
    """
    _check_options(n_features, ranking)
    layout = layout_of(y, mask, (columns.n_samples, columns.n_columns))
    parts = [_in_blocks(blocks) for blocks in (columns, shadows) if blocks is not None]
    if parts[-1].n_samples != columns.n_samples:
        raise bad_matrix("shadows", f"{columns.n_samples} samples", f"{parts[-1].n_samples}")
    packed = pack_blocks(parts, layout)
    if shadows is None:
        return _rank(packed, n_features, ranking, n_patients_by_column, correct_bias=correct_bias)
    _check_choice("ranking", ranking, tuple(name for name in get_args(RankingName) if name != "mlho-r"))
    informations = _Informations(packed, correct_bias=correct_bias, n_columns=columns.n_columns)
    return _pick_beside_shadows(informations, columns.n_columns, n_features, ranking)


def cut_as_mlho_r(
    order: ArrayLike, scores: ArrayLike, n_patients_by_column: ArrayLike, n_features: int
) -> Ranking:
    """Cut a full ranking as the R package does, for comparison.

    R sorts *ascending*, although scores rise and then fall: of its "top 200" of the demo data, 69 are not among the first
    200 selections.

    Parameters
    ----------
    order : array-like of int, shape (n_picks,)
        All columns in the order of selection by ``jmi``.
    scores : array-like of float, shape (n_picks,)
        Their scores.
    n_patients_by_column : array-like of int, shape (n_columns,)
        Distinct patients, by column index.
    n_features : int
        Number of columns to keep.

    Returns
    -------
    Ranking
        The first ``n_features`` ascending by (score rounded to three decimals, −distinct patients, step), in that order,
        with their unrounded scores.

    References
    ----------
    hestiri/mlho, R/MSMR.lite.R, the rank of the scores.

    Examples
    --------
    >>> cut_as_mlho_r([2, 0, 1], [0.3, 0.9, 0.5], [10, 10, 10], 2).order.tolist()
    [2, 1]
    """
    columns, raw = np.asarray(order, dtype=np.int32), np.asarray(scores, dtype=np.float64)
    n_patients = np.asarray(n_patients_by_column)[columns]
    # Python rounds the exact decimal value, as R does since 4.0; numpy multiplies first.
    rounded = [round(score, 3) for score in raw.tolist()]
    kept = np.lexsort((np.arange(columns.size), -n_patients, rounded))[:n_features]
    return Ranking(order=columns[kept], scores=raw[kept])


def _rank(
    columns: BitColumns | LevelColumns,
    n_features: int,
    ranking: RankingName,
    n_patients_by_column: ArrayLike | None,
    *,
    correct_bias: bool = False,
) -> Ranking:
    informations = _Informations(columns, correct_bias=correct_bias)
    if ranking != "mlho-r":
        return _pick(informations, min(n_features, columns.n_columns), ranking)
    everything = _pick(informations, columns.n_columns, "jmi")
    n_patients = (
        columns.n_with_feature() if n_patients_by_column is None else np.asarray(n_patients_by_column)
    )
    if n_patients.shape != (columns.n_columns,):
        raise bad_matrix("patients per column", f"shape ({columns.n_columns},)", f"shape {n_patients.shape}")
    return cut_as_mlho_r(everything.order, everything.scores, n_patients, n_features)


def _in_blocks(columns: ColumnBlock | ColumnBlocks) -> ColumnBlocks:
    return columns if isinstance(columns, ColumnBlocks) else ColumnBlocks.of(columns)


def _pick_beside_shadows(
    informations: "_Informations", n_columns: int, n_features: int, ranking: RankingName
) -> Ranking:
    """Select among the first ``n_columns``; the others are shadows."""
    n_shadows = informations.relevance.size - n_columns
    has_won = np.full(n_shadows, n_columns < n_features)  # an additional column would then always be selected

    def watch(shadow_scores: NDArray[np.float64], best: float) -> None:
        np.logical_or(has_won, shadow_scores > best + TIE, out=has_won)

    picked = _pick(informations, min(n_features, n_columns), ranking, n_columns=n_columns, watch=watch)
    return Ranking(picked.order, picked.scores, np.flatnonzero(has_won).astype(np.int32))


def _pick(
    informations: "_Informations",
    n_picks: int,
    ranking: RankingName,
    *,
    n_columns: int | None = None,
    watch: Callable[[NDArray[np.float64], float], None] | None = None,
) -> Ranking:
    """Select ``n_picks`` of the first ``n_columns`` columns (default: all), one by one.

    Before each selection, ``watch`` is called with the scores of the other columns and the best score of the selectable ones.
    """
    order, scores = np.empty(n_picks, dtype=np.int32), np.empty(n_picks, dtype=np.float64)
    left = np.arange(informations.relevance.size, dtype=np.int32)
    score = informations.relevance.copy()
    # State of the ranking for each remaining column: a running sum or a running minimum over the selections.
    memory = _FIRST_MEMORY[ranking](informations.relevance)
    n_columns = left.size if n_columns is None else n_columns
    for step in range(n_picks):
        # Columns keep their order, so the selectable ones come first.
        selectable = score[: n_columns - step]
        largest = selectable.max()
        if watch is not None:
            watch(score[n_columns - step :], float(largest))
        best = int(np.argmax(selectable >= largest - TIE))
        pick = int(left[best])
        order[step], scores[step] = pick, score[best]
        left, memory = _without(left, best), _without(memory, best)
        if ranking == "mim":
            score = _without(score, best)
        elif step + 1 < n_picks:
            sums = informations.sums_with(pick, left)
            match ranking:
                case "mrmr":
                    memory += informations.shared(sums, pick, left)
                    score = informations.relevance[left] - memory / (step + 1)
                case "cmim":
                    given = informations.joint(sums, pick, left) - informations.relevance[pick]
                    memory = np.minimum(memory, informations.floored(given))
                    score = memory
                case "jmim":
                    memory = np.minimum(memory, informations.joint(sums, pick, left))
                    score = memory
                case _:
                    memory += informations.joint(sums, pick, left)
                    score = memory
    return Ranking(order=order, scores=scores)


def _without[Value: np.generic](values: NDArray[Value], place: int) -> NDArray[Value]:
    """Remove one value in place and return the others; ``np.delete`` would take as long as a table."""
    values[place:-1] = values[place + 1 :]
    return values[:-1]


_FIRST_MEMORY: dict[str, Any] = {
    # The relevance of the first selection is not in the sum, as in praznik.
    "jmi": np.zeros_like,
    "mim": np.zeros_like,
    "mrmr": np.zeros_like,
    "cmim": np.copy,
    "jmim": lambda relevance: np.full_like(relevance, np.inf),
}


class _Informations:
    """Mutual information in nats, from sums over contingency tables.

    Plug-in estimates are floored at 0 against rounding; bias-corrected ones may be negative.
    """

    def __init__(
        self,
        columns: BitColumns | LevelColumns,
        *,
        correct_bias: bool,
        n_columns: int | None = None,
    ) -> None:
        layout = columns.layout
        self._columns = columns
        self._table, scale = entropy_table(layout.n_samples)
        self._to_nats = 1.0 / (layout.n_samples * scale)
        self._h_all = self._table[layout.n_samples]
        self._h_label = self._table[layout.n_by_class].sum()
        single = columns.single_sums(self._table)
        self._h_column = single[:, 1]
        #: Number of levels per column; None without correction. Shadows, after the first ``n_columns``, have no influence.
        self._n_levels: NDArray[np.int64] | None = None
        if correct_bias and isinstance(columns, LevelColumns):
            n_levels = columns.n_levels()
            self._n_levels = n_levels if (n_levels[:n_columns] > 2).any() else None
        self._bias = 1.0 / (2.0 * layout.n_samples)
        #: I(X;Y) of every column.
        self.relevance = self._nats(single[:, 0] - single[:, 1] - self._h_label + self._h_all)
        if self._n_levels is not None:
            self.relevance -= self._bias * (self._n_levels - 1)

    def sums_with(self, pick: int, left: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the sums over the tables of every remaining X and W = ``pick``, for :meth:`joint` and :meth:`shared`."""
        return self._columns.pair_sums(pick, left, self._table)

    def joint(self, sums: NDArray[np.int64], pick: int, left: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return I((X,W);Y) for every remaining X and W = ``pick``."""
        joint = self._nats(sums[:, 0] - sums[:, 1] + (self._h_all - self._h_label))
        if self._n_levels is not None:
            joint -= self._bias * (self._n_levels[left] * int(self._n_levels[pick]) - 1)
        return joint

    def shared(self, sums: NDArray[np.int64], pick: int, left: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return I(X;W) for every remaining X and W = ``pick``."""
        shared = self._nats(sums[:, 1] - self._h_column[left] + (self._h_all - self._h_column[pick]))
        if self._n_levels is not None:
            shared -= self._bias * ((self._n_levels[left] - 1) * (int(self._n_levels[pick]) - 1))
        return shared

    def floored(self, nats: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return plug-in estimates floored at 0 against rounding; corrected ones unchanged."""
        return nats if self._n_levels is not None else np.maximum(nats, 0.0)

    def _nats(self, whole: NDArray[np.int64]) -> NDArray[np.float64]:
        nats: NDArray[np.float64] = np.maximum(whole * self._to_nats, 0.0)
        return nats


def _check_options(n_features: int, ranking: str) -> None:
    _check_choice("ranking", ranking, get_args(RankingName))
    if not isinstance(n_features, int | np.integer) or isinstance(n_features, bool) or n_features < 1:
        raise SpecError(f"selection.nFeatures: expected a whole number of at least 1; got {n_features!r}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SpecError(
            f"selection.{name}: expected one of {', '.join(choices)}; got {value!r}. Name one of them."
        )
