"""The stability of the selection, as results and reports state it."""

import json

from mlho.report.result import Confidence, FeatureResult
from mlho.training.results.summary import surest_first
from tests.builders import make_tables, run_inline, write_tables


def test_a_selection_of_all_features_states_why_it_has_no_stability(tmp_path):
    """With nFeatures above the number of features nothing is selected. Confidence scores below 100 do not contradict that."""
    data = write_tables(tmp_path / "data", make_tables(400, seed=9))
    home = run_inline(data, tmp_path / "store", {"selection.nFeatures": 200})
    result = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))

    reason = (
        "each iteration selected all 13 features that passed the screen, because selection.nFeatures is 200; confidence scores count "
        "coefficients, not selections"
    )
    assert result["stability"]["nogueira"]["reason"] == reason
    assert f"Stability of the selection could not be measured ({reason})." in result["summary"]
    assert min(feature["confidence"]["score"] for feature in result["features"]) < 100


def test_equally_sure_features_are_in_the_order_of_their_effects():
    """Many features have the highest score: the first of them is the strongest, not the first in the alphabet."""

    def feature(name, odds_ratio):
        confidence = Confidence(
            score=100,
            n_seen=4,
            n_positive=4,
            n_negative=0,
            mean_odds_ratio=odds_ratio,
            low95=None,
            high95=None,
        )
        return FeatureResult(
            id=name, words=name, kind="feature", selection_frequency=1.0, confidence=confidence
        )

    found = sorted([feature("a", 1.1), feature("b", 0.5), feature("c", 1.6)], key=surest_first)

    assert [one.id for one in found] == ["b", "c", "a"]
