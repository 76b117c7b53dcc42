"""The command ``mlho validate``, and the same checks of the tables before a run starts."""

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlho.errors import StoreUnavailable, plural
from mlho.model.files import DOCUMENT
from mlho.spec.expansion import expand
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec
from mlho.steps.inspection import inspect_tables
from mlho.store.s3_settings import SCHEME
from scheduler.cli import terminal
from scheduler.cli.estimate import sample_size_of
from scheduler.cli.help import VALIDATE_ABOUT
from scheduler.cli.listing import store_to_read
from scheduler.cli.options import Commands, SpecOptions
from scheduler.cli.scoring.dates import load_as_of_today
from scheduler.engine.manifest import data_root, left_out_sentences
from scheduler.engine.plan import left_out_facts
from scheduler.engine.process_pool import call_beside
from scheduler.engine.scoring_run import read_bundle, with_run_id
from scheduler.runs.earlier import address_now, pinned_run

if TYPE_CHECKING:
    from mlho.inspection.findings import Inspection

# Without one of these variables, access to object storage is not configured on this machine.
_ACCESS: Final = frozenset(("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "MLHO_S3_ENDPOINT"))
_DEADLINE, _DEADLINE_SECONDS = "MLHO_S3_DEADLINE", "5"  # for an inspection that may fail


def add_validate(commands: Commands) -> None:
    """Add ``mlho validate``."""
    validate = commands.add("validate", _validate, "check a specification and its tables", VALIDATE_ABOUT)
    validate.add_argument("spec", type=Path, help="specification file (YAML)")
    validate.add_argument("--json", action="store_true", help="the findings as JSON")


def _validate(options: SpecOptions) -> int:
    """Run ``mlho validate``. Return 0, or the exit code that a run with these tables would have."""
    spec = load_as_of_today(options.spec)
    document = None
    if isinstance(spec, ScoringRunSpec):
        store = store_to_read(options, spec.spec.bundle.uri)
        spec = with_run_id(spec, store)
        bundle = read_bundle(spec.spec.bundle, options.spec, store)
        document = bundle.files[DOCUMENT]
    elif (earlier := spec.spec.compare_with) is not None:
        store = store_to_read(options)
        pinned_run(address_now(earlier, store), store, outcome=spec.spec.cohort.outcome)
    data = data_root(spec, options.spec)
    inspections = {}
    for run_spec in _each(spec):
        inspection = inspect_tables(run_spec, data, document, today=today())
        inspection.warn(_sample_warnings(run_spec, inspection))
        inspection.warn(left_out_sentences(left_out_facts(inspection.left_out)))
        inspections[run_spec.metadata.name] = inspection
    if options.json:
        plain = [inspection.to_json() for inspection in inspections.values()]
        terminal.print_json(plain[0] if len(plain) == 1 else plain)
    else:
        for name, inspection in inspections.items():
            _show(name, inspection, verb="run" if isinstance(spec, RunSpec) else "score")
    errors = [error for inspection in inspections.values() for error in inspection.errors]
    return errors[0].exit_code if errors else 0


def _each(spec: RunSpec | ScoringRunSpec) -> tuple[RunSpec | ScoringRunSpec, ...]:
    return expand(spec) if isinstance(spec, RunSpec) else (spec,)


def inspect_first(
    spec: RunSpec | ScoringRunSpec,
    data: Path | str,
    document: bytes | None = None,
    *,
    env: Mapping[str, str] | None = None,
    trains: bool = True,
) -> "list[Inspection]":
    """Inspect the tables before a run, print warnings, and return the findings for each outcome.

    Raise the first error found, after the others are printed. Without ``trains``, the data are for an existing model.
    """
    run_specs = _each(spec)
    inspections = [
        call_beside(inspect_tables, run_spec, data, document, env=env, today=today(), trains=trains)
        for run_spec in run_specs
    ]
    for sentence in dict.fromkeys(words for inspection in inspections for words in inspection.warnings):
        terminal.print_warning(sentence)
    errors = list({str(error): error for inspection in inspections for error in inspection.errors}.values())
    if errors and len(run_specs) > 1:
        names = [
            run_spec.metadata.name
            for run_spec, inspection in zip(run_specs, inspections, strict=True)
            if inspection.errors
        ]
        terminal.print_note(f"Not started, because of {', '.join(names)}:")
    for error in errors[1:]:
        terminal.print_note(f"Also: {error}")
    if errors:
        raise errors[0]
    return inspections


def inspect_before_run(
    spec: RunSpec | ScoringRunSpec,
    data: Path | str,
    document: bytes | None = None,
    *,
    env: Mapping[str, str] | None = None,
) -> None:
    """Inspect the tables as :func:`inspect_first` does, and warn if the sample is too small to train on."""
    inspections = inspect_first(spec, data, document, env=env)
    for run_spec, inspection in zip(_each(spec), inspections, strict=True):
        name = f"{run_spec.metadata.name}: " if len(inspections) > 1 else ""
        for sentence in _sample_warnings(run_spec, inspection):
            terminal.print_warning(f"{name}{sentence}")


def _sample_warnings(spec: RunSpec | ScoringRunSpec, inspection: "Inspection") -> list[str]:
    if not isinstance(spec, RunSpec):
        return []
    verdict = sample_size_of(spec.spec, inspection)
    return [verdict.sentences] if verdict is not None and verdict.is_too_small else []


def today() -> dt.date:
    """Return the date of a command, in UTC."""
    return dt.datetime.now(dt.UTC).date()


def inspect_before_submission(spec: RunSpec | ScoringRunSpec) -> None:
    """Inspect the tables of a training run in object storage if this machine has access to it; otherwise a task of the run does."""
    data = spec.spec.data.uri
    if isinstance(spec, ScoringRunSpec) or not data.startswith(SCHEME) or not _ACCESS & os.environ.keys():
        return
    try:
        inspect_before_run(spec, data, env={_DEADLINE: _DEADLINE_SECONDS, **os.environ})
    except (StoreUnavailable, ImportError) as error:
        terminal.print_note(f"The tables are not checked here, but by a task of the run: {error}")


def _show(name: str, inspection: "Inspection", *, verb: str) -> None:
    table = terminal.new_table(f"Tables of {name}", ["table"], ["files", "size", "columns"])
    for facts in inspection.tables:
        columns = "?" if facts.n_columns is None else str(facts.n_columns)
        table.add_row(facts.name, f"{facts.n_files:,}", terminal.size(facts.n_bytes), columns)
    terminal.print_table(table)
    terminal.out.print()
    terminal.print_lines(f"{title}: {words}" for title, words in inspection.facts.items())
    terminal.print_lines(f"Warning: {sentence}" for sentence in inspection.warnings)
    terminal.print_lines(f"Error: {error}" for error in inspection.errors)
    verdict = "A run would stop with this." if inspection.errors else f"A run can begin: mlho {verb}."
    counted = f"{plural(len(inspection.errors), 'error')}, {plural(len(inspection.warnings), 'warning')}"
    terminal.print_line(f"{counted}. {verdict}")
