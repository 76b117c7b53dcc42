"""Tables with faults: a seed adds one or two faults to a small cohort, and the case states what a result must account for."""

import bz2
import gzip
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from tests.builders import Tables, make_tables

TABLES: Final = make_tables(60, seed=3, n_noise=4)
NAMES: Final = ("events/part-0", "events/part-1", "labels", "demographics", "concepts")
_ALWAYS_DROPPED: Final = (
    30  # largest number of event rows that no run uses because of their patient, code or time
)


@dataclass
class Case:
    """A folder of tables with faults.

    Attributes
    ----------
    n_events, n_labels : int
        Rows of the tables as their author meant them. A result accounts for all of them, or a warning names the missing ones.
    faults : list of str
        The faults, in the order in which they were made.
    needs_word : list of str
        Faults after which a published result must have a warning, or a rule with rows, that a good result does not have.
    """

    folder: Path
    suffix: str
    n_events: int
    n_labels: int
    faults: list[str] = field(default_factory=list)
    needs_word: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Return the path of a table's file."""
        return self.folder / f"{name}{self.suffix}"


def write_mutated(folder: Path, seed: int) -> Case:
    """Write a cohort with faults, determined by the seed. A fault changes a table before it is written, or its file afterwards."""
    rng = random.Random(seed)
    suffix = rng.choice((".parquet", ".csv", ".csv", ".csv.gz", ".tsv"))
    tables = {
        **_split(TABLES),
        "labels": TABLES.labels,
        "demographics": TABLES.demographics,
        "concepts": TABLES.concepts,
    }
    case = Case(folder, suffix, TABLES.events.num_rows, TABLES.labels.num_rows)
    (folder / "events").mkdir(parents=True, exist_ok=True)
    n_faults = rng.choice((1, 1, 1, 2))
    later = []
    for _ in range(n_faults):
        if rng.random() < 0.6:
            _change_table(tables, case, rng)
        else:
            later.append(rng.choice(_FILE_FAULTS))
    for name, table in tables.items():
        write(case.path(name), table)
    for fault in later:
        case.faults.append(fault.__name__)
        fault(case, rng)
    return case


def _split(tables: Tables) -> dict[str, Any]:
    half = np.arange(tables.events.num_rows) % 2
    return {f"events/part-{n}": tables.events.take(np.flatnonzero(half == n)) for n in (0, 1)}


def write(path: Path, table: Any) -> None:
    """Write a table in the format of its suffix. Text is quoted only where necessary, as most programs do."""
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
        return
    flat = pa.table([_as_text(column) for column in table.columns], names=table.column_names)
    delimiter = "\t" if ".tsv" in path.name else ","
    with pa.output_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
        csv.write_csv(flat, stream, csv.WriteOptions(delimiter=delimiter, quoting_style="needed"))


def _as_text(column: Any) -> Any:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


# Changes of a table's cells: the value that is put into some rows of a column, and whether the output must mention it.
_TIMES: Final[tuple[tuple[str, bool], ...]] = (
    ("9999-12-31", True), ("0001-01-01", True), ("1492-10-12", True), ("2299-12-31", False), ("2300-01-01", True),
    ("not a time", True), ("2020-02-30", True), ("", True), ("2019-13-01", True), ("12/31/2019", True), ("20191231", True),
    ("2019-01-01T25:00:00", True), ("2019-01-01 10:00:00+05:30", False), ("1577836800", True),
)  # fmt: skip
_CODES: Final[tuple[tuple[str, bool], ...]] = (
    ("I10\x1b[2J", True), ("I10\n", True), ("a\x00b", True), ("x" * 2_000, True), ("x" * 50_000, True), ("\u202eI10", True), ("", True), ("  ", True),
    ("é血👍", False), ("I10,E11", False), ('I"10', False), ("=cmd()", False), ("NULL", False), ("nan", False),
)  # fmt: skip
_IDS: Final[tuple[tuple[str, bool], ...]] = (
    ("", True),
    ("   ", True),
    ("p-nobody", True),
    ("x" * 5_000, True),
    ("p\x1b[2J", True),
    ("9" * 40, True),
)
_NUMBERS: Final = (1e308, -1e308, float("nan"), float("inf"), 1e31, 1e29, -1.0, 0.0, 1e-320)
_OUTCOMES: Final = ("", "2", "-1", "yes", "True", "0.5", "1.0", "nan", "x" * 3_000, " 1")
_AGES: Final[tuple[tuple[float, bool], ...]] = (
    (-50.0, True),
    (999_999.0, True),
    (1e308, False),
    (float("inf"), False),
    (float("nan"), False),
    (150.0, False),
)
_LEVELS: Final = ("", "x" * 3_000, "F\x1b[2J", "F\n", "unknown", "other", "é", "F,M", '"F"')


def _change_table(tables: dict[str, Any], case: Case, rng: random.Random) -> None:
    name = rng.choice(NAMES)
    table = tables[name]
    if not table.num_columns:
        return
    kind = rng.choice((_cells, _cells, _cells, _column, _rows))
    tables[name] = kind(table, name, case, rng)


def _cells(table: Any, name: str, case: Case, rng: random.Random) -> Any:
    """Put an odd value into some rows of a column, as text if the column's type cannot hold it."""
    column = rng.choice(table.column_names)
    if column not in table.column_names or not table.num_rows:
        return table
    value, needs_word = _odd_value(column, name, rng)
    n = rng.choice((1, 3, max(1, table.num_rows // 2), table.num_rows))
    rows = rng.sample(range(table.num_rows), min(n, table.num_rows))
    fault = f"{name}.{column}={str(value)[:20]!r} in {len(rows)}"
    case.faults.append(fault)
    # A rule drops some rows of events anyway, so the output cannot show a few more.
    if needs_word and (len(rows) > _ALWAYS_DROPPED or not name.startswith("events")):
        case.needs_word.append(fault)
    place = table.column_names.index(column)
    values = _as_values(table.column(place), value)
    for row in rows:
        values[row] = value
    return table.set_column(place, column, _made(values, table.schema.field(place).type))


def _as_values(column: Any, value: Any) -> list[Any]:
    plain = _as_text(column) if isinstance(value, str) else column
    return list(plain.to_pylist())


def _made(values: list[Any], type_: Any) -> Any:
    for attempt in (type_, pa.float64(), pa.string()):
        try:
            array = pa.array(
                values,
                attempt if attempt != type_ or not any(isinstance(v, str) for v in values) else pa.string(),
            )
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
            continue
        try:
            return array.cast(type_)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return array
    return pa.array([str(value) for value in values], pa.string())


def _odd_value(column: str, name: str, rng: random.Random) -> tuple[Any, bool]:
    is_events = name.startswith("events")
    match column:
        case "time" | "index_date":
            return rng.choice(_TIMES)
        case "birth_date":
            return rng.choice(_TIMES)[0], False
        case "code":
            text, needs_word = rng.choice(_CODES)
            return text, needs_word and is_events
        case "patient_id":
            text, needs_word = rng.choice(_IDS)
            return text, needs_word and is_events
        case "label":
            return rng.choice(_OUTCOMES), False
        case "age":
            return rng.choice(_AGES)
        case "sex":
            return rng.choice(_LEVELS), False
        case "description":
            return rng.choice(_CODES)[0], False
        case _:
            return rng.choice(_NUMBERS), False


def _column(table: Any, name: str, case: Case, rng: random.Random) -> Any:
    """Remove, duplicate, rename, empty or retype a column."""
    column = rng.choice(table.column_names)
    place = table.column_names.index(column)
    what = rng.randrange(6)
    case.faults.append(f"{name}.{column} change {what}")
    match what:
        case 0:
            return table.remove_column(place)
        case 1:
            return pa.Table.from_arrays(
                [*table.columns, table.column(place)], names=[*table.column_names, column]
            )
        case 2:
            names = [old.upper() if old == column else old for old in table.column_names]
            return table.rename_columns(names)
        case 3:
            return table.set_column(
                place, column, pa.nulls(table.num_rows, rng.choice((pa.null(), pa.string(), pa.float64())))
            )
        case 4:
            types = (
                pa.int64(),
                pa.bool_(),
                pa.float32(),
                pa.binary(),
                pa.date32(),
                pa.list_(pa.int8()),
                pa.decimal128(10, 2),
                pa.duration("s"),
            )
            type_ = rng.choice(types)
            value = {"list": [1], "binary": b"x", "bool": True}.get(str(type_).split("<")[0], 1)
            try:
                return table.set_column(place, column, pa.array([value] * table.num_rows, type_))
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError):
                return table.set_column(place, column, pa.nulls(table.num_rows, type_))
        case _:
            return table.set_column(place, column, table.column(place).cast(pa.string()).dictionary_encode())


def _rows(table: Any, name: str, case: Case, rng: random.Random) -> Any:
    """Keep no row, keep one row, or repeat every row."""
    what = rng.randrange(3)
    case.faults.append(f"{name} rows {what}")
    changed = (table.slice(0, 0), table.slice(0, 1), pa.concat_tables([table, table]))[what]
    change = changed.num_rows - table.num_rows
    if name.startswith("events"):
        case.n_events += change
    if name == "labels":
        case.n_labels += change
    return changed


def _truncate(case: Case, rng: random.Random) -> None:
    path = case.path(rng.choice(NAMES))
    data = path.read_bytes()
    is_plain = path.suffix in (".csv", ".tsv")
    # A text that ends between two rows is a valid shorter table, so cut within a row.
    cut = rng.randrange(max(1, len(data)))
    if is_plain and path.read_bytes()[max(0, cut - 1) : cut] == b"\n":
        cut = max(0, cut - 2)
    path.write_bytes(data[:cut])
    case.n_events = case.n_labels = -1 if is_plain else case.n_events
    if not is_plain:
        case.n_labels = TABLES.labels.num_rows if case.n_labels >= 0 else -1


def _flip(case: Case, rng: random.Random) -> None:
    path = case.path(rng.choice(NAMES))
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    if path.suffix in (".csv", ".tsv"):  # a changed letter gives another valid table, perhaps with other rows
        case.n_events = case.n_labels = -1


def _garbage(case: Case, rng: random.Random) -> None:
    case.path(rng.choice(NAMES)).write_bytes(
        rng.choice(
            (b"", b"\n", b"PAR1", b"\x00" * 100, b"\xff\xfe" * 50, b"a,b\n1", os.urandom(0) + b"x" * 1000)
        )
    )
    case.n_events = case.n_labels = -1


def _lost(case: Case, rng: random.Random) -> None:
    case.path(rng.choice(NAMES[2:])).unlink(missing_ok=True)


def _beside(case: Case, rng: random.Random) -> None:
    """Add a file with rows that may not be readable: it must be refused or named."""
    name = rng.choice(
        (
            "more.xlsx",
            "more.json",
            "more.csv.xz",
            "more.orc",
            "part-2",
            "_more.csv",
            "_temporary/more.csv",
            "README.md",
            "more.csv.bak",
            "more.txt",
        )
    )
    path = case.folder / "events" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"rows")
    case.needs_word.append(name)


def _as_other_form(case: Case, rng: random.Random) -> None:
    """Rename or recompress a partition without changing its rows: all must be read."""
    path = case.path("events/part-1")
    if not path.exists():
        return
    data = path.read_bytes()
    if path.suffix == ".parquet":
        path.rename(path.with_name(rng.choice(("part-1.PARQUET", "part-1.parq", "part-1.Pq"))))
    elif path.suffix == ".csv":
        name, content = rng.choice(
            (
                ("part-1.CSV", data),
                ("part-1.csv.GZ", gzip.compress(data)),
                ("part-1.csv.bz2", bz2.compress(data)),
                ("part-1.csv.zst", bytes(pa.compress(data, codec="zstd", asbytes=True))),
                ("part-1.tsv", data.replace(b",", b"\t")),
            )
        )
        path.unlink()
        path.with_name(name).write_bytes(content)


def _lake(case: Case, rng: random.Random) -> None:
    folder, name = rng.choice((("_delta_log", "0.json"), (".hoodie", "x"), ("metadata", "v1.metadata.json")))
    (case.folder / "events" / folder).mkdir(exist_ok=True)
    (case.folder / "events" / folder / name).write_bytes(b"{}")
    case.needs_word.append(folder)


def _linked(case: Case, rng: random.Random) -> None:
    """Add a link to a file that is already read, to a missing file, or to the parent folder."""
    place = case.folder / "events" / rng.choice(("link.csv", "link.parquet"))
    place.symlink_to(rng.choice((case.path("events/part-0"), case.folder / "nothing.csv", case.folder)))
    case.needs_word.append("link")


def _quotes(case: Case, rng: random.Random) -> None:
    """Add two stray quotes that turn the rows between them into one text."""
    path = case.path(rng.choice(("events/part-0", "labels")))
    if path.suffix not in (".csv", ".tsv") or not path.exists():
        return
    delimiter = "\t" if path.suffix == ".tsv" else ","
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    if len(lines) < 12:
        return
    first = rng.randrange(1, len(lines) - 3)
    last = rng.randrange(first + 1, len(lines) - 1)
    column = rng.randrange(lines[0].count(delimiter) + 1)
    for number, before in ((first, True), (last, False)):
        fields = lines[number].split(delimiter)
        if column < len(fields):
            fields[column] = f'"{fields[column]}' if before else f'{fields[column]}"'
            lines[number] = delimiter.join(fields)
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")


def _bad_name(case: Case, rng: random.Random) -> None:
    name = rng.choice((b"part-\xff.csv", b"part\n.csv", b"part\x1b[2J.parquet"))
    Path(os.fsdecode(os.fsencode(case.folder) + b"/events/" + name)).write_bytes(b"rows")
    case.needs_word.append("name")


def _other_encoding(case: Case, rng: random.Random) -> None:
    path = case.path(rng.choice(NAMES))
    if path.suffix in (".csv", ".tsv"):
        text = path.read_bytes().decode("utf-8", "replace")
        path.write_bytes(text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32"))))


def _line_ends(case: Case, rng: random.Random) -> None:
    path = case.path(rng.choice(NAMES))
    if path.suffix in (".csv", ".tsv"):
        path.write_bytes(path.read_bytes().replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n"))))


_FILE_FAULTS: Final[tuple[Callable[[Case, random.Random], None], ...]] = (
    _truncate, _truncate, _flip, _flip, _garbage, _lost, _beside, _as_other_form, _lake, _linked, _quotes, _quotes, _bad_name, _other_encoding,
    _line_ends,
)  # fmt: skip
