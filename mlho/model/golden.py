"""Golden rows: synthetic samples with stored scores, so that a bundle can be tested on any machine.

Columns are drawn independently from coarsened statistics. No row belongs to a patient, no combination of columns is
taken from the data, and no statistic is based on fewer patients than the smallest permitted cell.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.errors import BundleError, plural

GOLDEN_SCHEMA: Final = "mlho.io/golden/v1"
N_DRAWN: Final = 32  # rows drawn; every second one is dense, so that rare features are tested too
MAX_EDGES: Final = 256  # columns with separate rows: the highest-ranked ones
QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
_DENSE_SHARE = 0.5  # share of columns drawn in a dense row


@dataclass(frozen=True)
class ColumnStatistics:
    """Coarse statistics of a column, from which synthetic values are drawn."""

    prevalence: float
    """Share of patients with a stored number, rounded to three decimals, based on at least ``min_cell`` patients. In [0, 1]."""
    quantiles: tuple[float, ...] = (1.0,)
    """Quantiles of the stored numbers (including zeros in a value column), rounded to two significant digits; only those with at least
    ``min_cell`` patients on either side. If there are none: (1.0,), which comes from no patient. Not empty."""


def column_statistics(
    design: Any, patient_of: NDArray[np.integer[Any]], *, min_cell: int
) -> tuple[ColumnStatistics, ...]:
    """Compute coarse statistics of each column of a training matrix.

    Parameters
    ----------
    patient_of : int, shape (n_samples,)
        Patient of each sample, non-decreasing.
    min_cell : int
        Minimum number of patients behind a published statistic.
    """
    n_patients = n_distinct(patient_of)
    columns = design.tocsc()
    statistics = []
    for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
        patients = n_distinct(patient_of[columns.indices[start:stop]])
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
    """Synthetic rows with the scores of the model at the time of the build."""

    kinds: tuple[str, ...]
    """``drawn``, ``zero`` (all unknown) or ``edge``. Shape (n_rows,)."""
    X: NDArray[np.float64]
    """For trees, NaN in a value column is an unknown number. Shape (n_rows, n_columns)."""
    empty_row: NDArray[np.float64]
    """Row of all unknown values; see :attr:`mlho.method.classifiers.FittedClassifier.empty_row`. Shape (n_columns,)."""
    probability: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    """Output of the classifier, and of the calibrator. Shape (n_rows,)."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: for each row the columns that differ from the empty row, and their numbers."""
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
        """Restore the rows from :meth:`to_json`. Raise BundleError if they do not match the model."""
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
                f" {plural(n_columns, 'column')}. Fetch or build the bundle again."
            ) from error


def _is_known(row: NDArray[np.float64], empty_row: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.where(np.isnan(empty_row), ~np.isnan(row), row != 0)


def _columns(columns: Sequence[int], n_columns: int) -> list[int]:
    chosen = [int(column) for column in columns]
    if sorted(set(chosen)) != chosen or (chosen and not 0 <= chosen[0] <= chosen[-1] < n_columns):
        raise ValueError("columns must ascend and exist")
    return chosen


def draw_rows(
    statistics: Sequence[ColumnStatistics], n_rows: int, *, empty_row: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Draw synthetic rows, each column independently.

    Even rows follow the prevalences. Odd rows contain half of all columns, so that rare ones occur as well.

    Parameters
    ----------
    empty_row : float64, shape (n_columns,)
        Value of the columns that are not drawn in a row.
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
    """Return kinds and rows: drawn rows, the empty row, and each column alone at its lowest and highest number."""
    edges = []
    for number, column in enumerate(statistics[:MAX_EDGES]):
        for value in sorted({column.quantiles[0], column.quantiles[-1]}):
            row = empty_row.copy()
            row[number] = value
            edges.append(row)
    drawn = draw_rows(statistics, N_DRAWN, empty_row=empty_row, seed=seed)
    X = np.vstack([drawn, empty_row[np.newaxis], *edges])
    return ("drawn",) * N_DRAWN + ("zero",) + ("edge",) * len(edges), X
