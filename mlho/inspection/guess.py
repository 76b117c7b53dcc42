"""Guess the tables of a folder, and the names and formats of their columns. Pure."""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlho.errors import plural
from mlho.inspection.dates import guess_formats, is_missing
from mlho.inspection.guess_cdm import cdm_demographics, find_cdm
from mlho.inspection.outcomes import is_outcome, two_values
from mlho.inspection.sketches import Sketch, like_events
from mlho.sources.arrow import as_numpy, blank_texts, is_given, null_where
from mlho.sources.known import source_named
from mlho.sources.omop.folder import OMOP_NAME
from mlho.spec.layout import ISO, is_digits
from mlho.tables import DEMOGRAPHICS, EVENTS, TABLES, Table, is_number, is_text, is_time

# Usual names of columns, without case and punctuation. The first name that a table has is used.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "patient_id": (
        "patientid", "patientnum", "patient", "subjectid", "subject", "personid", "person", "mrn", "patid", "pat", "ptid", "empi",
    ),
    "time": (
        "time", "startdate", "eventtime", "eventdate", "eventdt", "datetime", "timestamp", "date", "starttime", "charttime",
        "conceptdate", "startdt", "servicedate", "recordeddate",
    ),
    "code": ("code", "phenx", "conceptcd", "conceptcode", "conceptid", "concept", "eventcode", "icd10", "icd", "icdcode", "diagnosiscode"),
    "numeric_value": ("numericvalue", "value", "valuenum", "valueasnumber", "nvalnum", "result", "resultvalue"),
    "description": ("description", "conceptname", "codename", "display", "name"),
    "birth_date": ("birthdate", "dob", "birth", "dateofbirth", "birthdatetime", "birthday"),
    "age": ("age", "ageyears", "ageinyears", "ageatindex"),
    "index_date": ("indexdate", "index", "indextime", "predictiontime", "labeldate", "visitdate", "visit", "startdate", "date", "time"),
    "label": ("label", "booleanvalue", "outcome", "target", "y", "case", "class", "readmit", "readmission", "death", "died"),
}  # fmt: skip
_DEMOGRAPHICS: Final = (
    "sex",
    "gender",
    "race",
    "ethnicity",
    "ethnic",
    "maritalstatus",
    "language",
    "insurance",
)
# Parts of the names of demographics columns whose values are known only after the index date.
_FUTURE: Final = ("death", "dead", "deceased", "died", "mortal", "vital", "outcome", "readmi", "verstorben")
_TABLE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "events": ("event", "dbmart", "fact", "diagnos", "data"),
    "labels": ("label", "outcome", "cohort"),
    "demographics": ("dem", "person", "people", "patient"),
    "concepts": ("concept", "code", "dictionar", "vocab"),
}
# Columns of the events that identify a source. The first source whose columns are all present is used.
_SIGNS: Final[Mapping[str, frozenset[str]]] = {
    "dbmart": frozenset(("patient_num", "phenx")),
    "i2b2": frozenset(("patient_num", "concept_cd")),
    "meds": frozenset(("subject_id", "time", "code")),
}
_NUMBER: Final = r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?"
# Demographics that are searched for among the codes of MEDS.
_STATIC: Final = ("sex", "race", "ethnicity")
_ROLES: Final = {"patient_id": "the patient", "time": "the time", "code": "the code"}
_MOST_NAMED: Final = 10  # maximum number of unused tables that are named
_DAYS, _MILLIS = 100_000, 1e11
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# Dates as digits, such as 20200131 and, in HL7, 202001310830 and 20200131083000.
_FIRST_DAY, _LAST_DAY = 17_000_101, 22_991_231
_DIGITS: Final = {1: "%Y%m%d", 10**4: "%Y%m%d%H%M", 10**6: "%Y%m%d%H%M%S"}
_MOST_LEVELS: Final = 20


@dataclass
class Guess:
    """The probable roles of the tables."""

    tables: dict[str, Sketch] = field(default_factory=dict)
    """By our table name."""
    source: str = "native"
    """``data.source``."""
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    """By table, our column names to those of the files, where they differ."""
    outcome: str | None = None
    index: str | None = None
    """Names of columns of the labels."""
    outcome_values: str = "0 and 1"
    """The two values of the outcome."""
    demographics: list[str] = field(default_factory=list)
    """Our names."""
    date_formats: list[str] = field(default_factory=list)
    time_unit: str | None = None
    reasons: list[str] = field(default_factory=list)
    """Guesses, for the author to read."""
    doubts: list[str] = field(default_factory=list)
    """Points that the author should check."""

    @property
    def missing(self) -> list[str]:
        """Required tables that were not found."""
        return [name for name in ("events", "labels") if name not in self.tables]


def guess_tables(sketches: Sequence[Sketch]) -> Guess:
    """Return a guess at the roles of a folder's tables."""
    guess = Guess()
    left, scores = list(sketches), _SCORES
    of_cdm = find_cdm(sketches)
    if of_cdm is not None:
        guess.source, (guess.tables, left) = OMOP_NAME, of_cdm
        guess.reasons += [f"{name}: {sketch.pattern}" for name, sketch in guess.tables.items()]
        scores = {"labels": _labels}
    for name, score in scores.items():
        scored = [(score(sketch) + _bonus(sketch, name), sketch) for sketch in left if score(sketch)]
        if not scored:
            continue
        _, best = max(scored, key=lambda pair: (pair[0], pair[1].n_bytes))
        guess.tables[name] = best
        left.remove(best)
        guess.reasons.append(f"{name}: {best.pattern}")
    guess.doubts += [
        f"{sketch.pattern} is not used{_reason(sketch) or like_events(sketch, guess.tables.get('events')) or _unknown_names(sketch, guess.missing)}."
        for sketch in left[:_MOST_NAMED]
    ]
    if len(left) > _MOST_NAMED:
        guess.doubts.append(
            f"{len(left) - _MOST_NAMED:,} more tables are not used. Put the files of one table into a folder."
        )
    if not guess.missing:
        _guess_columns(guess)
        _guess_labels(guess, guess.tables["labels"])
        if "demographics" in guess.tables:
            _guess_demographics(guess, guess.tables["demographics"])
        elif guess.source == "meds":
            _guess_static(guess, guess.tables["events"])
        _guess_times(guess)
    return guess


def find_column(sketch: Sketch, ours: str, *, fits: Callable[[Any], bool] = lambda _: True) -> str | None:
    """Return the column of a table that is probably the column ``ours``, by its name."""
    by_name = {_bare(name): name for name, values in sketch.columns.items() if fits(values)}
    return next((by_name[name] for name in _NAMES[ours] if name in by_name), None)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _events(sketch: Sketch) -> int:
    return 10 if all(find_column(sketch, name) for name in ("patient_id", "time", "code")) else 0


def _concepts(sketch: Sketch) -> int:
    return 5 if find_column(sketch, "code") and not find_column(sketch, "patient_id") else 0


def _labels(sketch: Sketch) -> int:
    if not find_column(sketch, "patient_id"):
        return 0
    return (5 if find_column(sketch, "label", fits=is_outcome) else 2) if _outcomes(sketch) else 0


def _demographics(sketch: Sketch) -> int:
    if not find_column(sketch, "patient_id") or find_column(sketch, "code"):
        return 0
    known = sum(bool(find_column(sketch, name)) for name in ("birth_date", "age"))
    usual = sum(_bare(name) in _DEMOGRAPHICS for name in sketch.columns)
    # A table of another outcome, taken as demographics, would reveal the future to the models.
    is_named = any(mark in sketch.name for mark in _TABLE_NAMES["demographics"])
    return 2 + 3 * known + usual if known or usual or is_named else 0


_SCORES: Final[Mapping[str, Callable[[Sketch], int]]] = {
    "events": _events,
    "concepts": _concepts,
    "labels": _labels,
    "demographics": _demographics,
}


def _bonus(sketch: Sketch, table: str) -> int:
    """Return a bonus above that of any column if the file is named after the table, and a penalty if it is named after another."""
    named = [name for name, marks in _TABLE_NAMES.items() if any(mark in sketch.name for mark in marks)]
    return (20 if table in named else -5) if named else 0


def _outcomes(sketch: Sketch) -> list[str]:
    return [name for name, values in sketch.columns.items() if is_outcome(values)]


def _reason(sketch: Sketch) -> str:
    """Explain why a candidate table is not used as labels, if the reason lies in the values of a column."""
    column = find_column(sketch, "label") if find_column(sketch, "patient_id") else None
    if column is None or is_outcome(sketch.columns[column]):
        return ""
    values = pc.unique(sketch.columns[column].drop_null()).to_pylist()
    n_values = len(values)
    counted = f"{n_values} distinct value{'' if n_values == 1 else 's'}"
    remedy = {1: ": add the samples with the other outcome", 2: ": write them as 0 and 1"}.get(n_values, "")
    if column in values:
        remedy = ", and one row repeats the header: remove it"
    return f", because column {column!r} is not one of 0 and 1, or of false and true (its first {len(sketch.columns[column]):,} rows have {counted}{remedy})"


def _unknown_names(sketch: Sketch, missing: Sequence[str]) -> str:
    """State which roles no column seems to have. Names are not shown, because without a header they are a patient's values."""
    lacks = [words for ours, words in _ROLES.items() if not find_column(sketch, ours)]
    none_of_them = f" (none of its {plural(len(sketch.columns), 'column')}"
    if missing and "the patient" in lacks:
        return f"{none_of_them} has a usual name for the patient)"
    if "events" in missing and lacks:
        return f"{none_of_them} has a usual name for {' or for '.join(lacks)})"
    if "labels" in missing and not _outcomes(sketch):
        return f"{none_of_them} holds 0 and 1, or false and true)"
    return ""


def names_looked_for(missing: Sequence[str]) -> str:
    """Return the names by which columns of the missing tables would be found, such as ``the patient: patientid, mrn``."""
    roles = _ROLES if "events" in missing else {"patient_id": _ROLES["patient_id"]}
    return "; ".join(f"{words}: {', '.join(_NAMES[ours])}" for ours, words in roles.items())


def _guess_columns(guess: Guess) -> None:
    """Guess the source, and the columns whose names differ from those of the source."""
    columns = {name.casefold() for name in guess.tables["events"].columns}
    is_omop = guess.source == OMOP_NAME
    if not is_omop:
        guess.source = next((name for name, signs in _SIGNS.items() if signs <= columns), "native")
    table_named = {table.name: table for table in TABLES}
    wanted = {
        "events": ("patient_id", "time", "code", "numeric_value", "description"),
        "labels": ("patient_id",),
        "demographics": ("patient_id", "birth_date", "age"),
        "concepts": ("code", "description"),
    }
    for table, sketch in guess.tables.items():
        for ours in wanted[table] if table == "labels" or not is_omop else ():
            usual = _usual(guess.source, table_named[table], ours, sketch)
            found = usual if usual in sketch.columns else find_column(sketch, ours)
            if ours == "numeric_value" and found and not is_number(sketch.columns[found].type):
                missing = source_named(guess.source).missing_texts
                is_numeric = _is_numeric_text(sketch.columns[found], missing)
                if not is_numeric and len(sketch.columns[found]):
                    guess.doubts.append(
                        f"{table}: column {found!r} may hold the values, but some of its texts are not numbers. Name it in "
                        "data.columns as numeric_value, and state data.format.decimal if they have a decimal comma."
                    )
                found = found if found == usual or is_numeric else None
            if found is not None and found != usual:
                guess.columns.setdefault(table, {})[ours] = found
                guess.reasons.append(f"{table}: {ours} is {found!r}")
    if guess.source in ("native", "dbmart"):
        _name_unread(guess, guess.tables["events"])


def _name_unread(guess: Guess, events: Sketch) -> None:
    """Name the columns of the events that are not read: one of them may mark rows that do not count."""
    usual = source_named(guess.source).columns(EVENTS).values()
    read = {*usual, *guess.columns.get("events", {}).values(), "text_value"}
    named = " ".join(guess.doubts)
    if unread := [name for name in events.columns if name not in read and f"column {name!r}" not in named]:
        guess.doubts.append(
            f"events: not read: {', '.join(map(repr, unread[:_MOST_NAMED]))}. Remove rows that such a column marks as refuted or as an error."
        )


def _usual(source: str, table: Table, ours: str, sketch: Sketch) -> str:
    """Return the source's name of a column, spelled as in the file if the source ignores case."""
    layout = source_named(source)
    usual = layout.column(table, ours)
    if not layout.ignores_case:
        return usual
    return next((name for name in sketch.columns if name.casefold() == usual), usual)


def _is_numeric_text(values: Any, missing: Sequence[str] = ()) -> bool:
    texts = {str(value).strip().lower() for value in pc.unique(values).to_pylist() if value is not None}
    texts -= {"", "nan", "inf", "-inf", *map(str.lower, missing)}  # which are read, and count as missing
    return bool(texts) and all(re.fullmatch(_NUMBER, text) for text in texts)


def _guess_labels(guess: Guess, sketch: Sketch) -> None:
    outcomes = _outcomes(sketch)
    guess.outcome = find_column(sketch, "label", fits=is_outcome) or outcomes[0]
    guess.outcome_values = two_values(sketch.columns[guess.outcome])
    guess.reasons.append(f"cohort.outcome: {guess.outcome!r}, a column of {guess.outcome_values}")
    others = [name for name in outcomes if name != guess.outcome]
    if others:
        kinds = sorted({two_values(sketch.columns[name]) for name in others})
        guess.doubts.append(
            f"Other columns of {' or of '.join(kinds)} could be the outcome: {', '.join(map(repr, others))}."
        )
    times = [name for name, values in sketch.columns.items() if _is_like_time(values)]
    times += [name for name in [find_column(sketch, "index_date", fits=_has_digit_dates)] if name]
    guess.index = find_column(sketch, "index_date", fits=_is_like_time) or next(iter(times), None)
    named = find_column(sketch, "index_date")
    if guess.index is not None:
        guess.reasons.append(f"cohort.index.column: {guess.index!r}, a column of dates")
    elif named is None:
        guess.doubts.append(
            "The labels have no date. index: none uses all events of a patient: an association, not a prediction."
        )
    else:
        guess.doubts.append(
            f"labels: not every value of {named!r} can be read as a date, so that index: none uses all events of a patient: an "
            "association, not a prediction. If it is the index date, name it in cohort.index and state its form in data.format."
        )


def _is_like_time(values: Any) -> bool:
    if is_time(values.type):
        return True
    if not is_text(values.type):
        return False
    texts = values.cast(pa.string())
    found = guess_formats(texts)
    return found is not None and not is_missing(texts).all() and not _is_numeric_text(values)


def _has_digit_dates(values: Any) -> bool:
    """Return whether every value is a date such as 20200131, as an integer or as text."""
    if len(values) == values.null_count or not (is_text(values.type) or pa.types.is_integer(values.type)):
        return False
    found = guess_formats(values.cast(pa.string()))
    return found is not None and any(map(is_digits, found[0]))


def _guess_demographics(guess: Guess, sketch: Sketch) -> None:
    """Guess which columns enter the models: age, columns with usual names, and others with few levels."""
    if guess.source == "i2b2":
        _guess_dimension(guess, sketch)
        return
    if guess.source == OMOP_NAME:
        guess.demographics += cdm_demographics(sketch, has_index=guess.index is not None)
        guess.reasons.append(f"features.demographics: {', '.join(guess.demographics)}")
        return
    names = guess.columns.get("demographics", {})
    has_birth = "birth_date" in names or {"birth_date", "birth"} & set(sketch.columns)
    if "age" in names or "age" in sketch.columns or (has_birth and guess.index is not None):
        guess.demographics.append("age")
    taken = {*names.values(), "patient_id", "patient_num", "birth_date", "birth", "age", guess.index}
    for name, values in sketch.columns.items():
        if name in taken or is_time(values.type) or name in guess.demographics:
            continue
        n_levels = len(pc.unique(values))
        if any(part in _bare(name) for part in _FUTURE):
            continue
        if _bare(name) in _DEMOGRAPHICS or (1 < n_levels <= _MOST_LEVELS and not _is_like_time(values)):
            guess.demographics.append(name)
    if guess.demographics:
        guess.reasons.append(f"features.demographics: {', '.join(guess.demographics)}")
    others = [name for name in sketch.columns if name not in taken and name not in guess.demographics]
    if others:
        guess.doubts.append(
            f"demographics: not used: {', '.join(map(repr, others))}. Add those known at the index date to features.demographics."
        )


def _guess_dimension(guess: Guess, sketch: Sketch) -> None:
    """Guess the demographics of a ``patient_dimension``: those known to the source. Others, such as vital status, reveal the future."""
    columns = {name.casefold(): values for name, values in sketch.columns.items()}
    known = source_named(guess.source).names["demographics"]
    if known["birth_date"] in columns and guess.index is not None:
        guess.demographics.append("age")
    guess.demographics += [
        ours
        for ours, theirs in known.items()
        if ours not in ("patient_id", "birth_date")
        and theirs in columns
        and len(pc.unique(columns[theirs])) > 1
    ]
    guess.reasons.append(f"features.demographics: {', '.join(guess.demographics)}")


def _guess_static(guess: Guess, sketch: Sketch) -> None:
    """Guess the demographics that can be read from codes of the events."""
    source = source_named(guess.source)
    codes = [code for code in pc.unique(sketch.columns["code"]).to_pylist() if code]
    if guess.index is not None and any(code.startswith(source.static_code("birth_date")) for code in codes):
        guess.demographics.append("age")
    for name in _STATIC:
        if any(code.startswith(f"{source.static_code(name)}//") for code in codes):
            guess.demographics.append(name)
    if guess.demographics:
        guess.reasons.append(
            f"features.demographics: {', '.join(guess.demographics)}, from codes of the events"
        )


def _guess_times(guess: Guess) -> None:
    """Guess the formats of all columns of times that are used."""
    formats: list[str] = []
    for table, name in _time_columns(guess):
        values = guess.tables[table].columns[name]
        if is_time(values.type) or not len(values):
            continue
        if is_number(values.type) or (is_text(values.type) and _is_numeric_text(values)):
            _guess_number(guess, table, name, values, formats)
            continue
        found = guess_formats(values.cast(pa.string())) if is_text(values.type) else None
        if found is None:
            guess.doubts.append(
                f"{table}: not every date in {name!r} can be read; state data.format.dateFormats."
            )
            continue
        formats += found[0] or [ISO]
        if found[1]:
            guess.doubts.append(f"{table}: day and month of {name!r} may be the other way round.")
    if guess.time_unit is not None and any(map(is_digits, formats)):
        guess.time_unit = None
        guess.doubts.append(
            "Times are digits such as 20200131 in one table and counted since 1970 in another."
        )
    distinct = list(dict.fromkeys(formats))
    if distinct and distinct != [ISO]:
        guess.date_formats = distinct
        guess.reasons.append(f"data.format.dateFormats: {', '.join(distinct)}")


def _guess_number(guess: Guess, table: str, name: str, values: Any, formats: list[str]) -> None:
    if is_text(values.type):
        texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
        values = null_where(blank_texts(texts), texts)
    numbers = values.cast(pa.float64(), safe=False)
    known = np.abs(as_numpy(numbers)[is_given(numbers)])
    known = known[np.isfinite(known)]
    middle = float(np.median(known)) if len(known) else 0.0
    for scale, date_format in _DIGITS.items():
        if _FIRST_DAY <= middle / scale < _LAST_DAY + 1:
            formats.append(date_format)
            return
    if (dt.datetime.now(dt.UTC) - _EPOCH).days < middle <= _DAYS:
        guess.doubts.append(
            f"{table}: {name!r} has numbers such as 43831, which Excel shows as 2020-01-01. Write dates as text; only if they are days since 1970, "
            "which would be after today, state data.format.timeUnit: days."
        )
        return
    unit = "days" if middle <= _DAYS else "s" if middle < _MILLIS else "ms" if middle < 1e14 else "us"
    guess.time_unit = unit
    guess.doubts.append(f"{table}: {name!r} is taken as {unit} since 1970.")


def _time_columns(guess: Guess) -> Iterable[tuple[str, str]]:
    if guess.source == OMOP_NAME:
        yield from (("events", name) for name in guess.tables["events"].columns)
    for table, ours in ((EVENTS, "time"), (DEMOGRAPHICS, "birth_date")):
        if table.name in guess.tables:
            sketch = guess.tables[table.name]
            usual = _usual(guess.source, table, ours, sketch)
            name = guess.columns.get(table.name, {}).get(ours, usual)
            if name in sketch.columns:
                yield table.name, name
    if guess.index is not None:
        yield "labels", guess.index
