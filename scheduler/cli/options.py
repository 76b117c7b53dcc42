"""Subcommands and their options: how a command is added, types of the options that functions share, and numbers as arguments."""

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


class StoreOptions(Protocol):
    """Options of a command that reads a store."""

    store: str


class OutputOptions(StoreOptions, Protocol):
    """Options of a command that opens a store and writes its log to stderr."""

    log: Literal["text", "json"]


class ExecutionOptions(OutputOptions, Protocol):
    """Options of a command that carries out runs."""

    workers: int | None
    broker: str | None
    metrics_port: int | None
    metrics_address: str
    progress: Literal["auto", "json", "none"]


class RunOptions(ExecutionOptions, Protocol):
    """Options of ``mlho run``."""

    spec: Sequence[Path]
    json: bool


class ScoreOptions(ExecutionOptions, Protocol):
    """Options of ``mlho score``."""

    spec: Path
    as_of: Sequence[dt.date] | None
    again: bool
    json: bool


class LabelledOptions(StoreOptions, Protocol):
    """Options of a command on a bundle and labelled data."""

    bundle: str
    spec: Path | None
    data: Path | None


class NamedRunOptions(StoreOptions, Protocol):
    """Options of a command on one run."""

    run: str


class QueueOptions(NamedRunOptions, Protocol):
    """Options of a command on one run that may be on a queue."""

    broker: str | None


class RemovalOptions(StoreOptions, Protocol):
    """Options of a command that deletes runs."""

    yes: bool
    json: bool


class ChannelOptions(OutputOptions, Protocol):
    """Options of a command that changes a channel."""

    channel: str
    why: str
    who: str | None
    json: bool


class PromoteOptions(ChannelOptions, Protocol):
    """Options of ``mlho promote``."""

    run: str
    force: bool
    sign_key: Path | None
    sign_certificate: Path | None


class SubmitOptions(Protocol):
    """Options of ``mlho submit``."""

    spec: Path
    namespace: str | None
    by_date: bool
    as_of: Sequence[dt.date] | None
    wait: bool
    timeout: float


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
