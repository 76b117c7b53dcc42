"""Several outcomes in one document, and the encoding that their runs share."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from mlho.errors import SpecError
from mlho.spec.expansion import expand
from mlho.spec.training import parse_spec
from mlho.store.memory import MemoryStore
from scheduler.cli.parser import main
from scheduler.engine.manifest import make_manifest
from scheduler.engine.plan import plan_cohort
from tests.builders import Tables, make_document, make_spec, make_tables, run_inline, write_spec, write_tables

ENCODING = {"encode_partition", "describe_codes", "merge_dictionary", "pack_features", "balance_ledger"}
OUTCOMES = {"cohort.outcomes": ["label", "Death 30d"]}


def tables_with(death: Any) -> Tables:
    """Return the small cohort with a second outcome."""
    tables = make_tables(300, seed=9)
    labels = tables.labels.append_column("Death 30d", pa.array(death, pa.int8()))
    return Tables(tables.events, labels, tables.demographics, tables.concepts)


def other_labels() -> list[int]:
    n = make_tables(300, seed=9).labels.num_rows
    return (np.random.default_rng(1).random(n) < 0.4).astype(int).tolist()


def test_a_document_with_outcomes_is_one_specification_of_each():
    """Each specification is named after its outcome, can be parsed again, and has a different digest."""
    first, second = expand(make_spec(OUTCOMES))

    assert [spec.metadata.name for spec in (first, second)] == ["small-label", "small-death-30d"]
    assert [spec.spec.cohort.outcome for spec in (first, second)] == ["label", "Death 30d"]
    assert first.digest != second.digest
    text = yaml.safe_dump(second.model_dump(mode="json", by_alias=True))
    assert parse_spec(text) == second
    assert expand(make_spec()) == (make_spec(),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cohort.outcomes": ["a", "b"], "cohort.outcome": "a"}, "outcome and outcomes exclude each other"),
        ({"cohort.outcomes": ["a", "a"]}, "outcomes must not contain duplicates"),
        ({"cohort.outcomes": ["Death", "death"]}, "two outcomes give the same run name"),
    ],
)
def test_indistinguishable_outcomes_are_refused(changes, message):
    """Indistinguishable outcomes are refused by the specification, or by the equal names of the runs."""
    with pytest.raises(SpecError, match=message):
        expand(parse_spec(yaml.safe_dump(make_document(changes))))


def test_a_run_has_one_outcome(tmp_path):
    """A run has one outcome, as a resource in a cluster does; the message gives the remedy."""
    data = write_tables(tmp_path / "data", tables_with(other_labels()))
    spec = make_spec(OUTCOMES).spec

    with pytest.raises(
        SpecError, match=r"write one resource for each, with cohort\.outcome and cohort\.share"
    ):
        plan_cohort(spec, make_manifest(spec.data.tables, data))


def test_runs_of_outcomes_share_the_encoding_and_have_the_figures_of_single_runs(tmp_path):
    """The second run has no encoding task, and its result is that of a run with only its outcome."""
    data = write_tables(tmp_path / "data", tables_with(other_labels()))
    store = MemoryStore()
    shared = {"cohort.shareEncoding": True}

    first = run_inline(data, store, {**shared, "cohort.outcome": "label"})
    second = run_inline(data, store, {**shared, "cohort.outcome": "Death 30d"})
    alone = run_inline(data, MemoryStore(), {"cohort.outcome": "Death 30d"})

    assert set(first.kinds()) >= ENCODING
    assert not ENCODING & set(second.kinds())
    result, expected = (
        json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json")) for home in (second, alone)
    )
    assert result["lineage"]["matrix_digest"] == expected["lineage"]["matrix_digest"]
    for part in ("cohort", "ledger", "features", "stability", "headline", "curves"):
        assert result[part] == expected[part], part


def test_an_outcome_that_is_known_for_other_samples_has_an_encoding_of_its_own(tmp_path):
    """A missing outcome drops the sample, so the encoding differs and is not shared."""
    death: list[int | None] = [*other_labels()]
    death[0] = None
    data = write_tables(tmp_path / "data", tables_with(death))
    store = MemoryStore()
    for outcome in ("label", "Death 30d"):
        home = run_inline(data, store, {"cohort.shareEncoding": True, "cohort.outcome": outcome})
        assert {"encode_partition", "pack_features"} <= set(home.kinds())


def test_the_command_plans_and_runs_each_outcome(tmp_path, capsys, monkeypatch):
    """The second plan shares tasks, and both runs are in the store."""
    folder = Path(write_tables(tmp_path / "data", tables_with(other_labels())))
    spec = write_spec(tmp_path, OUTCOMES, uri=str(folder))
    store = str(tmp_path / "store")

    assert main(["plan", str(spec), "--store", store]) == 0
    planned = capsys.readouterr().out
    assert [f"Plan of small-{outcome}" in planned for outcome in ("label", "death-30d")] == [True, True]
    assert planned.count("shared") == 2
    assert main(["run", str(spec), "--store", store, "--workers", "1", "--progress", "none"]) == 0
    assert main(["list", "--store", store, "--json"]) == 0
    shown = capsys.readouterr()
    runs = json.loads(shown.out.rpartition("\n[")[2].join(["[", ""]))
    assert "Warning: small-death-30d: Sample size" in shown.err
    assert [run["name"] for run in runs] == ["small-death-30d", "small-label"]
    assert all(run["cost"]["cpu_seconds"] > 0 for run in runs)
