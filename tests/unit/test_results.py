"""A finished run, opened in a notebook."""

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
    """Return a store with three finished runs, the second named ``prediabetes``, and an unfinished one."""
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
    ("selector", "found"),
    [
        pytest.param("ab22", "ab22", id="id"),
        pytest.param("aa", "aa11", id="prefix"),
        pytest.param("prediabetes", "ab22", id="name"),
        pytest.param("latest", "ab33", id="latest"),
    ],
)
def test_a_run_is_found_by_id_prefix_name_or_as_the_latest(store, selector, found):
    """A run is found by its id, by a prefix of the id, by its name, or as the latest one."""
    assert open_run(store, selector).id == found


def test_a_name_of_several_runs_opens_the_last_finished_one(store):
    """Among several runs with the same name, the one that finished last is opened, as in the commands."""
    assert open_run(store, "diabetes").id == "ab33"


@pytest.fixture
def with_recalibration(store):
    """Return the store with a later recalibration, which has a result of another form."""
    folder = store / "runs" / "dd55"
    folder.mkdir()
    (folder / "result.json").write_text('{"schema": "mlho.io/recalibration/v1"}', encoding="utf-8")
    (folder / "spec.yaml").write_text(
        "kind: RecalibrationRun\nmetadata: {name: recalibrated}\n", encoding="utf-8"
    )
    return store


def test_a_later_recalibration_is_not_the_latest_run(with_recalibration):
    """``latest`` is the training run that finished last, even if a recalibration is newer."""
    assert open_run(with_recalibration).id == "ab33"


@pytest.mark.parametrize("selector", ["dd55", "dd", "recalibrated"])
def test_a_recalibration_is_refused_with_the_path_of_its_bundle(with_recalibration, selector):
    """A recalibration has no tables of a training run; the error says how to load its model."""
    with pytest.raises(
        ArtifactNotFound, match=r"is a recalibration.*load_bundle\(.*dd55.bundle.*aa11 \(diabetes\)"
    ):
        open_run(with_recalibration, selector)


@pytest.mark.parametrize("selector", ["ab"])
def test_an_ambiguous_run_is_refused_with_the_ids(store, selector):
    """If an id prefix matches two runs, the error lists both."""
    with pytest.raises(
        ArtifactNotFound, match=r"2 finished runs are called .*ab33.*Give more characters of the id"
    ):
        open_run(store, selector)


@pytest.mark.parametrize("selector", ["zz", "cc44", ""])
def test_an_unknown_or_unfinished_run_is_refused_with_the_finished_ones(store, selector):
    """The error for an unknown or unfinished run lists the finished runs."""
    with pytest.raises(ArtifactNotFound, match=r"There are: aa11 \(diabetes\)"):
        open_run(store, selector)


def test_a_folder_without_runs_is_refused(tmp_path):
    """The error for a folder without runs names the option for the store."""
    with pytest.raises(ArtifactNotFound, match="contains no finished run"):
        open_run(tmp_path)


def test_a_damaged_result_is_refused_without_printing_what_it_holds(store):
    """The error for a damaged result states the place and does not quote the file."""
    path = store / "runs" / "ab22" / "result.json"
    path.write_text('{"outcome": {"secret": "Jane Doe"}}', encoding="utf-8")

    with pytest.raises(ArtifactDamaged, match=r"result\.json: is not a result") as caught:
        open_run(store, "ab22")

    assert "Jane Doe" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_result_is_read_back_unchanged(run, sample):
    """The result read from JSON equals the written one."""
    assert run.result == sample
    assert run.name == "prediabetes"
    assert run.bundle == run.path / "bundle"


def test_features_and_confidence_are_one_row_a_feature(run):
    """Features and confidence scores have one row per feature, planted features first. Demographics have no confidence score."""
    features, confidence = run.features, run.confidence

    assert len(features) == 122
    assert features["id"].is_unique
    assert set(features.head(4)["in_consensus"]) == {True}
    assert features.loc[features["code"] == "E11.9", "odds_ratio"].item() == 1.92
    assert features.loc[features["kind"] == "demographic", "confidence_score"].isna().all()
    assert len(confidence) == 120
    assert confidence["score"].max() == 100


def test_metrics_are_tidy(run):
    """The metrics have one row per figure with iteration and classifier, and a reason if the value is missing."""
    metrics = run.metrics

    assert list(metrics.columns) == [
        "iteration", "classifier", "is_winner", "metric", "value", "low", "high", "reason",
    ]  # fmt: skip
    won = metrics[(metrics["metric"] == "auroc") & metrics["is_winner"]]
    assert won["iteration"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert won["value"].iloc[0] == pytest.approx(0.676)
    assert metrics.loc[metrics["value"].isna(), "reason"].eq("no alert").all()


def test_the_ledger_and_the_attrition_add_up(run):
    """The ledger's rows add up to the rows read, and the attrition's patients to the patients before."""
    assert run.ledger["rows"].sum() == run.result.ledger.rows_in
    attrition = run.attrition
    assert attrition["patients"].iloc[0] - attrition["patients_out"].sum() == run.result.cohort.n_patients


def test_curves_are_frames_with_named_axes(run):
    """Each curve is a frame with named columns, so that it can be drawn without knowing the JSON."""
    curves = run.curves

    assert set(curves) == {"roc", "precision_recall", "calibration", "decision"}
    assert curves["roc"].groupby("test_set", sort=False).size().tolist() == [201] * 7
    assert set(curves["calibration"]["kind"]) == {"smooth", "bin"}
    assert list(curves["decision"].columns) == ["threshold", "model", "low", "high", "all", "none"]


def test_candidates_iterations_and_headline_are_frames(run):
    """Candidates, iterations, test sets and headline are frames that agree with each other."""
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
    """The report's figures can be shown and saved to a file."""
    path = run.figures["consensus"].save(tmp_path / "forest.svg")

    assert path.read_text(encoding="utf-8").startswith("<svg xmlns=")


def test_a_notebook_shows_the_run_in_words(run):
    """A notebook shows the run's name, size and verdict as escaped HTML."""
    shown = run._repr_html_()

    assert "prediabetes (ab22)" in shown
    assert "71,515 patients" in shown
    assert "Careful: " in shown
