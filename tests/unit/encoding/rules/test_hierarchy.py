"""Descendants of codes in event sets, from OMOP's concept_ancestor and from a map of parents."""

import pyarrow as pa
import pytest

from mlho.encoding.rules.event_sets import memberships
from mlho.encoding.rules.hierarchy import find_descendants
from mlho.errors import DataError
from mlho.sources import list_inputs
from mlho.sources.native import NATIVE
from mlho.spec.rules import EventSet, Rules
from tests.builders import write_table


def rules_of(*codes: str) -> Rules:
    return Rules.model_validate(
        {
            "entry": {"codes": codes, "descendants": True},
            "outcome": {"codes": ("B",), "toDays": 30},
            "hierarchy": "h.parquet",
        }
    )


def found(folder, columns, *codes):
    write_table(folder / "h.parquet", pa.table(columns))
    return find_descendants(rules_of(*codes), NATIVE, list_inputs(folder, "h.parquet"))


def test_the_ancestors_of_a_cdm_hold_all_levels_and_no_domain(tmp_path):
    """Descendants get the domain of the code. Column names may have any case, and concepts are numbers."""
    columns = {
        "ANCESTOR_CONCEPT_ID": [201820, 201820, 201820, 4, 201826],
        "DESCENDANT_CONCEPT_ID": [201820, 201826, 443238, 5, 443238],
    }

    descendants = found(tmp_path, columns, "condition:201820", "drug:999")

    assert descendants == {"condition:201820": ["condition:201820", "condition:201826", "condition:443238"]}


def test_a_map_of_parents_is_followed_through_all_levels(tmp_path):
    """All levels are followed, even if the map has a cycle. Codes are written as in the events."""
    columns = {
        "code": ["ICD:E11", "ICD:E11.9", "ICD:E11.91", "ICD:I10", "ICD:E"],
        "parent": ["ICD:E", "ICD:E11", "ICD:E11.9", "ICD:I", "ICD:E11.91"],
    }

    descendants = found(tmp_path, columns, "ICD:E11", "ICD:I")

    assert descendants == {
        "ICD:E11": ["ICD:E", "ICD:E11", "ICD:E11.9", "ICD:E11.91"],
        "ICD:I": ["ICD:I10"],
    }


def test_a_set_holds_its_codes_and_their_descendants():
    """A set that does not ask for descendants has only its codes."""
    sets = [EventSet(codes=("A",), descendants=True), EventSet(codes=("A",))]

    assert memberships(sets, ["A", "A1", "B"], {"A": ["A1"]}).tolist() == [3, 1, 0]


def test_a_table_without_any_of_the_codes_is_refused(tmp_path):
    """The most likely cause is a misspelt code, or the table of another vocabulary."""
    with pytest.raises(DataError, match=r"no code of cohort\.rules with descendants is an ancestor"):
        found(tmp_path, {"code": ["X"], "parent": ["Y"]}, "ICD:E11")


def test_a_table_of_other_columns_is_refused(tmp_path):
    """For a hierarchy with other columns, the error names the required column."""
    with pytest.raises(DataError, match="parent"):
        found(tmp_path, {"child": ["X"], "above": ["Y"]}, "ICD:E11")
