"""Commands that read finished runs."""

import argparse
from typing import Any

from scheduler.cli.results.changes import add_changes
from scheduler.cli.results.dossier import add_dossier
from scheduler.cli.results.lineage import add_lineage


def add_reading(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands that read tables and results, and write no run."""
    for add in (add_changes, add_dossier, add_lineage):
        add(commands, common)
