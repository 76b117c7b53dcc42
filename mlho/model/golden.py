"""Golden rows: synthetic samples whose scores are stored in the bundle, so that it can be tested wherever it goes.

They are drawn column by column, each on its own, from figures that are coarsened first: no row is a patient's, no
combination of columns is one that was seen, and no figure rests on fewer patients than the smallest cell allowed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.errors import BundleError

GOLDEN_SCHEMA: Final = "mlho.io/golden/v1"
N_DRAWN: Final = 32  # rows drawn; every other one as dense as can be, so that rare features are exercised too
MAX_EDGES: Final = 256  # columns that get rows of their own: the first ones, which the ranking picked first
QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
_DENSE_SHARE = 0.5  # of the columns of a dense row that are drawn


@dataclass(frozen=True)
class ColumnStatistics:
    """What is known of a column for drawing it.

    Attributes
    ----------
    prevalence : float in [0, 1]
        Share of patients with a stored number, to three decimals and never of fewer than ``min_cell``.
    quantiles : tuple of float, not empty
        Of the stored numbers (in a column of values zero can be one), to two significant digits; only those with ``min_cell`` patients or more on either
        side. Where none has: (1.0,), which is nobody's number.
    """

    prevalence: float
    quantiles: tuple[float, ...] = (1.0,)


def column_statistics(
    design: Any, patient_of: NDArray[np.integer[Any]], *, min_cell: int
) -> tuple[ColumnStatistics, ...]:
    """Return coarse statistics of each column of a training matrix.

    Parameters
    ----------
    design : scipy sparse, shape (n_samples, n_columns)
        As a classifier takes it.
    patient_of : int, shape (n_samples,)
        Each sample's patient; it never falls.
    min_cell : int
        The fewest patients that a published figure may rest on.
    """
    n_patients = len(np.unique(patient_of))
    columns = design.tocsc()
    statistics = []
    for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
        patients = np.unique(patient_of[columns.indices[start:stop]]).size
        prevalence = min(1.0, max(patients, min_cell, 1) / max(n_patients, 1))
        quantiles = _coarse_quantiles(columns.data[start:stop], patients, min_cell)
        statistics.append(ColumnStatistics(round(prevalence, 3), quantiles))
    return tuple(statistics)


def _coarse_quantiles(numbers: NDArray[np.float64], n_patients: int, min_cell: int) -> tuple[float, ...]:
    safe = [q for q in QUANTILES if min(q, 1 - q) * n_patients >= max(min_cell, 1)]
    if not safe:
        return (1.0,)
    found = np.quantile(numbers, safe, method="inverted_cdf")
    return tuple(sorted({float(f"{number:.2g}") for number in found}))


@dataclass(frozen=True)
class GoldenRows:
    """Synthetic rows with the scores that the model gave them when it was built.

    Attributes
    ----------
    kinds : tuple of str, shape (n_rows,)
        ``drawn``, ``zero`` (nothing is known) or ``edge``.
    X : float64, shape (n_rows, n_columns)
        For trees NaN in a column of values is a number that is not known.
    empty_row : float64, shape (n_columns,)
        The row of which nothing is known; see :attr:`mlho.method.classifiers.FittedClassifier.empty_row`.
    probability, calibrated : float64, shape (n_rows,)
        As the classifier gives it, and after the calibrator.
    """

    kinds: tuple[str, ...]
    X: NDArray[np.float64]
    empty_row: NDArray[np.float64]
    probability: NDArray[np.float64]
    calibrated: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: a row as the columns that differ from the empty row, and their numbers."""
        rows = []
        for number, kind in enumerate(self.kinds):
            columns = np.flatnonzero(_is_known(self.X[number], self.empty_row))
            rows.append(
                {
                    "kind": kind,
                    "columns": columns.tolist(),
                    "numbers": self.X[number, columns].tolist(),
                    "probability": float(self.probability[number]),
                    "calibrated": float(self.calibrated[number]),
                }
            )
        return {"schema": GOLDEN_SCHEMA, "nColumns": self.X.shape[1], "rows": rows}

    @classmethod
    def from_json(cls, content: bytes, *, empty_row: NDArray[np.float64]) -> "GoldenRows":
        """Return the rows that :meth:`to_json` described; BundleError if they do not fit the model."""
        n_columns = empty_row.size
        try:
            document = json.loads(content)
            if document["schema"] != GOLDEN_SCHEMA or document["nColumns"] != n_columns:
                raise ValueError("schema or number of columns")
            rows: Sequence[Mapping[str, Any]] = document["rows"]
            X = np.tile(empty_row, (len(rows), 1))
            for number, row in enumerate(rows):
                X[number, _columns(row["columns"], n_columns)] = np.asarray(row["numbers"], np.float64)
            scores = [
                np.array([row[name] for row in rows], np.float64) for name in ("probability", "calibrated")
            ]
            return cls(tuple(str(row["kind"]) for row in rows), X, empty_row, *scores)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise BundleError(
                f"tests/golden.json: not the golden rows of this bundle. Expected schema {GOLDEN_SCHEMA} with"
                f" {n_columns} columns. Fetch or build the bundle again."
            ) from error


def _is_known(row: NDArray[np.float64], empty_row: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.where(np.isnan(empty_row), ~np.isnan(row), row != 0)


def _columns(columns: Sequence[int], n_columns: int) -> list[int]:
    chosen = [int(column) for column in columns]
    if sorted(set(chosen)) != chosen or (chosen and not 0 <= chosen[0] <= chosen[-1] < n_columns):
        raise ValueError("columns must rise and exist")
    return chosen


def draw_rows(
    statistics: Sequence[ColumnStatistics], n_rows: int, *, empty_row: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Return synthetic rows, each column drawn on its own.

    Every other row follows the prevalences; the rows between have half of all columns, so that rare ones occur as well.

    Parameters
    ----------
    statistics : sequence of ColumnStatistics, one a column
    n_rows : int
    empty_row : float64, shape (n_columns,)
        What a row has in the columns that are not drawn for it.
    seed : int, at least 0

    Returns
    -------
    float64, shape (n_rows, n_columns)
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    prevalence = np.array([column.prevalence for column in statistics])
    share = np.where(np.arange(n_rows)[:, None] % 2 == 0, prevalence, _DENSE_SHARE)
    is_present = generator.random((n_rows, len(statistics))) < share
    choice = generator.random((n_rows, len(statistics)))
    X = np.zeros((n_rows, len(statistics)))
    for number, column in enumerate(statistics):
        quantiles = np.array(column.quantiles)
        drawn = quantiles[(choice[:, number] * quantiles.size).astype(np.int64)]
        X[:, number] = np.where(is_present[:, number], drawn, empty_row[number])
    return X


def golden_inputs(
    statistics: Sequence[ColumnStatistics], *, empty_row: NDArray[np.float64], seed: int
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return kinds and rows: those drawn, the empty row, and each column alone at its lowest and highest number."""
    edges = []
    for number, column in enumerate(statistics[:MAX_EDGES]):
        for value in sorted({column.quantiles[0], column.quantiles[-1]}):
            row = empty_row.copy()
            row[number] = value
            edges.append(row)
    drawn = draw_rows(statistics, N_DRAWN, empty_row=empty_row, seed=seed)
    X = np.vstack([drawn, empty_row[np.newaxis], *edges])
    return ("drawn",) * N_DRAWN + ("zero",) + ("edge",) * len(edges), X
