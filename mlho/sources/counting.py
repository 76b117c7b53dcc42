"""Estimation of the number of rows of a table without reading it, from Parquet footers and the beginning of text files.

Used for the preview of a run. The run itself counts every row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from mlho.errors import plural
from mlho.sources.files import SourceFile
from mlho.sources.reading import parquet_rows, text_sample

#: Number of files inspected per table; the others are extrapolated by size.
MOST_FILES: Final = 20
_SAMPLE_BYTES: Final = 1 << 20
_USUAL_RATIO: Final = 5.0  # compression ratio of text for which Arrow has no codec


@dataclass(frozen=True)
class RowCount:
    """Number of rows of a table, counted or estimated."""

    n_rows: int
    basis: str
    """Description of how the number was obtained."""


def count_rows(files: Sequence[SourceFile]) -> RowCount:
    """Estimate the number of rows of a table from some of its files, spread evenly.

    Raise DataError if the content of a file does not match its suffix.

    Parameters
    ----------
    files : sequence of SourceFile
        Local files, or objects in object storage, which are read by ranges.
    """
    step = max(1, -(-len(files) // MOST_FILES))
    looked_at = files[::step]
    counts = [_count(file) for file in looked_at]
    n_bytes = sum(file.size for file in looked_at)
    n_rows = sum(n for n, _ in counts)
    if len(looked_at) < len(files) and n_bytes:
        n_rows = round(n_rows * sum(file.size for file in files) / n_bytes)
    return RowCount(n_rows, _basis(counts, len(looked_at), len(files)))


def _basis(counts: Sequence[tuple[int, bool]], n_looked_at: int, n_files: int) -> str:
    n_exact = sum(is_exact for _, is_exact in counts)
    what = "counted" if n_exact == len(counts) else "from size and a sample of rows"
    return (
        what
        if n_looked_at == n_files
        else f"{what}, in {n_looked_at} of {plural(n_files, 'file')}, the others by size"
    )


def _count(file: SourceFile) -> tuple[int, bool]:
    """Return the rows of a file, and whether they were counted rather than estimated from a part."""
    if file.is_parquet:
        return parquet_rows(file), True
    sample, is_whole = text_sample(file, _SAMPLE_BYTES)
    n_lines = sample.count(b"\n") + (is_whole and not sample.endswith(b"\n") and bool(sample))
    if is_whole or not n_lines:
        return max(0, n_lines - 1), is_whole
    return round(file.size * n_lines / _stored_bytes(sample, file.format.compression)) - 1, False


def _stored_bytes(sample: bytes, compression: str | None) -> float:
    """Return the compressed size of a piece of text."""
    if compression is None:
        return len(sample)
    try:
        return len(pa.Codec(compression).compress(sample))
    except (pa.ArrowException, ValueError, NotImplementedError):
        return len(sample) / _USUAL_RATIO
