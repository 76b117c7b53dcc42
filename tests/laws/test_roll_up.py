"""A roll-up gives the same result as events that contain the parents, in training and in scoring."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlho.model.bundle import load_bundle
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from tests.builders import Home, Tables, make_tables, run_inline, write_table, write_tables
from tests.unit.scoring.conftest import score_inline

PARENTS = {"E11": "diabetes", "I10": "circulation", "N00": "circulation", "N01": "other", "X99": "other"}
WORDS = {"diabetes": "Diabetes, any", "circulation": "Circulatory disease", "other": None}
MAP = {
    "features.rollUp": {"table": "maps/phecode.csv"},
    "features.aggregates": ["presence", "count", "last"],
    "features.sequences": {"maxCandidates": 60},
    "selection.nFeatures": 30,
}
# Parts that describe the source of the facts and the specification.
NOT_COMPARED = ("inputs", "lineage", "made_at", "timing", "ledger")


def write_map(folder: Path, parents: dict[str, str]) -> None:
    (folder / "maps").mkdir()
    words = [WORDS.get(parent) for parent in parents.values()]
    table = {"code": [*parents], "parent": [*parents.values()], "description": pa.array(words, pa.string())}
    write_table(folder / "maps" / "phecode.csv", pa.table(table))


def with_parents(tables: Tables) -> Tables:
    codes = [PARENTS.get(code, code) for code in tables.events["code"].to_pylist()]
    events = tables.events.set_column(tables.events.column_names.index("code"), "code", pa.array(codes))
    kept = [(code, words) for code, words in WORDS.items() if words]
    kept.append(("LOINC:2160-0", "Creatinine"))
    concepts = pa.table({"code": [code for code, _ in kept], "description": [words for _, words in kept]})
    return Tables(events, tables.labels, tables.demographics, concepts)


@pytest.fixture(scope="module")
def tables() -> Tables:
    base = make_tables(150)
    concepts = base.concepts.filter(pa.compute.equal(base.concepts["code"], "LOINC:2160-0"))
    return Tables(base.events, base.labels, base.demographics, concepts.select(["code", "description"]))


@pytest.fixture(scope="module")
def homes(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Home]:
    found = {}
    for name in ("rolled", "written"):
        folder = tmp_path_factory.mktemp(name)
        write_tables(folder, tables if name == "rolled" else with_parents(tables))
        changes: dict[str, Any] = {**MAP} if name == "rolled" else {**MAP, "features.rollUp": None}
        write_map(folder, PARENTS)
        found[name] = run_inline(folder, LocalStore(folder / "store"), changes)
    return found


def result_of(home: Home) -> dict[str, Any]:
    return json.loads(home.run.store.get(run_key(home.run.run_id, "result.json")))


def bundle_of(home: Home, folder: Path):
    for name, content in home.bundle().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return load_bundle(folder)


def test_training_is_that_on_the_parents(homes):
    """The results are equal, including the words of the features, except the digest of the bundle (which contains the codes) and the parts on the source."""
    rolled, written = (result_of(homes[name]) for name in ("rolled", "written"))
    for result in (rolled, written):
        result["final_model"].pop("bundle_digest")

    assert {n for n in rolled if rolled[n] != written[n]} <= set(NOT_COMPARED)
    assert any("Diabetes, any" in feature["words"] for feature in rolled["features"])


def test_the_ledger_counts_the_rolled_up_rows(homes, tables):
    """The ledger notes the rows that count as their parent and is otherwise equal. The result names the map and pins its content."""
    rolled, written = (result_of(homes[name]) for name in ("rolled", "written"))
    n_mapped = sum(code in PARENTS for code in tables.events["code"].to_pylist())

    assert rolled["ledger"]["notes"].pop("rows whose code counts as its parent") == n_mapped
    assert rolled["ledger"] == written["ledger"]
    assert rolled["lineage"]["spec"]["features"]["rollUp"] == {"table": "maps/phecode.csv"}
    assert "maps/phecode.csv" in json.dumps(rolled["inputs"])


def test_scoring_needs_no_map(homes, tables, tmp_path):
    """The bundle contains the parents of the codes it uses, so the original events are scored without the map."""
    bundle = bundle_of(homes["rolled"], tmp_path / "rolled")
    plain = bundle_of(homes["written"], tmp_path / "written")
    index = tables.labels.select(["patient_id", "index_date"]).to_pandas()
    persons = tables.demographics.to_pandas()

    rolled = bundle.predict_events(tables.events.to_pandas(), index, persons)
    written = plain.predict_events(with_parents(tables).events.to_pandas(), index, persons)

    assert rolled.equals(written)
    pairs = [feature for feature in bundle.document.features if feature.then is not None]
    assert pairs
    used = {feature.code for feature in bundle.document.features} | {feature.then for feature in pairs}
    assert bundle.document.roll_up == {code: parent for code, parent in PARENTS.items() if parent in used}
    assert plain.document.roll_up is None


def test_the_account_of_a_scoring_run_notes_the_rows_that_count_as_their_parent(homes, tables, tmp_path):
    """Scoring rolls up the codes that the bundle uses; its account states their rows, as that of training does."""
    bundle = bundle_of(homes["rolled"], write_tables(tmp_path / "data", tables, by_patient=True) / "bundle")

    scored = score_inline(tmp_path / "data", LocalStore(tmp_path / "store"))

    n_rolled_up = sum(code in bundle.document.roll_up for code in tables.events["code"].to_pylist())
    notes = scored.manifest["scores"]["ledger"]["notes"]
    assert notes["rows whose code counts as its parent"] == n_rolled_up > 0


def test_a_map_that_fits_no_code_is_a_warning(tables, tmp_path):
    """A map without a matching code gives a warning. The usual cause is another notation of the codes."""
    write_tables(tmp_path, tables)
    write_map(tmp_path, {"E-11": "diabetes"})

    result = result_of(run_inline(tmp_path, LocalStore(tmp_path / "store"), MAP))

    assert any("rollUp changes no row" in words for words in result["warnings"])
