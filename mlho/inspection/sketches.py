"""Sketches of the tables in a folder: names, columns and a sample of rows, without knowledge of their roles."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from mlho.errors import DataError
from mlho.sources import Source
from mlho.sources.arrow import one_array, plain_array
from mlho.sources.files import SourceFile, find_inputs
from mlho.sources.names import FORMATS, format_of, is_document
from mlho.sources.native import NATIVE
from mlho.sources.reading import cause_in_packing, open_table, text_sample
from mlho.spec.layout import Encoding, Format

# First files of a table among which one with rows is looked for; some programs write empty ones first.
_MOST_EMPTY: Final = 20
_ROWS: Final = 5_000
_SAMPLE_BYTES: Final = 1 << 18
_MOST_NAMED: Final = 10
_MOST_TABLES: Final = 100  # maximum number of files and folders that are inspected
_CODES_OF_MEDS: Final = "codes.parquet"  # the folder of MEDS also has a description in JSON
# Folders of a store, which is here if mlho was started in this folder.
_STORE: Final = ("blobs", "commits", "runs")
_SCHEMA: Final = ".schema.json"  # written by mlho init for editors
_DELIMITERS: Final = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Sketch:
    """One table of a folder."""

    pattern: str
    """Path relative to the folder, as in ``data.tables``."""
    n_bytes: int
    columns: dict[str, Any]
    """A sample of the rows of each column, by name."""

    @property
    def name(self) -> str:
        """The name of the file or folder, without suffixes."""
        return self.pattern.rstrip("/").split("/")[-1].split(".")[0].casefold()


@dataclass(frozen=True)
class Folder:
    """The tables of a folder."""

    sketches: tuple[Sketch, ...]
    form: Format
    """Separator and encoding of the CSV files; dates are not guessed here."""
    left_out: tuple[str, ...]
    """Names of files and folders that are not tables, with the reason."""


def sketch_folder(root: Path) -> Folder:
    """Inspect the files of a folder. Each subfolder counts as one table.

    Raises
    ------
    DataError
        The path is not a folder.
    """
    if not root.is_dir():
        raise DataError(
            str(root),
            "no such folder",
            expected="a folder with the tables",
            got="nothing, or a file",
            remedy="Give the folder.",
        )
    found: dict[str, list[SourceFile]] = {}
    left_out, of_other_formats = [], []
    paths = sorted(path for path in root.iterdir() if not path.name.startswith((".", "_")))
    if len(paths) > _MOST_TABLES:
        left_out.append(
            f"only the first {_MOST_TABLES} of {len(paths):,} files and folders are inspected; put the files of one table into a folder"
        )
    for path in paths[:_MOST_TABLES]:
        pattern = f"{path.name}/" if path.is_dir() else path.name
        if (path / _CODES_OF_MEDS).is_file():
            pattern = f"{path.name}/{_CODES_OF_MEDS}"
        if path.is_file() and format_of(path.name) is None:
            if not is_document(path.name) and not path.name.endswith(_SCHEMA):
                of_other_formats.append(pattern)
            continue
        if all((path / name).is_dir() for name in _STORE):
            continue
        try:
            files = find_inputs(root, pattern.rstrip("/")).files
            packed = next(filter(None, map(cause_in_packing, files)), None)
            if packed is not None:
                left_out.append(f"{packed.where}: {packed.rule}. {packed.remedy}")
                continue
            found[pattern] = files
        except DataError as error:
            left_out.append(f"{pattern}: {error.rule}. {error.remedy}")
    left_out += _unlike_tables(of_other_formats)
    texts = {
        # A file without rows does not show the encoding.
        pattern: max(files[:_MOST_EMPTY], key=lambda file: file.size)
        for pattern, files in found.items()
        if not files[0].is_parquet
    }
    form, unlike = _form_of(texts)
    left_out += [
        f"{pattern}: the fields have a different separator than in most tables; use one separator for all, or name files with tabs .tsv and "
        "the others .csv with commas"
        for pattern in unlike
    ]
    source = replace(NATIVE, format=form)
    sketches = []
    for pattern, files in found.items():
        try:
            sketches.append(_sketch(pattern, files, source))
        except DataError as error:
            left_out.append(f"{pattern}: {error.rule}. {error.remedy}")
    return Folder(tuple(sketches), form, tuple(left_out))


def _unlike_tables(patterns: Sequence[str]) -> Iterator[str]:
    """Yield a sentence on files of other formats, with what to do with a bulk export of FHIR."""
    if not patterns:
        return
    more = f" and {len(patterns) - _MOST_NAMED:,} more" if len(patterns) > _MOST_NAMED else ""
    fhir = "; write FHIR resources as tables: docs/data.md, “FHIR”" if any(map(_is_ndjson, patterns)) else ""
    yield f"{', '.join(patterns[:_MOST_NAMED])}{more}: not a format that is read: {FORMATS}{fhir}"


def _is_ndjson(pattern: str) -> bool:
    return ".ndjson" in pattern.casefold()


def like_events(sketch: Sketch, events: Sketch | None) -> str:
    """State that a file that is not used has the columns of the events; empty if it has not."""
    if events is None or set(sketch.columns) != set(events.columns):
        return ""
    return f", although it has the columns of the events ({events.pattern}): put the files of one table into a folder"


def _sketch(pattern: str, files: Sequence[SourceFile], source: Source) -> Sketch:
    n_bytes = sum(file.size for file in files)
    for file in files[:_MOST_EMPTY]:
        table = open_table(file, source)
        batch = next(iter(table.batches(list(table.column_names), batch_rows=_ROWS)), None)
        if batch:
            columns = {name: plain_array(one_array(batch.column(name))) for name in table.column_names}
            return Sketch(pattern, n_bytes, columns)
    names = open_table(files[0], source).column_names
    return Sketch(pattern, n_bytes, {name: pa.nulls(0) for name in names})


def _form_of(files: Mapping[str, SourceFile]) -> tuple[Format, list[str]]:
    """Guess the separator and encoding of most of the CSV files. Return also the tables with a different separator."""
    samples = [(file, text_sample(file, _SAMPLE_BYTES)[0]) for file in files.values()]
    encodings = Counter(_encoding_of(content) for _, content in samples)
    # A file that is not UTF-8 decides: its encoding also reads files in plain ASCII, which count as UTF-8.
    encoding = next((name for name, _ in encodings.most_common() if name != "utf-8"), "utf-8")
    delimiters = dict(zip(files, _delimiters_of(samples, encoding), strict=True))
    delimiter = Counter(delimiters.values()).most_common(1)[0][0] if delimiters else None
    return Format(encoding=encoding, delimiter=delimiter), [
        name for name in files if delimiters[name] != delimiter
    ]


def _encoding_of(content: bytes) -> Encoding:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(content) - 4:  # not a character cut off at the end
            return "windows-1252"
    return "utf-8"


def _delimiters_of(samples: Sequence[tuple[SourceFile, bytes]], encoding: str) -> Iterator[str | None]:
    """Yield the separator of each file; ``None`` if it is the usual one for the file's suffix."""
    for file, content in samples:
        header = content.decode(encoding, errors="replace").partition("\n")[0]
        best = max(_DELIMITERS, key=header.count)
        yield None if best == file.format.delimiter or not header.count(best) else best
