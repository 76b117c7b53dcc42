"""Variants of the data in one document: their specifications, the work that they share, and the table of paired differences."""

import json
import re

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from mlho.errors import SpecError
from mlho.spec.expansion import expand
from mlho.spec.training import parse_spec
from mlho.steps import STEPS
from mlho.store.memory import MemoryStore
from scheduler.cli.parser import main
from scheduler.engine.manifest import make_manifest
from scheduler.engine.plan import plan_cohort
from scheduler.engine.training_run import TrainingRun
from tests.builders import make_document, make_spec, make_tables, run_inline, write_spec, write_tables

WITHOUT_I10 = {"name": "without-i10", "features": {"exclude": ["I10"]}}
SHORT = {"name": "short", "cohort": {"lookBackDays": 400}}
VARIANTS = {"variants": [WITHOUT_I10, SHORT]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write the small cohort, with a map of codes."""
    folder = write_tables(tmp_path_factory.mktemp("data"), make_tables(300, seed=9))
    map_of_codes = pa.table({"code": ["N00", "N01"], "parent": ["N0", "N0"]})
    parquet.write_table(map_of_codes, folder / "map.parquet")
    return folder


def test_a_document_with_variants_is_itself_and_one_specification_of_each():
    """The first specification has the run id of the document without variants. A field of a variant replaces that of the document."""
    base, without, short = expand(make_spec(VARIANTS))

    assert [spec.metadata.name for spec in (base, without, short)] == [
        "small",
        "small-without-i10",
        "small-short",
    ]
    assert base.digest == make_spec().digest
    assert without.digest == make_spec({"features.exclude": ["I10"]}).digest
    assert short.spec.cohort.look_back_days == 400
    assert short.spec.features == base.spec.features


def test_null_removes_a_field_of_the_document():
    """A document with windows can have a variant with one look-back."""
    variant = {"name": "one", "features": {"windows": None}, "cohort": {"lookBackDays": 365}}
    _, single = expand(make_spec({"features.windows": [30, 365], "variants": [variant]}))

    assert single.spec.windows == (365,)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([{"name": "a"}], "a variant changes at least one field"),
        (
            [{"name": "a", "cohort": {"outcome": "death"}}],
            r"cannot change cohort\.outcome.*Expected one of.*gapDays",
        ),
        ([{"name": "a", "features": {"look_back": 3}}], r"cannot change features\.look_back"),
        ([{"name": "a", "data": {"uri": "elsewhere"}}], r"cannot change data\.uri"),
        ([SHORT, {**SHORT, "cohort": {"gapDays": 7}}], "variants must not repeat a name"),
        (
            [SHORT, {"name": "again", "cohort": {"lookBackDays": 400}}],
            "again specifies the same run as small-short",
        ),
        ([{"name": "same", "cohort": {"gapDays": 0}}], "same specifies the same run as small"),
        ([{"name": "a", "features": {"windows": ["x"]}}], r"variant a: 1 problem.*\n.*windows"),
    ],
)
def test_variants_that_cannot_be_compared_are_refused(variants, message):
    """The error for invalid variants has the field and the remedy. A variant's values are checked like any specification, and the error has its name."""
    with pytest.raises(SpecError, match=message):
        expand(parse_spec(yaml.safe_dump(make_document({"variants": variants}))))


def test_variants_and_outcomes_exclude_each_other():
    """Variants and outcomes exclude each other, because a document has only one dimension of runs."""
    with pytest.raises(SpecError, match=r"variants and cohort\.outcomes exclude each other"):
        make_spec({**VARIANTS, "cohort.outcomes": ["a", "b"]})


def test_a_run_of_the_operator_has_no_variants(data):
    """The operator refuses variants, and the message gives the remedy."""
    spec = make_spec(VARIANTS).spec

    with pytest.raises(SpecError, match="write one resource for each variant, and compare the runs"):
        plan_cohort(spec, make_manifest(spec.data.tables, data))


def test_a_variant_pins_its_own_map_of_codes(data):
    """The variant's manifest adds its map, and the shared files are pinned once."""
    spec = make_spec({"variants": [{"name": "rolled", "features": {"rollUp": {"table": "map.parquet"}}}]})
    document = TrainingRun(spec, make_manifest(spec.spec.data.tables, data), data, MemoryStore())
    base, rolled = document.of_document()
    further = rolled.spec.spec.further_tables

    assert base.manifest == document.manifest
    assert rolled.manifest.plain() == make_manifest(spec.spec.data.tables, data, further=further).plain()
    assert list(rolled.manifest.tables) == [*base.manifest.tables, "rollUp"]


def test_a_variant_repeats_only_what_its_change_affects(data):
    """An excluded code repeats the encoding and later tasks; cohort and checked splits are those of the document."""
    store = MemoryStore()
    run_inline(data, store)
    without = run_inline(data, store, {"features.exclude": ["NOT-THERE"]})

    assert "encode_partition" in without.kinds()
    assert not {"define_cohort", "check_splits"} & set(without.kinds())


@pytest.mark.parametrize(
    ("document", "variant", "is_shared"),
    [
        ({"features.windows": [30, 365]}, {"features.windows": [90, 180, 365]}, True),
        ({"features.windows": [30], "features.allHistory": True}, {"features.windows": [60]}, True),
        ({"features.windows": [30, 365]}, {"features.windows": [30, 400]}, False),
        ({"cohort.lookBackDays": 365}, {"cohort.lookBackDays": 30}, False),
        ({"cohort.lookBackDays": 365}, {"cohort.gapDays": 7}, False),
    ],
    ids=["shorter windows", "beside all history", "the longest window", "the look-back", "the gap"],
)
def test_a_variant_of_windows_shares_cohort_and_encoding(document, variant, is_shared):
    """Only the longest window changes the encoded rows, and no window changes rules, cohort or descriptions."""
    by_rule = {
        "data.tables.labels": None,
        "cohort.index": None,
        "cohort.rules": {"entry": {"codes": ["N0*"]}, "outcome": {"codes": ["E11"], "toDays": 30}},
    }
    for cohort in ({}, by_rule):
        before, after = (
            make_spec({**cohort, **changes}).spec for changes in (document, {**document, **variant})
        )
        kinds = ["define_cohort", "describe_codes"]
        kinds += ["extract_rule_events", "apply_rules", "find_descendants"] if cohort else []
        for kind in kinds:
            assert STEPS[kind].narrow(before) == STEPS[kind].narrow(after)
        encode = STEPS["encode_partition"]
        assert (encode.narrow(before) == encode.narrow(after)) == is_shared
        assert STEPS["pack_features"].narrow(before) != STEPS["pack_features"].narrow(after)


def test_the_narrowed_windows_encode_the_same_rows(data):
    """The encoding of three windows is reused by a run with two other windows and the same longest one, with the same result."""
    store = MemoryStore()
    run_inline(data, store, {"features.windows": [30, 100, 365], "features.aggregates": ["count"]})
    other = run_inline(data, store, {"features.windows": [60, 365], "features.aggregates": ["count"]})
    alone = run_inline(data, MemoryStore(), {"features.windows": [60, 365], "features.aggregates": ["count"]})

    assert "encode_partition" not in other.kinds()
    assert "pack_features" in other.kinds()
    assert other.digest == alone.digest


def test_the_command_runs_the_variants_and_finds_the_cost_of_a_change(data, tmp_path, capsys):
    """I10 raises the planted risk, so its exclusion lowers the AUROC on the same samples, in JSON, on the terminal and on the page."""
    spec = write_spec(tmp_path, VARIANTS, uri=str(data))
    store = str(tmp_path / "store")
    command = ["run", str(spec), "--store", store, "--workers", "1", "--progress", "none"]

    assert main(["validate", str(spec), "--store", store]) == 0
    assert main(["plan", str(spec), "--store", store]) == 0
    assert "Plan of small-short" in capsys.readouterr().out
    assert main(command) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "small-without-i10 differs by −0." in output
    page = re.search(r"variants \S+/(runs/\w+/variants-\w+\.html)", output)
    assert f'href="../{page[1]}">its variants</a>' in (tmp_path / "store/site/index.html").read_text()
    shown = (tmp_path / "store" / page[1]).read_text()
    assert "Variants minus small on the same samples (95 % CI)" in shown
    assert "without-i10" in shown
    assert main([*command, "--json"]) == 0
    base, *others = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in (base, *others)] == ["small", "small-without-i10", "small-short"]
    assert "study" not in others[0]
    with open(base["study"], encoding="utf-8") as file:
        found = json.load(file)
    auroc = found["variants"][0]["paired"]["differences"]["auroc"]
    assert auroc["high"] < 0
    assert found["variants"][1]["changes"] == [{"field": "cohort.lookBackDays", "a": None, "b": 400}]
    assert found["variants"][0]["features_left"] == 1
