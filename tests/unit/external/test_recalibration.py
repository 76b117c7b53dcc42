"""Recalibration on recent labels gives a new version of the model with its own tests and gates, which is promoted like any other."""

import html
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from shutil import copytree, ignore_patterns, rmtree
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import yaml

from mlho.encoding.cohort.cohort import Cohort
from mlho.errors import SpecError
from mlho.external.recalibrated import moved_deciles
from mlho.external.recalibration import LINE, SHIFTED, recalibrate
from mlho.method.evaluation.calibration import PlattCalibrator
from mlho.model.bundle import load_bundle
from mlho.scoring.drift import score_psi
from mlho.spec.training import parse_spec
from mlho.steps.records import read_commit
from mlho.store.keys import blob_key
from mlho.store.local import LocalStore
from scheduler.api.resource import from_resource
from scheduler.api.tenancy import ForeignAddress, check_addresses
from scheduler.cli import parser
from scheduler.controller.run_thread import outcome_of
from scheduler.engine import training_run
from scheduler.engine.loop import carry_out
from scheduler.engine.prepare import prepare, prepare_in_cluster
from scheduler.engine.publication import publish_blob, put_blobs
from scheduler.engine.training_run import with_pinned_model
from scheduler.runs.deletion import delete_runs
from scheduler.runs.record import RunRecord, RunState, swap_record, used_tasks
from scheduler.runs.stored import stored_runs
from tests.builders import InlineExecutor, NullObserver, make_document, make_tables, run_inline, write_tables
from tests.unit.external.shifted import rarer

TRAINED_ON = "of labels is one that the bundle was trained on"

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a trained run and later patients, of whom fewer have the outcome, and the run."""
    place = tmp_path_factory.mktemp("recalibration")
    home = run_inline(write_tables(place / "data", make_tables(400, seed=9)), place / "store")
    later = write_tables(place / "later", rarer(make_tables(1200, seed=23)), partitions=1)
    document = make_document({"gates": [{"metric": "auroc", "min": 0.6}]}, uri=str(later))
    (place / "later.yaml").write_text(yaml.safe_dump(document))
    return place, home


def mlho(place, *arguments):
    assert parser.main([*arguments, "--store", str(place / "store")]) == 0


@pytest.mark.parametrize(("folder", "is_warned"), [("data", True), ("later", False)])
def test_labels_of_training_are_warned_of(folder, is_warned, place, capsys):
    """A model ranks its own patients too well: a correction fitted on them spreads the probabilities of others.
    The command to promote it is not shown.
    """
    where, home = place
    spec = where / f"{folder}-spec.yaml"
    spec.write_text(yaml.safe_dump(make_document(uri=str(where / folder))))
    capsys.readouterr()

    mlho(where, "recalibrate", f"run:{home.finished.run_id}", "--spec", str(spec))
    assert ("mlho promote" in capsys.readouterr().out) != is_warned

    mlho(where, "recalibrate", f"run:{home.finished.run_id}", "--spec", str(spec), "--json")
    result = json.loads(capsys.readouterr().out)
    report = (where / "store" / "runs" / result["run"] / "report.html").read_text()
    assert any(TRAINED_ON in warning for warning in result["warnings"]) == is_warned
    assert (TRAINED_ON in report) == is_warned


def test_a_cluster_warns_of_labels_of_training(place, tmp_path):
    """The warning is in the result, the report and the status of a resource, also of a recalibration of a recalibrated model."""
    where, home = place
    copytree(where / "store", tmp_path / "store")
    store, uri = LocalStore(tmp_path / "store"), f"run:{home.finished.run_id}"
    for data, is_warned in (("later", False), ("data", True)):
        document = {**resource_document(where, uri), "metadata": {"name": f"on-{data}"}}
        document["spec"]["data"]["uri"] = str(where / data)
        prepared = prepare_in_cluster(from_resource(document).spec, store)

        finished = carry_out(prepared, InlineExecutor(store, where / data), NullObserver(), n_slots=1)

        status = outcome_of(SimpleNamespace(uri="{}/{}".format), prepared, finished.report.facts)
        report = (tmp_path / "store" / "runs" / finished.run_id / "report.html").read_text()
        assert any(TRAINED_ON in warning for warning in status["warnings"]) == is_warned
        assert (TRAINED_ON in report) == is_warned
        uri = f"run:{finished.run_id}"


def recalibrated(place, home, capsys, *more):
    """Return the result of the command, with id and name of the new version."""
    capsys.readouterr()
    mlho(
        place,
        "recalibrate",
        f"run:{home.finished.run_id}",
        "--spec",
        str(place / "later.yaml"),
        "--json",
        *more,
    )
    return json.loads(capsys.readouterr().out)


def bundle_of(place, run):
    return load_bundle(place / "store" / "runs" / run / "bundle")


@pytest.mark.parametrize("more", [(), ("--intercept",)], ids=["line", "intercept"])
def test_the_probabilities_become_right_and_the_alerts_stay(place, capsys, more):
    """The planted shift is corrected, each sample alerts as before, the model's files are the same, and all tests pass."""
    where, home = place
    result = recalibrated(where, home, capsys, *more)
    before, after = bundle_of(where, home.finished.run_id), bundle_of(where, result["run"])

    assert abs(result["headline"]["calibration_in_the_large"]["mean"]) < 0.2
    assert all(test["passed"] for test in result["final_model"]["tests"])
    assert [gate["passed"] for gate in result["gates"]] == [True, True]
    assert after.digest == result["final_model"]["bundle_digest"] != before.digest
    assert after.document.lineage["recalibrated_from"] == before.digest
    models = [
        {name: file for name, file in bundle.document.files.items() if name.startswith("model/")}
        for bundle in (before, after)
    ]
    assert models[0] == models[1]
    raw = np.concatenate([np.linspace(1e-4, 1 - 1e-4, 5001), before.golden.probability])
    old, new = before.calibrator.apply(raw), after.calibrator.apply(raw)
    for was, threshold in zip(before.thresholds, after.thresholds, strict=True):
        assert ((old >= was.value) == (new >= threshold.value)).all()
    assert (np.log(new / (1 - new)) < np.log(old / (1 - old)) - 0.5).mean() > 0.9


@pytest.mark.parametrize(("share", "is_warned"), [(0.25, True), (1.0, False)])
def test_a_fit_on_few_outcomes_is_warned_of(share, is_warned, place, capsys, tmp_path):
    """The warning gives both numbers of samples, if either is below 200."""
    where, home = place
    data = write_tables(tmp_path / "data", rarer(make_tables(1200, seed=23), share), partitions=1)
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(make_document(uri=str(data))))
    capsys.readouterr()

    mlho(where, "recalibrate", f"run:{home.finished.run_id}", "--spec", str(spec), "--json")

    result = json.loads(capsys.readouterr().out)
    n, n_positive = (result["cohort"][name] for name in ("n_samples", "n_positive_samples"))
    assert (min(n_positive, n - n_positive) < 200) == is_warned
    expected = (
        f"The correction is fitted on {n_positive:,} samples with and {n - n_positive:,} without the outcome."
    )
    assert any(warning.startswith(expected) for warning in result["warnings"]) == is_warned


def test_rates_at_the_thresholds_are_those_of_the_flagged_patients_and_the_net_benefit_is_the_new_one(
    place, capsys
):
    """A recalibration flags the same patients, so these rates stay; the net benefit depends on the probabilities."""
    where, home = place
    result = recalibrated(where, home, capsys)
    spec = ["--spec", str(where / "later.yaml"), "--out", str(where / "evaluated")]
    mlho(where, "evaluate", f"run:{home.finished.run_id}", *spec, "--json")
    delivered = json.loads(capsys.readouterr().out)
    at_thresholds = {name: figure for name, figure in delivered["figures"].items() if "/alerts" in name}

    for name, figure in at_thresholds.items():
        assert result["headline"][name]["mean"] == figure["value"]
    assert len(at_thresholds) == 3
    after = bundle_of(where, result["run"]).document.performance.decision_curve
    assert after["model"]["mean"] != delivered["curves"]["decision"]["model"]["mean"]


def test_a_recalibration_of_a_model_that_should_be_retrained_is_warned_of(place, capsys, tmp_path):
    """A code of the model is missing from the later data: the ranking suffers, which no correction of probabilities changes."""
    where, home = place
    tables = make_tables(1200, seed=23)
    is_kept = [code != "E11" for code in tables.events["code"].to_pylist()]
    data = write_tables(
        tmp_path / "data", replace(tables, events=tables.events.filter(pa.array(is_kept))), partitions=1
    )
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(make_document(uri=str(data))))
    capsys.readouterr()

    mlho(where, "recalibrate", f"run:{home.finished.run_id}", "--spec", str(spec), "--json")

    warnings = json.loads(capsys.readouterr().out)["warnings"]
    [warning] = [text for text in warnings if "does not change the ranking" in text]
    assert "Advice: retrain." in warning


def test_the_correction_is_the_line_on_the_log_odds(place, capsys):
    where, home = place
    result = recalibrated(where, home, capsys)
    line = result["correction"]
    p = np.array([0.05, 0.2, 0.6])
    old, new = (
        bundle.calibrator.apply(p)
        for bundle in (bundle_of(where, home.finished.run_id), bundle_of(where, result["run"]))
    )

    expected = line["intercept"] + line["slope"] * np.log(old / (1 - old))
    assert np.log(new / (1 - new)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("more", "row"), [((), "intercept and slope"), (("--intercept",), "shifted")])
def test_the_report_states_the_correction_and_which_bundle_its_figures_describe(place, capsys, more, row):
    """Its head is the result of the recalibration, with the gates that failed, and not the advice to recalibrate."""
    where, home = place
    document = yaml.safe_load((where / "later.yaml").read_text())
    document["spec"]["gates"] = [
        {"metric": "auroc", "min": 0.98}
    ]  # not those of another test: the run would be its run
    (where / "strict.yaml").write_text(yaml.safe_dump(document))
    capsys.readouterr()
    bundle, spec = f"run:{home.finished.run_id}", str(where / "strict.yaml")
    mlho(where, "recalibrate", bundle, "--spec", spec, "--name", "reported", "--json", *more)
    result = json.loads(capsys.readouterr().out)
    page = (where / "store" / "runs" / result["run"] / "report.html").read_text()

    assert all(html.escape(sentence) in page for sentence in [*result["summary"], *result["warnings"]])
    assert "1 of 2 gates failed" in page
    assert "Advice: recalibrate" not in page
    assert "The bundle is not changed" not in page
    assert f"its figures are the row “{row}” under Recalibration" in page
    assert result["recalibrated_from"] in page
    assert result["final_model"]["bundle_digest"] in page


def test_the_new_version_is_listed_shown_promoted_scored_and_rolled_back(place, capsys, tmp_path):
    """All commands for models work for the new version, and its gates and tests are in the log of the channel."""
    where, home = place
    first = recalibrated(where, home, capsys, "--intercept", "--name", "shifted")["run"]
    result = recalibrated(where, home, capsys)
    run = result["run"]
    assert result["name"] == "small-recalibrated"
    assert run in (where / "store" / "site" / "index.html").read_text()
    mlho(where, "show", run)
    assert "The log-odds become" in capsys.readouterr().out
    mlho(where, "promote", first, "--channel", "production", "--why", "first")
    mlho(where, "promote", run, "--channel", "production", "--why", "recalibrated", "--json")
    capsys.readouterr()
    mlho(where, "models", "--json")
    models = {model["run"]: model for model in json.loads(capsys.readouterr().out)}
    assert models[run]["channels"] == ["production"]
    score = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "ScoringRun",
        "metadata": {"name": "nightly"},
        "spec": {
            "bundle": {"uri": "channel:production"},
            "data": {
                "uri": str(where / "later"),
                "tables": {
                    "events": "events",
                    "cohort": "labels.parquet",
                    "demographics": "demographics.parquet",
                },
                "partitionedBy": "patient",
            },
            "index": {"column": "index_date"},
        },
    }
    (tmp_path / "score.yaml").write_text(yaml.safe_dump(score))
    mlho(where, "score", str(tmp_path / "score.yaml"))
    mlho(where, "show", "nightly")
    assert result["final_model"]["bundle_digest"] in capsys.readouterr().out
    mlho(
        where,
        "evaluate",
        "channel:production",
        "--spec",
        str(where / "later.yaml"),
        "--out",
        str(tmp_path / "o"),
    )
    evaluation = json.loads((tmp_path / "o" / "evaluation.json").read_bytes())
    assert evaluation["advice"]["action"] == "hold"
    assert any("trained on" in sentence for sentence in evaluation["warnings"])
    mlho(where, "export", run, "--to", str(tmp_path / "exported"))
    assert load_bundle(tmp_path / "exported" / "bundle").digest == result["final_model"]["bundle_digest"]
    mlho(where, "lineage", run)
    mlho(where, "site")
    mlho(where, "report", run)
    mlho(where, "rollback", "--channel", "production", "--why", "as before")
    mlho(where, "audit", "--channel", "production")


@pytest.mark.parametrize(
    "line", [PlattCalibrator(2.0, 1.0), PlattCalibrator(0.0, 1.6), PlattCalibrator(-1.0, 0.7)]
)
@pytest.mark.parametrize("seed", range(5))
def test_few_different_scores_have_a_small_psi_after_a_correction(line, seed):
    """The deciles of a bundle are rounded, and a correction enlarges that: equal scores stay on their decile."""
    rng = np.random.default_rng(seed)
    scores, shares = np.sort(rng.uniform(0.005, 0.3, 8)), np.arange(8, 0, -1) / 36
    training = rng.choice(scores, 50_000, p=shares)
    deciles = np.round(np.quantile(training, np.arange(1, 10) / 10, method="inverted_cdf"), 4).tolist()

    moved = moved_deciles(deciles, rng.choice(scores, 1000, p=shares), line)

    assert score_psi(line.apply(rng.choice(scores, 5000, p=shares)), moved)[0] < 0.05
    assert score_psi(line.apply(rng.choice(scores, 5000, p=shares[::-1])), moved)[0] > 0.25


def test_deciles_of_different_scores_are_those_of_the_corrected_probabilities():
    """Without equal scores, the deciles of training move like the probabilities."""
    training, line = np.random.default_rng(4).beta(2, 8, 50_000), PlattCalibrator(1.0, 1.3)
    tenths = np.arange(1, 10) / 10

    moved = moved_deciles(np.round(np.quantile(training, tenths), 4).tolist(), training[:1000], line)

    assert moved == pytest.approx(np.quantile(line.apply(training), tenths), abs=3e-4)


def test_a_repeated_recalibration_has_the_same_bytes(place, capsys):
    """A repeated command gives the same run, computes nothing and overwrites nothing but the record of its latest start."""
    where, home = place
    first = recalibrated(where, home, capsys)
    store = LocalStore(where / "store")

    def written():
        record = f"runs/{first['run']}/record.json"
        return {
            key: store.get(key) for key in store.keys("") if key != record and not key.startswith("uses/")
        }

    before = written()

    assert recalibrated(where, home, capsys) == first
    assert written() == before


def test_a_repeated_recalibration_restores_its_published_bundle(place, capsys):
    """The remedy for a bundle that someone changed is to delete it and to run the command again."""
    where, home = place
    run = recalibrated(where, home, capsys)["run"]
    before = bundle_of(where, run).digest
    rmtree(where / "store" / "runs" / run / "bundle")

    recalibrated(where, home, capsys)

    assert bundle_of(where, run).digest == before


def test_duration_and_cost_of_a_recalibration_are_listed(place, capsys):
    """They are those of its computation; a repetition does not add to them."""
    where, home = place
    run = recalibrated(where, home, capsys, "--name", "timed")["run"]

    mlho(where, "list", "--json")
    first = next(fact for fact in json.loads(capsys.readouterr().out) if fact["run"] == run)
    recalibrated(where, home, capsys, "--name", "timed")
    mlho(where, "list", "--json")
    again = next(fact for fact in json.loads(capsys.readouterr().out) if fact["run"] == run)

    assert [again[name] for name in ("seconds", "cost")] == [first[name] for name in ("seconds", "cost")]
    assert first["state"] == again["state"] == "finished"
    assert 0 < first["cost"]["cpu_seconds"] <= first["seconds"]
    assert first["cost"]["read_bytes"] > 0 < first["cost"]["stored_bytes"]
    assert first["started"] <= first["ended"]


@pytest.fixture
def copied(place, capsys, tmp_path):
    """Return a copy of the place with a recalibration that no channel shows, its id, and the command that makes it."""
    copytree(place[0], tmp_path / "copy")
    where, spec = tmp_path / "copy", tmp_path / "own.yaml"
    document = yaml.safe_load((where / "later.yaml").read_text())
    document["spec"]["gates"] = [{"metric": "auroc", "min": 0.55}]
    spec.write_text(yaml.safe_dump(document))
    command = ["recalibrate", f"run:{place[1].finished.run_id}", "--spec", str(spec), "--json"]
    capsys.readouterr()
    mlho(where, *command)
    return where, json.loads(capsys.readouterr().out)["run"], command


def test_a_recalibration_whose_deletion_is_incomplete_is_not_written(copied, capsys):
    """The next deletion would remove the new files with the old ones. Once it is complete, the same command makes the run again."""
    where, run, command = copied
    store = LocalStore(where / "store")
    swap_record(store, run, lambda found: found.model_copy(update={"state": RunState.DELETING}))
    store.delete(f"runs/{run}/result.json")
    before = set(store.keys(""))

    assert parser.main([*command, "--store", str(where / "store")]) != 0

    words = " ".join(capsys.readouterr().err.split())
    assert f"run {run}: its deletion is incomplete. Complete it with: mlho delete {run}." in words
    assert set(store.keys("")) == before
    mlho(where, "delete", run, "--yes")
    capsys.readouterr()
    mlho(where, *command)
    assert json.loads(capsys.readouterr().out)["run"] == run


def test_a_recalibration_that_is_deleted_while_it_is_computed_is_not_written(copied, capsys, inline):
    """Its deletion may begin while the new calibrator is fitted, if its process had no access to the store."""
    where, run, command = copied
    store = LocalStore(where / "store")
    delete_runs(
        store, [found for found in stored_runs(store) if found.run_id == run], act=True, grace=timedelta(0)
    )

    def delete(_):
        for key in list(store.keys(f"runs/{run}/")):
            store.delete(key)
        swap_record(store, run, lambda _: RunRecord(state=RunState.DELETING, started=datetime.now(UTC)))

    inline.before = delete

    assert parser.main([*command, "--store", str(where / "store")]) != 0
    assert "was deleted while it was carried out" in " ".join(capsys.readouterr().err.split())
    assert list(store.keys(f"runs/{run}/")) == [f"runs/{run}/record.json"]


def test_a_recalibration_is_not_deleted_while_it_is_published(copied, capsys, monkeypatch):
    """Its record states that it is running, so that a deletion does not remove the files that it is writing."""
    where, run, command = copied
    mlho(where, "delete", run, "--yes")
    refused = []

    def publish(store, sha256, key):
        publish_blob(store, sha256, key)
        if key.endswith("report.html"):
            refused.append(parser.main(["delete", run, "--yes", "--store", str(where / "store")]))

    monkeypatch.setattr(training_run, "publish_blob", publish)
    capsys.readouterr()
    mlho(where, *command)

    assert refused == [2]
    assert "a process is running it" in " ".join(capsys.readouterr().err.split())
    (found,) = [found for found in stored_runs(LocalStore(where / "store")) if found.run_id == run]
    assert found.state is RunState.FINISHED


def test_artifacts_are_collected_beside_a_recalibration_whose_own_stay(place, capsys, tmp_path):
    """A recalibration lists its artifact: others that no run uses are removed."""
    where, home = place
    run = recalibrated(where, home, capsys)["run"]
    copytree(where / "store", tmp_path / "store")
    store = LocalStore(tmp_path / "store")
    unused = blob_key(put_blobs(store, {"unused": b"of no run"})["unused"].sha256)
    own = {
        blob_key(file.sha256)
        for task in used_tasks(store, run)
        for file in read_commit(store, task).files.values()
    }

    deletion = delete_runs(store, [], act=True, grace=timedelta(0))

    assert deletion.unknown == []
    assert unused not in store.keys("blobs/")
    assert own
    assert own <= set(store.keys("blobs/"))


def test_a_failed_gate_keeps_the_version_and_blocks_its_promotion(place, capsys, tmp_path):
    where, home = place
    document = yaml.safe_load((where / "later.yaml").read_text())
    document["spec"]["gates"] = [{"metric": "auroc", "min": 0.99}]
    (where / "strict.yaml").write_text(yaml.safe_dump(document))
    mlho(
        where,
        "recalibrate",
        f"run:{home.finished.run_id}",
        "--spec",
        str(where / "strict.yaml"),
        "--name",
        "strict",
    )
    assert "1 of 2 gates failed" in capsys.readouterr().out
    code = parser.main(
        ["promote", "strict", "--channel", "staging", "--why", "try", "--store", str(where / "store")]
    )

    assert code != 0
    assert "gates 1 of 2 failed" in capsys.readouterr().err


def resource(where, uri):
    """Return a custom resource that recalibrates a bundle on the later patients."""
    return from_resource(resource_document(where, uri)).spec


def resource_document(where, uri):
    """Return the custom resource with the fields that describe labelled data."""
    document = yaml.safe_load((where / "later.yaml").read_text())
    sections = document["spec"]
    kept = {name: sections[name] for name in ("data", "cohort", "features", "gates")}
    counted = {name: sections["validation"][name] for name in ("seed", "bootstrapReplicates")}
    document["spec"] = {**kept, "validation": counted, "recalibrate": {"bundle": {"uri": uri}}}
    return document


def test_a_resource_in_a_cluster_makes_the_version_that_the_command_makes(place, capsys, tmp_path):
    """A worker executes one task, and the run has the same id, bundle, report and result."""
    where, home = place
    run = recalibrated(where, home, capsys)["run"]
    folder = where / "store" / "runs" / run
    copytree(where / "store", tmp_path / "store", ignore=ignore_patterns(run, "commits", "uses"))
    store = LocalStore(tmp_path / "store")

    prepared = prepare_in_cluster(resource(where, f"run:{home.finished.run_id}"), store)
    finished = carry_out(prepared, InlineExecutor(store, where / "later"), NullObserver(), n_slots=1)

    assert finished.run_id == prepared.run_id == run
    cluster_folder = tmp_path / "store" / "runs" / run
    for name in ("bundle/bundle.json", "report.html", "result.json", "manifest.json"):
        assert (cluster_folder / name).read_bytes() == (folder / name).read_bytes(), name
    status = outcome_of(SimpleNamespace(uri="{}/{}".format), prepared, finished.report.facts)
    assert (status["gates"], status["outputs"].bundle) == ("passed", f"{run}/bundle")
    kinds = [
        yaml.safe_load((run_folder / "spec.yaml").read_text())["kind"]
        for run_folder in (cluster_folder, folder)
    ]
    assert kinds == ["RecalibrationRun", "RecalibrationRun"]


def test_a_resource_keeps_the_model_that_it_was_accepted_with(place, capsys):
    """A changed channel or a newer run of the name does not change an accepted recalibration."""
    where, home = place
    run = recalibrated(where, home, capsys)["run"]
    spec = resource(where, "run:small")
    store = LocalStore(where / "store")

    first, again = with_pinned_model(spec, store), with_pinned_model(spec, store, accepted=run)

    uris = [pinned.spec.recalibrate.bundle.uri for pinned in (first, again)]
    assert uris[1] == f"run:{home.finished.run_id}"
    assert uris[0].startswith("run:")


def test_a_resource_may_recalibrate_only_what_its_namespace_may_read(place):
    where, _ = place
    spec = resource(where, "s3://others/bundle/")

    with pytest.raises(ForeignAddress, match=r"recalibrate\.bundle\.uri"):
        check_addresses(spec, [str(where)], lambda _: None)


@pytest.mark.parametrize(
    ("section", "content", "named"),
    [
        ("candidates", [{"classifier": "xgboost"}], "candidates"),
        ("consensus", {"minConfidence": 70}, "consensus"),
        ("selection", {"nFeatures": 6}, "selection"),
        ("features", {"demographics": ["age", "sex"], "exclude": ["LOINC:*"]}, "features.exclude"),
        ("validation", {"folds": 3, "seed": 7}, "validation.folds"),
        ("report", {"minCell": 5, "realProfiles": True}, "report.realProfiles"),
        ("tests", {"budgets": {"reasons": 4}}, "tests"),
    ],
)
def test_a_section_that_only_training_uses_is_refused_in_a_recalibration(place, section, content, named):
    """Every reader of the resource refuses it; the operator reports the message in the condition Accepted."""
    document = resource_document(place[0], "run:small")
    document["spec"][section] = content

    for read in (from_resource, lambda manifest: parse_spec(yaml.safe_dump(manifest))):
        with pytest.raises(SpecError, match=f"so {named} would be ignored. Remove them"):
            read(document)


def test_defaults_that_an_api_server_fills_in_are_no_sections_of_training(place):
    document = resource_document(place[0], "run:small")
    parsed = from_resource(document).spec
    filled = parsed.model_dump(mode="json", by_alias=True, exclude_none=True)
    del filled["spec"]["consensus"]["classifier"]  # has no default in the CRD

    assert {"candidates", "consensus", "final", "selection"} <= set(filled["spec"])
    assert from_resource(filled).spec.digest == parsed.digest


def test_the_command_names_the_unused_sections_of_a_training_specification(place, capsys):
    """A training specification with other tables is accepted. Sections without an effect do not change the run."""
    where, home = place
    first = recalibrated(where, home, capsys)["run"]
    document = yaml.safe_load((where / "later.yaml").read_text())
    document["spec"]["candidates"] = [{"classifier": "xgboost", "grid": {"maxDepth": [2]}}]
    other = where / "other.yaml"
    other.write_text(yaml.safe_dump(document))

    mlho(where, "recalibrate", f"run:{home.finished.run_id}", "--spec", str(other), "--json")

    output = capsys.readouterr()
    words = " ".join(output.err.split())
    assert "selection, validation.iterations, validation.folds, candidates are ignored" in words
    assert json.loads(output.out)["run"] == first


def test_the_command_says_that_its_own_bundle_and_correction_count(place, capsys):
    """The manifest of a recalibration in a cluster may have a bundle and a correction that differ from those of the command."""
    where, home = place
    first = recalibrated(where, home, capsys)["run"]
    document = resource_document(where, "run:another")
    document["spec"]["recalibrate"]["correction"] = "intercept"
    other = where / "manifest.yaml"
    other.write_text(yaml.safe_dump(document))

    mlho(where, "recalibrate", f"run:{home.finished.run_id}", "--spec", str(other), "--json")

    output = capsys.readouterr()
    assert "recalibrate is ignored" in " ".join(output.err.split())
    assert json.loads(output.out)["run"] == first


def test_a_command_that_trains_refuses_a_recalibration(place):
    """A command that trains refuses a recalibration, because it would train another model instead."""
    where, _ = place
    spec = resource(where, "run:small")

    with pytest.raises(SpecError, match="mlho recalibrate BUNDLE --spec FILE"):
        prepare(spec, where / "later.yaml", LocalStore(where / "store"))
    assert parse_spec((where / "later.yaml").read_text()).digest != spec.digest


def test_a_line_that_some_folds_lack_has_no_figures():
    """Without a relation, the fit fails in some folds. Figures that mix corrected and uncorrected patients would describe no model."""
    rng = np.random.default_rng(7)
    n = 600
    cohort = Cohort(
        patient_ids=tuple(f"p{number:04d}" for number in range(n)),
        birth_us=np.full(n, np.iinfo(np.int64).min),
        patient_of=np.arange(n, dtype=np.int32),
        index_us=np.arange(n, dtype=np.int64),
        outcome=(rng.random(n) < 0.1).astype(np.uint8),
    )
    related = np.where(cohort.outcome == 1, rng.uniform(0.2, 0.9, n), rng.uniform(0.1, 0.8, n))

    unrelated = recalibrate(cohort, rng.uniform(0.1, 0.9, n), seed=1, n_replicates=20)
    both = recalibrate(cohort, related, seed=1, n_replicates=20)

    assert LINE not in unrelated.figures
    assert abs(unrelated.figures[SHIFTED]["calibration_in_the_large"].value) < 0.1
    assert LINE in both.figures
