"""Confidence scores of R's feature table.

Provenance: hestiri/mlho 635d695, ``mlho.it`` with 7 iterations (seed 1395) and its confidence scores, R
4.5.0, on syntheticmass.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlho.method.stability.confidence import confidence_scores


@pytest.mark.parametrize("run", ["dems", "nodems"])
def test_all_of_rs_confidence_scores_come_out(reference: Path, run: str) -> None:
    """All 51 features have equal counts and scores, and means and limits within 1e-12. Limits that are NA in R are absent."""
    seen = pd.read_csv(reference / "iterations" / f"{run}_features.csv", dtype={"features": str})
    expected = pd.read_csv(reference / "iterations" / f"{run}_cs.csv", dtype={"features": str}).set_index(
        "features"
    )
    odds = seen.pivot(index="iteration", columns="features", values="OR")[expected.index]

    table = confidence_scores(np.log(odds.to_numpy()), n_iterations_planned=7)

    assert len(expected) == 51
    assert table.score.tolist() == expected["cs"].tolist()
    assert table.n_seen.tolist() == expected["seen_in"].tolist()
    assert table.n_positive.tolist() == expected["seen_positive"].tolist()
    assert table.n_negative.tolist() == expected["seen_negative"].tolist()
    assert table.adjusted_count.tolist() == expected["seen_adjust"].tolist()
    np.testing.assert_allclose(table.mean_odds_ratio.filled(), expected["mean"], rtol=1e-12)
    for name, name_of_r in [("low95", "low95"), ("high95", "up95"), ("low99", "low99"), ("high99", "up99")]:
        limits = getattr(table, name)
        np.testing.assert_array_equal(np.ma.getmaskarray(limits), expected[name_of_r].isna())
        np.testing.assert_allclose(limits.compressed(), expected[name_of_r].dropna(), rtol=1e-12)


def test_six_features_reach_a_score_of_eighty(reference: Path) -> None:
    """The consensus of the reference run has six features."""
    expected = pd.read_csv(reference / "iterations" / "dems_cs.csv", dtype={"features": str})

    assert set(expected.loc[expected["cs"] >= 80, "features"]) == {
        "14768001",
        "19169002",
        "271737000",
        "311989",
        "73761001",
        "80394007",
    }
