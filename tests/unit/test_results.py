"""A finished run opened as a notebook does it."""

import importlib.util
import os
from pathlib import Path

import pytest

from mlho.errors import ArtifactDamaged, ArtifactNotFound
from mlho.results import open_run

_SAMPLE = Path(__file__).parent / "report" / "sample_result.py"


@pytest.fixture(scope="module")
def sample():
    spec = importlib.util.spec_from_file_location("sample_result_for_results", _SAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sample_result()


@pytest.fixture
def store(tmp_path, sample):
    """A store with three finished runs, the second named ``prediabetes``, and one that did not finish."""
    for i, (run, name) in enumerate([("aa11", "diabetes"), ("ab22", "prediabetes"), ("ab33", "diabetes")]):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(sample.model_dump_json(), encoding="utf-8")
        (folder / "spec.yaml").write_text(f"metadata: {{name: {name}}}\n", encoding="utf-8")
        os.utime(folder / "result.json", (1_700_000_000 + i, 1_700_000_000 + i))
    (tmp_path / "runs" / "cc44").mkdir()
    return tmp_path


@pytest.fixture
def run(store):
    return open_run(store, "ab22")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param("ab22", "ab22", id="id"),
        pytest.param("aa", "aa11", id="prefix"),
        pytest.param("prediabetes", "ab22", id="name"),
        pytest.param("latest", "ab33", id="latest"),
    ],
)
def test_a_run_is_found_by_id_prefix_name_or_as_the_latest(store, asked, found):
    """People copy ids, type beginnings, and remember names."""
    assert open_run(store, asked).id == found


def test_a_name_of_several_runs_is_the_one_that_finished_last(store):
    """As in the commands."""
    assert open_run(store, "diabetes").id == "ab33"


@pytest.mark.parametrize("asked", ["ab"])
def test_an_ambiguous_run_is_refused_with_the_ids(store, asked):
    """A prefix of two runs opens neither."""
    with pytest.raises(ArtifactNotFound, match=r"2 finished runs are called .*ab33.*Give more of the id"):
        open_run(store, asked)


@pytest.mark.parametrize("asked", ["zz", "cc44", ""])
def test_an_unknown_or_unfinished_run_is_refused_with_what_there_is(store, asked):
    """The message lists the finished runs."""
    with pytest.raises(ArtifactNotFound, match=r"There are: aa11 \(diabetes\)"):
        open_run(store, asked)


def test_a_directory_without_runs_is_said_to_be_no_store(tmp_path):
    """The remedy names the option."""
    with pytest.raises(ArtifactNotFound, match="contains no finished run"):
        open_run(tmp_path)


def test_a_damaged_result_is_refused_without_printing_what_it_holds(store):
    """The message says where it breaks; values of the file stay in the file."""
    path = store / "runs" / "ab22" / "result.json"
    path.write_text('{"outcome": {"secret": "Jane Doe"}}', encoding="utf-8")

    with pytest.raises(ArtifactDamaged, match=r"result\.json: is not a result") as caught:
        open_run(store, "ab22")

    assert "Jane Doe" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_result_comes_back_whole(run, sample):
    """Opened from JSON it equals what was written."""
    assert run.result == sample
    assert run.name == "prediabetes"
    assert run.bundle == run.path / "bundle"


def test_features_and_confidence_are_one_row_a_feature(run):
    """The planted features lead; demographics have no confidence score."""
    features, confidence = run.features, run.confidence

    assert len(features) == 122
    assert features["id"].is_unique
    assert set(features.head(4)["in_consensus"]) == {True}
    assert features.loc[features["code"] == "E11.9", "odds_ratio"].item() == 1.92
    assert features.loc[features["kind"] == "demographic", "confidence_score"].isna().all()
    assert len(confidence) == 120
    assert confidence["score"].max() == 100


def test_metrics_are_tidy(run):
    """One row a figure, with its iteration, classifier, and the reason where it is absent."""
    metrics = run.metrics

    assert list(metrics.columns) == [
        "iteration", "classifier", "is_winner", "metric", "value", "low", "high", "reason",
    ]  # fmt: skip
    won = metrics[(metrics["metric"] == "auroc") & metrics["is_winner"]]
    assert won["iteration"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert won["value"].iloc[0] == pytest.approx(0.676)
    assert metrics.loc[metrics["value"].isna(), "reason"].eq("no alert").all()


def test_the_ledger_and_the_attrition_add_up(run):
    """Rows used and dropped are the rows read; patients left and gone are the patients before."""
    assert run.ledger["rows"].sum() == run.result.ledger.rows_in
    attrition = run.attrition
    assert attrition["patients"].iloc[0] - attrition["patients_out"].sum() == run.result.cohort.n_patients


def test_curves_are_frames_with_named_axes(run):
    """Each iteration's curve can be drawn or averaged without knowing the JSON."""
    curves = run.curves

    assert set(curves) == {"roc", "precision_recall", "calibration", "decision"}
    assert curves["roc"].groupby("test_set", sort=False).size().tolist() == [201] * 7
    assert set(curves["calibration"]["kind"]) == {"smooth", "bin"}
    assert list(curves["decision"].columns) == ["threshold", "model", "low", "high", "all", "none"]


def test_candidates_iterations_and_headline_are_frames(run):
    """What was compared, on whom, and how it came out on the whole."""
    assert set(run.candidates["classifier"]) == {"xgboost", "glmboost"}
    assert run.iterations["n_test_patients"].tolist() == [21_454] * 7
    assert run.headline.set_index("metric").loc["auroc", "n"] == 7
    assert set(run.test_sets["classifier"]) == {"xgboost"}
    assert run.test_sets["auroc"].mean() == pytest.approx(
        run.headline.set_index("metric").loc["auroc", "mean"]
    )
    assert run.winners.set_index("metric").loc["auroc", "mean"] == pytest.approx(
        run.headline.set_index("metric").loc["auroc", "mean"] + 0.002
    )


def test_figures_show_and_save_themselves(run, tmp_path):
    """The report's own pictures, each a file on demand."""
    path = run.figures["consensus"].save(tmp_path / "forest.svg")

    assert path.read_text(encoding="utf-8").startswith("<svg xmlns=")


def test_a_notebook_shows_the_run_in_words(run):
    """The first thing seen is the verdict, escaped."""
    shown = run._repr_html_()

    assert "prediabetes (ab22)" in shown
    assert "71,515 patients" in shown
    assert "Careful: " in shown
