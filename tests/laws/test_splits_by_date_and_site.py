"""Whole runs with planned splits: the content of the result, and its independence of partitions and row order."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from mlho.errors import DataError
from mlho.report.page.html import render_html
from mlho.report.result import Result
from tests.builders import Home, make_tables, run_inline, write_tables

DAY_US = 86_400_000_000


def make_sites():
    """Return tables with index dates over 1,500 days, a site for each patient, and persons with two patient ids each."""
    tables = make_tables(300, seed=9)
    labels, events = tables.labels, tables.events
    shift = {f"p{number:05d}": number * 5 for number in range(300)}
    days = [shift[patient] * DAY_US for patient in labels.column("patient_id").to_pylist()]
    index = np.array(labels.column("index_date").cast(pa.int64()).to_pylist()) + days
    labels = labels.set_column(1, "index_date", pa.array(index, pa.timestamp("us")))
    number = [int(patient[1:]) for patient in labels.column("patient_id").to_pylist()]
    labels = labels.append_column("site", pa.array([("east", "north", "south")[n % 3] for n in number]))
    labels = labels.append_column("part", pa.array(["test" if n % 4 == 0 else "train" for n in number]))
    moved = [
        None if when is None else when + shift.get(who, 0) * DAY_US
        for who, when in zip(
            events.column("patient_id").to_pylist(),
            events.column("time").cast(pa.int64()).to_pylist(),
            strict=True,
        )
    ]
    events = events.set_column(1, "time", pa.array(moved, pa.timestamp("us")))
    people = tables.demographics.column("patient_id").to_pylist()
    demographics = tables.demographics.append_column(
        "person", pa.array([int(person[1:]) // 2 for person in people])
    )
    return replace(tables, labels=labels, events=events, demographics=demographics)


TABLES = make_sites()
TEMPORAL = {"validation.split": "temporal", "validation.testFrom": "2021-06-01", "cohort.followUpDays": 60}
SITES = {"validation.split": "site", "validation.splitColumn": "site", "validation.iterations": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write the tables into a folder."""
    return write_tables(tmp_path_factory.mktemp("data"), TABLES)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return one store for all runs, which share the encoding."""
    return tmp_path_factory.mktemp("store")


def result_of(home: Home) -> Result:
    key = f"runs/{home.finished.run_id}/result.json"
    document = json.loads(home.run.store.get(key))
    document.pop("result_digest", None)
    return Result.model_validate(document)


def test_a_temporal_run_accounts_for_every_sample(data, store):
    """The test, training and left-out samples add up to the cohort, and the report gives the date of the cut."""
    result = result_of(run_inline(data, store, {**TEMPORAL, "report.minCell": 0}))

    (test_set,) = result.split.test_sets
    left_out = {rule.rule: rule.samples for rule in test_set.left_out}
    assert (
        test_set.n_test_samples + test_set.n_train_samples + sum(left_out.values()) == result.cohort.n_samples
    )
    assert left_out["outcome window reaches the test period"] > 0
    assert {iteration.test_set for iteration in result.iterations} == {"from 2021-06-01"}
    assert result.headline["auroc"].low < result.headline["auroc"].mean < result.headline["auroc"].high
    page = render_html(result)
    assert "from 2021-06-01" in page
    assert "outcome window reaches the test period" in page
    assert any("index dates from 2021-06-01 on" in sentence for sentence in result.summary)


def test_few_samples_left_out_are_hidden_with_others(data, store):
    """A count below ``minCell`` is null, and no other count reveals it by subtraction."""
    result = result_of(run_inline(data, store, {**TEMPORAL, "cohort.followUpDays": 5, "report.minCell": 11}))

    (test_set,) = result.split.test_sets
    counts = [
        test_set.n_test_samples,
        test_set.n_train_samples,
        *(rule.samples for rule in test_set.left_out),
    ]
    assert counts.count(None) != 1
    assert all(n is None or n == 0 or n >= 11 for n in counts)


def test_a_temporal_run_without_a_follow_up_says_so(data, store):
    """Without a follow-up, only the index date decides the split, and a warning says so."""
    changes = {name: value for name, value in TEMPORAL.items() if name != "cohort.followUpDays"}
    result = result_of(run_inline(data, store, changes))

    assert any("cohort.followUpDays" in warning for warning in result.warnings)


def test_each_site_is_tested_by_models_of_the_others(data, store):
    """Each site is one named test set. The mean over sites has no interval, because sites are not random draws."""
    result = result_of(run_inline(data, store, SITES))

    assert [iteration.test_set for iteration in result.iterations] == [
        "site east",
        "site north",
        "site south",
    ]
    assert result.headline["auroc"].mean is not None
    assert result.headline["auroc"].low is None


def test_partitions_and_order_do_not_show_in_a_planned_split(data, store, tmp_path):
    """The same sites and persons in other files, with shuffled rows, give the same digest."""
    changes = {**SITES, "cohort.groupBy": "person"}
    other = write_tables(tmp_path / "data", TABLES, partitions=3, shuffle=4)

    assert run_inline(data, store, changes).digest == run_inline(other, tmp_path / "store", changes).digest


def test_a_given_split_tests_the_given_patients(data, store):
    """The given quarter of the patients is the test set of each iteration; the seed only draws the training patients."""
    result = result_of(
        run_inline(data, store, {"validation.split": "given", "validation.splitColumn": "part"})
    )

    assert {iteration.n_test_patients for iteration in result.iterations} == {75}


def test_a_temporal_check_stands_beside_the_drawn_test_sets(data, store):
    """The run adds one evaluation on later patients, from the first of a month on, with its own intervals. The other figures do not change."""
    plain = result_of(run_inline(data, store))
    home = run_inline(data, store, {"validation.temporalCheck": True})
    result = result_of(home)

    assert home.kinds().count("evaluate_later") == 1
    assert "run_iteration" not in home.kinds()  # shared with the run without the check
    assert result.headline == plain.headline
    assert plain.later is None
    assert result.later.test_from.endswith("-01")
    assert result.later.figures["auroc"].low is not None
    assert "On later patients" in render_html(result)
    assert any("temporalCheck" in warning for warning in plain.warnings)
    assert not any("temporalCheck" in warning for warning in result.warnings)


def test_a_temporal_check_of_two_years_gives_its_reason(tmp_path):
    """A cohort of a few months has no temporal check, and the result gives the reason."""
    data = write_tables(tmp_path / "data", make_tables(200, seed=3))
    result = result_of(run_inline(data, tmp_path / "store", {"validation.temporalCheck": True}))

    assert result.later.figures == {}
    assert "two years" in result.later.reason
    assert result.later.reason in render_html(result)


def test_an_effect_that_vanishes_shows_in_the_temporal_check_only(tmp_path):
    """A code that predicts the outcome only before the last third of the dates gives a good headline and an AUROC near 0.5 in the temporal check."""
    rng = np.random.default_rng(5)
    n, cut = 1200, 800
    has, early = rng.random(n) < 0.5, np.arange(n) < cut
    outcome = rng.random(n) < np.where(early, np.where(has, 0.7, 0.1), 0.4)
    index = 17_000 * DAY_US + np.arange(n) * DAY_US
    ids = [f"q{number:05d}" for number in range(n)]
    noise = rng.random(n) < 0.5
    carriers = [*np.flatnonzero(has), *np.flatnonzero(noise)]
    codes = ["SIGNAL"] * int(has.sum()) + ["NOISE"] * int(noise.sum())
    base = make_tables(20, seed=1)
    tables = replace(
        base,
        events=pa.table(
            {
                "patient_id": [ids[carrier] for carrier in carriers],
                "time": pa.array((index[carriers] - DAY_US).tolist(), pa.timestamp("us")),
                "code": codes,
                "numeric_value": pa.array([None] * len(codes), pa.float64()),
            }
        ),
        labels=pa.table(
            {
                "patient_id": ids,
                "index_date": pa.array(index, pa.timestamp("us")),
                "label": outcome.astype(np.int8),
            }
        ),
    )
    changes = {
        "validation.temporalCheck": True,
        "features.demographics": [],
        "data.tables.demographics": None,
    }
    result = result_of(run_inline(write_tables(tmp_path / "data", tables), tmp_path / "store", changes))

    assert result.headline["auroc"].mean > 0.65
    assert result.later.figures["auroc"].low < 0.5 < result.later.figures["auroc"].high


def test_an_unknown_column_is_refused_with_its_field(data, tmp_path):
    """A column in neither the labels nor the demographics is refused, and the error names the field of the specification."""
    with pytest.raises(DataError, match=r"no column 'ward'.*validation.splitColumn"):
        run_inline(data, tmp_path, {**SITES, "validation.splitColumn": "ward"})
    with pytest.raises(DataError, match=r"no column 'ward'.*cohort.groupBy"):
        run_inline(data, tmp_path, {"cohort.groupBy": "ward"})


def test_a_patient_id_of_two_persons_is_refused(data, tmp_path):
    """The column ``person`` of the labels must not differ between the samples of one patient."""
    person = pa.array([str(row) for row in range(TABLES.labels.num_rows)])
    tables = replace(TABLES, labels=TABLES.labels.append_column("person", person))
    folder = write_tables(tmp_path / "data", tables)

    with pytest.raises(DataError, match=r"several values in column 'person'"):
        run_inline(folder, tmp_path / "store", {"cohort.groupBy": "person"})
