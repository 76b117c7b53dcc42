"""A run finds planted truth: strong effects are selected, and noise is not. Two cohorts; ``PLANTED_SEEDS=10`` runs ten."""

import json
import os
from pathlib import Path

import pytest

from mlho.synthetic import read_truth
from mlho.synthetic.verdict import judge
from scheduler.cli.demo import make_demo
from scheduler.cli.parser import main

# The name has no prefix MLHO_, because tests remove such variables of the shell.
N_SEEDS = int(os.environ.get("PLANTED_SEEDS", "2"))


@pytest.mark.parametrize("seed", range(1, N_SEEDS + 1))
def test_strong_planted_effects_come_back_and_noise_does_not(tmp_path: Path, seed: int) -> None:
    """With 10,000 patients, 1,000 codes, presence, 20 iterations and 200 picks, all effects of 2.2 or more are found, and at most two noise codes."""
    spec = make_demo(tmp_path / "cohort", n_patients=10_000, seed=seed, with_rival=False)

    assert main(["run", str(spec), "--store", str(tmp_path / "store"), "--workers", "2"]) == 0

    (path,) = (tmp_path / "store").glob("runs/*/result.json")
    verdict = judge(read_truth(tmp_path / "cohort"), json.loads(path.read_text()))
    assert len(verdict.expected) == 3
    assert verdict.missed == ()
    assert verdict.leaks == ()
    assert len(verdict.noise) <= 2
