"""The table of a run and its variants that ``mlho run`` prints and publishes."""

import hashlib
from collections.abc import Sequence

from mlho.report.variants import VariantComparison, variant_tables
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.cli import terminal
from scheduler.cli.evaluation.compare import run_facts_of, text_table
from scheduler.engine.process_pool import call_beside
from scheduler.engine.training_run import TrainingRun

_DIGITS = 16  # hexadecimal digits of a digest in a name


def publish_variants(
    store: Store, address: str, runs: Sequence[TrainingRun]
) -> tuple[str, VariantComparison]:
    """Compare finished runs of one document with the first, and publish the result as JSON and as a page in its folder.

    Returns
    -------
    str
        Key of both files without their suffix. It ends with the digest of the comparison, so that equal runs give one file.
    VariantComparison
    """
    names = [(own.run_id, own.spec.metadata.name) for own in runs]
    document, page = call_beside(_compared, address, names)
    digest = hashlib.sha256(document.encode()).hexdigest()[:_DIGITS]
    key = run_key(runs[0].run_id, f"variants-{digest}")
    store.put_if_absent(f"{key}.json", document.encode())
    store.put_if_absent(f"{key}.html", page.encode())
    return key, VariantComparison.model_validate_json(document)


def print_variants(own: VariantComparison, place: str) -> None:
    """Print the sentences and tables of a comparison, and where its page is."""
    terminal.out.print()
    terminal.out.print("Variants", markup=False, style="bold")
    for sentence in own.summary:
        terminal.out.print(sentence, markup=False)
    for title, columns, rows in variant_tables(own):
        terminal.out.print()
        terminal.print_table(text_table(title, columns, rows))
    terminal.out.print()
    terminal.out.print(f"variants {place}.html", markup=False)


def _compared(address: str, runs: list[tuple[str, str]]) -> tuple[str, str]:
    """Return the comparison as JSON and as a page."""
    from mlho.external.variants import compare_variants
    from mlho.report.page.html import render_variants

    store = open_store(address)
    base, *others = runs
    # One variant at a time: a run's facts hold its cohort and dictionary.
    own = compare_variants(
        run_facts_of(store, *base), (run_facts_of(store, run, name) for run, name in others)
    )
    return own.model_dump_json(), render_variants(own)
