"""External validation: a bundle on labelled data that it was not trained on."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

import scheduler.cli.parser
from mlho.errors import DataError, SpecError
from mlho.external.evaluation import as_json, calibration_sentence, evaluate_scored
from mlho.external.scores import evaluated_spec, score_cohort
from mlho.model.bundle import load_bundle
from mlho.report.bias.audit import PeriodBias
from mlho.report.page.external import charts, thresholds
from mlho.report.page.html import render_evaluation
from mlho.report.parts import Estimate
from mlho.report.verdicts import Samples
from mlho.spec.training import parse_spec
from tests.builders import make_document, make_spec, make_tables, run_inline, write_tables
from tests.unit.external.shifted import rarer

SITES = ("east", "north", "tiny")


def with_sites(tables, n_tiny=4):
    """Add a site for each patient; the last site has few."""
    number = [int(patient[1:]) for patient in tables.labels.column("patient_id").to_pylist()]
    site = [SITES[2] if n < n_tiny else SITES[n % 2] for n in number]
    return replace(tables, labels=tables.labels.append_column("site", pa.array(site)))


OTHER = with_sites(make_tables(400, seed=21))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a run on one cohort, its data and its bundle."""
    place = tmp_path_factory.mktemp("trained")
    data = write_tables(place / "data", make_tables(400, seed=9))
    home = run_inline(data, place / "store")
    for name, content in home.bundle().items():
        path = place / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return home, data, load_bundle(place / "bundle")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Write other patients into a folder."""
    return write_tables(tmp_path_factory.mktemp("other"), OTHER)


def evaluated(bundle, folder, changes=None):
    spec = evaluated_spec(make_spec(changes).spec, bundle)
    return evaluate_scored(bundle, spec, score_cohort(bundle, spec, folder), data_digest="d")


BY_SITE = {"validation.split": "site", "validation.splitColumn": "site", "validation.iterations": 3}


def test_scores_are_those_that_training_computed(trained):
    """On the training data, the probabilities equal those of ``Bundle.predict_events``, bit for bit."""
    _, data, bundle = trained
    spec = evaluated_spec(make_spec().spec, bundle)
    scored = score_cohort(bundle, spec, data)
    tables = make_tables(400, seed=9)
    index = tables.labels.select(["patient_id", "index_date"]).to_pandas()

    frame = bundle.predict_events(
        tables.events.to_pandas(), index=index, demographics=tables.demographics.to_pandas()
    )

    assert scored.probability.tolist() == frame["probability"].tolist()
    assert scored.uncalibrated.tolist() == frame["uncalibrated"].tolist()
    assert scored.ledger.rows_in == tables.events.num_rows


def test_a_model_that_holds_has_the_auroc_of_training_within_its_interval(trained, other):
    """On another cohort with the same planted effects, the interval of the AUROC contains that of training."""
    evaluation = evaluated(trained[2], other)

    assert (
        evaluation.figures["auroc"].low < evaluation.trained["auroc"].mean < evaluation.figures["auroc"].high
    )
    assert evaluation.figures["calibration_slope"].low is not None
    assert evaluation.figures["youden/sensitivity"].low is not None
    assert evaluation.n_patients == 400


def test_a_rarer_outcome_is_found_and_corrected(trained, tmp_path):
    """If two of three patients lose the outcome, the shift of the recalibration corrects the probabilities."""
    number = np.array([int(patient[1:]) for patient in OTHER.labels.column("patient_id").to_pylist()])
    label = np.where(number % 3 == 0, OTHER.labels.column("label").to_numpy(), 0).astype(np.int8)
    tables = replace(OTHER, labels=OTHER.labels.set_column(2, "label", pa.array(label)))
    evaluation = evaluated(trained[2], write_tables(tmp_path, tables))

    assert evaluation.recalibration.shift.high < 0
    figures = evaluation.recalibration.figures
    assert abs(figures["shifted"]["calibration_in_the_large"].value) < 0.1
    assert figures["shifted"]["brier"].value < figures["as delivered"]["brier"].value


def test_a_renamed_code_is_one_new_and_one_vanished_code(trained, tmp_path):
    """As in a scoring run, both codes are in the figures, the warnings and the report. Unchanged codes are not a finding."""
    shares = trained[2].document.training.codes.shares
    renamed = max(shares, key=lambda code: (shares[code], code))
    codes = pc.replace_substring_regex(OTHER.events["code"], f"^{re.escape(renamed)}$", "NEW")
    place = OTHER.events.column_names.index("code")
    tables = replace(OTHER, events=OTHER.events.set_column(place, "code", codes))

    evaluation = evaluated(trained[2], write_tables(tmp_path, tables))

    assert [(shift.code, shift.training) for shift in evaluation.codes.vanished] == [
        (renamed, shares[renamed])
    ]
    assert [shift.code for shift in evaluation.codes.new] == ["NEW"]
    assert evaluation.codes.new[0].now > 2 * evaluation.codes.new[0].training
    words = " ".join(evaluation.warnings)
    assert "Codes that were absent or rare in training: NEW (" in words
    assert f"Codes of training that are absent from all samples: {renamed} (" in words
    assert "Codes that are new or have vanished since training" in render_evaluation(evaluation)
    many = evaluation.codes.model_copy(update={"new": [], "vanished": [], "n_compared": 1123})
    assert "of 1,123 that were compared" in render_evaluation(evaluation.model_copy(update={"codes": many}))


def test_a_new_code_of_fewer_samples_than_may_be_shown_is_not_named(trained, tmp_path):
    """``report.minCell`` also applies here: a code of 60 patients is hidden with a minimum of 100."""
    events = OTHER.events
    first = set(OTHER.labels.column("patient_id").to_pylist()[:60])
    is_first = pa.array([patient in first for patient in events["patient_id"].to_pylist()])
    codes = pc.if_else(is_first, "NEW", events["code"])
    events = events.set_column(events.column_names.index("code"), "code", codes)
    folder = write_tables(tmp_path, replace(OTHER, events=events))

    named, hidden = (evaluated(trained[2], folder, {"report.minCell": n}).codes for n in (11, 100))

    assert [shift.code for shift in named.new] == ["NEW"]
    assert (hidden.n_new, hidden.new) == (0, [])


def test_months_sites_and_groups_add_up_without_small_cells(trained, other):
    """Each grouping covers all samples, and a site with four patients has no row and cannot be computed from others."""
    evaluation = evaluated(trained[2], other, {**BY_SITE, "report.minCell": 11})
    by_site = {group.level: group for group in evaluation.bias.groups if group.by == "site"}

    assert "tiny" not in json.dumps(evaluation.model_dump(mode="json")["bias"])
    assert set(by_site) == {"east", "north", "other"}
    assert by_site["other"].n_samples is None
    assert [group.n_samples for group in by_site.values()].count(None) >= 2
    assert {group.by for group in evaluation.bias.groups} == {"all", "site", "sex", "age"}
    assert evaluation.bias.unit == "month"
    assert by_site["east"].figures["auroc"].low is not None
    page = render_evaluation(evaluation)
    assert "site: east" in page
    assert "tiny" not in page


def test_partitions_and_order_do_not_show(trained, other, tmp_path):
    """Other files, with the rows of a patient spread over them and shuffled, give the same bytes."""
    shuffled = write_tables(tmp_path, OTHER, partitions=3, shuffle=4)

    assert as_json(evaluated(trained[2], other, BY_SITE)) == as_json(evaluated(trained[2], shuffled, BY_SITE))


def test_data_that_do_not_fit_the_bundle_are_refused(trained, other, tmp_path):
    """Another kind of index, several outcomes, missing demographics, and an outcome of one class are refused."""
    bundle = trained[2]
    for changes, words in (
        ({"cohort.index": "none"}, "trained with index column"),
        ({"cohort.outcomes": ["label", "other"]}, "one outcome"),
        ({"features.demographics": [], "data.tables.demographics": None}, "the bundle uses age, sex"),
    ):
        with pytest.raises(SpecError, match=words):
            evaluated(bundle, other, changes)
    none = replace(OTHER, labels=OTHER.labels.set_column(2, "label", pa.array([0] * OTHER.labels.num_rows)))
    with pytest.raises(DataError, match="one class"):
        evaluated(bundle, write_tables(tmp_path, none))


def test_the_command_writes_report_and_figures(trained, other, tmp_path, capsys, monkeypatch):
    """The command takes the id of a run. With ``--json``, stdout has one document. A repeated call gives the same folder and bytes."""
    home, _, bundle = trained
    monkeypatch.chdir(tmp_path)
    spec = tmp_path / "other.yaml"
    spec.write_text(yaml.safe_dump(make_document(uri=str(other))))
    arguments = [
        "evaluate",
        f"run:{home.finished.run_id}",
        "--spec",
        str(spec),
        "--site",
        "site",
        "--store",
        str(home.run.store.root),
    ]

    assert scheduler.cli.parser.main([*arguments, "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    folder = tmp_path / document.pop("folder")
    assert document["bundle_digest"] == bundle.digest
    assert json.loads((folder / "evaluation.json").read_bytes()) == document
    assert "Recalibration" in (folder / "report.html").read_text()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert scheduler.cli.parser.main(arguments) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_data_of_training_are_recognised(trained, tmp_path, capsys):
    """The files are recognised by their content in the manifest of the run, and a warning says so."""
    home, data, _ = trained
    arguments = ["evaluate", f"run:{home.finished.run_id}", "--data", str(data), "--out", str(tmp_path)]

    assert scheduler.cli.parser.main([*arguments, "--store", str(home.run.store.root)]) == 0

    said = capsys.readouterr().out
    assert "3 files of events or labels are among those" in said
    assert "cannot be assessed (the bundle was trained on these labels)" in said


def test_no_recalibration_is_advised_on_the_labels_of_training(trained, tmp_path):
    """In the patients of training the probabilities seem miscalibrated; a correction would make them too extreme in new patients."""
    folder = write_tables(tmp_path / "data", rarer(make_tables(1600, seed=5)))
    spec = evaluated_spec(make_spec().spec, trained[2])
    scored = score_cohort(trained[2], spec, folder)

    actions = [
        evaluate_scored(trained[2], spec, scored, data_digest="d", n_known_labels=n).advice.action
        for n in (0, 1)
    ]

    assert actions == ["recalibrate", "hold"]


def test_the_tables_of_a_folder_are_guessed_with_the_bundles_outcome(trained, other, tmp_path, capsys):
    """If ``mlho init`` would find the tables, no specification is needed."""
    home, *_ = trained
    out = tmp_path / "out"
    arguments = [
        "evaluate",
        f"run:{home.finished.run_id}",
        "--data",
        str(other),
        "--out",
        str(out),
        "--store",
        str(home.run.store.root),
    ]

    assert scheduler.cli.parser.main(arguments) == 0

    assert "outcome label" in capsys.readouterr().err
    assert json.loads((out / "evaluation.json").read_bytes())["n_patients"] == 400


def relabelled(tables, label):
    """Return the tables with these labels."""
    column = pa.array(np.asarray(label, np.int8))
    return replace(tables, labels=tables.labels.set_column(2, "label", column))


def command(home, folder, spec_changes, out, *more):
    """Evaluate the run's bundle on a folder, with the command."""
    out.mkdir(exist_ok=True)
    spec = out / "later.yaml"
    spec.write_text(yaml.safe_dump(make_document(spec_changes, uri=str(folder))))
    store = ["--store", str(home.run.store.root)]
    arguments = ["evaluate", f"run:{home.finished.run_id}", "--spec", str(spec), "--out", str(out), *more]
    assert scheduler.cli.parser.main([*arguments, *store]) == 0
    return json.loads((out / "evaluation.json").read_bytes())


def test_a_lost_relation_is_found_and_the_training_run_on_the_later_data_is_written(
    trained, tmp_path, capsys
):
    """Labels unrelated to the features lead to the advice to retrain, and the manifest is a training run of the same method on these tables."""
    home, *_ = trained
    tables = make_tables(400, seed=22)
    label = np.random.default_rng(1).permutation(tables.labels.column("label").to_numpy())
    data = write_tables(tmp_path / "data", relabelled(tables, label))

    evaluation = command(home, data, {}, tmp_path / "out")

    assert evaluation["advice"]["action"] == "retrain"
    assert evaluation["surveillance"]["alarms"]
    assert "Advice: retrain." in capsys.readouterr().out
    written = parse_spec((tmp_path / "out" / "retrain.yaml").read_text())
    original = parse_spec(home.run.store.get(f"runs/{home.finished.run_id}/spec.yaml").decode())
    assert written.spec.candidates == original.spec.candidates
    assert written.spec.data.uri == str(data)
    assert written.metadata.name.endswith("-retrained")


def test_the_advised_run_of_an_earlier_evaluation_is_named(trained, other, tmp_path, capsys):
    """A file next to the report that this evaluation does not advise is kept, and a warning says so."""
    stale = tmp_path / "retrain.yaml"
    stale.write_text("earlier", encoding="utf-8")

    assert command(trained[0], other, {}, tmp_path)["advice"]["action"] == "hold"

    assert f"{stale} is not of this evaluation" in capsys.readouterr().err
    assert stale.read_text(encoding="utf-8") == "earlier"


def test_the_report_of_a_run_is_not_replaced_by_an_evaluation(trained, other, tmp_path, capsys):
    """``--out`` with the folder of an exported run is refused before anything is computed."""
    report = tmp_path / "report.html"
    report.write_text("of a run", encoding="utf-8")
    run = f"run:{trained[0].finished.run_id}"

    assert (
        scheduler.cli.parser.main(["evaluate", run, "--data", str(other), "--out", str(tmp_path)])
        == SpecError.exit_code
    )

    assert "contains a report that is not of an evaluation. Choose another folder." in capsys.readouterr().err
    assert report.read_text(encoding="utf-8") == "of a run"


def test_a_rarer_outcome_leads_to_the_advice_to_recalibrate(trained, tmp_path):
    """A rarer outcome leads to the advice to recalibrate, and the specification of the recalibration is written."""
    data = write_tables(tmp_path / "data", rarer(make_tables(2000, seed=23)))

    evaluation = command(trained[0], data, {}, tmp_path / "out", "--publish")

    assert evaluation["n_positive_samples"] >= 200
    assert any("The probabilities are too high on average" in sentence for sentence in evaluation["summary"])
    assert evaluation["advice"]["action"] == "recalibrate"
    assert evaluation["recalibration"]["shift"]["high"] < -1
    written = (tmp_path / "out" / "recalibrate.yaml").read_text()
    assert written.startswith(f"# mlho recalibrate run:{trained[0].finished.run_id} --spec recalibrate.yaml")
    assert parse_spec(written).spec.data.uri == str(data)
    assert not {"candidates", "selection"} & yaml.safe_load(written)["spec"].keys()
    recalibrate = parse_spec(written).spec.recalibrate
    assert (recalibrate.bundle.uri, recalibrate.correction) == (
        f"run:{trained[0].finished.run_id}",
        evaluation["advice"]["correction"],
    )
    store = trained[0].run.store
    (kept,) = [key for key in store.keys("evaluations/") if key.endswith("/evaluation.json")]
    assert store.get(kept) == (tmp_path / "out" / "evaluation.json").read_bytes()
    assert any(b"AUROC by month" in store.get(key) for key in store.keys("site/model-"))


def test_too_few_outcomes_are_a_caveat_and_no_advice_to_recalibrate(trained, tmp_path, capsys):
    """The rules are those of the training report: 100 outcomes for the AUROC, 200 for calibration. The shift planted here is large."""
    data = write_tables(tmp_path / "data", rarer(make_tables(400, seed=23), share=0.2))
    capsys.readouterr()

    evaluation = command(trained[0], data, {}, tmp_path / "out")

    assert evaluation["n_positive_samples"] < 100
    assert evaluation["recalibration"]["shift"]["high"] < -0.5
    assert evaluation["advice"]["action"] == "hold"
    assert not (tmp_path / "out" / "recalibrate.yaml").exists()
    report = (tmp_path / "out" / "report.html").read_text()
    shown = " ".join(capsys.readouterr().out.split())
    for text in (" ".join(evaluation["summary"]), report, shown):
        assert (
            "With fewer than 100 samples with or without the outcome, this figure is too uncertain to rely on."
            in text
        )
        assert "cannot be assessed (fewer than 200 samples with or without the outcome)" in text
        assert "The probabilities are too high" not in text
    assert "Intervals of “all patients” may differ from those under Performance" in report


@pytest.mark.parametrize(
    ("slope", "large", "n_positive", "beginning"),
    [
        ((1.0, 0.95, 1.05), (-0.1, -0.15, -0.05), 900, "The probabilities are close to the observed"),
        ((1.0, 0.95, 1.05), (-0.4, -0.45, -0.35), 900, "The probabilities are too high on average"),
        ((0.6, 0.55, 0.65), (0.0, -0.05, 0.05), 900, "The probabilities are too extreme"),
        (
            (1.0, None, None),
            (-0.4, None, None),
            900,
            "The calibration of the probabilities cannot be assessed (there",
        ),
        (
            (1.0, 0.95, 1.05),
            (-0.4, -0.45, -0.35),
            199,
            "The calibration of the probabilities cannot be assessed (fewer",
        ),
    ],
)
def test_calibration_is_called_off_only_if_beyond_chance_and_relevant(slope, large, n_positive, beginning):
    """The rules are those of the training report: a shift of the log-odds of −0.1 is small, even if its interval excludes 0."""
    figures = {
        name: Estimate(value=value, low=low, high=high)
        for name, (value, low, high) in (("calibration_slope", slope), ("calibration_in_the_large", large))
    }

    assert calibration_sentence(figures, Samples(9000, n_positive), None).startswith(beginning)


def test_the_page_draws_one_curve_of_these_data_and_states_that_empty_periods_are_not_listed(trained, other):
    """A range over test sets needs several of them, and months of which nothing is shown are one sentence."""
    evaluation = evaluated(trained[2], other)
    group = evaluation.bias.groups[0]
    few = [PeriodBias(period=f"2031-0{month}") for month in (1, 2)]
    groups = [group.model_copy(update={"periods": [*group.periods, *few]}), *evaluation.bias.groups[1:]]
    page = render_evaluation(
        evaluation.model_copy(update={"bias": evaluation.bias.model_copy(update={"groups": groups})})
    )

    assert not re.search("Lowest to highest|one of them|>range<|on the test sets", page)
    (roc,) = [chart for chart in charts(evaluation) if chart.name == "roc"]
    assert len(roc.columns) == len(roc.rows[0]) == 2  # no interval of a single curve
    cells = [cell for row in thresholds(evaluation)["rows"] for cell in row[2:]]
    assert any('<span class="s">' in cell for cell in cells)  # an interval is below its figure
    assert not any(re.search(r"[0-9] \([−0-9]", cell) for cell in cells)
    assert "2031-01" not in page
    # The audit has no periods with fewer samples than may be shown, so a number would be too small.
    assert "Months of which no count and no figure may be shown are not listed." in page


def test_nights_are_the_periods_of_groups_and_surveillance_on_demand(trained, other, tmp_path):
    """Nights with few patients have no AUROC, and are counted."""
    evaluation = command(trained[0], other, {"report.minCell": 2}, tmp_path / "out", "--by", "night")
    nights = {period["period"] for period in evaluation["bias"]["groups"][0]["periods"]}

    assert all(len(level) == len("2020-01-31") for level in nights)
    assert evaluation["bias"]["unit"] == "night"
    assert evaluation["surveillance"]["period"] == "night"
    assert evaluation["surveillance"]["n_left_out"] > 0
    assert evaluation["surveillance"]["n_left_out"] + len(evaluation["surveillance"]["evidence"]) >= len(
        nights
    )


BY_RULES = {
    "data.tables.labels": None,
    "cohort.index": None,
    "cohort.outcome": "label",
    "cohort.rules": {
        "entry": {"codes": ["LOINC:2160-0"], "which": "last"},
        "criteria": [
            {
                "name": "N01 or N02",
                "any": [{"count": {"codes": [code], "atLeast": 1}} for code in ("N01", "N02")],
            }
        ],
        "outcome": {"codes": ["N0[3-9]", "N03", "N04", "N05", "N06"], "toDays": 300},
        "notObservable": "negative",
    },
}


def test_a_cohort_by_rule_is_evaluated_like_the_same_cohort_as_a_table(trained, other, tmp_path):
    """The rules make the samples in memory; a table with these samples gives the same figures, bit for bit."""
    from mlho.encoding.rules.whole import make_rule_labels
    from mlho.sources import list_inputs, source_of
    from tests.builders import write_table

    bundle = trained[2]
    spec = make_spec(BY_RULES).spec
    by_rule = evaluated(bundle, other, BY_RULES)
    rows = make_rule_labels(spec, source_of(spec.data), other, list_inputs(other, "events")).rows
    ids = rows.patient_ids.to_pylist()
    labels = pa.table(
        {
            "patient_id": [ids[patient] for patient in rows.patient.tolist()],
            "index_date": pa.array(rows.index_us, pa.timestamp("us")),
            "label": rows.outcome,
        }
    )
    for path in other.iterdir():
        if path.name != "labels.parquet":
            (tmp_path / path.name).symlink_to(path)
    write_table(tmp_path / "labels.parquet", labels)

    by_table = evaluated(bundle, tmp_path)

    assert by_rule.n_samples == by_table.n_samples > 50
    assert by_rule.figures == by_table.figures
    assert by_rule.bias == by_table.bias
    assert [step.rule for step in by_rule.attrition][:2] == [
        "entry events, and patients without one",
        "has an entry event",
    ]
    assert "rules" in by_rule.spec["cohort"]


def test_variants_are_no_cohort_to_evaluate(trained):
    """A document with several runs is refused instead of being read in part."""
    variants = {"variants": [{"name": "short", "cohort": {"lookBackDays": 30}}]}
    with pytest.raises(SpecError, match="an evaluation covers one cohort"):
        evaluated_spec(make_spec(variants).spec, trained[2])


def test_each_published_evaluation_is_kept_under_its_id(trained, other, tmp_path):
    """A second evaluation of other data does not replace the first, and is not lost."""
    data = trained[1]
    store = trained[0].run.store
    for number, folder in enumerate((data, other)):
        command(trained[0], folder, {}, tmp_path / f"out-{number}", "--publish")

    published = {store.get(key) for key in store.keys("evaluations/") if key.endswith("/evaluation.json")}

    assert {(tmp_path / f"out-{number}" / "evaluation.json").read_bytes() for number in (0, 1)} <= published
    ids = {key.split("/")[1] for key in store.keys("evaluations/")}
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in ids)


@pytest.mark.parametrize("column", ["nocol", "label"])
def test_an_unusable_column_of_sites_is_reported_by_its_option(trained, other, tmp_path, capsys, column):
    """The user wrote ``--site``, and no field of the specification."""
    spec = tmp_path / "later.yaml"
    spec.write_text(yaml.safe_dump(make_document({}, uri=str(other))))
    arguments = ["evaluate", f"run:{trained[0].finished.run_id}", "--spec", str(spec), "--site", column]
    store = ["--store", str(trained[0].run.store.root)]

    assert scheduler.cli.parser.main([*arguments, "--out", str(tmp_path / "out"), *store]) != 0
    error = capsys.readouterr().err
    assert "--site" in error
    assert "splitColumn" not in error
