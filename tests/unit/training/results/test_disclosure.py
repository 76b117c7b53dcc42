"""Tables of the cohort without small cells, and without counts from which they could be computed."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.encoding.cohort.cohort import CategoricalColumn, Cohort, NumericColumn
from mlho.report.result import Cell, Period
from mlho.training.results.disclosure import characteristics, index_dates, shown_attrition

RULES = ("no patient", "outcome missing", "unknown patient", "equal labels")


def attrition_of(drops, n_used=300):
    """Return steps and ledger for rules that drop (rows, patients) each, before 300 rows of 300 patients that are used."""
    rows, patients = (n_used + sum(drop[i] for drop in drops) for i in (0, 1))
    steps = [{"rule": "label rows", "patients": patients, "samples": rows}]
    ledger = dict.fromkeys(RULES, 0) | {"used": n_used}
    for rule, (n_rows, n_patients) in zip(RULES, drops, strict=False):
        if n_rows:
            rows, patients = rows - n_rows, patients - n_patients
            steps.append({"rule": rule, "patients": patients, "samples": rows})
            ledger[rule] = n_rows
    return steps, ledger


def test_attrition_without_small_drops_is_shown_whole():
    """Drops of at least eleven patients are shown."""
    steps, ledger = attrition_of([(11, 11), (0, 0), (50, 20)])

    shown = shown_attrition(steps, ledger, 11)

    assert [step.model_dump() for step in shown.steps] == steps
    assert shown.label_ledger == ledger


def test_a_small_drop_is_hidden_in_attrition_and_ledger_with_the_next_smallest():
    """Neither the difference of two steps nor the sum of the ledger reveals the two dropped rows."""
    steps, ledger = attrition_of([(80, 70), (2, 2), (30, 25)])

    shown = shown_attrition(steps, ledger, 11)

    assert [(step.patients, step.samples) for step in shown.steps] == [
        (397, 412),
        (327, 332),
        (None, None),
        (300, 300),
    ]
    assert shown.label_ledger == ledger | {"outcome missing": None, "unknown patient": None}


def test_a_small_drop_alone_hides_where_the_attrition_starts():
    """If the only drop is small, the first step is hidden, so the number of dropped rows cannot be computed."""
    steps, ledger = attrition_of([(0, 0), (2, 2)])

    shown = shown_attrition(steps, ledger, 11)

    assert [(step.patients, step.samples) for step in shown.steps] == [(None, None), (300, 300)]
    assert shown.label_ledger == ledger | {"outcome missing": None}


def test_a_rule_that_dropped_nothing_hides_no_small_drop():
    """In a cohort by rule, a rule without a drop does not protect a small drop; one with a drop does."""
    counts = [("possible", 412), ("none", 412), ("few", 410), ("many", 380)]
    steps = [{"rule": rule, "patients": n, "samples": n} for rule, n in counts]
    ledger = {"none": 0, "few": 2, "many": 30, "used": 380}

    shown = shown_attrition(steps, ledger, 11)

    assert [step.samples for step in shown.steps] == [412, 412, None, 380]
    assert shown.label_ledger == ledger | {"few": None, "many": None}


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda n: (n[0], min(n))), max_size=4))
def test_the_shown_attrition_does_not_reveal_a_small_drop(drops):
    """Between two shown steps there is no hidden drop, or several whose sum leaves a choice, and never a small number of patients."""
    steps, ledger = attrition_of(drops)

    shown = shown_attrition(steps, ledger, 11)

    places = [place for place, step in enumerate(shown.steps) if step.samples is not None]
    for before, after in itertools.pairwise(places):
        rules = [step["rule"] for step in steps[before + 1 : after + 1]]
        hidden = [ledger[rule] for rule in rules if shown.label_ledger[rule] is None]
        patients = steps[before]["patients"] - steps[after]["patients"]
        assert not hidden or (len(hidden) > 1 and sum(hidden) - len(hidden) + 1 >= 11)
        assert patients == 0 or patients >= 11
    assert all(n is None or n == 0 or n >= 11 for n in shown.label_ledger.values())
    assert shown.steps[-1].samples == 300
    # Without the first step, the sum of the ledger is unknown; with it, the rules add up to that sum.
    if shown.steps[0].samples is None:
        assert all(n is None or n == 0 for rule, n in shown.label_ledger.items() if rule != "used")


def cohort_of(*columns, outcome, patient_of=None):
    n = len(outcome)
    patients = np.arange(n, dtype=np.int32) if patient_of is None else np.array(patient_of, np.int32)
    return Cohort(
        patient_ids=tuple(f"{i:04d}" for i in range(int(patients.max()) + 1)),
        birth_us=np.zeros(n, np.int64),
        patient_of=patients,
        index_us=np.arange(n),
        outcome=np.array(outcome, np.uint8),
        demographics=columns,
    )


def test_a_small_level_hides_the_smallest_other_one_in_its_column():
    """With the outcome, 4 of 60 have level c, so b (16) is also hidden. Without the outcome, no level is hidden."""
    codes = np.repeat([0, 1, 2, 0, 1, 2], [40, 16, 4, 100, 50, 50])
    column = CategoricalColumn("site", ("a", "b", "c"), codes.astype(np.int16))

    rows = characteristics(cohort_of(column, outcome=[1] * 60 + [0] * 200), 11)

    assert [(row.level, row.without_outcome, row.with_outcome) for row in rows] == [
        ("a", Cell(n=100, share=0.5), Cell(n=40, share=2 / 3)),
        ("b", Cell(n=50, share=0.25), None),
        ("c", Cell(n=50, share=0.25), None),
    ]
    assert [row.difference is None for row in rows] == [False, True, True]  # it would reveal the share


@pytest.mark.parametrize(("n_patients", "is_shown"), [(10, False), (11, True)])
def test_quartiles_are_of_enough_patients(n_patients, is_shown):
    """Thirty samples of ten patients count as ten patients."""
    values = NumericColumn("bmi", np.linspace(20, 30, 30))
    patients = np.sort(np.arange(30) % n_patients)

    (row,) = characteristics(cohort_of(values, outcome=[1] * 30, patient_of=patients), 11)

    assert (row.with_outcome is not None) is is_shown
    assert row.without_outcome is None


def test_standardised_mean_differences_are_those_of_austin():
    """For a number, the difference is that of the means divided by the root of the mean variance; for a level, the same applies to its share."""
    values = NumericColumn("age", np.repeat([60.0, 62.0, 64.0, 50.0, 52.0, 54.0], 20))
    levels = CategoricalColumn("sex", ("f", "m"), np.repeat([0, 1, 0, 1], [30, 30, 15, 45]).astype(np.int16))

    age, *sex = characteristics(cohort_of(values, levels, outcome=[1] * 60 + [0] * 60), 11)

    deviation = np.repeat([60.0, 62.0, 64.0], 20).std(ddof=1)
    assert age.difference == pytest.approx(10 / deviation)
    assert (age.with_outcome.lower_quartile, age.with_outcome.median) == (60, 62)
    expected = (0.5 - 0.25) / np.sqrt((0.5 * 0.5 + 0.25 * 0.75) / 2)
    assert [row.difference for row in sex] == pytest.approx([expected, -expected])


def test_missing_numbers_are_counted_by_outcome():
    """Twenty of sixty with the outcome have no value; five without the outcome are too few to show."""
    values = NumericColumn("bmi", np.array([20.0] * 40 + [np.nan] * 20 + [21.0] * 55 + [np.nan] * 5))

    _, missing = characteristics(cohort_of(values, outcome=[1] * 60 + [0] * 60), 11)

    assert (missing.is_missing, missing.with_outcome) == (True, Cell(n=20, share=1 / 3))
    assert missing.without_outcome is None


def test_index_dates_are_months_that_enough_patients_reach():
    """The first date is that of one patient, so the period begins with the month of the eleventh."""
    days = np.array(["2014-01-05"] + ["2015-03-01"] * 20 + ["2016-07-31"] * 12, "datetime64[us]").astype(
        np.int64
    )
    cohort = dataclasses.replace(cohort_of(outcome=[0] * 33), index_us=days)

    assert index_dates(cohort, 11) == Period(first="2015-03", last="2016-07")
    assert index_dates(cohort, 0) == Period(first="2014-01", last="2016-07")
    assert index_dates(cohort, 34) is None
