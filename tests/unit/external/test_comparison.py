"""Comparison of two runs: the differences and their effects."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import scheduler.cli.parser
from mlho.errors import SpecError
from mlho.external.comparison import _features
from mlho.report.comparison import comparison_tables, plain
from mlho.store.local import LocalStore
from scheduler.cli.evaluation.compare import run_facts_of
from tests.builders import make_tables, run_inline, write_tables
from tests.unit.report.sample_result import sample_result

TABLES = make_tables(400, seed=9)


def without_the_second_code(tables):
    """Return the cohort without the records of I10."""
    kept = np.array([code != "I10" for code in tables.events.column("code").to_pylist()])
    return replace(tables, events=tables.events.filter(pa.array(kept)))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return runs in one store: on all records (A), with another seed (A2), with more iterations (A3), without one code (B), and on other patients (C)."""
    place = tmp_path_factory.mktemp("runs")
    local_store = LocalStore(place / "store")
    whole = write_tables(place / "whole", TABLES)
    runs = {
        "A": run_inline(whole, local_store),
        "A2": run_inline(whole, local_store, {"validation.seed": 8}),
        "A3": run_inline(whole, local_store, {"validation.iterations": 5}),
        "B": run_inline(write_tables(place / "less", without_the_second_code(TABLES)), local_store),
        "C": run_inline(write_tables(place / "others", make_tables(300, seed=4, prefix="q")), local_store),
    }
    return local_store, {name: home.finished.run_id for name, home in runs.items()}


@pytest.fixture
def compared(store):
    """Return ``compare(a, b)``."""
    from mlho.external.comparison import compare_runs

    local_store, runs = store

    def compare(a, b):
        return compare_runs(run_facts_of(local_store, runs[a], a), run_facts_of(local_store, runs[b], b))

    return compare


def test_a_run_does_not_differ_from_itself(compared):
    """There is no change of any kind, and the paired difference is exactly zero."""
    comparison = compared("A", "A")

    assert (comparison.spec, comparison.rows, comparison.label_rows, comparison.codes) == ([], [], [], [])
    assert {feature.change for feature in comparison.features} == {"stays"}
    assert not any(feature.is_shifted for feature in comparison.features)
    assert {difference.value for difference in comparison.paired.differences.values()} == {0.0}
    assert comparison.paired.n_samples > 0


def test_a_lost_code_is_found_with_its_feature_and_its_price(compared):
    """I10 raises the planted risk. Without it, the feature leaves, and the AUROC decreases on the same samples."""
    comparison = compared("A", "B")
    assert max(len(title) for title, _, _ in comparison_tables(comparison)) <= 80  # columns of a terminal

    assert [(code.code, code.b) for code in comparison.codes] == [("I10", 0)]
    assert (comparison.codes_only_a, comparison.codes_only_b) == (1, 0)
    assert comparison.summary[-1].endswith("the odds ratio differs between the runs for none.")
    assert any(
        feature.change == "leaves" and feature.id.startswith("I10|") for feature in comparison.features
    )
    assert comparison.paired.differences["auroc"].high < 0
    assert comparison.paired.differences["brier"].value > 0
    assert comparison.spec == []
    assert {rule.rule for rule in comparison.rows} >= {"read", "used"}


def test_the_difference_turns_round_with_the_runs(compared):
    """B minus A is the negative of A minus B, and so is its interval."""
    forward, backward = (compared(*pair).paired.differences["auroc"] for pair in (("A", "B"), ("B", "A")))

    assert forward.value == -backward.value
    assert (forward.low, forward.high) == pytest.approx((-backward.high, -backward.low))


def test_another_specification_is_named_by_field(compared):
    """The shared samples are compared even though other iterations tested them."""
    comparison = compared("A", "A2")

    assert [(field.field, field.a, field.b) for field in comparison.spec] == [("validation.seed", 7, 8)]
    assert comparison.paired.reason is None
    assert comparison.summary[-2].startswith("The runs have different seeds")


def test_a_run_with_more_iterations_is_not_called_better(compared):
    """The first iterations of both runs are the same. Means over more tests would be more accurate, but say nothing about the models."""
    paired = compared("A", "A3").paired

    assert {difference.value for difference in paired.differences.values()} == {0.0}
    assert paired.n_samples == compared("A", "A").paired.n_samples


def test_a_field_of_a_specification_is_written_as_in_the_specification():
    """A list of texts has the quotes of JSON, and a text has none."""
    assert [plain(value) for value in (["RX:*"], True, "glmboost", None)] == [
        '["RX:*"]',
        "true",
        "glmboost",
        "–",
    ]


def test_runs_on_other_patients_are_compared_unpaired(compared):
    """The summary says so, and the difference of the means has an interval from both runs."""
    comparison = compared("A", "C")

    assert comparison.paired.reason == "the runs share no sample"
    assert any("unpaired" in sentence for sentence in comparison.summary)
    auroc = next(figure for figure in comparison.performance if figure.metric == "auroc")
    assert auroc.difference.value == pytest.approx(auroc.b.mean - auroc.a.mean)


def test_the_command_prints_json_text_and_a_page(store, tmp_path, capsys):
    """Runs are given by id, and all three formats have the same facts."""
    local_store, runs = store
    page = tmp_path / "comparison.html"
    arguments = ["compare", runs["A"], runs["B"], "--store", str(local_store.root)]

    assert scheduler.cli.parser.main([*arguments, "--json", "--html", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["codes"][0]["code"] == "I10"
    assert "I10" in page.read_text()
    assert scheduler.cli.parser.main(arguments) == 0
    assert "B minus A" in capsys.readouterr().out


def test_a_run_that_is_not_there_is_refused(store, capsys):
    """For an unknown run, the exit code is that of an invalid argument, and the error names the run."""
    local_store, runs = store

    assert (
        scheduler.cli.parser.main(["compare", runs["A"], "nowhere", "--store", str(local_store.root)])
        == SpecError.exit_code
    )
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("without", ["a", "b"])
def test_a_feature_has_the_description_that_either_run_has(without):
    """A run without a concepts table shows only codes; the description of the other run is used."""
    features = [
        feature for feature in sample_result().features if feature.in_consensus and feature.description
    ]
    undescribed = [
        feature.model_copy(update={"description": None, "words": feature.code}) for feature in features
    ]
    pair = (undescribed, features) if without == "a" else (features, undescribed)

    changes = _features(*pair)

    assert {change.id: change.words for change in changes} == {
        feature.id: feature.words for feature in features
    }
    assert len(changes) > 2
