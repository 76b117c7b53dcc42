"""The dictionary has the codes of the used rows, independent of the partitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlho.encoding.events.dictionary import Dictionary, merge_dictionary
from mlho.encoding.events.ledger import Ledger
from mlho.encoding.events.partition import EncodedPartition

COUNTS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 9), max_size=20
)


def partition(counts):
    return EncodedPartition(
        Ledger(),
        tuple(counts),
        np.array(list(counts.values()), np.int64),
        np.empty(0, np.int32),
        np.empty(0, np.uint16),
    )


@given(st.lists(COUNTS, max_size=4))
def test_ids_follow_the_bytes_of_the_codes(parts):
    """Codes without a used row are left out, counts add up, and the map of every partition points to its own codes."""
    merged, code_ids = merge_dictionary([partition(counts) for counts in parts])
    used = {code for counts in parts for code, n in counts.items() if n}
    assert list(merged.codes) == sorted(used, key=lambda code: code.encode())
    totals = [sum(counts.get(code, 0) for counts in parts) for code in merged.codes]
    assert merged.rows_by_code.tolist() == totals
    for counts, ids in zip(parts, code_ids, strict=True):
        assert [merged.codes[n] if n >= 0 else None for n in ids] == [
            c if c in used else None for c in counts
        ]


def test_a_dictionary_and_its_maps_come_back(tmp_path):
    """A dictionary that is written and read again is equal."""
    merged, code_ids = merge_dictionary([partition({"B": 1, "Å": 2}), partition({"A": 1, "X": 0})])
    merged.write(tmp_path / "dictionary")
    back = Dictionary.read(tmp_path / "dictionary")
    assert back.codes == ("A", "B", "Å")
    assert back.rows_by_code.tolist() == [1, 1, 2]
    assert len(back) == 3
    assert back.ids_of(["Å", "X", "A"]).tolist() == [2, -1, 0]
    assert [ids.tolist() for ids in code_ids] == [[1, 2], [0, -1]]
