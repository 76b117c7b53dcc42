"""Maps of codes: valid maps are read and applied, and invalid ones are refused."""

import pyarrow as pa
import pytest

from mlho.encoding.events.ledger import Ledger
from mlho.encoding.events.roll_up import RollUp, read_roll_up
from mlho.encoding.events.rows import EXCLUDED_CODE, LocalCodes
from mlho.errors import DataError
from mlho.sources import SourceFile
from mlho.sources.native import NATIVE
from tests.builders import write_table


def read(folder, **columns) -> RollUp:
    path = folder / "map.parquet"
    write_table(path, pa.table(columns))
    return read_roll_up(NATIVE, [SourceFile("map.parquet", path, path.stat().st_size)])


def test_a_map_is_read_in_any_order(tmp_path):
    """Equal rows are merged, and blank rows and codes that are their own parent have no effect."""
    found = read(
        tmp_path,
        code=["B", "A", "A", "P", "", None],
        parent=["P", "P", "P", "P", "Q", "Q"],
        description=["words", None, "words", "words", None, None],
    )

    assert found == RollUp({"A": "P", "B": "P"}, {"P": "words"})
    assert [*found.parents] == ["A", "B"]


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"code": ["A", "A"], "parent": ["P", "Q"]}, "a code has several parents"),
        ({"code": ["A", "P"], "parent": ["P", "Q"]}, "a parent has a parent of its own"),
        (
            {"code": ["A", "B"], "parent": ["P", "P"], "description": ["x", "y"]},
            "a parent has several descriptions",
        ),
        ({"code": ["A"], "parent": ["P\n"]}, "a parent is not a code"),
        ({"code": ["A"]}, "column 'parent' is missing"),
        ({"code": [1], "parent": ["P"]}, "column 'code' is a number; codes are text"),
    ],
)
def test_an_invalid_map_is_refused(tmp_path, columns, rule):
    """The error for an invalid map has the file and a remedy."""
    with pytest.raises(DataError) as refused:
        read(tmp_path, **columns)
    assert rule in refused.value.rule
    assert refused.value.where == "map.parquet"
    assert refused.value.remedy


def test_patterns_apply_to_parents_and_rows_are_counted():
    """A code is replaced by its parent before patterns include or exclude it, and the rows of every batch are counted."""
    codes = LocalCodes(lambda text: text == "P", {"A": "P", "B": "Q"})
    column = pa.array(["A", "B", "Q", "B", None]).dictionary_encode()

    for _ in range(2):
        assert codes.find(column)[:4].tolist() == [EXCLUDED_CODE, 0, 0, 0]
    assert (codes.texts(), codes.rows_rolled_up) == (("Q",), 6)


def test_the_ledger_says_nothing_of_maps_unless_there_is_one():
    """Artifacts of runs without a map keep their bytes."""
    assert "rows_rolled_up" not in Ledger(rows_in=1, rows_used=1).to_json()
    ledger = Ledger(rows_in=1, rows_used=1, rows_rolled_up=1)
    assert Ledger.from_json((ledger + ledger).to_json()).rows_rolled_up == 2
