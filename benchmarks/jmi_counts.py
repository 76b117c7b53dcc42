"""Joint mutual information over counts, on the matrix that was measured with R's praznik: 1,168 patients × 308 columns.

Run with ``python benchmarks/jmi_counts.py``; the reference folder is found by ``MLHO_REFERENCE``. praznik's time,
0.09–0.14 s for 200 picks, was measured elsewhere (2 cores, R 4.5.0, praznik 13.0.0).
"""

import csv
import gzip
import sys

import numpy as np
from _command import REFERENCE, skip_without
from _figures import best_seconds, show

from mlho.method.selection.jmi import rank

MATRIX = REFERENCE / "msmr" / "jmi_input_sp0.005_top200_binFALSE.csv.gz"


def read_matrix() -> tuple[np.ndarray, np.ndarray]:
    """Return counts and labels. The columns between the patient and the label are the codes."""
    with gzip.open(MATRIX, "rt", newline="") as file:
        rows = list(csv.reader(file))[1:]
    table = np.array([row[1:] for row in rows], dtype=np.int64)
    return table[:, :-1], table[:, -1]


def main() -> int:
    skip_without(MATRIX)
    X, y = read_matrix()
    rank(X, y, 3, mode="counts")
    seconds = best_seconds(lambda: rank(X, y, 200, mode="counts"), n_times=5)
    is_ok = show(
        f"JMI counts, {X.shape[0]} × {X.shape[1]}, 200 picks, one thread",
        seconds,
        0.09,
        "s",
        source="praznik 13.0.0, measured elsewhere, 2 cores",
    )
    return 0 if is_ok else 1


if __name__ == "__main__":
    sys.exit(main())
