"""The command ``mlho worklist``: samples whose label the model contradicts, for a review of the records."""

import csv
import io
import os
from pathlib import Path
from typing import Final

from mlho.errors import SpecError, plural
from mlho.pseudonyms import PSEUDONYM_KEY, pseudonym, required_key
from mlho.steps.publish.pin_earlier import scores_of
from mlho.store import open_store
from scheduler.cli import terminal
from scheduler.cli.listing import RUN_HELP, existing_store, find_finished, result_of
from scheduler.cli.options import Commands, WorklistOptions
from scheduler.engine.process_pool import call_beside
from scheduler.runs.earlier import run_artifact
from scheduler.runs.stored import TRAINING

COLUMNS: Final = ("rank", "pseudonym", "index_date", "label", "mean_probability", "contradicted", "tested")
_MOST: Final = 200
WORKLIST_ABOUT: Final = f"""\
List the samples of a training run whose label the model contradicts in most iterations that tested them, the clearest
contradictions first.

A contradiction shows where to look first. It does not prove a wrong label: the weaker the model, the more correct labels it
contradicts. Patients are pseudonyms: HMAC-SHA256 of the id with the key in {PSEUDONYM_KEY}. With the key, a patient can be found
again: compute the pseudonym of each id. Without the key no list is written. Nothing is recomputed, and nothing is written into the
store or a report.
"""


def add_worklist(commands: Commands) -> None:
    """Add ``mlho worklist``."""
    parser = commands.add(
        "worklist", _worklist, "list samples whose label the model contradicts", WORKLIST_ABOUT
    )
    parser.add_argument("run", nargs="?", help=f"{RUN_HELP} (default: the only one)")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help="where the list goes (default: ./worklist-RUN.csv)"
    )
    parser.add_argument(
        "--most", type=int, default=_MOST, metavar="N", help="length of the list (default: %(default)s)"
    )


def _worklist(options: WorklistOptions) -> int:
    key = required_key("A worklist names patients by keyed pseudonyms. No list is written without a key.")
    if options.most < 1:
        raise SpecError(f"--most {options.most}: expected 1 or more.")
    run = find_finished(existing_store(options), options.run, kind=TRAINING)
    content, n_listed, n_tested = call_beside(_listed, options.store, run.run_id, key, options.most)
    path = options.to or Path(f"worklist-{run.run_id}.csv")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    terminal.print_line(
        f"The label of {n_listed:,} of {plural(n_tested, 'tested sample')} is contradicted in most iterations. "
        f"{'All are' if n_listed <= options.most else f'The first {options.most:,} are'} in {path}. A contradiction does not prove a wrong label."
    )
    return 0


def _listed(address: str, run: str, key: bytes, most: int) -> tuple[str, int, int]:
    """Return the list as CSV, how many samples are contradicted, and how many were tested often enough."""
    from mlho.encoding.cohort.cohort import Cohort
    from mlho.external.contradictions import contradicted_samples
    from mlho.method.bias.contradictions import find_contradictions

    store = open_store(address)
    final = result_of(store, run)
    if not any(candidate["is_final"] for candidate in final["candidates"]):
        raise SpecError(f"run {run}: its final model is the consensus model, whose test scores are not kept.")
    if final.get("time_to_event") is not None:
        raise SpecError(
            f"run {run}: its outcome is a time to an event. Expected an outcome of 0 and 1; a sample that was censored has none."
        )
    artifact = run_artifact(store, run)
    cohort = Cohort.read(artifact.path("cohort.arr"))
    contradictions = find_contradictions(
        scores_of(artifact), final["final_model"]["classifier"], cohort.outcome
    )
    listed = contradicted_samples(contradictions, cohort)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, sample in enumerate(listed[:most], start=1):
        facts = sample.date, sample.label, f"{sample.probability:.4f}", sample.contradicted, sample.tested
        writer.writerow([rank, pseudonym(sample.patient, key), *facts])
    return text.getvalue(), len(listed), contradictions.n_tested
