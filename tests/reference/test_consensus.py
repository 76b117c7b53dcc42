"""The consensus model on R's matrix.

Provenance: hestiri/mlho 635d695, ``mlho.it`` with 7 iterations (seed 1395), ``glm(family = binomial)`` with
``confint``, R 4.5.0, on syntheticmass. The matrix holds the six features with a score of at least 80, and only
patients with any of R's features. R adjusts for the demographics, rounds to four decimals, and interpolates
its profile limits.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlho.method.consensus.regression import (
    LogisticFit,
    OddsRatio,
    fit_logistic,
    odds_ratios,
    profile_intervals,
)

Matrix = tuple[np.ndarray, np.ndarray, list[str]]


def read_matrix(reference: Path, data: Path, run: str, *, demographics: bool) -> Matrix:
    matrix = pd.read_csv(reference / "iterations" / f"{run}_glm_matrix.csv.gz", dtype={"patient_num": str})
    if demographics:
        people = pd.read_csv(data / "syntheticmass" / "dems.csv.gz", dtype={"patient_num": str})
        matrix = matrix.merge(people, on="patient_num", how="inner", validate="one_to_one")
    names = [name for name in matrix.columns if name not in ("patient_num", "label")]
    return matrix[names].to_numpy(dtype=np.float64), matrix["label"].to_numpy(), names


def fit_table(X: np.ndarray, y: np.ndarray, names: list[str]) -> tuple[LogisticFit, dict[str, OddsRatio]]:
    fit = fit_logistic(X, y, names=names)
    rows = odds_ratios(fit, X.std(axis=0, ddof=1), profile=profile_intervals(fit, X, y))
    return fit, {row.name: row for row in rows}


@pytest.mark.parametrize("run", ["dems", "nodems"])
def test_odds_ratios_and_profile_limits_are_rs(reference: Path, data: Path, run: str) -> None:
    """Odds ratios agree within 1e-4, limits within 5e-4 relative (and half of R's fourth decimal), and Wald p-values within R's rounding."""
    expected = pd.read_csv(reference / "iterations" / f"{run}_glm_or.csv", dtype={"features": str}).set_index(
        "features"
    )

    fit, rows = fit_table(*read_matrix(reference, data, run, demographics=True))

    assert (fit.n_samples, fit.converged, fit.separated, fit.dropped) == (567, True, False, ())
    assert set(rows) == set(expected.index)
    for name, expected_row in expected.iterrows():
        row = rows[str(name)]
        assert row.odds_ratio == pytest.approx(expected_row["OR"], abs=1e-4)
        assert row.profile_low == pytest.approx(expected_row["low"], rel=5e-4)
        assert row.profile_high == pytest.approx(expected_row["high"], rel=5e-4)
        assert row.p_wald == pytest.approx(expected_row["P"], abs=5.1e-5)


def test_without_demographics_the_largest_odds_ratio_is_another(reference: Path, data: Path) -> None:
    """The odds ratio of 77.7 with adjustment for the demographics is 75.4 without it."""
    _, rows = fit_table(*read_matrix(reference, data, "dems", demographics=False))

    assert rows["271737000"].odds_ratio == pytest.approx(75.4, abs=0.05)


def test_on_all_patients_the_largest_odds_ratio_is_three_times_as_large(reference: Path, data: Path) -> None:
    """R drops the patients with none of the features, which gives 77.7. On all patients, as zero rows, the odds ratio is 234.0."""
    iterations, tables = reference / "iterations", data / "syntheticmass"
    matrix = pd.read_csv(iterations / "dems_glm_matrix.csv.gz", dtype={"patient_num": str}).set_index(
        "patient_num"
    )
    people = pd.read_csv(tables / "dems.csv.gz", dtype={"patient_num": str}).set_index("patient_num")
    labels = pd.read_csv(tables / "labeldt.csv.gz", dtype={"patient_num": str}).set_index("patient_num")[
        "label"
    ]
    everyone = matrix.drop(columns="label").reindex(labels.index, fill_value=0).join(people, how="inner")

    _, rows = fit_table(
        everyone.to_numpy(dtype=np.float64), labels[everyone.index].to_numpy(), everyone.columns.tolist()
    )

    assert rows["271737000"].odds_ratio == pytest.approx(234.0, abs=0.05)
