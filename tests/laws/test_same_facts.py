"""The same facts as a dbmart, as a MEDS data set and as an i2b2 export give the same result."""

import json
from typing import Any

import pytest

from mlho.report.digest import PROSE
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from tests.builders import Home, run_inline
from tests.facts import make_facts, write_dbmart, write_i2b2, write_meds

# Parts that describe the source of the facts, and counts and checks of rows, which include the static rows of MEDS.
OF_THE_SOURCE = ("inputs", "ledger", "lineage", "made_at", "quality", "timing")
COMMON = {
    "cohort": {"outcome": "boolean_value", "index": {"column": "prediction_time"}},
    "features.aggregates": ["presence", "last"],
    "features.demographics": ["age", "sex"],
    "features.exclude": ["MEDS_BIRTH"],
}


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Home]:
    found = {}
    for write in (write_dbmart, write_meds, write_i2b2):
        name, folder = write.__name__.removeprefix("write_"), tmp_path_factory.mktemp("facts")
        changes = {**COMMON, **write(folder, make_facts(150))}
        found[name] = run_inline(folder, LocalStore(folder / "store"), changes)
    return found


def result_of(home: Home) -> dict[str, Any]:
    result = json.loads(home.run.store.get(run_key(home.run.run_id, "result.json")))
    del result["leakage"]["never_enter"]  # includes codes of static rows
    return {name: part for name, part in result.items() if name not in PROSE.union(OF_THE_SOURCE)}


@pytest.mark.parametrize("source", ["meds", "i2b2"])
def test_the_same_facts_give_the_same_result(homes, source):
    """All of ``result.json`` is equal except its prose and the parts that describe the source."""
    found, expected = result_of(homes[source]), result_of(homes["dbmart"])

    assert {name for name in expected if found[name] != expected[name]} == set()


def test_the_ledgers_differ_only_by_rows_that_one_source_has(homes):
    """In MEDS, static rows are dropped as events without a time, and births by ``features.exclude``; all other counts agree."""

    def dropped(name: str) -> dict[str, int]:
        ledger = json.loads(homes[name].run.store.get(run_key(homes[name].run.run_id, "result.json")))[
            "ledger"
        ]
        return {rule["rule"]: rule["rows"] for rule in ledger["rules"]}

    assert dropped("i2b2") == dropped("dbmart")
    more = {rule: n for rule, n in dropped("meds").items() if n != dropped("dbmart").get(rule, 0)}
    assert set(more) == {"no time", "excluded code"}


def test_static_rows_of_meds_are_no_finding(homes):
    """Rows without a time are a part of MEDS: neither the checks of the data nor the warnings name them."""
    run = homes["meds"].run
    result = json.loads(run.store.get(run_key(run.run_id, "result.json")))

    assert result["ledger"]["rules"][4]["rule"] == "no time"
    assert result["ledger"]["rules"][4]["rows"] > 0
    assert "no time" not in {finding["subject"] for finding in result["quality"]["findings"]}
    assert not [warning for warning in result["warnings"] if "no time" in warning]
