"""A challenger is scored next to the model in use, in a separate run, and is compared with it."""

import json

import numpy as np
import pytest

from mlho.errors import SpecError
from mlho.scoring.comparison import compare_scores
from mlho.spec.scoring import ScoringSpec
from mlho.store.memory import MemoryStore
from scheduler.engine.scoring_checks import check_compared
from tests.builders import run_inline
from tests.unit.scoring.conftest import CHANGES, make_score_document, score_inline


def compared(scores, other, **alerts):
    """Return the figures for lists of probabilities and of alerts."""
    pairs = {
        rule: tuple(np.array(alerts_of_model, bool) for alerts_of_model in pair)
        for rule, pair in alerts.items()
    }
    return compare_scores(
        np.array(scores, float), np.array(other, float), pairs, bundle_digest="a", compared_digest="b"
    )


def test_the_figures_are_those_of_the_definition():
    """Means, differences, ranks with ties, the highest tenth, and alerts by one or both models agree with their definitions."""
    scores, other = [0.1, 0.2, 0.3, 0.9], [0.1, 0.3, 0.3, 0.5]
    found = compared(scores, other, youden=([0, 1, 1, 1], [0, 0, 1, 1]))

    assert (found.mean, found.compared_mean) == (0.375, 0.3)
    assert found.mean_absolute_difference == pytest.approx(0.125)
    assert found.largest_difference == pytest.approx(0.4)
    # Ranks 1 2 3 4 and 1 2.5 2.5 4: covariance 4.5, variances 5 and 4.5.
    assert found.rank_correlation == pytest.approx(4.5 / np.sqrt(5 * 4.5))
    assert found.top_tenth_shared == 1.0
    (alert,) = found.alerts
    assert (alert.both, alert.only_this, alert.only_other) == (2, 1, 0)


def test_deciles_of_the_other_scores_are_not_rounded():
    """Probabilities of a rare outcome may differ by less than the rounding of a bundle's deciles."""
    ramp = np.arange(1000) * 1e-8

    assert compared(ramp, ramp).psi < 0.01
    assert compared(ramp * 2, ramp).psi > 0.25


def test_the_figures_say_when_there_is_nothing_to_say():
    """Equal scores, reversed scores and a constant give the expected extremes, and the order of the samples does not matter."""
    ramp = np.arange(1000) / 1000
    equal, reversed_, constant = (
        compared(ramp, ramp),
        compared(ramp, ramp[::-1]),
        compared(ramp, np.full(1000, 0.5)),
    )
    order = np.random.default_rng(1).permutation(1000)

    assert (equal.rank_correlation, equal.largest_difference, equal.top_tenth_shared) == (1.0, 0.0, 1.0)
    assert equal.psi is not None
    assert equal.psi < 0.01
    assert (reversed_.rank_correlation, reversed_.top_tenth_shared) == (-1.0, 0.0)
    assert constant.rank_correlation is None
    assert compared(ramp[order], ramp[::-1][order]) == reversed_


@pytest.fixture(scope="module")
def challenger(trained, tmp_path_factory):
    """Return the folder of another bundle for the same outcome, with fewer features."""
    folder = tmp_path_factory.mktemp("challenger") / "bundle"
    changes = {**CHANGES, "selection.nFeatures": 4, "features.sequences": None}
    for name, content in run_inline(trained.folder, folder.parent / "store", changes).bundle().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_challenger_is_scored_apart_and_the_champion_not_again(trained, challenger):
    """The comparison reuses the champion's tasks and does not change its night. The challenger's scores are those of a run without a comparison."""
    store = MemoryStore()
    night = score_inline(trained.folder, store)
    before = {key: store.get(key) for key in store.keys(f"runs/{night.finished.run_id}/scores/")}
    changes = {"bundle.uri": str(challenger), "compareWith": {"uri": "bundle"}}
    beside = score_inline(trained.folder, store, changes)
    alone = score_inline(trained.folder, MemoryStore(), {"bundle.uri": str(challenger)})

    n_parts = len(beside.manifest["parts"])
    assert beside.kinds().count("score_partition") == alone.kinds().count("score_partition") <= n_parts
    assert beside.kinds().count("compare_scores") == 1
    assert beside.finished.run_id not in (night.finished.run_id, alone.finished.run_id)
    assert beside.parts() == alone.parts()
    assert {key: store.get(key) for key in before} == before

    found = json.loads(beside.file("comparison.json"))
    challenger_table, other = beside.table(), night.table()
    assert (found["bundle_digest"], found["compared_digest"]) == (
        beside.manifest["bundle_digest"],
        night.manifest["bundle_digest"],
    )
    difference = np.abs(challenger_table["probability"] - other["probability"])
    assert found["largest_difference"] == difference.max() > 0
    assert found["rank_correlation"] == pytest.approx(
        challenger_table["probability"].corr(other["probability"], method="spearman")
    )
    rule = found["alerts"][0]["rule"]
    both = (challenger_table[f"alert: {rule}"] & other[f"alert: {rule}"]).sum()
    assert found["alerts"][0]["both"] == both


def test_a_bundle_of_another_outcome_is_not_compared():
    """For bundles of different outcomes, the error names both outcomes."""
    spec = ScoringSpec.model_validate(make_score_document()["spec"])
    files = [{"bundle.json": json.dumps({"outcome": name}).encode()} for name in ("death", "readmission")]

    with pytest.raises(SpecError, match=r"compareWith: .*another outcome\. Expected death; got readmission"):
        check_compared(*files, spec)
