"""Whole runs of a time to an event: the figures agree with the planted hazards, and partitions and row order have no effect."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from mlho.errors import DataError
from mlho.external.evaluation import evaluate_scored
from mlho.external.scores import evaluated_spec, score_cohort
from mlho.method.survival.concordance import harrell
from mlho.method.survival.times import EventTimes
from mlho.model.bundle import load_bundle
from mlho.report.page.html import render_html
from mlho.report.result import Result
from tests.builders import DAY_US, Home, make_spec, make_tables, run_inline, write_tables

HORIZONS = [180, 540]
TIMES = {"event": "event_date", "end": "end_date", "competing": "death_date", "horizonDays": HORIZONS}
CHANGES = {
    "cohort.outcome": "bleeding",
    "validation.iterations": 4,
    "cohort.timeToEvent": TIMES,
    "candidates": [
        {"classifier": "cox", "grid": {"c": [0.01, 0.1]}},
        {"classifier": "xgboostAft", "grid": {"maxDepth": [2], "nRounds": [30]}},
        {"classifier": "discreteTime", "grid": {"c": [0.1]}},
    ],
}


def moved(table, name):
    """Return a time column, moved two days later for each patient, so that the index dates cover four years."""
    patients = table.column("patient_id").to_pylist()
    shift = [
        2 * int(patient[1:]) * DAY_US if patient and patient[1:].isdigit() else 0 for patient in patients
    ]
    times = table.column(name).cast(pa.int64()).to_pylist()
    late = [None if time is None else time + days for time, days in zip(times, shift, strict=True)]
    return pa.array(late, pa.timestamp("us"))


def make_times():
    """Return tables in which E11 and I10 shorten the time to the event; a tenth die of another cause, and half are censored."""
    tables = make_tables(800, seed=4)
    labels, events, rng = tables.labels, tables.events, np.random.default_rng(11)
    events = events.set_column(events.column_names.index("time"), "time", moved(events, "time"))
    labels = labels.set_column(
        labels.column_names.index("index_date"), "index_date", moved(labels, "index_date")
    )
    carriers = {
        code: {
            who
            for who, what in zip(
                events.column("patient_id").to_pylist(), events.column("code").to_pylist(), strict=True
            )
            if what == code
        }
        for code in ("E11", "I10")
    }
    patients = labels.column("patient_id").to_pylist()
    log_hazard = np.array(
        [1.5 * (patient in carriers["E11"]) + 1.2 * (patient in carriers["I10"]) for patient in patients]
    )
    index = np.array(labels.column("index_date").cast(pa.int64()).to_pylist()) // DAY_US
    n = len(index)
    event = np.ceil(rng.exponential(900 / np.exp(log_hazard)))
    death, end = np.ceil(rng.exponential(4000, n)), np.ceil(rng.exponential(700, n)) + 1

    def dates(days, is_given):
        whole = (index + days).astype(int).tolist()
        return pa.array(
            [day if has_date else None for day, has_date in zip(whole, is_given, strict=True)], pa.date32()
        )

    labels = pa.table(
        {
            "patient_id": labels.column("patient_id"),
            "index_date": pa.array(index.tolist(), pa.date32()),
            "event_date": dates(event, event <= np.minimum(death, end)),
            "end_date": dates(np.minimum(death, end), np.ones(n, bool)),
            "death_date": dates(death, death <= end),
            "site": [("east", "north", "south")[int(patient[1:]) % 3] for patient in patients],
            "part": ["test" if int(patient[1:]) % 5 == 0 else "train" for patient in patients],
        }
    )
    first = np.minimum(event, np.minimum(death, end))
    status = np.where(event == first, 1, np.where(death == first, 2, 0)).astype(np.uint8)
    return replace(tables, labels=labels, events=events), EventTimes(first, status, 180.0), log_hazard


TABLES, PLANTED, LOG_HAZARD = make_times()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    """Return one run on two partitions."""
    folder = tmp_path_factory.mktemp("times")
    return run_inline(write_tables(folder / "data", TABLES), folder / "store", CHANGES)


@pytest.fixture(scope="module")
def result(home) -> Result:
    """Return the result of the run."""
    return result_of(home)


def test_the_figures_are_near_those_of_the_planted_hazards(result):
    """Concordance is within 0.06 of that of the planted hazards (0.08 for Uno's), and the observed-to-expected ratio is near 1 at both horizons."""
    figures = result.time_to_event
    best = harrell(PLANTED, LOG_HAZARD, until=float(HORIZONS[-1]))

    assert figures.harrell.mean == pytest.approx(best, abs=0.06)
    assert figures.uno.mean == pytest.approx(best, abs=0.08)
    assert [horizon.days for horizon in figures.horizons] == HORIZONS
    for horizon in figures.horizons:
        assert horizon.figures["observed_expected"].mean == pytest.approx(1.0, abs=0.2)
        assert horizon.figures["auroc"].mean > 0.65
    assert figures.horizons[1].figures["observed"].mean > figures.horizons[0].figures["observed"].mean + 0.1
    assert {"E11", "I10"} <= {feature.code for feature in result.features if feature.in_consensus}


def test_the_planted_hazard_ratios_are_in_their_intervals(result):
    """The consensus has exp(1.5) and exp(1.2) in its intervals, which exclude 1, and the report shows them."""
    found = {
        feature.code: feature.hazard_ratio
        for feature in result.features
        if feature.in_consensus and feature.code
    }
    page = render_html(result)

    for code, planted in (("E11", 1.5), ("I10", 1.2)):
        ratio = found[code]
        assert 1.0 < ratio.low < np.exp(planted) < ratio.high
        assert ratio.low < ratio.per_unit < ratio.high
        assert ratio.p_value < 1e-4
    assert page.count('id="times-hazards"') == 1
    assert "those in groups and periods the weights estimated in each of them." in page


def test_every_candidate_finds_the_planted_hazards(result):
    """Proportional hazards, boosted trees for accelerated failure times, and hazards in intervals have the same AUROC within 0.05."""
    aurocs = {candidate.classifier: candidate.test["auroc"].mean for candidate in result.candidates}

    assert set(aurocs) == {"cox", "xgboostAft", "discreteTime"}
    assert max(aurocs.values()) - min(aurocs.values()) < 0.05


def test_every_sample_is_counted_once(result):
    """Events, competing events and censored samples are counted as planted, and so are the samples with unknown status at each horizon."""
    figures = result.time_to_event

    assert figures.n_events == (PLANTED.status == 1).sum()
    assert figures.n_competing == (PLANTED.status == 2).sum()
    assert figures.n_censored == (PLANTED.status == 0).sum()
    assert figures.n_unknown == [int((PLANTED.status_at(day) == -1).sum()) for day in HORIZONS]
    assert result.cohort.label_ledger["not at risk"] == 0


def test_the_headline_is_corrected_for_censoring(result):
    """The AUROC of the headline equals the weighted AUROC at the first horizon, up to the rounding of the copies."""
    first = result.time_to_event.horizons[0].figures

    assert result.headline["auroc"].mean == pytest.approx(first["auroc"].mean, abs=0.003)
    assert result.headline["calibration_brier"].mean == pytest.approx(first["brier"].mean, abs=0.003)


def test_the_report_describes_the_analysis_of_times(result):
    """The page and the summary mention the horizons, the concordance, the censoring and the outcome."""
    page = render_html(result)

    assert "Time to the event" in page
    assert "540 days" in page
    assert f"follow-up of all samples, to the first of these, was {np.median(PLANTED.days):.0f} days" in page
    assert "Uno’s" in page or "Uno&#39;s" in page
    assert "column “event_date” of the labels is a date within 180 days" in page.replace("Column", "column")
    assert any("corrected for censoring" in sentence for sentence in result.summary)
    assert page.count("censored ones count as without it") == 2, "each share of patients with the outcome"


@pytest.fixture(scope="module")
def bundle(home, tmp_path_factory):
    """Return the bundle of the run."""
    folder = tmp_path_factory.mktemp("bundle")
    for name, content in home.bundle().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return load_bundle(folder)


def test_the_bundle_gives_the_risk_at_each_horizon(bundle):
    """The risk at the first horizon is the probability, and no risk is lower than that at an earlier horizon. The bundle passes its tests."""
    tables = {name: getattr(TABLES, name).to_pandas() for name in ("events", "labels", "demographics")}
    index = tables["labels"][["patient_id", "index_date"]].assign(
        index_date=lambda rows: rows["index_date"].astype("datetime64[us]")
    )

    scores = bundle.predict_events(tables["events"], index, tables["demographics"])

    first, last = (scores[f"risk: {day} days"] for day in HORIZONS)
    assert (first == scores["probability"]).all()
    assert (last >= first).all()
    assert last.mean() > first.mean() + 0.1
    assert [selftest.id for selftest in bundle.run_tests(measured=False) if not selftest.passed] == []


def test_labels_without_censored_samples_do_not_lead_to_a_recalibration(bundle, result, tmp_path):
    """On its own patients, a correct risk looks too low against labels of 0 and 1 that leave out the censored samples. The evaluation says so and advises no
    recalibration, which would be refused."""
    status = PLANTED.status_at(HORIZONS[0])
    labels = TABLES.labels.select(["patient_id", "index_date"]).append_column(
        "bleeding", pa.array((status == 1).astype(int))
    )
    data = write_tables(tmp_path / "data", replace(TABLES, labels=labels.filter(pa.array(status >= 0))))
    spec = evaluated_spec(make_spec({"cohort.outcome": "bleeding"}).spec, bundle)

    evaluation = evaluate_scored(bundle, spec, score_cohort(bundle, spec, data), data_digest="d")

    assert evaluation.figures["calibration_in_the_large"].low > 0
    assert evaluation.advice.action == "hold"
    assert "overstate the risk up to 180 days" in evaluation.advice.reason
    assert any("cannot be assessed (labels of 0 and 1" in sentence for sentence in evaluation.summary)
    assert evaluation.figures["youden/ppv"].value > result.headline["youden/ppv"].mean
    assert any(
        "positive predictive value and net benefit are too high" in text for text in evaluation.warnings
    )


def test_neither_partitions_nor_the_order_of_rows_show(home, tmp_path):
    """Seven files with shuffled rows give the same result and the same bundle, byte for byte."""
    data = write_tables(tmp_path / "data", TABLES, partitions=7, shuffle=3)

    again = run_inline(data, tmp_path / "store", CHANGES)

    assert again.digest == home.digest
    assert again.bundle() == home.bundle()


def result_of(home: Home) -> Result:
    document = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
    document.pop("result_digest", None)
    return Result.model_validate(document)


QUICK = {
    "cohort.outcome": "bleeding",
    "validation.iterations": 2,
    "candidates": [{"classifier": "cox", "grid": {"c": [0.1]}}],
}


def test_rules_give_the_times_that_dates_in_the_labels_give(tmp_path):
    """A cohort by rule with one sample for each patient gives the same figures, features and ratios as the dates in the labels."""
    table = TABLES.labels.to_pandas().drop_duplicates("patient_id")
    names = ("patient_id", "index_date", "event_date", "end_date", "death_date")
    first = {name: table[name].tolist() for name in names}
    end_of_day = DAY_US - 1

    def rows(code, column):
        dated = table[table[column].notna()]
        time = dated[column].astype("datetime64[us]").astype(np.int64) + end_of_day
        return pa.table(
            {
                "patient_id": dated["patient_id"].tolist(),
                "time": pa.array(time.tolist(), pa.timestamp("us")),
                "code": [code] * len(dated),
                "numeric_value": pa.array([None] * len(dated), pa.float64()),
            }
        ).cast(TABLES.events.schema)

    facts = {"ENTRY": "index_date", "BLEED": "event_date", "DEATH": "death_date"}
    events = pa.concat_tables([TABLES.events, *(rows(*fact) for fact in facts.items())])
    ends = dict(zip(first["patient_id"], first["end_date"], strict=True))
    people = TABLES.demographics.column("patient_id").to_pylist()
    demographics = TABLES.demographics.append_column(
        "last_seen", pa.array([ends.get(person) for person in people], pa.date32())
    )
    tables = replace(TABLES, labels=pa.table(first), events=events, demographics=demographics)
    data = write_tables(tmp_path / "data", tables)
    other = write_tables(tmp_path / "other", tables, partitions=5, shuffle=2)
    common = {**QUICK, "features.exclude": list(facts)}
    by_rule = common | {
        "cohort.timeToEvent": {"horizonDays": HORIZONS},
        "data.tables.labels": None,
        "cohort.index": None,
        "cohort.rules": {
            "entry": {"codes": ["ENTRY"], "which": "any"},
            "outcome": {"codes": ["BLEED"], "toDays": 20_000},
            "competing": {"codes": ["DEATH"]},
            "observation": {"endColumn": "last_seen"},
        },
    }

    by_rules = run_inline(data, tmp_path / "store", by_rule)
    expected = result_of(run_inline(data, tmp_path / "store", common | {"cohort.timeToEvent": TIMES}))
    found = result_of(by_rules)

    assert found.time_to_event == expected.time_to_event
    assert found.time_to_event.n_competing > 20
    assert found.features == expected.features
    assert found.headline == expected.headline
    assert found.cohort.label_ledger["used"] == len(table)
    assert "An event of BLEED in the time at risk, within 180 days" in render_html(found)
    assert run_inline(other, tmp_path / "other-store", by_rule).digest == by_rules.digest


TEMPORAL = {"validation.split": "temporal", "validation.testFrom": "2023-06-01"}
SITES = {"validation.split": "site", "validation.splitColumn": "site", "validation.iterations": 3}


ROLLING = {"validation.split": "rolling", "validation.origins": ["2022-06-01", "2023-06-01"]}
GIVEN = {"validation.split": "given", "validation.splitColumn": "part"}


@pytest.mark.parametrize(
    "split", [TEMPORAL, SITES, ROLLING, GIVEN], ids=["temporal", "site", "rolling", "given"]
)
def test_a_planned_split_of_a_time_to_event_holds(split, home, tmp_path):
    """The planted hazards hold on later patients, on other sites and in a given part, and other partitions give the same bytes."""
    data = write_tables(tmp_path / "data", TABLES, partitions=3, shuffle=1)
    plain = write_tables(tmp_path / "plain", TABLES)
    changes = {**QUICK, "cohort.timeToEvent": {**TIMES, "horizonDays": [180, 360]}, **split}

    home_of_split = run_inline(plain, home.run.store, changes)
    result = result_of(home_of_split)

    for horizon in result.time_to_event.horizons:
        assert horizon.figures["auroc"].mean > 0.65
        assert horizon.figures["observed_expected"].mean == pytest.approx(1.0, abs=0.35)
    n_sets = {"temporal": 1, "site": 3, "rolling": 2, "given": 1}[result.split.kind]
    assert len(result.split.test_sets) == n_sets
    if split in (TEMPORAL, ROLLING):
        account = result.split.test_sets[0]
        left_out = {rule.rule: rule.samples for rule in account.left_out}
        assert result.split.follow_up_days == 360
        assert left_out["outcome window reaches the test period"] > 20
        assert result.time_to_event.median_days <= 360
        assert not any("followUpDays" in warning for warning in result.warnings)
    assert run_inline(data, tmp_path / "store", changes).digest == home_of_split.digest


def test_a_test_set_without_follow_up_is_refused(home, tmp_path):
    """A split is refused if almost no sample of a site is observed long enough to know its status at the last horizon."""
    times = {"event": "event_date", "end": "end_date", "horizonDays": [180, 6000]}
    changes = {**QUICK, "cohort.timeToEvent": times, **SITES}

    with pytest.raises(
        DataError, match=r"without the outcome known at 6,000 days.*shorter cohort.timeToEvent"
    ):
        run_inline(write_tables(tmp_path / "data", TABLES), home.run.store, changes)
