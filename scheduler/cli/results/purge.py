"""The command ``mlho purge``: which runs hold data of given patients, and their deletion."""

import sys
from pathlib import Path
from typing import Any, Final

from mlho.errors import SpecError, plural
from scheduler.cli import terminal
from scheduler.cli.listing import existing_store
from scheduler.cli.options import Commands, PurgeOptions
from scheduler.cli.results.site import renew
from scheduler.cli.retention import deletion_facts, print_deletion
from scheduler.runs.purge import Holding, Purge, find_patients, purge

ABOUT: Final = """\
Find the runs that hold data of given patients, and delete them with their artifacts of any age.

  mlho purge patients.txt          list the data held: encoded rows, demographics, scores; and the models trained on them
  mlho purge patients.txt --yes    delete these runs, and all artifacts that no run uses

FILE has one patient id per line, as in the tables; - reads them from standard input, so that no id is on a command line. No id is
printed. Runs whose ids are encrypted are searched with their key (MLHO_PSEUDONYM_KEY, MLHO_PSEUDONYM_KEYS_EARLIER). Remove the
rows of the patients from the tables first; then run the specifications again to train without them.

A bundle contains no patient's rows. A run is kept while a channel shows its model: promote another model (mlho promote) or roll
back (mlho rollback), then repeat the command. Its exit code is 1 while a run that holds data is left. Exported copies, and caches
of workers (MLHO_CACHE_DIR), are outside the store: delete them too.
"""


def add_purge(commands: Commands) -> None:
    """Add ``mlho purge``."""
    parser = commands.add(
        "purge", _purge, "find and delete the data that a store holds of given patients", ABOUT
    )
    parser.add_argument("file", metavar="FILE", help="patient ids, one per line; - for standard input")
    parser.add_argument("--yes", "-y", action="store_true", help="delete")
    parser.add_argument(
        "--json", action="store_true", help="print the data held as JSON; deletes only with --yes"
    )


def _purge(options: PurgeOptions) -> int:
    store = existing_store(options)
    plan = find_patients(store, _wanted(options.file))
    deletion = purge(store, plan) if options.yes else None
    if options.json:
        done = {} if deletion is None else {"deletion": deletion_facts(deletion, is_done=True)}
        terminal.print_json(_facts(plan) | done)
    else:
        terminal.print_lines(_lines(plan))
        if deletion is not None:
            print_deletion(deletion, verb="Deleted")
        elif plan.deletable or plan.unlisted or plan.n_unnamed:
            terminal.out.print("Nothing was deleted. To delete this data, add --yes.")
    if deletion is None:
        return 1 if plan.holdings or plan.unlisted or plan.n_unnamed or plan.damaged or plan.unknown else 0
    renew(store, options.store)
    deleted = {run.run_id for run in deletion.runs}
    is_left = any(holding.live_in for holding in plan.holdings)
    is_left |= any(run.run_id not in deleted for run in plan.damaged)
    return 1 if is_left or plan.unknown else 0


def _wanted(file: str) -> frozenset[str]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).expanduser().read_text(encoding="utf-8")
        text = text.removeprefix("\ufeff")  # the byte order mark of some editors, not a part of the first id
    except OSError as error:
        raise SpecError(
            f"{file}: cannot be read ({error.strerror}). Give a file with one patient id per line."
        ) from None
    except UnicodeDecodeError:
        raise SpecError(f"{file}: is not UTF-8 text. Give a file with one patient id per line.") from None
    n_quoted = sum(line.strip().startswith('"') for line in text.splitlines())
    if n_quoted:
        raise SpecError(
            f"{file}: {plural(n_quoted, 'line')} with a quotation mark, which would match no patient. Give one patient id per line, "
            "without quotation marks and without further columns."
        )
    wanted = frozenset(line.strip() for line in text.splitlines() if line.strip())
    if not wanted:
        raise SpecError(f"{file}: there is no patient id. Give one per line.")
    return wanted


def _lines(plan: Purge) -> list[str]:
    lines = [line for holding in plan.holdings for line in _lines_of(holding)]
    lines += [
        f"run {run.run_id} ({run.name}): it was made by an earlier version, which did not list a run's artifacts. Delete it: mlho delete {run.run_id}"
        for run in plan.unknown
    ]
    lines += [
        f"run {run.run_id} ({run.name}): a file with ids of patients is damaged, so its patients are unknown. Delete "
        f"the run: mlho delete {run.run_id}. Then repeat"
        for run in plan.damaged
    ]
    if plan.unlisted:
        lines.append(
            f"artifacts that no run lists, such as those of a killed or a deleted run: {plural(plan.n_unlisted, 'patient')}: "
            f"{', '.join(plan.unlisted)}"
        )
    if plan.n_unnamed:
        lines.append(
            f"{plural(plan.n_unnamed, 'file')} that no artifact names, such as those of a killed deletion or task: not searched, and may hold data of "
            "any patient"
        )
    n_absent = plan.n_wanted - plan.n_found
    lines.append(
        f"{plural(plan.n_wanted, 'patient')} asked for: {plan.n_found} with data, in {plural(len(plan.holdings), 'run')}; {n_absent} without."
    )
    return lines


def _lines_of(holding: Holding) -> list[str]:
    run = holding.run
    started = f"{run.started.astimezone():%Y-%m-%d %H:%M}"
    lines = [
        f"run {run.run_id} ({run.name}, {run.state}, {started}): {plural(holding.n_patients, 'patient')}: {', '.join(holding.held)}"
    ]
    if holding.bundle is not None:
        lines.append(f"  bundle {holding.bundle[:16]}… was trained on their data: retrain without them")
    if holding.live_in:
        lines.append(
            f"  stays: {_channels(holding.live_in)} its model. Promote another model or roll back, then repeat"
        )
    return lines


def _channels(names: tuple[str, ...]) -> str:
    return f"channel {names[0]} shows" if len(names) == 1 else f"channels {', '.join(names)} show"


def _facts(plan: Purge) -> dict[str, Any]:
    return {
        "patients": plan.n_wanted,
        "patients_found": plan.n_found,
        "runs": [
            {
                "run": holding.run.run_id,
                "name": holding.run.name,
                "kind": holding.run.kind,
                "patients": holding.n_patients,
                "holds": holding.held,
                "bundle": holding.bundle,
                "channels": holding.live_in,
            }
            for holding in plan.holdings
        ],
        "unlisted": {"patients": plan.n_unlisted, "holds": plan.unlisted},
        "unnamed_files": plan.n_unnamed,
        "runs_of_earlier_versions": [run.run_id for run in plan.unknown],
        "damaged_runs": [run.run_id for run in plan.damaged],
    }
