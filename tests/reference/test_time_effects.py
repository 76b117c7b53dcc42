"""The benchmark of time effects in its short form, and its paired interval."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "time_effects.py"


def load():
    sys.path.insert(0, str(BENCHMARK.parent))
    try:
        spec = importlib.util.spec_from_file_location("time_effects", BENCHMARK)
        module = importlib.util.module_from_spec(spec)
        sys.modules["time_effects"] = module  # dataclasses look up their module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARK.parent))
    return module


def test_the_gap_is_that_of_all_pairs_and_its_interval_that_of_the_bootstrap():
    """The gap is the difference of two AUROCs over all pairs, and its interval agrees with the spread of 2,000 resamples of the patients."""
    random = np.random.default_rng(4)
    y = (random.random(400) < 0.3).astype(float)
    truth = np.round(y + random.normal(size=400), 1)
    model = np.round(truth + random.normal(size=400), 1)

    def area(score, sample):
        cases, controls = score[sample][y[sample] == 1], score[sample][y[sample] == 0]
        difference = cases[:, np.newaxis] - controls
        return (difference > 0).mean() + (difference == 0).mean() / 2

    everyone = np.arange(400)
    found = load().gap_of(y, truth, model)
    samples = [random.integers(0, 400, 400) for _ in range(2_000)]
    spread = np.std([area(truth, sample) - area(model, sample) for sample in samples])

    assert found.value == pytest.approx(area(truth, everyone) - area(model, everyone))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.1)


def test_the_short_form_is_close_to_the_best_possible_score():
    """With 2,000 patients, the bundle scores new patients at most 0.10 below their true risks, and prints a line for each planted order."""
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--short"], capture_output=True, text=True, timeout=600, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "planted orders found: " in done.stdout
    assert done.stdout.count(": planted ") == 5
