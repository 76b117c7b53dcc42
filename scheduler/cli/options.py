"""Subcommands and their options: how a command is added, types for the functions that read options, and numbers as arguments."""

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
        self,
        name: str,
        command: Callable[[Any], int],
        words: str,
        about: str | None = None,
        *,
        is_resumed: bool = False,
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
        is_resumed : bool
            Whether the same command continues from committed tasks after an interruption.
        """
        parser: argparse.ArgumentParser = self.parsers.add_parser(
            name,
            parents=[self.common],
            help=words,
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(command=command, is_resumed=is_resumed)
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


class RecalibrateOptions(LabelledOptions, ExecutionOptions, Protocol):
    """Options of ``mlho recalibrate``."""

    intercept: bool
    name: str | None
    json: bool


class EvaluateOptions(LabelledOptions, OutputOptions, Protocol):
    """Options of ``mlho evaluate``."""

    site: str | None
    by: Literal["month", "night"]
    out: Path | None
    publish: bool
    json: bool


class CompareOptions(StoreOptions, Protocol):
    """Options of ``mlho compare``."""

    a: str
    b: str
    json: bool
    html: Path | None


class WorklistOptions(StoreOptions, Protocol):
    """Options of ``mlho worklist``."""

    run: str | None
    to: Path | None
    most: int


class DemoOptions(ExecutionOptions, Protocol):
    """Options of ``mlho demo``."""

    folder: Path
    patients: int


class SpecOptions(StoreOptions, Protocol):
    """Options of ``mlho validate``."""

    spec: Path
    json: bool


class ChangesOptions(SpecOptions, Protocol):
    """Options of ``mlho changes``."""

    html: Path | None


class DossierOptions(StoreOptions, Protocol):
    """Options of ``mlho dossier``."""

    run: str | None
    spec: Path | None
    to: Path
    complete: bool
    json: bool


class LineageOptions(StoreOptions, Protocol):
    """Options of ``mlho lineage``."""

    run: str | None
    openlineage: Path | None
    post: str | None
    crate: Path | None
    json: bool
    job_namespace: str


class PlanOptions(SpecOptions, Protocol):
    """Options of ``mlho plan``."""

    workers: int


class ListOptions(StoreOptions, Protocol):
    """Options of ``mlho list`` and ``mlho models``."""

    json: bool


class ShowOptions(ListOptions, Protocol):
    """Options of ``mlho show``."""

    run: str | None


class NamedRunOptions(StoreOptions, Protocol):
    """Options of a command on one run; ``None`` for the only one of a store."""

    run: str | None


class QueueOptions(NamedRunOptions, Protocol):
    """Options of a command on one run that may be on a queue."""

    broker: str | None


class ReportOptions(NamedRunOptions, Protocol):
    """Options of ``mlho report``."""

    open: bool


class ExportOptions(NamedRunOptions, Protocol):
    """Options of ``mlho export``."""

    to: Path | None
    mlflow: bool
    context: str | None
    namespace: str | None


class RemovalOptions(StoreOptions, Protocol):
    """Options of a command that deletes runs."""

    yes: bool
    json: bool


class DeleteOptions(RemovalOptions, Protocol):
    """Options of ``mlho delete``."""

    run: Sequence[str]


class PruneOptions(RemovalOptions, Protocol):
    """Options of ``mlho prune``."""

    keep: int | None
    older_than: dt.timedelta | None


class PurgeOptions(RemovalOptions, Protocol):
    """Options of ``mlho purge``."""

    file: str


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


class RollbackOptions(ChannelOptions, Protocol):
    """Options of ``mlho rollback``."""

    to: int | None


class AuditOptions(StoreOptions, Protocol):
    """Options of ``mlho audit``."""

    channel: str | None
    includes: str | None
    json: bool


class InitOptions(Protocol):
    """Options of ``mlho init``."""

    folder: Path


class SchemaOptions(Protocol):
    """Options of ``mlho schema``."""

    kind: str


class VersionOptions(Protocol):
    """Options of ``mlho version``."""

    json: bool


class WaitOptions(NamedRunOptions, Protocol):
    """Options of ``mlho wait``."""

    timeout: float


class SubmitOptions(Protocol):
    """Options of ``mlho submit``."""

    spec: Path
    namespace: str | None
    by_date: bool
    scheduled_by: str | None
    as_of: Sequence[dt.date] | None
    wait: bool
    timeout: float


class OperateOptions(Protocol):
    """Options of ``mlho operate``."""

    config: Path
    port: int
    kubeconfig: Path | None


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
