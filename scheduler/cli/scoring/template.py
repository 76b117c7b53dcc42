"""A specification with ``{date}`` is a template for nights; commands that only inspect it use today's date."""

import datetime as dt
from pathlib import Path
from typing import Final

from mlho.spec.reading import parse_mapping, read_text, validate_document
from mlho.spec.scoring import ScoringRunSpec, parse_any_spec
from mlho.spec.training import RunSpec
from scheduler.api.resource import check_cluster_parts, dated
from scheduler.cli import terminal

DATE: Final = "{date}"


def load_as_of_today(path: Path) -> RunSpec | ScoringRunSpec:
    """Read a specification of either kind. For a template, return the night of today and print a note."""
    text, where = read_text(path), str(path)
    document = parse_mapping(text, where=where)
    check_cluster_parts(document, where=where)
    if DATE not in text or document.get("kind") != "ScoringRun":
        return parse_any_spec(text, where=where)
    today = dt.datetime.now().astimezone().date()
    terminal.print_note(f"{where}: {DATE} is read as today, {today}.")
    return validate_document(dated(document, today), ScoringRunSpec, where=where)
