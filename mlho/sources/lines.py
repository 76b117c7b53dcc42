"""Comparison of the line and row counts of a text table, to detect a stray quote that swallows rows without a parser error."""

import csv
from contextlib import suppress
from io import RawIOBase, TextIOWrapper
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, override
from weakref import ref

import numpy as np
import pyarrow as pa

from mlho.errors import DataError
from mlho.sources.base import Source
from mlho.sources.files import SourceFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LINE_FEED: Final = ord("\n")
_AFTER_END: Final = "end"  # a further line: it is part of the last row only if a quote is open
_LONGEST_FIELD: Final = 16 << 20  # a longer field is taken as unterminated, so that memory stays bounded


def delimiter_of(file: SourceFile, source: Source) -> str:
    """Return the field separator of a text file: that of the format, or the one of the file's suffix."""
    delimiter = source.format.delimiter or file.format.delimiter
    assert delimiter is not None, "the file is text"
    return delimiter


def text_stream(file: SourceFile, source: Source) -> Any:
    """Return an Arrow stream of the decompressed text of a file, as UTF-8."""
    place = str(file.path) if isinstance(file.path, Path) else file.path.open()
    stream = pa.input_stream(place, compression=file.format.compression)
    encoding = source.format.encoding
    return stream if encoding == "utf-8" else pa.transcoding_input_stream(stream, encoding, "utf-8")


class LineCounter(RawIOBase):
    """A stream wrapper that counts lines."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._line_feeds = 0
        self._carriage_returns = 0
        self._last = b""
        self._is_ended = False

    def end(self) -> None:
        """End the stream: later reads return no data."""
        self._is_ended = True

    @override
    def readable(self) -> bool:
        return True

    @override
    def read(self, size: int = -1, /) -> bytes:
        if self._is_ended:
            return b""
        data: bytes = self._stream.read(size if size >= 0 else None)
        # ``bytes.count`` takes three times as long.
        self._line_feeds += int(np.count_nonzero(np.frombuffer(data, np.uint8) == _LINE_FEED))
        if not self._line_feeds:  # carriage returns count only in a text without line feeds
            self._carriage_returns += data.count(b"\r")
        self._last = data[-1:] or self._last
        return data

    @override
    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    @property
    def n_lines(self) -> int:
        """Number of lines so far, including an unterminated last line."""
        return (self._line_feeds or self._carriage_returns) + (self._last not in (b"\n", b"\r", b""))


class Loan:
    """Objects that a library holds in its own threads, and whose release can be awaited."""

    def __init__(self) -> None:
        self._lent: list[ref[Any]] = []
        self._released: SimpleQueue[object] = SimpleQueue()

    def add(self, lent: Any) -> None:
        """Add an object. It counts as released once the last reference to it is dropped."""
        # The callback is a method in C. A callback in Python could release the interpreter lock and request it again after
        # the exit.
        self._lent.append(ref(lent, self._released.put))

    def wait(self, seconds: float) -> None:
        """Wait until all objects are released, but at most for these seconds."""
        until = monotonic() + seconds
        with suppress(Empty):
            for _ in self._lent:
                self._released.get(timeout=max(until - monotonic(), 0.0))


class BorrowedLines(RawIOBase):
    """The stream of a line counter, lent to a library together with all blocks that it returns."""

    def __init__(self, lines: LineCounter, loan: Loan) -> None:
        self._lines = lines
        self._loan = loan
        loan.add(self)

    @override
    def readable(self) -> bool:
        return True

    @override
    def read(self, size: int = -1, /) -> memoryview:  # not bytes, which cannot be weakly referenced
        block = memoryview(self._lines.read(size))
        self._loan.add(block)
        return block


def misplaced_quote(file: SourceFile, source: Source) -> DataError | None:
    """Return the error for a quoted field that contains whole rows or has no end; ``None`` if there is none.

    A field with m line breaks has swallowed m rows if it contains at least m times as many separators as a row; other texts with
    line breaks are valid. The file is read row by row, so call this only if the numbers of lines and rows differ, or if the file
    could not be read.
    """
    delimiter = delimiter_of(file, source)
    with (
        text_stream(file, source) as binary,
        TextIOWrapper(binary, encoding="utf-8-sig", errors="replace", newline="") as text,
    ):
        csv.field_size_limit(_LONGEST_FIELD)
        rows = csv.reader(chain(text, [_AFTER_END]), delimiter=delimiter)
        n_columns, first, last, row = 0, 1, 0, [_AFTER_END]
        swallowed: DataError | None = None
        try:
            for row in rows:
                if swallowed is not None:
                    return swallowed
                n_columns = n_columns or len(row)
                first, last = last + 1, rows.line_num
                if last > first and any(_holds_rows(field, n_columns - 1, delimiter) for field in row):
                    swallowed = _swallowed(file, first, last - first)
        except csv.Error:  # field longer than the limit of the reader
            return _swallowed(file, last + 1, rows.line_num - last)
    if row == [_AFTER_END]:
        return None
    return _unclosed(file, first + sum(map(_line_ends, row[:-1])))


def _line_ends(field: str) -> int:
    return field.count("\n") or field.count("\r")


def _holds_rows(field: str, n_delimiters: int, delimiter: str) -> bool:
    n_breaks = _line_ends(field)
    return n_breaks > 0 and field.count(delimiter) >= n_breaks * n_delimiters > 0


def _swallowed(file: SourceFile, line: int, n_breaks: int) -> DataError:
    return DataError(
        file.key,
        "a quoted field holds whole rows",
        expected="quotes around individual texts",
        got=f"a field that begins in line {line:,} and spans {n_breaks:,} line ends, with as many separators as whole rows",
        remedy="Correct the stray quote there, or write the table as Parquet.",
    )


def _unclosed(file: SourceFile, line: int) -> DataError:
    return DataError(
        file.key,
        "a quote is not closed",
        expected="a closing quote at the end of each quoted field",
        got=f"a quoted field that begins in line {line:,} and has no end",
        remedy="Close the quote there, or remove it. If the export was interrupted, write the table again.",
    )
