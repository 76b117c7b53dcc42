"""Every interval of a result is within the possible range of its figure and has a positive width."""

import json

import pytest

from mlho.report.words import POSSIBLE
from tests.builders import make_tables, run_inline, write_tables


def estimates_in(part, name=""):
    """Yield every object with ``low`` and ``high`` in a document, with the name of its figure."""
    if isinstance(part, dict):
        if {"low", "high"} <= part.keys() and not isinstance(part["low"], list):
            yield name, part
        for key, value in part.items():
            yield from estimates_in(value, key.rpartition("/")[2])
    elif isinstance(part, list):
        for item in part:
            yield from estimates_in(item, name)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Return the result for three test sets of about twenty patients, whose symmetric intervals would exceed the range of rates."""
    root = tmp_path_factory.mktemp("intervals")
    changes = {"validation.iterations": 3, "validation.testFraction": 0.15}
    home = run_inline(write_tables(root / "data", make_tables(120, seed=2)), root / "store", changes)
    return json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))


def test_no_bound_is_outside_the_range_of_its_figure(result):
    """The bounds hold in headline, winners, candidates and iterations."""
    known = [(name, estimate) for name, estimate in estimates_in(result) if name in POSSIBLE]

    outside = [
        (name, estimate["low"], estimate["high"])
        for name, estimate in known
        if estimate["low"] is not None
        and not POSSIBLE[name][0] <= estimate["low"] <= estimate["high"] <= POSSIBLE[name][1]
    ]
    assert outside == []
    assert {"auroc", "sensitivity", "brier", "calibration_ici"} <= {name for name, _ in known}
    assert any(estimate["low"] in (0.0, 1.0) or estimate["high"] == 1.0 for _, estimate in known)


def test_no_interval_has_no_width(result):
    """Equal values have no interval instead of one without width."""
    assert [
        (name, estimate)
        for name, estimate in estimates_in(result)
        if estimate["low"] is not None and estimate["low"] == estimate["high"]
    ] == []


def test_few_samples_have_no_verdict(result):
    """With few samples, the summary does not assess the model."""
    assert "With fewer than 100 samples with or without the outcome" in result["summary"][1]
    assert result["summary"][2].startswith(
        "The calibration of the probabilities cannot be assessed (fewer than 200"
    )
