"""Scores from events equal those of training: the same rules, the same windows, the same bits."""

import datetime as dt
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_array

from mlho.encoding.cohort.define import define_cohort
from mlho.encoding.cohort.demographics import (
    CategoryCode,
    DemographicsEncoder,
    NumberCode,
    encode_demographics,
)
from mlho.encoding.events.blocks import pack_block
from mlho.encoding.events.dictionary import merge_dictionary
from mlho.encoding.events.matrix import Matrix
from mlho.encoding.events.partition import encode_partition
from mlho.errors import DataError
from mlho.method.classifiers import classifier_named
from mlho.method.classifiers.tree_matrix import dense_rows
from mlho.method.selection.features import Cells, Encoding
from mlho.model.bundle import load_bundle, write_bundle
from mlho.model.demographics import lost_values
from mlho.model.design import build_design, build_tree_design, value_columns
from mlho.model.frames import samples_of_frame
from mlho.model.golden import column_statistics
from mlho.model.parts import BundleFeature, Scoring
from mlho.model.scoring import encode_events
from mlho.sources import list_inputs, source_named
from mlho.sources.events import iter_events
from mlho.spec.features import NUMBERS
from mlho.spec.training import TrainingSpec
from tests.unit.model.conftest import training_design

EVENTS = pd.DataFrame(
    [
        ("2", "2019-12-31 08:00", "I10", None),
        ("2", "2019-12-30", "E11", None),
        ("2", "2019-12-29", "E11", None),
        ("2", "2020-01-01", "E11", None),  # after the index date
        ("2", "2018-06-01", "E11", None),  # before its window of 365 days
        ("2", "2018-06-01", "A1C", 9.0),
        ("2", "2019-06-01", "A1C", 7.0),  # the latest
        ("17", "2019-01-15", "J45", None),
        ("17", "2019-01-15", "J45", None),
        ("17", "2019-03-15", "XYZ", None),  # a code that is not in the bundle
        ("17", None, "I10", None),
    ],
    columns=["patient_id", "time", "code", "numeric_value"],
)
INDEX = pd.DataFrame({"patient_id": ["2", "17", "404"], "index_date": [dt.date(2019, 12, 31)] * 3})


def test_features_are_counted_up_to_each_index_date(bundle_folder):
    """Presence, counts, levels, the last value and its range are computed in their own windows."""
    bundle = load_bundle(bundle_folder)
    expected = pd.DataFrame(
        # I10, E11 count, A1C last - 6.5, A1C out of 4.0 and above, J45 levels; patients 17, 2, 404
        [[0, 0, 0, 0, 2], [1, 2, 0.5, 0, 0], [0, 0, 0, 0, 0]],
        columns=bundle.columns,
    )

    scores = bundle.predict_events(EVENTS, INDEX)

    assert scores["patient_id"].tolist() == ["17", "2", "404"]
    assert scores["probability"].tolist() == bundle.predict_proba(expected).tolist()
    assert scores["uncalibrated"].tolist() == bundle.predict_proba(expected, calibrated=False).tolist()
    assert scores["alert: youden"].tolist() == (bundle.predict_proba(expected) >= 0.4).tolist()
    assert (scores["index_date"] == pd.Timestamp("2019-12-31")).all()


def test_every_row_is_accounted_for(bundle_folder):
    """Codes that are not in the bundle are ignored and counted; the ledger counts all other rows."""
    scores = load_bundle(bundle_folder).predict_events(EVENTS, INDEX)

    assert (scores.attrs["unknown_codes"], scores.attrs["unknown_code_rows"]) == (1, 1)
    ledger = scores.attrs["ledger"]
    assert (ledger["rows_in"], ledger["rows_used"]) == (11, 9)
    assert {rule: n for rule, n in ledger["dropped"].items() if n} == {"no time": 1, "after index": 1}


@pytest.mark.parametrize(
    ("index", "n_i10"),
    [
        (dt.date(2019, 12, 31), 1),
        (dt.datetime(2019, 12, 31), 0),
        (pd.Timestamp("2019-12-31 08:00"), 1),
        (pd.DataFrame({"patient_id": [2], "index_date": ["2019-12-31"]}), 1),
        (pd.DataFrame({"patient_id": [2], "index_date": pd.to_datetime(["2019-12-31 07:59"])}), 0),
    ],
    ids=["date", "midnight", "instant", "text, id as a number", "an instant too early"],
)
def test_a_date_includes_its_day_and_a_timestamp_its_instant(index, n_i10, bundle_folder):
    """An event of eight o'clock counts on the date, but not for an earlier instant."""
    bundle = load_bundle(bundle_folder)
    row = np.zeros((1, 5))
    row[0, 0] = n_i10

    explained = bundle.explain_events(EVENTS, index).set_index("patient_id")

    assert explained.loc["2", "I10|365|presence"] == bundle.explain(row)["I10|365|presence"][0]


def test_ids_may_be_numbers(bundle_folder):
    """Patients are identified by the text of the id, so numbers are accepted."""
    bundle = load_bundle(bundle_folder)
    numbers = EVENTS.assign(patient_id=EVENTS["patient_id"].astype(int))

    pd.testing.assert_frame_equal(bundle.predict_events(numbers, INDEX), bundle.predict_events(EVENTS, INDEX))


def test_patients_without_events_are_scored(bundle_folder):
    """Patients without any event are scored as rows of zeros."""
    bundle = load_bundle(bundle_folder)

    with pytest.warns(UserWarning, match="The events have no row"):
        scores = bundle.predict_events(EVENTS.iloc[:0], INDEX)

    assert scores["probability"].tolist() == [bundle.predict_proba(np.zeros((1, 5)))[0]] * 3


def test_demographics_without_ids_are_refused_with_one_date_for_all(bundle_folder):
    """With one date the patients are those of both tables, so that demographics need the column of ids too."""
    persons = pd.DataFrame({"patient_num": [2], "age": [60.0]})
    with pytest.raises(DataError, match=r"demographics.*'patient_num' is near 'patient_id'"):
        load_bundle(bundle_folder).predict_events(EVENTS, dt.date(2020, 1, 1), persons)


def test_a_bundle_without_index_date_takes_everything(parts, tmp_path):
    """For a bundle with ``index: none``, all events count, and a date is refused."""
    bundle_parts = parts(scoring=Scoring(index_kind="none"), predictive=False)
    features = tuple(feature.model_copy(update={"window_days": None}) for feature in bundle_parts.features)
    write_bundle(
        tmp_path / "bundle", parts(scoring=bundle_parts.scoring, predictive=False, features=features)
    )
    bundle = load_bundle(tmp_path / "bundle")

    scores = bundle.predict_events(EVENTS)

    assert scores.attrs["ledger"]["rows_used"] == 10
    assert scores["index_date"].isna().all()
    assert "association only" in bundle.card
    assert all(result.passed for result in bundle.run_tests())
    with pytest.raises(DataError, match="index none"):
        bundle.predict_events(EVENTS, dt.date(2020, 1, 1))


@pytest.mark.parametrize(
    ("events", "index", "message"),
    [
        (EVENTS.drop(columns="code"), INDEX, "code"),
        (EVENTS.drop(columns="numeric_value"), INDEX, "numeric_value"),
        (EVENTS.assign(code=401), INDEX, "column 'code' is a number; codes are text"),
        (EVENTS.assign(code=[401, *["Jane"] * 10]), INDEX, "values of several types"),
        (EVENTS.assign(numeric_value=9.99e37), INDEX, r"up to 1e\+30.*got 11 such rows"),
        (EVENTS, None, "trained with index column"),
        (EVENTS, "2020-01-01", r"index: is not a DataFrame.*datetime\.date\(2020, 1, 31\); got str"),
        (EVENTS, pd.NaT, "index: is not a DataFrame.*got NaTType"),
        (EVENTS, INDEX["index_date"], "index: is not a DataFrame.*got Series"),
        (EVENTS.to_dict(), INDEX, "events.*is not a DataFrame.*got dict"),
        (EVENTS.rename(columns={"patient_id": "patient_num"}), INDEX, "'patient_num' is near 'patient_id'"),
        (
            EVENTS.rename(columns={"patient_id": "patient_num"}),
            dt.date(2020, 1, 1),
            "'patient_num' is near 'patient_id'",
        ),
        (pd.concat([EVENTS, EVENTS[["code"]]], axis=1), INDEX, "two columns have the same name"),
        (EVENTS, INDEX.drop(columns="index_date"), "index_date"),
        (EVENTS, INDEX.assign(index_date=None), "got 3 rows without"),
        (
            EVENTS,
            INDEX.assign(index_date=dt.date(9999, 12, 31)),
            "implausible dates.*got other years in 3 of 3 rows",
        ),
        (EVENTS, INDEX.assign(index_date=dt.date(1066, 10, 14)), "years from .* as in training"),
        (EVENTS, INDEX.assign(patient_id=None), "got 3 rows without"),
        (
            EVENTS,
            INDEX.assign(index_date="31.12.2019"),
            "'index_date' contains text that is not a date.*other text in 3 rows of 3.*to_datetime",
        ),
        (
            EVENTS.assign(time="31.12.2019"),
            INDEX,
            "no row has a readable time.*got 11 rows of other text.*to_datetime",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(events, index, message, bundle_folder):
    """For an invalid table, the error has the column and a count, and shows no value."""
    with pytest.raises(DataError, match=message) as caught:
        load_bundle(bundle_folder).predict_events(events, index)
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (
            EVENTS.assign(time=["31.12.2019"] * 3 + ["2019-01-01"] * 8),
            "27.3 % of the event rows .3 of 11. .*“unreadable time”",
        ),
        (
            EVENTS.assign(patient_id="P" + EVENTS["patient_id"]),
            "None of 11 event rows is used; most .*“unknown patient”",
        ),
        (
            pd.concat([EVENTS.iloc[:1].assign(code="I-10")] * 100),
            "None of the 100 event rows .* has a code of the bundle",
        ),
        (EVENTS.iloc[:0], "The events have no row"),
    ],
    ids=["times of another form", "ids of another form", "codes of another system", "no events"],
)
@pytest.mark.parametrize("method", ["predict_events", "explain_events"])
def test_lost_rows_are_a_warning(method, events, sentence, bundle_folder):
    """A caller whose rows are unusable, or all unused, is warned: the scores would say nothing of the patients."""
    bundle = load_bundle(bundle_folder)

    with pytest.warns(UserWarning, match=sentence):
        getattr(bundle, method)(events, INDEX)


PERSONS = pd.DataFrame({"patient_id": ["2", "17", "404"], "sex": ["M", "F", None]})


@pytest.mark.parametrize(
    ("persons", "sentence"),
    [
        (PERSONS, None),
        (PERSONS.iloc[:1], None),
        (PERSONS.iloc[:0], None),
        (
            PERSONS.assign(sex=["m", "F", None]),
            "Demographic 'sex': 50 % of the rows have a level that the bundle does not have. They count as 'F'.",
        ),
        (
            PERSONS.assign(patient_id=PERSONS["patient_id"] + ".0"),
            "None of the 2 patients with events has a row of demographics",
        ),
    ],
    ids=["all known", "some known", "explicitly none", "levels of another form", "ids of another form"],
)
@pytest.mark.parametrize("index", [INDEX, dt.date(2019, 12, 31)], ids=["table", "date"])
def test_lost_demographics_are_a_warning(persons, sentence, index, parts, tmp_path):
    """A caller whose demographics do not reach the model is warned, as in a scoring run: medians and references would replace them."""
    X, y = training_design()
    encoder = DemographicsEncoder((CategoryCode("sex", ("F", "M")),))
    wide = csc_array(np.column_stack([X.toarray(), np.arange(X.shape[0]) % 2]))
    bundle_parts = parts(
        demographics=encoder,
        classifier=classifier_named("glmboost").fit(wide, y, {}, seed=1, value_columns=None),
        statistics=column_statistics(wide, np.arange(wide.shape[0]), min_cell=11),
    )
    write_bundle(tmp_path / "bundle", bundle_parts)
    bundle = load_bundle(tmp_path / "bundle")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bundle.predict_events(EVENTS, index, persons)

    assert [str(warning.message) for warning in caught if sentence is None] == []
    assert any(sentence in str(warning.message) for warning in caught if sentence is not None) is (
        sentence is not None
    )


def test_impossible_ages_are_counted_for_the_caller():
    """An age is used as it is; the caller is told how many rows have one below 0 or above 150 years."""
    encoder = DemographicsEncoder((NumberCode("age", 50.0, True),))
    samples = samples_of_frame(INDEX, has_dates=True)

    found = lost_values(encoder, samples, EVENTS, PERSONS.assign(age=[-5.0, 600, None]))

    assert found == ["2 rows with an age below 0 or above 150 years: it is used as it is."]
    assert lost_values(encoder, samples, EVENTS, PERSONS.assign(age=[0, 150.0, None])) == []


def test_impossible_births_are_counted_for_the_caller():
    """An age counted from the birth is checked like a given one, and an index date before the birth is named."""
    encoder = DemographicsEncoder((NumberCode("age", 50.0, True),))
    samples = samples_of_frame(INDEX, has_dates=True)
    births = ["1859-01-01", "2021-01-01", None]

    assert lost_values(encoder, samples, EVENTS, PERSONS.assign(birth_date=births)) == [
        "1 sample with an age below 0 or above 150 years: it is used as it is.",
        "1 sample with an index date before birth: the age counts as missing there.",
    ]
    assert lost_values(encoder, samples, EVENTS, PERSONS.assign(birth_date="1980-01-01")) == []


def test_rows_of_other_patients_and_later_rows_are_no_warning(bundle_folder):
    """A table of all patients and all times is what a caller has; most of its rows may be unused."""
    others = EVENTS.assign(patient_id="99")
    later = EVENTS.assign(time="2021-01-01")

    scores = load_bundle(bundle_folder).predict_events(pd.concat([EVENTS, others, later]), INDEX)

    assert scores.attrs["ledger"]["rows_used"] == 9


AGGREGATES = ["count", "first", "last", "max", "mean", "min", "recency", "slope"]
SPEC = {
    "data": {"tables": {"events": "events", "labels": "labels.parquet", "demographics": "persons.parquet"}},
    "cohort": {"index": {"column": "index_date"}, "gapDays": 3},
    "features": {
        "aggregates": AGGREGATES,
        "windows": [90, 365],
        "allHistory": True,
        "demographics": ["age", "sex", "index_year", "index_month"],
    },
}


@pytest.mark.parametrize(
    ("duplicates", "classifier"),
    [("keep", "glmboost"), ("drop", "glmboost"), ("keep", "xgboost"), ("drop", "ebm")],
)
def test_scores_are_those_of_training_to_the_bit(duplicates, classifier, parts, tmp_path):
    """Events in files, through the steps of a run, and the same events as DataFrames, through a bundle, have equal scores."""
    tables = _write_tables(tmp_path)
    spec = TrainingSpec.model_validate({**SPEC, "data": {**SPEC["data"], "duplicates": duplicates}})
    design, features, encoder, fitted, cohort = _train(spec, tmp_path, classifier)
    scoring = Scoring(index_kind="column", gap_days=3, duplicates=duplicates)
    statistics = column_statistics(design, cohort.patient_of, min_cell=11)
    bundle_parts = parts(
        classifier=fitted,
        features=features,
        demographics=encoder,
        scoring=scoring,
        statistics=statistics,
    )
    write_bundle(tmp_path / "bundle", bundle_parts)
    bundle = load_bundle(tmp_path / "bundle")

    scores = bundle.predict_events(tables["events"], tables["labels"], tables["persons"])

    assert scores["uncalibrated"].tolist() == fitted.predict_proba(design).tolist()
    assert scores["patient_id"].tolist() == [cohort.patient_ids[patient] for patient in cohort.patient_of]
    assert [result for result in bundle.run_tests() if not result.passed] == []
    with pytest.raises(DataError, match="the bundle uses demographics"):
        bundle.predict_events(tables["events"], tables["labels"])


def test_zero_is_scored_as_a_value_and_not_as_none(parts, tmp_path):
    """In trees, a last value of 0 and an age of 0 differ from missing ones."""
    _, bundle = _tree_bundle(parts, tmp_path)
    events = pd.DataFrame(
        {"patient_id": ["1"], "time": ["2019-12-01"], "code": ["A"], "numeric_value": [0.0]}
    )
    index = pd.DataFrame({"patient_id": ["1", "2"], "index_date": [dt.date(2019, 12, 31)] * 2})
    persons = pd.DataFrame({"patient_id": ["1"], "birth_date": [dt.date(2019, 12, 31)], "sex": ["F"]})

    encoded = encode_events(bundle, events, index, persons)

    stored = dense_rows(encoded.design, bundle.classifier.empty_row)
    of = dict(zip(bundle.columns, stored.T.tolist(), strict=True))
    assert {name: str(of[name]) for name in ("A|90d|last", "A|365d|last", "age", "A|90d|count")} == {
        "A|90d|last": "[0.0, nan]",
        "A|365d|last": "[0.0, nan]",
        "age": "[0.0, nan]",
        "A|90d|count": "[1.0, 0.0]",
    }
    assert set(bundle.document.signature.matrix["valueColumns"]) == {
        *(name for name in bundle.columns if "|" in name and not name.endswith("|count")),
        "age",
        "index_year",
    }


def _tree_bundle(parts, folder: Path):
    """Return tables, and a bundle of boosted trees that was trained on them."""
    tables = _write_tables(folder)
    design, features, encoder, fitted, cohort = _train(TrainingSpec.model_validate(SPEC), folder, "xgboost")
    bundle_parts = parts(
        classifier=fitted,
        features=features,
        demographics=encoder,
        scoring=Scoring(index_kind="column", gap_days=3),
        statistics=column_statistics(design, cohort.patient_of, min_cell=11),
    )
    write_bundle(folder / "bundle", bundle_parts)
    return tables, load_bundle(folder / "bundle")


def test_a_value_beyond_float32_names_its_code(parts, tmp_path):
    """A value that trees cannot represent is refused, and the error names the feature and not the value."""
    _, bundle = _tree_bundle(parts, tmp_path)
    values = [
        1e39 if feature.code == "B" and feature.aggregate in ("first", "last") else 1.0
        for feature in bundle.document.features
    ]
    values += [1.0] * (len(bundle.columns) - len(values))

    with pytest.raises(
        DataError, match=r"beyond float32.*larger values in 'B\|90d\|first', 'B\|90d\|last'"
    ) as caught:
        bundle.predict_proba(pd.DataFrame([values], columns=bundle.columns))
    assert "e+39" not in str(caught.value)


def test_a_bundle_holds_no_patient(parts, tmp_path):
    """No byte of the bundle contains the id of a training patient, nor a value that only one patient has."""
    _write_tables(tmp_path)
    spec = TrainingSpec.model_validate(SPEC)
    design, features, encoder, fitted, cohort = _train(spec, tmp_path)
    statistics = column_statistics(design, cohort.patient_of, min_cell=11)
    bundle_parts = parts(classifier=fitted, features=features, demographics=encoder, statistics=statistics)

    write_bundle(tmp_path / "bundle", bundle_parts)

    content = b"".join(path.read_bytes() for path in (tmp_path / "bundle").rglob("*") if path.is_file())
    assert [name for name in cohort.patient_ids if name.encode() in content] == []
    assert str(RARE_VALUE).encode() not in content


RARE_VALUE = 8721.4375


def _write_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Write 120 patients, some with two samples: events with values, labels, and demographics with missing entries."""
    generator = np.random.Generator(np.random.PCG64(11))
    n_patients, n_events = 120, 4000
    ids = np.array([f"canary-{number:03d}" for number in range(n_patients)])
    start = np.datetime64("2018-06-01T00:00", "us")
    minutes = generator.integers(0, 900 * 24 * 60, n_events)
    values = np.where(generator.random(n_events) < 0.5, generator.normal(7, 2, n_events), np.nan)
    values[0] = RARE_VALUE
    values[1::9] = 0.0  # zero is a value like any other
    events = pd.DataFrame(
        {
            "patient_id": generator.choice(ids, n_events),
            "time": start + minutes.astype("timedelta64[m]"),
            "code": generator.choice(["A", "B", "C", "D", "E"], n_events),
            "numeric_value": values,
        }
    )
    events = pd.concat([events, events.iloc[:200]], ignore_index=True)  # duplicate rows
    days = np.concatenate([np.full(n_patients, 700), generator.integers(400, 600, 30)])
    labels = pd.DataFrame(
        {
            "patient_id": np.concatenate([ids, ids[:30]]),
            "index_date": [dt.date(2018, 6, 1) + dt.timedelta(days=int(day)) for day in days],
            "label": generator.integers(0, 2, n_patients + 30),
        }
    )
    persons = pd.DataFrame(
        {
            "patient_id": ids[:-5],
            "birth_date": [dt.date(1930 + number % 70, 3, 9) for number in range(n_patients - 5)],
            "sex": ["F", "M", None, "F", "M"] * (n_patients // 5 - 1),
        }
    )
    (folder / "events").mkdir()
    for number in range(3):
        events.iloc[number::3].to_parquet(folder / "events" / f"part-{number}.parquet", index=False)
    labels.to_parquet(folder / "labels.parquet", index=False)
    persons.to_parquet(folder / "persons.parquet", index=False)
    return {"events": events, "labels": labels, "persons": persons}


QUICK = {"xgboost": {"nRounds": 10, "maxDepth": 3}, "ebm": {"maxRounds": 40, "nBags": 1}}


def _train(spec: TrainingSpec, folder: Path, classifier: str = "glmboost"):
    """Run the steps of a run from files to a fitted model."""
    spec = spec.model_copy(update={"cohort": spec.cohort.model_copy(update={"unknown_patients": "keep"})})
    cohort = define_cohort(spec, folder).cohort
    work = folder / "work"
    work.mkdir()
    source, partitions, paths = source_named("native"), [], []
    for number, file in enumerate(list_inputs(folder, "events")):
        paths.append(work / f"segments-{number}")
        partitions.append(encode_partition(spec, cohort, iter_events(source, file), paths[-1]))
    dictionary, code_ids = merge_dictionary(partitions)
    pack_block(spec, cohort, 0, list(zip(paths, code_ids, strict=True)), dictionary, work / "block")
    n_windows = len(spec.windows)
    matrix = Matrix.open([work / "block"], cohort, n_codes=len(dictionary), n_windows=n_windows)
    cells, features = [], []
    for column in range(matrix.n_columns):
        code, window = dictionary.codes[column // n_windows], spec.windows[column % n_windows]
        for aggregate in AGGREGATES:
            block = matrix.column_block([column], numbers=[NUMBERS.get(aggregate)])
            cells.append(Cells(block.indices, block.count, block.number))
            is_centred = classifier == "glmboost" and aggregate != "count"
            encoding = Encoding(aggregate, centre=7.1 if is_centred else 0.0)
            name = f"{code}|{window}d|{aggregate}"
            features.append(
                BundleFeature(
                    id=name, code=code, window_days=window, encoding=encoding, words=name, importance=0.0
                )
            )
    encoder, kind = encode_demographics(cohort.demographics), classifier_named(classifier)
    encodings, is_value = [feature.encoding for feature in features], None
    if kind.absent == "missing":
        encoder = encoder.for_trees()
        is_value = value_columns(encodings, encoder)
    extra = encoder.transform(cohort.demographics)
    if is_value is None:
        design = build_design(encodings, cells, cohort.n_samples, extra)
    else:
        names = [*(feature.id for feature in features), *encoder.names]
        design = build_tree_design(encodings, cells, cohort.n_samples, extra, is_value=is_value, names=names)
    setting = QUICK.get(classifier, {})
    fitted = kind.fit(design, cohort.outcome, setting, seed=1, value_columns=is_value)
    return design, tuple(features), encoder, fitted, cohort
