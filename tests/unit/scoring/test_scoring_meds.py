"""A MEDS data set is scored without a table of demographics: they are read from its events, as in training."""

import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlho.errors import SpecError
from mlho.external.evaluation import evaluate_scored
from mlho.external.scores import evaluated_spec, score_cohort
from mlho.model.bundle import load_bundle
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from tests.builders import make_spec, run_inline, write_table
from tests.facts import make_facts, write_meds
from tests.unit.scoring.conftest import score_inline

TRAIN = {
    "cohort": {"outcome": "boolean_value", "index": {"column": "prediction_time"}},
    "features.demographics": ["age", "sex", "index_year", "index_month"],
    "features.exclude": ["MEDS_BIRTH"],
}
SCORE = {
    "data.source": "meds",
    "data.tables": {"events": "by_patient", "cohort": "labels.parquet"},
    "index.column": "prediction_time",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a trained bundle, its data set, a copy of it with each patient in one shard, and a patient without events."""
    folder = tmp_path_factory.mktemp("meds")
    home = run_inline(folder, LocalStore(folder / "store"), {**TRAIN, **write_meds(folder, make_facts(150))})
    for name, content in home.bundle().items():
        (folder / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "bundle" / name).write_bytes(content)
    rows = pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("data/*/*.parquet"))])
    (folder / "by_patient").mkdir()
    is_odd = pc.is_in(pc.utf8_slice_codeunits(rows["subject_id"], -1), pa.array([*"13579"]))
    write_table(folder / "by_patient" / "0.parquet", rows.filter(is_odd))
    write_table(folder / "by_patient" / "1.parquet", rows.filter(pc.invert(is_odd)))
    labels = pq.read_table(folder / "labels.parquet")
    more = labels.slice(0, 1).set_column(0, "subject_id", pa.array(["zz"]))
    write_table(folder / "labels.parquet", pa.concat_tables([labels, more]))
    return folder


def test_scores_are_those_of_a_table_of_demographics(folder):
    """The scores equal those with a table of demographics. A patient without events has unknown demographics and a score."""
    bundle, facts = load_bundle(folder / "bundle"), make_facts(150)
    index = pq.read_table(folder / "labels.parquet", columns=["subject_id", "prediction_time"])
    persons = facts.demographics.to_pandas()
    persons.loc[len(persons)] = {"patient_id": "zz", "sex": None, "birth_date": None}

    expected = bundle.predict_events(
        facts.events.to_pandas(),
        index.rename_columns(["patient_id", "index_date"]).to_pandas(),
        persons,
    )
    found = score_inline(folder, MemoryStore(), SCORE).table()

    assert found["patient_id"].tolist() == expected["patient_id"].tolist()
    assert found["probability"].tolist() == expected["probability"].tolist()
    assert "zz" in set(found["patient_id"])


def test_another_source_needs_the_table(folder):
    """Other sources require a table of demographics, because their events contain none."""
    with pytest.raises(SpecError, match="the bundle uses demographics"):
        score_inline(folder, MemoryStore(), {**SCORE, "data.source": "i2b2"})


def test_several_values_of_a_patient_are_a_warning(folder, tmp_path):
    """A patient with two sexes has none, as in training, and the manifest counts such patients."""
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    path = data / "by_patient" / "0.parquet"
    rows = pq.read_table(path)
    sexes = rows.filter(pc.starts_with(rows["code"], "GENDER//"))
    other = sexes.set_column(rows.column_names.index("code"), "code", pa.array(["GENDER//X"] * len(sexes)))
    write_table(path, pa.concat_tables([rows, other]))

    warnings = score_inline(data, MemoryStore(), SCORE).manifest["warnings"]

    (warning,) = [text for text in warnings if "several values" in text]
    assert warning.startswith("In 1 of 2 partitions, the first by_patient/0.parquet: ")
    assert warning.endswith(
        " patients have several values of 'sex' in the events: it counts as missing there."
    )


def test_many_static_rows_are_no_warning(folder, tmp_path):
    """Rows without a time are a part of MEDS: scores and an evaluation do not advise to check their times."""
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    for path in (data / "by_patient").iterdir():
        rows = pq.read_table(path)
        static = rows.filter(pc.is_null(rows["time"]))
        write_table(path, pa.concat_tables([rows, *[static] * (rows.num_rows // static.num_rows + 1)]))

    scores = score_inline(data, MemoryStore(), SCORE).scores
    bundle, tables = load_bundle(data / "bundle"), {"events": "by_patient", "labels": "labels.parquet"}
    changes = {**TRAIN, "data.source": "meds", "data.tables": tables}
    spec = evaluated_spec(make_spec(changes).spec, bundle)
    found = evaluate_scored(bundle, spec, score_cohort(bundle, spec, data), data_digest="d")

    for document in (scores, found.model_dump()):
        (rule,) = [rule for rule in document["ledger"]["rules"] if rule["rule"] == "no time"]
        assert rule["rows"] > document["ledger"]["rows_in"] / 4
        assert [text for text in document["warnings"] if "no time" in text] == []


def test_levels_in_another_form_are_a_warning(folder, tmp_path):
    """Without a table, levels come from the events of each partition; those of another form would count as unknown silently."""
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    for path in (data / "by_patient").iterdir():
        rows = pq.read_table(path)
        codes = pc.replace_substring_regex(rows["code"], "^(GENDER//)(.*)$", r"\1other \2")
        write_table(path, rows.set_column(rows.column_names.index("code"), "code", codes))

    warnings = score_inline(data, MemoryStore(), SCORE).manifest["warnings"]

    start = "In 2 of 2 partitions, the first by_patient/0.parquet: Demographic 'sex': 100 % of the rows"
    assert any(warning.startswith(start) for warning in warnings)
    assert not any(
        "Demographic" in warning
        for warning in score_inline(folder, MemoryStore(), SCORE).manifest["warnings"]
    )
