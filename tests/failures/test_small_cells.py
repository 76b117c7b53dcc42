"""Small groups of patients appear in no output of a run, and cannot be computed from the outputs."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import mlho
from tests.builders import make_tables, run_inline, write_tables

MIN_CELL = 11
RARE = "Zanzibari"  # of one patient
RARE_TOO = ("Quechua", "Yupik", "Inuit")  # of some patients each
FEW = 4711.25  # a number that eight patients have


@pytest.fixture(scope="module")
def tables():
    """Return a cohort with a column ``region``: two common levels, one that is rare among those with the outcome, and four rare ones.

    A number, ``titre``, is known for eight patients. Two label rows have no outcome, and twelve patients have no index date.
    """
    tables = make_tables(400, seed=5)
    ids = tables.demographics.column("patient_id").to_pylist()
    sick = {row["patient_id"] for row in tables.labels.to_pylist() if row["label"] == 1}
    region = dict(zip(ids, np.where(np.arange(len(ids)) % 3 == 0, "south", "north").tolist(), strict=True))
    few = [patient for patient in ids if patient in sick][:5] + [
        patient for patient in ids if patient not in sick
    ][:40]
    region |= dict.fromkeys(few, "coast")
    rest = [patient for patient in ids if patient not in few]
    region |= {rest[0]: RARE} | {rest[1 + i]: RARE_TOO[i % 3] for i in range(14)}
    labels = tables.labels.to_pylist()
    labels += [{**labels[0], "patient_id": f"no-label-{i}", "label": None} for i in range(2)]
    labels += [{**labels[0], "patient_id": f"no-date-{i}", "index_date": None} for i in range(12)]
    titre = [FEW if number < 8 else None for number in range(len(ids))]
    demographics = tables.demographics.append_column("region", pa.array([region[patient] for patient in ids]))
    return replace(
        tables,
        demographics=demographics.append_column("titre", pa.array(titre)),
        labels=pa.Table.from_pylist(labels, schema=tables.labels.schema),
    )


@pytest.fixture(scope="module")
def home(tables, tmp_path_factory):
    root = tmp_path_factory.mktemp("small-cells")
    changes = {
        "features.demographics": ["age", "sex", "region", "titre"],
        "cohort.unknownPatients": "keep",
        "candidates": [{"classifier": "glmboost"}, {"classifier": "ebm", "grid": {"maxRounds": [20]}}],
        "final": {"classifier": "ebm"},
    }
    return run_inline(write_tables(root / "data", tables), root / "store", changes)


@pytest.fixture(scope="module")
def result(home):
    return json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))


def test_no_object_of_the_store_names_a_rare_level(home):
    """Neither bundle, result and report nor any artifact contains a rare level; the common levels appear."""
    store = home.run.store
    objects = {key: store.get(key) for key in store.keys("")}

    assert not [
        key for key, content in objects.items() for name in (RARE, *RARE_TOO) if name.encode() in content
    ]
    assert any(b"region: south (reference north)" in content for content in objects.values())


def test_merged_levels_are_counted_in_a_warning(result):
    """A warning counts the merged levels and names the level that they count as."""
    assert "4 levels of 'region' with fewer than 11 patients each count as 'other'." in result["warnings"]


def test_a_number_that_few_patients_have_is_left_out(home, result):
    """The median of a number of eight patients would reveal their values. The column is left out, and the warning names it without a number."""
    bundle = json.loads(home.bundle()["bundle.json"])
    names = [column["name"] for column in bundle["demographics"]]
    store = home.run.store
    published = [store.get(key) for key in store.keys(f"runs/{home.finished.run_id}/")]

    assert "titre" not in names
    assert "age" in names
    assert not [content for content in published if str(FEW).encode() in content]
    warning = "'titre' is known for fewer than 11 patients (report.minCell) and is left out."
    assert warning in result["warnings"]


def test_the_table_of_characteristics_does_not_reveal_a_small_cell(tables, result):
    """In each column no level or at least two are hidden, and the hidden sum does not determine a count. Each shown count is large or zero."""
    cohort = result["cohort"]
    totals = {
        "without_outcome": cohort["n_samples"] - cohort["n_positive_samples"],
        "with_outcome": cohort["n_positive_samples"],
    }
    rows = [row for row in cohort["characteristics"] if row["name"] == "region"]

    assert [row["level"] for row in rows] == ["north", "coast", "other", "south"]
    for column, total in totals.items():
        shown = [_count(row[column]) for row in rows]
        hidden = shown.count(None)
        left = total - sum(n for n in shown if n is not None)
        assert all(n is None or n == 0 or n >= MIN_CELL for n in shown)
        assert hidden == 0 or (hidden > 1 and left - hidden + 1 >= MIN_CELL)
    assert next(row for row in rows if row["level"] == "coast")["with_outcome"] is None


def _count(cell):
    return None if cell is None else cell["n"]


def test_attrition_and_label_ledger_do_not_reveal_a_small_drop(result):
    """The two rows without an outcome are hidden together with the twelve without an index date."""
    cohort = result["cohort"]

    assert cohort["label_ledger"]["outcome missing"] is None
    assert cohort["label_ledger"]["no index date"] is None
    steps = [step["patients"] for step in cohort["attrition"]]
    assert steps == [414, None, 400]


def test_every_count_of_a_bin_is_large_or_zero(result):
    """Reliability bins contain no or at least eleven samples with and without the outcome, and no small bin of a histogram can be computed."""
    for curve in result["curves"]["calibration"]:
        for cell in curve["bins"]:
            parts = (cell["n_positive"], cell["n"] - cell["n_positive"])
            assert all(n == 0 or n >= MIN_CELL for n in parts)
        counts = curve["histogram"]["counts"]
        assert counts.count(None) != 1
        assert all(n is None or n == 0 or n >= MIN_CELL for n in counts)
    for group in result["errors"].values():
        hidden = group["n"] - sum(n or 0 for n in group["counts"])
        n_hidden = group["counts"].count(None)
        assert n_hidden == 0 or hidden - n_hidden + 1 >= MIN_CELL or hidden == group["n"]


def test_a_merged_level_scores_as_other_and_a_new_one_too(home, tables):
    """The bundle does not contain the merged level: its patients and those of a new level count as ``other``, as in training."""
    bundle = mlho.load_bundle(home.run.store.path(f"runs/{home.finished.run_id}/bundle/bundle.json").parent)
    table = {"age": [60.0] * 4, "sex": ["male"] * 4, "region": [RARE, "never seen", "other", "north"]}

    columns = bundle.demographics.transform_table(table)

    place = bundle.demographics.names.index("region: other (reference north)")
    assert columns[:, place].tolist() == [1, 1, 1, 0]


def test_the_report_says_that_cells_are_not_shown(home):
    """The report shows "not shown" in place of each hidden cell, and gives the reason."""
    page = home.run.store.get(f"runs/{home.finished.run_id}/report.html").decode()

    assert re.search(
        r"region: coast</th><td class=\"n\">\d+ \([\d.]+\W%\)</td><td class=\"n\">not shown</td>", page
    )
    assert "patients not shown" in page
    assert "fewer than 11 patients are not shown, nor others from which they could be computed" in page
