"""Screen and ranking against R (4.5.0; hestiri/mlho 635d695, praznik 13.0.0) on the demo data of R MLHO.

The files of ``msmr/`` have sparsity 0.005, topn 200 and counts. The columns of the matrix are in R's order, which decides ties.
"""

import csv
import gzip
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mlho.method.selection.jmi import cut_as_mlho_r, rank
from mlho.method.selection.screen import screen_by_prevalence

TAG = "sp0.005_top200_binFALSE"


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def jmi_input(reference: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return codes, counts and labels: the input of praznik."""
    return read_matrix(reference / "msmr" / f"jmi_input_{TAG}.csv.gz")


@cache
def read_matrix(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    with gzip.open(path, "rt", newline="") as file:
        header, *rows = csv.reader(file)
    table = np.array([row[1:] for row in rows], dtype=np.int64)
    return header[1:-1], table[:, :-1], table[:, -1]


def test_screen_keeps_r_codes(reference: Path, jmi_input: tuple[list[str], np.ndarray, np.ndarray]):
    """``mlho-r`` keeps R's 308 codes; our rule also keeps the eleven at 0.512 %, 319 in all."""
    table = read_table(reference / "msmr" / f"screen_{TAG}.csv")
    n_patients_by_code = np.array([int(row["distinct_patients"]) for row in table])
    n_patients = jmi_input[1].shape[0]
    r_keeps = [i for i, row in enumerate(table) if row["kept_by_sparsity"] == "TRUE"]

    kept = screen_by_prevalence(n_patients_by_code, n_patients, 0.005, rule="mlho-r")

    assert kept.tolist() == r_keeps
    assert len(kept) == 308
    assert {table[i]["phenx"] for i in kept} == set(jmi_input[0])
    assert len(screen_by_prevalence(n_patients_by_code, n_patients, 0.005)) == 319


def test_picks_are_those_of_praznik(reference: Path, jmi_input: tuple[list[str], np.ndarray, np.ndarray]):
    """All 308 picks are in R's order, with scores within 1e-9 (measured: 3e-13)."""
    codes, X, y = jmi_input
    expected = read_table(reference / "msmr" / f"jmi_raw_{TAG}.csv")

    ranking = rank(X, y, 308, mode="counts")

    assert [codes[j] for j in ranking.order] == [row["phenx"] for row in expected]
    assert ranking.scores == pytest.approx([float(row["score"]) for row in expected], abs=1e-9, rel=0)


def test_mlho_r_chooses_r_200(reference: Path, jmi_input: tuple[list[str], np.ndarray, np.ndarray]):
    """``mlho-r`` gives R's "top 200" in R's order of ranks; 69 of them are not among the first 200 picks."""
    codes, X, y = jmi_input
    table = read_table(reference / "msmr" / f"jmi_ranked_{TAG}.csv")
    patients_of = {row["phenx"]: int(row["distinct_patients"]) for row in table}
    chosen = sorted((float(row["rank"]), row["phenx"]) for row in table if row["selected"] == "TRUE")
    full = rank(X, y, 308, mode="counts")

    cut = cut_as_mlho_r(full.order, full.scores, [patients_of[code] for code in codes], 200)

    assert [codes[j] for j in cut.order] == [code for _, code in chosen]
    assert len(set(cut.order.tolist()) - set(full.order[:200].tolist())) == 69
    assert rank(X, y, 200, mode="counts", ranking="mlho-r").order.tolist() == cut.order.tolist()
