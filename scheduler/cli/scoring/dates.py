"""The option ``--as-of``: one night, or a range of nights; and ``{date}``, which makes a specification a template for nights."""

import argparse
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mlho.spec.reading import parse_mapping, read_text, validate_document
from mlho.spec.scoring import ScoringRunSpec, parse_any_spec
from mlho.spec.training import RunSpec
from scheduler.api.resource import check_cluster_parts, dated
from scheduler.cli import terminal

MAX_NIGHTS: Final = 3660  # ten years
DATE: Final = "{date}"


def add_nights(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--as-of",
        type=nights,
        metavar="DAY[..DAY]",
        help="date of the night, or the first and the last night of a range, such as 2026-11-01..2026-11-24: replaces "
        "{date} in the specification, and is appended to the name",
    )


def nights(text: str) -> Sequence[dt.date]:
    """Return the dates of a day or of a range of days, both ends included.

    Examples
    --------
    >>> [str(night) for night in nights("2026-11-29..2026-12-01")]
    ['2026-11-29', '2026-11-30', '2026-12-01']
    """
    first, separator, last = text.partition("..")
    try:
        begin = dt.datetime.strptime(first, "%Y-%m-%d").date()
        end = dt.datetime.strptime(last, "%Y-%m-%d").date() if separator else begin
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r}: expected a date such as 2026-11-24, or a range such as 2026-11-01..2026-11-24"
        ) from None
    if not 0 <= (end - begin).days < MAX_NIGHTS:
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r}: expected the earlier date first, and at most {MAX_NIGHTS} nights"
        )
    return [begin + dt.timedelta(days=number) for number in range((end - begin).days + 1)]


def load_as_of_today(path: Path) -> RunSpec | ScoringRunSpec:
    """Read a specification of either kind. For a template, return the night of today and print a note, because the command only inspects it."""
    text, where = read_text(path), str(path)
    document = parse_mapping(text, where=where)
    check_cluster_parts(document, where=where)
    if DATE not in text or document.get("kind") != "ScoringRun":
        return parse_any_spec(text, where=where)
    today = dt.datetime.now().astimezone().date()
    terminal.print_note(f"{where}: {DATE} is read as today, {today}.")
    return validate_document(dated(document, today), ScoringRunSpec, where=where)
