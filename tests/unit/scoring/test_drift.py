"""Drift: what differs from training is found, and chance is not called a shift."""

from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlho.scoring.drift import Drift, drift_warnings, find_drift, psi, score_psi
from mlho.store.memory import MemoryStore
from tests.unit.scoring.conftest import score_inline

N = 5_000


def feature(name):
    return SimpleNamespace(id=f"{name}|all|presence", words=name)


def test_psi_is_the_sum_over_bins_and_zero_for_equal_distributions():
    then, now = [0.2, 0.3, 0.5], [0.3, 0.3, 0.4]
    by_hand = 0.1 * np.log(0.3 / 0.2) + 0.0 - 0.1 * np.log(0.4 / 0.5)

    assert psi(then, now, 1000) == pytest.approx(by_hand, abs=1e-15)
    assert psi(then, then, 1000) == 0.0
    assert np.isfinite(psi([1.0, 0.0], [0.0, 1.0], 1000))


def test_scores_of_the_training_distribution_have_a_small_psi_and_shifted_ones_a_large():
    rng = np.random.default_rng(1)
    deciles = np.quantile(rng.beta(1, 9, 100_000), np.arange(1, 10) / 10).tolist()

    same, _ = score_psi(rng.beta(1, 9, N), deciles)
    shifted, _ = score_psi(rng.beta(2, 9, N), deciles)

    assert same < 0.02
    assert shifted > 0.25
    assert drift_warnings(Drift(score_psi=shifted, n_compared=9))
    assert not drift_warnings(Drift(score_psi=same, n_compared=9))


def test_equal_deciles_are_one_bin():
    """A model that gives most samples one score."""
    value, reason = score_psi(np.full(N, 0.1), [0.1] * 9)

    assert reason is None
    assert value == pytest.approx(psi([0.9, 0.1], [1.0, 0.0], N), abs=1e-4)


def test_few_samples_and_old_bundles_have_a_reason_instead_of_a_figure():
    assert score_psi(np.full(20, 0.1), [0.1] * 9) == (None, "fewer than 110 samples")
    assert score_psi(np.full(N, 0.1), None)[0] is None
    assert find_drift([feature("a")], None, np.array([7]), N).n_compared == 0


def test_chance_is_no_shift():
    """Ten thousand features of one population, none of which is shifted."""
    rng = np.random.default_rng(2)
    prevalence = rng.uniform(0.001, 0.5, 10_000)
    features = [feature(str(place)) for place in range(len(prevalence))]

    assert find_drift(features, prevalence.tolist(), rng.binomial(N, prevalence), N).n_shifted == 0
    assert find_drift(features, prevalence.tolist(), rng.binomial(200, prevalence), 200).n_shifted <= 1


def test_a_shifted_and_a_vanished_feature_are_found_and_only_they():
    features = [feature(name) for name in "abcd"]
    found = find_drift(features, [0.2, 0.2, 0.2, None], np.array([1000, 3000, 0, 3000]), N)

    assert found.n_compared == 3
    assert {own.feature: own.now for own in found.shifted} == {"b|all|presence": 0.6, "c|all|presence": 0.0}
    assert found.vanished == ["c|all|presence"]
    assert "c|all|presence" in drift_warnings(found)[0]


def test_a_share_of_few_samples_is_not_shown():
    found = find_drift([feature("a")], [0.2], np.array([5]), N)

    assert (found.shifted[0].now, found.shifted[0].psi) == (None, None)


def test_training_samples_have_not_drifted(trained):
    """Each prevalence of the bundle is the one that scoring finds."""
    scored = score_inline(trained.folder, MemoryStore())
    drift, training = scored.scores["drift"], trained.bundle.document.training

    assert len(training.prevalence) == len(trained.bundle.document.features)
    assert drift["n_compared"] == sum(own is not None for own in training.prevalence) > 0
    assert (drift["n_shifted"], drift["vanished"]) == (0, [])
    assert drift["score_psi"] is not None  # of scores on training samples, against out-of-fold scores


def test_a_code_that_disappears_from_the_events_is_named(trained, tmp_path):
    """The feed lost one code system: its features are absent in all samples, and the run warns."""
    from shutil import copytree

    training, features = trained.bundle.document.training, trained.bundle.document.features
    most = max(
        (p, own.code)
        for p, own in zip(training.prevalence, features, strict=True)
        if p is not None and own.code
    )[1]
    folder = tmp_path / "data"
    copytree(trained.folder, folder)
    for path in (folder / "events").glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.fill_null(pc.not_equal(table["code"], most), True)), path)

    scores = score_inline(folder, MemoryStore()).scores

    lost = [own.id for own in features if own.code == most]
    assert set(scores["drift"]["vanished"]) & set(lost)
    assert any(most in own and "No sample has these features" in own for own in scores["warnings"])
