"""The definition of a cohort from labels and demographics: dropped rows, joins and refused input."""

import dataclasses
import datetime as dt
import itertools
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlho.encoding.cohort.cohort import NO_BOUND, CategoricalColumn, Cohort, NumericColumn
from mlho.encoding.cohort.define import USED, CohortResult, define_cohort
from mlho.errors import DataError, SpecError
from mlho.spec.training import TrainingSpec

DAY_US = 86_400_000_000
JAN_31_US = 18_292 * DAY_US  # 2020-01-31
NO_DATE = np.iinfo(np.int64).min
SECRET = "Ada Lovelace"

LABELS = "patient_id,index_date,label\nb,2020-01-31,1\na,2020-01-31,0\na,2020-02-01,1\nc,2020-01-31,0\n"


def cohort_of(
    root: Path, labels: str | pa.Table = LABELS, demographics: str | pa.Table | None = None, **options
):
    """Define a cohort from tables given as CSV text or Arrow. Options: features, source, minCell (0), bias, fields of the cohort."""
    tables = {"events": "events", "labels": _write(root, "labels", labels)}
    if demographics is not None:
        tables["demographics"] = _write(root, "demographics", demographics)
    spec = TrainingSpec.model_validate(
        {
            "data": {"source": options.pop("source", "native"), "tables": tables},
            "features": {"demographics": options.pop("features", ())},
            "report": {"minCell": options.pop("minCell", 0)},
            "bias": options.pop("bias", None),
            "cohort": {"index": {"column": "index_date"}} | options,
        }
    )
    return define_cohort(spec, root)


def _write(root: Path, name: str, table: str | pa.Table) -> str:
    if isinstance(table, str):
        (root / f"{name}.csv").write_text(table)
        return f"{name}.csv"
    pq.write_table(table, root / f"{name}.parquet")
    return f"{name}.parquet"


def dropped(result: CohortResult) -> dict[str, int]:
    return {rule: n for rule, n in result.label_ledger.items() if n}


def same(a: Cohort, b: Cohort, tmp_path: Path) -> bool:
    a.write(tmp_path / "a")
    b.write(tmp_path / "b")
    return (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_samples_come_in_canonical_order(tmp_path):
    """Patients are sorted by id, samples by (patient, index date), and an index date includes its whole day."""
    result = cohort_of(tmp_path)
    cohort = result.cohort

    assert cohort.patient_ids == ("a", "b", "c")
    assert cohort.patient_of.tolist() == [0, 0, 1, 2]
    assert cohort.patient_of.dtype == np.int32
    assert cohort.index_us.tolist() == [JAN_31_US + n * DAY_US - 1 for n in (1, 2, 1, 1)]
    assert cohort.outcome.tolist() == [0, 1, 1, 0]
    assert cohort.outcome.dtype == np.uint8
    assert cohort.birth_us.tolist() == [NO_DATE] * 3
    assert cohort.attrition == ({"rule": "label rows", "patients": 3, "samples": 4},)
    assert dropped(result) == {USED: 4}


def test_ids_are_sorted_by_their_bytes_however_they_are_stored(tmp_path):
    """10 comes before 9, because ids are compared as text, so integers and texts give the same order."""
    numbers = pa.table({"patient_id": [9, 10], "index_date": [dt.date(2020, 1, 31)] * 2, "label": [1, 0]})
    texts = numbers.set_column(0, "patient_id", numbers["patient_id"].cast(pa.string()))

    cohort = cohort_of(tmp_path, numbers).cohort

    assert cohort.patient_ids == ("10", "9")
    assert cohort.outcome.tolist() == [0, 1]
    assert same(cohort, cohort_of(tmp_path, texts).cohort, tmp_path)


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (pa.array([dt.date(2020, 1, 31)] * 2), JAN_31_US + DAY_US - 1),
        (pa.array([dt.datetime(2020, 1, 31)] * 2, pa.timestamp("ms")), JAN_31_US),
        (pa.array([dt.datetime(2020, 1, 31, 12)] * 2, pa.timestamp("ns")), JAN_31_US + DAY_US // 2),
        (pa.array(["2020-01-31"] * 2), JAN_31_US + DAY_US - 1),
        (pa.array(["2020-01-31 12:00:00"] * 2), JAN_31_US + DAY_US // 2),
    ],
    ids=["date", "timestamp at midnight", "timestamp", "text date", "text time"],
)
def test_a_date_includes_its_day_and_a_timestamp_that_instant(tmp_path, dates, expected):
    """The bound is the last microsecond that may be used: the end of a date, or the instant of a timestamp."""
    labels = pa.table({"patient_id": ["a", "b"], "index_date": dates, "label": [0, 1]})

    assert cohort_of(tmp_path, labels).cohort.index_us.tolist() == [expected] * 2


def test_one_date_for_all_includes_its_day(tmp_path):
    """With one date for all, the labels need no index column."""
    cohort = cohort_of(tmp_path, "patient_id,label\na,0\nb,1\n", index={"date": "2020-01-31"}).cohort

    assert cohort.index_us.tolist() == [JAN_31_US + DAY_US - 1] * 2


def test_index_none_makes_one_sample_a_patient(tmp_path):
    """With ``index: none`` all events count, rows of a patient are merged, and a warning calls the result an association."""
    result = cohort_of(tmp_path, "patient_id,label\na,0\nb,1\nb,1\n", index="none")

    assert result.cohort.index_us.tolist() == [NO_BOUND] * 2
    assert dropped(result) == {"equal labels": 1, USED: 2}
    assert "No index date: not predictive, association only." in result.cohort.warnings


def test_labels_without_index_date_need_an_explicit_none(tmp_path):
    """Labels without an index date are refused, and the message offers ``index: none`` as one of the remedies."""
    with pytest.raises(DataError, match="index: none states explicitly") as caught:
        cohort_of(tmp_path, "patient_id,label\na,0\nb,1\n")

    assert caught.value.rule == "column 'index_date' is missing"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([0, 1, None], pa.int8()), [0, 1]),
        (pa.array([0.0, 1.0, float("nan")]), [0, 1]),
        (pa.array([False, True, None]), [0, 1]),
        (pa.array(["FALSE", "true", " "]), [0, 1]),
        (pa.array(["0", "1", None]).dictionary_encode(), [0, 1]),
        (pa.array(["0.0", " 1.0", ""]), [0, 1]),
    ],
    ids=["integers", "floats", "booleans", "R's booleans", "dictionary", "text floats"],
)
def test_outcomes_are_read_from_every_form(tmp_path, column, expected):
    """0 and 1, false and true are read in every form; a missing outcome drops the row, and the ledger counts it."""
    labels = pa.table({"patient_id": ["a", "b", "c"], "index_date": ["2020-01-31"] * 3, "label": column})

    result = cohort_of(tmp_path, labels)

    assert result.cohort.outcome.tolist() == expected
    assert dropped(result) == {"outcome missing": 1, USED: 2}


def test_each_label_row_is_used_or_dropped_by_one_rule(tmp_path):
    """The ledger adds up to the rows, and the attrition agrees with it."""
    labels = (
        "patient_id,index_date,label\n"
        "a,2020-01-31,0\na,2020-01-31,0\na,2020-02-01,\n"
        "b,2020-01-31,1\n"
        ",2020-01-31,1\n"
        "c,,1\n"
        "x,2020-01-31,1\n"
        "d,2020-01-31,0\nd,2020-01-31,1\nd,2020-01-31,1\n"
    )
    result = cohort_of(
        tmp_path,
        labels,
        "patient_id,sex\na,F\nb,M\nc,F\nd,M\n",
        unknownPatients="drop",
        conflictingLabels="drop",
    )

    assert dropped(result) == {
        "no patient": 1,
        "no index date": 1,
        "outcome missing": 1,
        "unknown patient": 1,
        "conflicting labels": 3,
        "equal labels": 1,
        USED: 2,
    }
    assert result.cohort.attrition == (
        {"rule": "label rows", "patients": 5, "samples": 10},
        {"rule": "no patient", "patients": 5, "samples": 9},
        {"rule": "no index date", "patients": 4, "samples": 8},
        {"rule": "outcome missing", "patients": 4, "samples": 7},
        {"rule": "unknown patient", "patients": 3, "samples": 6},
        {"rule": "conflicting labels", "patients": 2, "samples": 3},
        {"rule": "equal labels", "patients": 2, "samples": 2},
    )


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        (",2020-01-31,1\n", "no patient"),
        ("d,,1\n", "no index date"),
        ("d,1020-01-31,1\n", "implausible index date"),
        ("d,2020-01-31,\n", "outcome missing"),
        ("c,2020-01-31,0\n", "equal labels"),
    ],
)
def test_a_rule_that_drops_many_label_rows_is_a_warning(tmp_path, rows, rule):
    """More than 20 % of the rows are a warning with a remedy; the count is in the label ledger. Exactly 20 % are not."""
    many, few = (cohort_of(tmp_path, LABELS + rows * n).cohort.warnings for n in (2, 1))

    (warning,) = [text for text in many if "label rows" in text]
    assert warning.startswith(f"More than 20 % of the label rows are dropped by the rule “{rule}”. Check ")
    assert not [text for text in few if "label rows" in text]


def test_a_subgroup_drops_label_rows_on_purpose(tmp_path):
    """Samples outside ``cohort.only`` are no finding; unknown patients that are dropped are one."""
    persons = "patient_id,sex\na,F\nb,M\n"
    options = {"unknownPatients": "drop", "only": {"sex": ["F"]}, "features": ["sex"]}
    found = cohort_of(tmp_path, LABELS, persons, **options).cohort.warnings

    (warning,) = [text for text in found if "label rows" in text]
    assert "“unknown patient”" in warning


CONFLICT = "patient_id,index_date,label\na,2020-01-31,0\na,2020-01-31,1\na,2020-01-31,0\nb,2020-01-31,0\nc,2020-01-31,1\n"


def test_conflicting_labels_are_refused(tmp_path):
    """Conflicting labels are refused unless the specification has a policy for them."""
    with pytest.raises(DataError) as caught:
        cohort_of(tmp_path, CONFLICT)

    assert caught.value.rule == "a sample has conflicting outcomes in column 'label'"
    assert caught.value.got == "1 sample of 1 patient with both 0 and 1"
    assert "cohort.conflictingLabels" in caught.value.remedy


@pytest.mark.parametrize(
    ("policy", "patients", "outcome", "rows", "words"),
    [
        ("drop", ("b", "c"), [0, 1], {"conflicting labels": 3, USED: 2}, "are left out"),
        ("any", ("a", "b", "c"), [1, 0, 1], {"conflicting labels": 2, USED: 3}, "1 sample of 1 patient has"),
    ],
)
def test_conflicting_labels_follow_the_policy(tmp_path, policy, patients, outcome, rows, words):
    """Conflicting samples are dropped, or positive if any row is. Only the ledger counts the dropped rows."""
    result = cohort_of(tmp_path, CONFLICT, conflictingLabels=policy)

    assert result.cohort.patient_ids == patients
    assert result.cohort.outcome.tolist() == outcome
    assert dropped(result) == rows
    assert any(words in w for w in result.cohort.warnings)


def test_a_label_file_with_unknown_patients_is_refused(tmp_path):
    """Labelled patients without demographics are refused, and the remedy names the usual cause: the tables write ids differently."""
    with pytest.raises(DataError, match="check that ids have the same form in both tables") as caught:
        cohort_of(tmp_path, LABELS, "patient_id,sex\na,F\n")

    assert caught.value.got == "2 patients without one, of 3"
    assert "17.0, 00017 and 17 are different ids" in caught.value.remedy


def test_unknown_patients_are_kept_with_unknown_demographics(tmp_path):
    """A missing category is the level unknown, a missing number is NaN, and a warning counts the patients."""
    cohort = cohort_of(
        tmp_path, LABELS, "patient_id,sex,bmi\na,F,21.5\n", unknownPatients="keep", features=["sex", "bmi"]
    ).cohort

    sex, bmi = cohort.demographics
    assert isinstance(sex, CategoricalColumn)
    assert [sex.levels[code] for code in sex.codes] == ["F", "F", "unknown", "unknown"]
    assert np.array_equal(bmi.values, [21.5, 21.5, np.nan, np.nan], equal_nan=True)
    assert "2 labelled patients unknown to the demographics are kept." in cohort.warnings


def test_demographics_are_typed_by_column(tmp_path):
    """Text and booleans are categories. The reference level is the most frequent one, then the first in order."""
    demographics = pa.table(
        {
            "patient_id": ["c", "b", "a", "z"],
            "sex": pa.array(["M", "F", "F", "X"]),
            "smoker": pa.array([True, False, None, True]),
            "black": pa.array([0, 1, 0, 1], pa.int8()),
            "site": pa.array(["2", "", "1", "1"]).dictionary_encode(),
        }
    )
    names = ["sex", "smoker", "black", "site"]

    sex, smoker, black, site = cohort_of(
        tmp_path,
        "patient_id,index_date,label\na,2020-01-31,0\nb,2020-01-31,1\nc,2020-01-31,0\n",
        demographics,
        features=names,
    ).cohort.demographics

    assert (sex.levels, sex.codes.tolist()) == (("F", "M"), [0, 0, 1])
    assert (smoker.levels, smoker.codes.tolist()) == (("false", "true", "unknown"), [2, 0, 1])
    assert isinstance(black, NumericColumn)
    assert black.values.tolist() == [0.0, 1.0, 0.0]
    assert (site.levels, site.codes.tolist()) == (("1", "2", "unknown"), [0, 2, 1])
    assert sex.codes.dtype == np.int16


def test_text_in_csv_that_is_all_numbers_is_a_number(tmp_path):
    """A CSV column of numbers only is numeric, and one that contains any other text is a category."""
    demographics = "patient_id,n,mixed\na,1,1\nb,,2\nc,3.5,many\n"

    n, mixed = cohort_of(tmp_path, LABELS, demographics, features=["n", "mixed"]).cohort.demographics

    assert np.array_equal(n.values, [1, 1, np.nan, 3.5], equal_nan=True)
    assert mixed.levels == ("1", "2", "many")


@pytest.mark.parametrize(("decimal", "kind"), [(None, CategoricalColumn), (",", NumericColumn)])
def test_demographics_with_a_decimal_comma_are_numbers_if_it_is_stated(tmp_path, decimal, kind):
    """Numbers of demographics in CSV have the decimal separator of ``data.format``."""
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "persons.csv").write_text('patient_id,bmi\na,"20,5"\nb,"30,25"\nc,\n')
    spec = TrainingSpec.model_validate(
        {
            "data": {
                "tables": {"events": "e", "labels": "labels.csv", "demographics": "persons.csv"},
                "format": {} if decimal is None else {"decimal": decimal},
            },
            "features": {"demographics": ["bmi"]},
            "report": {"minCell": 0},
            "cohort": {"index": {"column": "index_date"}},
        }
    )

    (column,) = define_cohort(spec, tmp_path).cohort.demographics

    assert type(column) is kind
    if isinstance(column, NumericColumn):
        np.testing.assert_array_equal(column.values, [20.5, 20.5, 30.25, np.nan])


def test_r_tables_are_read_by_their_names(tmp_path):
    """With ``source: dbmart``, ``patient_num`` is the patient, and NA is a missing value."""
    result = cohort_of(
        tmp_path,
        '"patient_num","label"\n"a",0\n"b",1\n"c",NA\n',
        '"patient_num","white","race"\n"a",1,"NA"\n"b",NA,NA\n"c",0,"x"\n',
        source="dbmart",
        index="none",
        features=["white", "race"],
    )

    white, race = result.cohort.demographics
    assert np.array_equal(white.values, [1, np.nan], equal_nan=True)
    assert [race.levels[code] for code in race.codes] == ["NA", "unknown"]
    assert dropped(result) == {"outcome missing": 1, USED: 2}


@pytest.mark.parametrize("name", ["birth_date", "birth"])
def test_age_is_counted_from_birth_to_the_index_date(tmp_path, name):
    """The age is the number of days divided by 365.25. The birth date is also used for the ledger."""
    cohort = cohort_of(
        tmp_path, LABELS, f"patient_id,{name}\na,1970-01-01\nb,\nc,2020-03-01\n", features=["age"]
    ).cohort

    (age,) = cohort.demographics
    assert np.array_equal(age.values, [18292 / 365.25, 18293 / 365.25, np.nan, np.nan], equal_nan=True)
    assert cohort.birth_us.tolist() == [0, NO_DATE, 18_322 * DAY_US]
    assert "1 sample with an index date before birth: the age counts as missing there." in cohort.warnings


def test_an_age_column_is_used_as_it_is(tmp_path):
    """An age column takes precedence over a birth date."""
    cohort = cohort_of(
        tmp_path, LABELS, "patient_id,age,birth_date\na,40,1970-01-01\nb,50,\nc,60,\n", features=["age"]
    ).cohort

    assert cohort.demographics[0].values.tolist() == [40, 40, 50, 60]


def test_age_from_birth_needs_an_index_date(tmp_path):
    """Without an index date, an age from the birth date is refused."""
    with pytest.raises(SpecError, match=r"cohort\.index is none"):
        cohort_of(
            tmp_path,
            "patient_id,label\na,0\nb,1\n",
            "patient_id,birth_date\na,\nb,\n",
            features=["age"],
            index="none",
        )


def test_year_and_month_of_the_index_date_are_demographics(tmp_path):
    """``index_year`` and ``index_month`` are those of each sample; a column of that name takes precedence."""
    labels = "patient_id,index_date,label\na,2020-01-31,0\na,2020-12-31,1\nb,2019-12-31,0\nc,2019-12-01,1\n"
    persons = "patient_id,sex\na,F\nb,M\nc,F\n"
    year, month = cohort_of(
        tmp_path, labels, persons, features=["index_year", "index_month"]
    ).cohort.demographics

    assert year.values.tolist() == [2020, 2020, 2019, 2019]
    assert [month.levels[code] for code in month.codes] == ["01", "12", "12", "12"]
    (column,) = cohort_of(
        tmp_path, labels, "patient_id,index_year\na,1\nb,2\nc,3\n", features=["index_year"]
    ).cohort.demographics
    assert column.values.tolist() == [1, 1, 2, 3]


def test_the_year_of_the_index_date_needs_one(tmp_path):
    """With ``index: none``, the year of the index date is undefined."""
    with pytest.raises(SpecError, match=r"index_year is computed from the index date"):
        cohort_of(
            tmp_path,
            "patient_id,label\na,0\nb,1\n",
            "patient_id,sex\na,F\nb,M\n",
            features=["index_year"],
            index="none",
        )


def test_demographics_with_the_index_column_are_joined_by_it(tmp_path):
    """With one row for each patient and index date, a value that changes, such as a ward, is that of the sample."""
    demographics = (
        "patient_id,index_date,ward\n"
        "a,2020-02-01,icu\na,2020-01-31,er\na,2020-01-31,er\nb,2019-01-01,er\nc,2020-01-31,icu\n"
    )
    (ward,) = cohort_of(tmp_path, LABELS, demographics, features=["ward"]).cohort.demographics

    assert [ward.levels[code] for code in ward.codes] == ["er", "icu", "unknown", "icu"]


def test_equal_rows_of_a_patient_collapse_and_differing_ones_are_refused(tmp_path):
    """Rows of a patient may differ only in unused columns."""
    demographics = "patient_id,sex,visit\na,F,1\na,F,2\nb,M,1\nc,M,1\n"

    cohort_of(tmp_path, LABELS, demographics, features=["sex"])
    with pytest.raises(DataError) as caught:
        cohort_of(tmp_path, LABELS, demographics, features=["sex", "visit"])

    assert caught.value.rule == "a patient has differing rows"
    assert caught.value.got == "1 patient whose rows differ in 'visit'"


BAD_TABLES = {
    "no labels": (
        lambda root: cohort_of(root, "patient_id,index_date,label\n"),
        "the labels are empty",
        "no row",
    ),
    "no outcome column": (
        lambda root: cohort_of(root, LABELS, outcome="died"),
        "column 'died' is missing",
        "3 columns, none of that name",
    ),
    "no patient column": (
        lambda root: cohort_of(root, LABELS.replace("patient_id", "who")),
        "column 'patient_id' is missing",
        "3 columns",
    ),
    "one class": (
        lambda root: cohort_of(root, LABELS.replace(",1\n", ",0\n")),
        "outcome column 'label' has one class",
        "4 with 0 and 0 with 1 (rows dropped: none)",
    ),
    "nothing left": (
        lambda root: cohort_of(root, "patient_id,index_date,label\na,,1\nb,2020-01-31,\n"),
        "no label row gives a sample",
        "0 with 0 and 0 with 1 (rows dropped: 1 no index date, 1 outcome missing)",
    ),
    "few rows": (
        lambda root: cohort_of(root, "patient_id,index_date,label\na,,1\nb,2020-01-31,0\n", minCell=11),
        "outcome column 'label' has one class",
        "fewer than 11 with 0 and 0 with 1 (rows dropped: fewer than 11 no index date)",
    ),
    "other outcomes": (
        lambda root: cohort_of(root, LABELS + f"d,2020-01-31,{SECRET}\ne,2020-01-31,2\n"),
        "outcome column 'label' holds a value that is not an outcome",
        "other values in 2 of 6 rows",
    ),
    "unreadable index dates": (
        lambda root: cohort_of(root, LABELS + f"d,{SECRET},1\n"),
        "column 'index_date' holds dates that cannot be read",
        "1 such row",
    ),
    "a header among the rows": (
        lambda root: cohort_of(root, LABELS + LABELS),
        "row 5 repeats the header",
        "the names of the columns as values",
    ),
    "numeric index dates": (
        lambda root: cohort_of(root, pa.table({"patient_id": ["a"], "index_date": [20200131], "label": [1]})),
        "column 'index_date' is a number",
        "int64",
    ),
    "float ids": (
        lambda root: cohort_of(
            root, pa.table({"patient_id": [1.0], "index_date": ["2020-01-31"], "label": [1]})
        ),
        "column 'patient_id' has the wrong type",
        "double",
    ),
    "no demographics": (
        lambda root: cohort_of(root, LABELS, "patient_id\n"),
        "the demographics are empty",
        "0 rows",
    ),
    "no such demographic": (
        lambda root: cohort_of(root, LABELS, "patient_id,Sex\na,F\n", features=["sex"]),
        "column 'sex' is missing",
        "2 columns; 'Sex' is near 'sex'",
    ),
    "age without anything": (
        lambda root: cohort_of(root, LABELS, "patient_id,sex\na,F\nb,F\nc,F\n", features=["age"]),
        "column 'age' is missing",
        "2 columns",
    ),
    "unreadable birth": (
        lambda root: cohort_of(root, LABELS, f"patient_id,birth_date\na,{SECRET}\n"),
        "column 'birth_date' holds dates that cannot be read",
        "1 such row",
    ),
    "differing birth": (
        lambda root: cohort_of(root, LABELS, "patient_id,birth_date\na,1970-01-01\na,1980-01-01\n"),
        "a patient has differing birth dates",
        "1 patient whose rows differ in 'birth_date'",
    ),
    "empty demographic": (
        lambda root: cohort_of(root, LABELS, "patient_id,bmi\na,\nb,\nc,\nz,20\n", features=["bmi"]),
        "column 'bmi' is empty for the whole cohort",
        "4 samples without one",
    ),
    "infinite demographic": (
        lambda root: cohort_of(root, LABELS, "patient_id,bmi\na,inf\nb,1\nc,1\n", features=["bmi"]),
        "column 'bmi' holds infinite numbers",
        "1 infinite ones",
    ),
    "a time as demographic": (
        lambda root: cohort_of(
            root,
            LABELS,
            pa.table({"patient_id": ["a"], "enrolled": [dt.date(2020, 1, 1)]}),
            features=["enrolled"],
        ),
        "column 'enrolled' is a time",
        "date32[day]",
    ),
    "names as demographic": (
        lambda root: cohort_of(
            root,
            "patient_id,index_date,label\n" + "".join(f"p{n},2020-01-31,{n % 2}\n" for n in range(101)),
            "patient_id,name\n" + "".join(f"p{n},{SECRET} {n}\n" for n in range(101)),
            features=["name"],
        ),
        "column 'name' has too many levels for a category",
        "101",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_refused_without_their_values(tmp_path, name):
    """The error for an invalid table has file, rule, counts and remedy, and neither it nor its cause contains a value."""
    define, rule, got = BAD_TABLES[name]

    with pytest.raises(DataError) as caught:
        define(tmp_path)

    assert rule in caught.value.rule
    assert caught.value.got.startswith(got)
    assert caught.value.where.startswith(("labels.", "demographics."))
    assert caught.value.remedy
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_labels_of_cases_only_lack_the_other_samples(tmp_path):
    """If no row was dropped, rules of dropped rows are no remedy: the rows of the samples without the outcome are missing."""
    with pytest.raises(DataError) as caught:
        cohort_of(tmp_path, LABELS.replace(",0\n", ",1\n"))

    assert "also for those without the outcome" in caught.value.remedy


def test_the_patient_id_is_no_demographic(tmp_path):
    """As a category, the patient id would identify each patient."""
    with pytest.raises(ValueError, match="must not name the column of the patients"):
        cohort_of(tmp_path, LABELS, "patient_id\na\n", features=["patient_id"])


def test_few_patients_with_the_outcome_make_a_warning(tmp_path):
    """Few patients with or without the outcome give a warning, which counts patients and not samples."""
    warnings = cohort_of(tmp_path).cohort.warnings

    assert warnings == (
        "Only 2 patients with the outcome: estimates will be very uncertain.",
        "Only 1 patient without the outcome: estimates will be very uncertain.",
    )


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "10", "9", ""]),
        st.sampled_from(["2020-01-31", "2020-02-01", ""]),
        st.sampled_from("01 "),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 14), policy=st.sampled_from(["drop", "any"]), data=st.data())
def test_the_order_and_the_files_of_label_rows_do_not_show(tmp_path_factory, rows, cut, policy, data):
    """Shuffled rows in two files give the same cohort to the byte, and the ledger adds up."""
    root = tmp_path_factory.mktemp("labels")
    rows = [*rows, ("p", "2020-01-31", "1"), ("n", "2020-01-31", "0")]  # both classes
    lines = [",".join(row) for row in rows]
    whole = cohort_of(root, "\n".join(["patient_id,index_date,label", *lines]), conflictingLabels=policy)

    shuffled = data.draw(st.permutations(lines))
    (root / "parts").mkdir()
    for number, part in enumerate((shuffled[:cut], shuffled[cut:])):
        text = "\n".join(["patient_id,index_date,label", *part])
        (root / "parts" / f"{number}.csv").write_text(text)
    spec = TrainingSpec.model_validate(
        {
            "data": {"tables": {"events": "events", "labels": "parts"}},
            "cohort": {"index": {"column": "index_date"}, "conflictingLabels": policy},
            "report": {"minCell": 0},
        }
    )
    parts = define_cohort(spec, root)

    assert parts.label_ledger == whole.label_ledger
    assert sum(whole.label_ledger.values()) == len(rows)
    assert whole.label_ledger[USED] == whole.cohort.n_samples
    assert same(whole.cohort, parts.cohort, root)
    pairs = list(zip(whole.cohort.patient_of.tolist(), whole.cohort.index_us.tolist(), strict=True))
    assert all(a < b for a, b in itertools.pairwise(pairs))


def test_a_cohort_survives_its_file(tmp_path):
    """A cohort that is read from its file is equal in all fields."""
    cohort = cohort_of(
        tmp_path, LABELS, "patient_id,sex,bmi\na,F,20\nb,M,\nc,F,30\n", features=["sex", "bmi"]
    ).cohort
    cohort.write(tmp_path / "cohort")

    again = Cohort.read(tmp_path / "cohort")

    for field in dataclasses.fields(Cohort):
        if field.name != "demographics":
            assert np.array_equal(getattr(again, field.name), getattr(cohort, field.name))
    assert again.demographics[0].levels == ("F", "M")
    assert np.array_equal(again.demographics[1].values, cohort.demographics[1].values, equal_nan=True)


def test_defining_a_cohort_does_not_import_pandas(tmp_path):
    """The definition of a cohort does not import pandas, which would take a second."""
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "dems.csv").write_text("patient_id,sex,birth_date\na,F,1970-01-01\nb,M,\nc,F,\n")
    program = (
        "import sys, pathlib\n"
        "from mlho.encoding.cohort.define import define_cohort\n"
        "from mlho.spec.training import TrainingSpec\n"
        "tables = {'events': 'e', 'labels': 'labels.csv', 'demographics': 'dems.csv'}\n"
        "spec = TrainingSpec(data={'tables': tables}, cohort={'index': {'column': 'index_date'}},"
        " features={'demographics': ['sex', 'age']})\n"
        "define_cohort(spec, pathlib.Path(sys.argv[1]))\n"
        "assert 'pandas' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_columns_of_the_audit_are_kept_beside_the_features(tmp_path):
    """Audited columns come from labels or demographics, as text, with unknown for an empty field. They survive the file and are not demographics."""
    labels = "patient_id,index_date,label,ward\na,2020-01-31,0,7\na,2020-02-01,1,8\nb,2020-01-31,1,7\n"
    persons = "patient_id,race,sex\na,Black,f\nb,,m\n"
    cohort = cohort_of(tmp_path, labels, persons, features=["sex"], bias={"columns": ["race", "ward"]}).cohort
    cohort.write(tmp_path / "cohort")
    race, ward = Cohort.read(tmp_path / "cohort").audited

    assert (race.levels, race.codes.tolist()) == (("Black", "unknown"), [0, 0, 1])
    assert (ward.levels, ward.codes.tolist()) == (("7", "8"), [0, 1, 0])
    assert [column.name for column in cohort.demographics] == ["sex"]


@pytest.mark.parametrize(("min_cell", "warns"), [(2, False), (3, True)])
def test_a_column_of_the_audit_with_small_groups_only_is_a_warning(tmp_path, min_cell, warns):
    """If each value has fewer patients than ``report.minCell``, the audit has one group, ``other``: nothing is compared."""
    ids, wards = "abcd", "EEWW"
    labels = "".join(
        f"{i},2020-01-31,{n % 2},{ward}\n" for n, (i, ward) in enumerate(zip(ids, wards, strict=True))
    )

    result = cohort_of(
        tmp_path, f"patient_id,index_date,label,ward\n{labels}", bias={"columns": ["ward"]}, minCell=min_cell
    )

    said = [warning for warning in result.cohort.warnings if "'ward'" in warning]
    assert bool(said) == warns
    assert all("one group, 'other'" in warning and "bias.columns" in warning for warning in said)


@pytest.mark.parametrize("first_has_it", [True, False])
@pytest.mark.parametrize("column", ["birth_date", "index_date", "ward"])
def test_a_column_that_some_files_of_a_table_lack_is_refused(tmp_path, column, first_has_it):
    """Whether an optional column is read does not depend on the order of the files: without it in one, it is refused by name."""
    texts = ["patient_id,sex\na,F\n", f"patient_id,sex,{column}\nb,M,1950-01-01\nc,F,1950-01-01\n"]
    (tmp_path / "persons").mkdir()
    for number, text in enumerate(texts[::-1] if first_has_it else texts):
        (tmp_path / f"persons/part-{number}.csv").write_text(text)
    (tmp_path / "labels.csv").write_text(LABELS)
    spec = TrainingSpec.model_validate(
        {
            "data": {"tables": {"events": "e", "labels": "labels.csv", "demographics": "persons"}},
            "features": {"demographics": ["sex"]},
            "bias": {"columns": ["ward"]} if column == "ward" else None,
            "report": {"minCell": 0},
            "cohort": {"index": {"column": "index_date"}},
        }
    )

    with pytest.raises(
        DataError, match=rf"persons/part-{int(first_has_it)}\.csv: column '{column}' is missing"
    ):
        define_cohort(spec, tmp_path)


@pytest.mark.parametrize("first_has_it", [True, False])
def test_a_column_of_the_audit_that_some_label_files_lack_is_refused(tmp_path, first_has_it):
    """The order of the label files does not decide whether the column is taken from them."""
    texts = [
        "patient_id,index_date,label\na,2020-01-31,0\n",
        "patient_id,index_date,label,ward\nb,2020-01-31,1,E\n",
    ]
    (tmp_path / "labels").mkdir()
    for number, text in enumerate(texts[::-1] if first_has_it else texts):
        (tmp_path / f"labels/part-{number}.csv").write_text(text)
    spec = TrainingSpec.model_validate(
        {
            "data": {"tables": {"events": "e", "labels": "labels"}},
            "bias": {"columns": ["ward"]},
            "cohort": {"index": {"column": "index_date"}},
        }
    )

    with pytest.raises(DataError, match=rf"labels/part-{int(first_has_it)}\.csv: column 'ward' is missing"):
        define_cohort(spec, tmp_path)


def test_a_column_of_the_audit_that_neither_table_has_is_refused(tmp_path):
    """For an audited column in neither table, the error names the field of the specification."""
    with pytest.raises(DataError, match=r"no column 'race'.*bias\.columns names"):
        cohort_of(tmp_path, LABELS, "patient_id,sex\na,f\nb,m\nc,m\n", bias={"columns": ["race"]})
