"""The simulated year in its short form: one year of nights, thirty losses, half a month of patients for each month, and a model of fewer trees."""

import importlib.util
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[4] / "benchmarks" / "simulated_year.py"


def load():
    spec = importlib.util.spec_from_file_location("simulated_year", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulated_year"] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def test_a_loss_is_found_within_three_nights_and_covariate_shift_is_followed_without_labels():
    """The power is at least 0.9, with at most one false alarm a year. The expected AUROC is within 0.02 and does not react to concept drift."""
    found = load().simulate(n_years=1, n_losses=30, seed=2, n_before=5, n_nights_a_month=15, n_rounds=60)

    assert found.power >= 0.9
    assert found.false_alarms <= 1
    assert max(found.errors) <= 0.02
    assert max(found.aurocs) - min(found.aurocs) > 0.05
    assert found.blind < 0.01
