"""Changes since an earlier run, in the report of the later run."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import scheduler.cli.parser
from mlho.errors import SpecError
from mlho.external.comparison import compare_runs
from mlho.report.result import Result
from mlho.spec.data import EarlierRun
from mlho.spec.training import parse_spec
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from scheduler.api.tenancy import ForeignAddress, check_addresses
from scheduler.cli.evaluation.compare import run_facts_of
from scheduler.cli.listing import result_of
from scheduler.engine.prepare import prepare_in_cluster
from scheduler.engine.publication import retraining_yaml
from scheduler.engine.training_run import with_pinned_earlier
from scheduler.runs.purge import find_patients
from tests.builders import make_spec, make_tables, run_inline, write_tables

TABLES = make_tables(400, seed=9)
SINCE = {"compareWith": {"uri": "run:small"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a run, and a later one of the same name on data without the code I10, compared with the first."""
    folder = tmp_path_factory.mktemp("runs")
    whole = write_tables(folder / "whole", TABLES)
    kept = np.array([code != "I10" for code in TABLES.events.column("code").to_pylist()])
    less = write_tables(folder / "less", replace(TABLES, events=TABLES.events.filter(pa.array(kept))))
    store = LocalStore(folder / "store")
    earlier = run_inline(whole, store)
    return store, whole, less, earlier, run_inline(less, store, SINCE)


def page_of(store, home):
    """Return the report as text."""
    html = store.get(run_key(home.finished.run_id, "report.html")).decode()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_report_holds_the_figures_of_the_command(place):
    """Cohort, ledger, features and differences equal those of ``mlho compare``, with the ids of the earlier run."""
    store, _, _, earlier, later = place

    changes = Result.model_validate(result_of(store, later.finished.run_id)).changes
    command = compare_runs(*(run_facts_of(store, home.finished.run_id, "small") for home in (earlier, later)))

    for part in ("spec", "rows", "label_rows", "codes", "features", "performance", "paired"):
        assert getattr(changes, part) == getattr(command, part), part
    assert (changes.run, changes.result_digest) == (earlier.finished.run_id, earlier.digest)
    assert [(code.code, code.b) for code in changes.codes] == [("I10", 0)]
    assert any(feature.change == "leaves" and feature.id.startswith("I10|") for feature in changes.features)
    assert changes.paired.differences["auroc"].high < 0
    assert (changes.earlier.n_event_rows, changes.now.n_event_rows) == (command.rows[0].a, command.rows[0].b)


def test_the_report_answers_at_its_head_and_shows_the_tables(place):
    """The report has the name of the earlier run, patients before and now, the paired difference, and the features that leave."""
    store, _, _, earlier, later = place

    page = page_of(store, later)

    assert f"Since run {earlier.finished.run_id} (small, computed on " in page
    assert "patients 400 → 400" in page
    assert re.search(r"AUROC on \d+ samples tested in both runs: difference −0\.\d+ \(", page)
    assert re.search(r"Stable features: \d+ enter?, [1-9]\d* leave, \d+ stay", page)
    assert "Event rows, with the share of the rows that were read" in page


def test_a_report_of_a_run_that_is_compared_with_none_says_so_and_how(place):
    store, _, _, earlier, _ = place

    page = page_of(store, earlier)

    assert "Not compared: the specification names no earlier run in compareWith." in page
    assert "compareWith: {uri: run:NAME}" in page
    assert "changes" not in result_of(store, earlier.finished.run_id)


def test_the_specification_records_the_run_that_was_found(place):
    """The earlier run is recorded by id and digest, so that the result does not depend on later runs."""
    store, _, _, earlier, later = place
    written = parse_spec(store.get(run_key(later.finished.run_id, "spec.yaml")).decode())

    assert written.spec.compare_with == EarlierRun(
        uri=f"run:{earlier.finished.run_id}", digest=earlier.digest
    )


def test_a_retrained_model_is_compared_with_the_one_that_it_replaces(place):
    """The manifest that a scoring run advises refers to the earlier run by name and not by the pinned id, so it compares with the replaced model."""
    store, _, _, _, later = place
    trained = parse_spec(store.get(run_key(later.finished.run_id, "spec.yaml")).decode())

    again = parse_spec(retraining_yaml(trained, "retrain.yaml").decode())

    assert again.metadata.name == "small-retrained"
    assert again.spec.compare_with == EarlierRun(uri="run:small")


def test_the_same_specification_again_is_the_same_run(place):
    """The same specification gives the same run, even if the newest run of the name is now this run itself."""
    store, _, less, _, later = place

    again = run_inline(less, store, SINCE)

    assert (again.finished.run_id, again.kinds()) == (later.finished.run_id, [])


def test_only_the_report_is_computed_when_a_run_is_compared_afterwards(place):
    store, whole, _, _, later = place

    home = run_inline(whole, store, {"compareWith": {"uri": f"run:{later.finished.run_id}"}})

    assert home.kinds() == ["write_report"]


def test_a_run_can_be_resumed_after_the_deletion_of_the_earlier_one(place, tmp_path, capsys):
    """The files of the earlier run are kept as long as the later run uses them."""
    _, whole, less, _, _ = place
    store = LocalStore(tmp_path / "store")
    earlier = run_inline(whole, store)
    later = run_inline(less, store, SINCE)
    arguments = ["delete", earlier.finished.run_id, "--yes", "--store", str(store.root)]
    assert scheduler.cli.parser.main(arguments) == 0, capsys.readouterr().err
    (store.root / run_key(later.finished.run_id, "result.json")).unlink()
    spec = parse_spec(store.get(run_key(later.finished.run_id, "spec.yaml")).decode())

    again = run_inline(less, store, {"compareWith": spec.spec.compare_with.model_dump(mode="json")})

    assert (again.finished.run_id, again.digest) == (later.finished.run_id, later.digest)


def test_a_text_in_place_of_a_code_is_not_named(place, tmp_path):
    """Fifty rows of one patient are counted, but the text is neither in the report nor in the result."""
    _, whole, _, _, _ = place
    store = LocalStore(tmp_path / "store")
    run_inline(whole, store)
    columns = TABLES.events.column_names
    typed = TABLES.events.take(pa.array([0] * 50))
    typed = typed.set_column(columns.index("code"), "code", pa.array(["Zebulon, room 7"] * 50, pa.string()))
    events = pa.concat_tables([TABLES.events, typed])
    later = run_inline(write_tables(tmp_path / "typed", replace(TABLES, events=events)), store, SINCE)

    changes = Result.model_validate(result_of(store, later.finished.run_id)).changes

    assert (changes.codes, changes.codes_only_b, changes.codes_not_named) == ([], 1, 1)
    assert "Zebulon" not in page_of(store, later)


def test_a_purge_names_the_later_run_for_patients_of_the_earlier_one(place, tmp_path):
    """The later run keeps their ids in the files of the comparison, even if it was trained on other patients."""
    _, whole, _, _, _ = place
    store = LocalStore(tmp_path / "store")
    earlier = run_inline(whole, store)
    later = run_inline(write_tables(tmp_path / "others", make_tables(300, seed=4, prefix="q")), store, SINCE)

    found = find_patients(store, {TABLES.labels.column("patient_id")[0].as_py()})

    assert {holding.run.run_id for holding in found.holdings} == {
        earlier.finished.run_id,
        later.finished.run_id,
    }
    assert "There is no paired difference: the runs share no sample." in page_of(store, later)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"compareWith": {"uri": "run:nowhere"}}, "Leave compareWith out of the first run"),
        ({"compareWith": {"uri": "run:0123456789abcdef"}}, "no result that can be read"),
        ({"compareWith": {"uri": "run:small", "digest": "0" * 64}}, "another result"),
        ({**SINCE, "cohort.outcome": "other"}, "predicts another outcome"),
    ],
)
def test_an_earlier_run_that_cannot_be_compared_with_is_refused_before_anything_runs(
    place, changes, expected
):
    store, whole, _, _, _ = place

    with pytest.raises(SpecError, match=expected):
        run_inline(whole, store, changes)


def test_variants_exclude_it():
    """Variants and ``compareWith`` exclude each other, because variants have their own table of paired differences."""
    changes = {**SINCE, "variants": [{"name": "one", "cohort": {"lookBackDays": 30}}]}

    with pytest.raises(SpecError, match="variants and compareWith exclude each other"):
        make_spec(changes)


def test_a_resource_keeps_the_run_that_it_was_accepted_with(place):
    """A newer run of the name does not change it, and the operator plans the same run as the command."""
    store, _, less, earlier, later = place
    spec = make_spec({**SINCE, "data.uri": str(less)})

    pinned = with_pinned_earlier(spec, store, accepted=later.finished.run_id)

    assert pinned.spec.compare_with.uri == f"run:{earlier.finished.run_id}"
    assert prepare_in_cluster(pinned, store).run_id == later.finished.run_id


def test_a_resource_may_be_compared_only_with_what_its_namespace_may_read(place):
    _, whole, _, _, _ = place
    spec = make_spec({**SINCE, "data.uri": str(whole)})

    with pytest.raises(ForeignAddress, match=r"compareWith\.uri"):
        check_addresses(spec, [str(whole)], lambda _: None)
