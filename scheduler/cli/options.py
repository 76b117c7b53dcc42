"""Subcommands and their options: how a command is added, their types, and numbers as arguments."""

import argparse
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Commands:
    """The subcommands of ``mlho``, and the parent parser with the options that all of them have."""

    parsers: Any
    common: argparse.ArgumentParser

    def add(
        self, name: str, command: Callable[[Any], int], words: str, about: str | None = None
    ) -> argparse.ArgumentParser:
        """Add a subcommand.

        Parameters
        ----------
        command : callable
            Called with the parsed options. Returns the exit code.
        words : str
            Help in one sentence, for the list of commands.
        about : str, optional
            Description of the command in its own help.
        """
        parser: argparse.ArgumentParser = self.parsers.add_parser(
            name,
            parents=[self.common],
            help=words,
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(command=command)
        return parser


class Options(Protocol):
    """The options of all commands. A command has those that it adds to its parser."""

    a: str
    again: bool
    as_of: Sequence[dt.date] | None
    b: str
    broker: str | None
    bundle: str
    by: Literal["month", "night"]
    by_date: bool
    channel: Any
    """Text; ``None`` where a channel need not be named."""
    complete: bool
    config: Path
    context: str | None
    crate: Path | None
    data: Path | None
    file: str
    folder: Path
    force: bool
    html: Path | None
    includes: str | None
    intercept: bool
    job_namespace: str
    json: bool
    junit: Path | None
    keep: int | None
    kind: str
    kubeconfig: Path | None
    log: Literal["text", "json"]
    metrics_address: str
    metrics_port: int | None
    mlflow: bool
    most: int
    name: str | None
    namespace: str | None
    older_than: dt.timedelta | None
    open: bool
    openlineage: Path | None
    out: Path | None
    patients: int
    port: int
    post: str | None
    progress: Literal["auto", "json", "none"]
    publish: bool
    run: Any
    """Text; ``None`` where a run need not be named; a list where several may be."""
    scheduled_by: str | None
    sign_certificate: Path | None
    sign_key: Path | None
    site: str | None
    spec: Any
    """A path; ``None`` where a specification need not be given; a list where several may be."""
    store: str
    timeout: float
    to: Any
    """A path or ``None``; the number of a channel's entry in ``mlho rollback``."""
    wait: bool
    who: str | None
    why: str
    workers: Any
    """A number; ``None`` where the default depends on the broker."""
    yes: bool


def positive(text: str) -> int:
    """Return a whole number of 1 or more, for argparse."""
    return _whole_number(text, at_least=1)


def not_negative(text: str) -> int:
    """Return a whole number of 0 or more, for argparse."""
    return _whole_number(text, at_least=0)


def _whole_number(text: str, *, at_least: int) -> int:
    if not text.isdecimal() or int(text) < at_least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {at_least} or more")
    return int(text)
