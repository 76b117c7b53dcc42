"""The command ``mlho init``: a specification for the tables in a folder, with its guesses and the points to check."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlho.errors import DataError, MlhoError, SpecError
from mlho.printable import shown
from mlho.spec.schema import FILES, schema_of
from mlho.spec.training import RunSpec, parse_spec
from mlho.steps.inspection import inspect_tables
from scheduler.cli import terminal
from scheduler.cli.options import Commands, InitOptions
from scheduler.cli.validate import today

if TYPE_CHECKING:
    from mlho.inspection.findings import Inspection
    from mlho.inspection.guess import Guess
    from mlho.spec.layout import Format

FILE: Final = "mlho.yaml"
SCHEMA_FILE: Final = FILES["TrainingRun"]
_MOST_TRIES: Final = 20  # columns that are left out because a run would refuse them
# Policies of the cohort that permit what would otherwise stop a run, with the value that is written for the user to check.
_POLICIES: Final = {"unknownPatients": "keep", "conflictingLabels": "drop"}
_DEMOGRAPHICS: Final = "features.demographics: "
_NAMED: Final = re.compile(r"column '([^']+)'")


def add_init(commands: Commands) -> None:
    """Add ``mlho init``."""
    init = commands.add("init", _init, "write a specification for the tables in a folder")
    init.add_argument(
        "folder",
        type=Path,
        help=f"folder of the tables; {FILE} is written there unless it exists, with {SCHEMA_FILE} for editors",
    )


def _init(options: InitOptions) -> int:
    folder = options.folder.expanduser()
    path = folder / FILE
    if path.exists():
        raise SpecError(f"{path}: already exists, and is not overwritten. Rename or remove it.")
    guess, form = _guess(folder)
    text, inspection = _accepted(guess, form, folder)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    (folder / SCHEMA_FILE).write_text(schema_of("TrainingRun"), encoding="utf-8")
    _tell(path, guess, inspection)
    return inspection.errors[0].exit_code if inspection.errors else 0


def _guess(folder: Path) -> "tuple[Guess, Format]":
    from mlho.inspection.guess import guess_tables
    from mlho.inspection.sketches import sketch_folder

    folder_sketch = sketch_folder(folder)
    guess = guess_tables(folder_sketch.sketches)
    guess.reasons += [f"data.format.{name}: {value}" for name, value in _of_text(folder_sketch.form).items()]
    guess.doubts += folder_sketch.left_out
    if guess.missing:
        raise _not_found(folder, guess, left_out=folder_sketch.left_out)
    return guess, folder_sketch.form


def guessed_spec(folder: Path, *, outcome: str) -> RunSpec:
    """Return the specification that ``mlho init`` would write for a folder, for a given outcome.

    Raise DataError if no table looks like the events or the labels.
    """
    folder = folder.expanduser()
    guess, form = _guess(folder)
    guess.outcome = outcome
    text, _ = _accepted(guess, form, folder)
    return parse_spec(text, where=FILE)


def _not_found(folder: Path, guess: "Guess", *, left_out: tuple[str, ...]) -> MlhoError:
    from mlho.inspection.guess import names_looked_for

    rules = (
        " Labels are a separate table; without one, define the cohort by rules over the events: docs/cohorts.md. If they have dates of an "
        "event and of the end of follow-up, write cohort.timeToEvent: docs/data.md, “Time to an event”."
        if guess.missing == ["labels"]
        else ""
    )
    # The only doubts are about files that cannot be used, not about names of columns.
    is_named = left_out and tuple(guess.doubts) == left_out
    recognised = (
        ""
        if is_named
        else f" These names are recognised, ignoring case and punctuation, for {names_looked_for(guess.missing)}."
    )
    correct = "Correct what is named here. " if guess.doubts else ""
    return DataError(
        str(folder),
        f"no table looks like the {' and the '.join(guess.missing)}",
        expected="events with a patient, a time and a code; labels with a patient and a column of 0 and 1, or of false and true",
        got="; ".join([*guess.reasons, *(doubt.rstrip(".") for doubt in guess.doubts)]) or "no table",
        remedy=f"{correct}If columns have other names, rename them, for example to patient_id, time and code, or write the specification by "
        "hand and name your columns in data.columns: docs/data.md, “Other column names and formats”."
        f"{recognised}{rules}",
    )


def _accepted(guess: "Guess", form: "Format", folder: Path) -> tuple[str, "Inspection"]:
    """Return a specification and its inspection, after leaving out demographics that a run would refuse."""
    policies: dict[str, str] = {}
    for _ in range(_MOST_TRIES):
        text = "\n".join(_lines(guess, form, _run_name(folder), policies)) + "\n"
        spec: RunSpec = parse_spec(text, where=FILE)
        inspection = inspect_tables(spec, folder.absolute(), today=today())
        refused = [name for error in inspection.errors for name in _NAMED.findall(str(error))]
        column_of = guess.columns.get("demographics", {})
        wrong = [name for name in guess.demographics if {name, column_of.get(name)} & set(refused)]
        named = {error.policy for error in inspection.errors if isinstance(error, DataError)}
        needed = {n: value for n, value in _POLICIES.items() if n in named and n not in policies}
        if not wrong and not needed:
            break
        policies |= needed
        guess.doubts += [
            f"A run would refuse these tables without cohort.{n}: {v}." for n, v in needed.items()
        ]
        for name in wrong:
            _leave_out(guess, name, inspection)
    return text, inspection


def _leave_out(guess: "Guess", name: str, inspection: "Inspection") -> None:
    """Remove a demographic that a run would refuse, with the reason."""
    column = guess.columns.get("demographics", {}).get(name)
    error = next(e for e in inspection.errors if {name, column} & set(_NAMED.findall(str(e))))
    guess.demographics.remove(name)
    guess.reasons = [reason for reason in guess.reasons if not reason.startswith(_DEMOGRAPHICS)]
    if guess.demographics:
        guess.reasons.append(f"{_DEMOGRAPHICS}{', '.join(guess.demographics)}")
    why = f"{error.rule}. {error.remedy}" if isinstance(error, DataError) else str(error)
    guess.doubts.append(f"demographics: {name!r} is left out, because a run would refuse it: {why}")


def _lines(guess: "Guess", form: "Format", name: str, policies: Mapping[str, str]) -> Iterator[str]:
    yield from _head_lines(name)
    yield from _data_lines(guess, form)
    yield from _cohort_lines(guess, policies)
    yield from _method_lines(guess)


def _head_lines(name: str) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={SCHEMA_FILE}"
    yield "# Written by mlho init from the names and a sample of the tables. Check every line marked CHECK."
    yield "# Then: mlho validate mlho.yaml, mlho plan mlho.yaml, mlho run mlho.yaml. All fields: docs/specification.md."
    yield "apiVersion: mlho.io/v1alpha1"
    yield "kind: TrainingRun"
    yield "metadata:"
    yield f"  name: {name}"
    yield "  # title: Readmission within 30 days  # of the report, which prints all five fields"
    yield "  # description: purpose of the model"
    yield "  # outcomeDefinition: what a 1 or true in the outcome column means"
    yield "  # followUp: how long after the index date the outcome was recorded"
    yield "  # intendedUse: who uses it, for which patients, at what moment"
    yield "spec:"


def _data_lines(guess: "Guess", form: "Format") -> Iterator[str]:
    yield "  data:"
    yield f"    source: {guess.source}  # layout of the tables: native, dbmart (R MLHO), meds, i2b2 or omop"
    yield "    uri: .  # relative to this file"
    yield "    tables:"
    for table in ("events", "labels", "demographics", "concepts"):
        if table in guess.tables:
            yield f"      {table}: {_quoted(guess.tables[table].pattern)}"
    if guess.columns:
        yield "    columns:  # CHECK: our names, and those of your files"
        for table, names in guess.columns.items():
            yield f"      {table}:"
            yield from (f"        {ours}: {_quoted(theirs)}" for ours, theirs in names.items())
    yield from _format_lines(guess, form)


def _cohort_lines(guess: "Guess", policies: Mapping[str, str]) -> Iterator[str]:
    yield "  cohort:"
    yield f"    outcome: {_quoted(guess.outcome or '')}  # CHECK: a column of the labels, {guess.outcome_values}"
    if guess.index is None:
        yield "    index: none  # CHECK: without dates all events count, so that the result is an association, not a prediction"
    else:
        yield f"    index: {{column: {_quoted(guess.index)}}}  # CHECK: events up to and including this date may be used"
        yield "    # lookBackDays: 730  # how far back; without it, all history"
        yield "    # gapDays: 30  # days before the index date that are not used, in case their codes already reveal the outcome"
    for field, value in policies.items():
        yield f"    {field}: {value}  # CHECK: without it a run would stop; mlho validate says how many patients it concerns"


def _method_lines(guess: "Guess") -> Iterator[str]:
    yield "  features:"
    yield "    aggregates: [presence]  # was a code ever recorded; also count, levels, recency, last, mean, slope and others"
    yield f"    demographics: [{', '.join(map(_quoted, guess.demographics))}]  # CHECK: enter every model; only what is known at the index date"
    yield "  selection: {minPrevalence: 0.005, nFeatures: 200}"
    later = "" if guess.index is None else ", temporalCheck: true"
    yield f"  validation: {{iterations: 20, folds: 5, seed: 0{later}}}"
    yield "  candidates:"
    yield "    - {classifier: glmboost}"
    yield "    # - {classifier: xgboost}  # trees; compared with the first, and takes longer"


def _of_text(form: "Format") -> dict[str, str]:
    """Return the CSV fields of ``data.format`` that differ from the default."""
    fields: dict[str, str] = {}
    if form.delimiter is not None:
        fields["delimiter"] = _quoted(form.delimiter)
    if form.encoding != "utf-8":
        fields["encoding"] = form.encoding
    return fields


def _format_lines(guess: "Guess", form: "Format") -> Iterator[str]:
    fields = _of_text(form)
    if guess.date_formats:
        fields["dateFormats"] = f"[{', '.join(map(json.dumps, guess.date_formats))}]"
    if guess.time_unit is not None:
        fields["timeUnit"] = guess.time_unit
    if fields:
        yield "    format:  # CHECK: how the fields are written"
        yield from (f"      {name}: {value}" for name, value in fields.items())


def _quoted(text: str) -> str:
    """Return a text as YAML reads it: plain if it is a simple word, else as JSON."""
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", text) and text.casefold() not in (
        "y", "n", "yes", "no", "on", "off", "true", "false", "null",
    )  # fmt: skip
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _run_name(folder: Path) -> str:
    bare = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.casefold()).strip("-")[:40].strip("-")
    return bare or "first"


def _tell(path: Path, guess: "Guess", inspection: "Inspection") -> None:
    terminal.print_line(f"wrote {path}")
    for title, sentences in (("guessed", guess.reasons), ("check", guess.doubts)):
        terminal.print_lines(f"{title:<8} {shown(sentence)}" for sentence in sentences)
    if (dropped := inspection.facts.get("label rows")) is not None:
        terminal.print_line(f"check    labels: {dropped}")
    terminal.print_lines(f"check    {sentence}" for sentence in inspection.warnings)
    terminal.print_lines(f"error    {error}" for error in inspection.errors)
    terminal.print_line(f"next     mlho validate {path}")
