"""The dictionary: the sorted codes of all used rows, which number the columns (code and window)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import read_arrays, text_arrays, texts_of, write_arrays
from mlho.encoding.events.partition import EncodedPartition


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Codes by id. Ids follow the order of the codes' UTF-8 bytes, so they do not depend on rows or partitions."""

    codes: tuple[str, ...]
    """Sorted. Shape (n_codes,)."""
    rows_by_code: NDArray[np.int64]
    """Used rows of each code, at least 1, including same-day duplicates. Shape (n_codes,)."""

    def __len__(self) -> int:
        return len(self.codes)

    def ids_of(self, codes: Sequence[str]) -> NDArray[np.int32]:
        """Return the id of each code; -1 for a code that is not in the dictionary."""
        ids = {code: number for number, code in enumerate(self.codes)}
        return np.array([ids.get(code, -1) for code in codes], np.int32)

    def write(self, path: Path) -> None:
        """Write to one array file; equal dictionaries give equal bytes."""
        write_arrays(path, text_arrays("code", self.codes) | {"rows_by_code": self.rows_by_code})

    @classmethod
    def read(cls, path: Path) -> "Dictionary":
        """Read a dictionary written by :meth:`write`."""
        arrays = read_arrays(path)
        return cls(texts_of("code", arrays), arrays["rows_by_code"])


def merge_dictionary(
    partitions: Sequence[EncodedPartition],
) -> tuple[Dictionary, tuple[NDArray[np.int32], ...]]:
    """Merge the codes of all partitions.

    Returns
    -------
    dictionary : Dictionary
        Independent of how the rows are partitioned.
    code_ids : tuple of int32 arrays, one per partition
        Dictionary id of each local code; -1 for a code without used rows.

    Examples
    --------
    >>> dictionary, code_ids = merge_dictionary([first, second])  # codes ("B", "A") and ("C", "B")
    >>> dictionary.codes, code_ids[1].tolist()
    (('A', 'B', 'C'), [2, 1])
    """
    rows: dict[str, int] = {}
    for partition in partitions:
        for code, n_rows in zip(partition.codes, partition.rows_by_code.tolist(), strict=True):
            if n_rows:
                rows[code] = rows.get(code, 0) + n_rows
    codes = tuple(sorted(rows))  # by code point, which equals the order of UTF-8 bytes
    ids = {code: number for number, code in enumerate(codes)}
    code_ids = tuple(np.array([ids.get(code, -1) for code in part.codes], np.int32) for part in partitions)
    return Dictionary(codes, np.array([rows[code] for code in codes], np.int64)), code_ids
