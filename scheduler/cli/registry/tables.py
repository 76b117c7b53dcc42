"""The output of the registry commands: models, entries of a channel, a change."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from scheduler.cli.terminal import new_table
from scheduler.registry.models import StoredModel
from scheduler.runs.channels import Channel, ChannelEntry

_SHORT: Final = 12  # digits of a digest in a table; --json has them all


def models_table(models: Sequence[StoredModel]) -> Table:
    """Return the table of ``mlho models``."""
    table = new_table(None)
    for name in (
        "name",
        "run",
        "bundle",
        "made",
        "outcome",
        "AUROC (95 %)",
        "self-tests",
        "gates",
        "signed",
        "channels",
    ):
        table.add_column(name, no_wrap=True)
    for model in models:
        table.add_row(
            Text(model.name),
            model.run,
            model.bundle[:_SHORT],
            f"{model.made.astimezone():%Y-%m-%d %H:%M}" if model.made is not None else "run deleted",
            Text(model.outcome or ""),
            _interval(model),
            f"{model.n_passed} of {model.n_tests}",
            model.gates or "none",
            "yes" if model.n_signatures else "no",
            ", ".join(model.channels),
        )
    return table


def _interval(model: StoredModel) -> str:
    auroc = model.auroc
    if auroc is None or auroc["mean"] is None:
        return ""
    limits = "" if auroc["low"] is None else f" ({auroc['low']:.3f} to {auroc['high']:.3f})"
    return f"{auroc['mean']:.3f}{limits}"


def model_facts(model: StoredModel) -> dict[str, Any]:
    """Return a model as ``mlho models --json`` prints it."""
    return {
        "name": model.name,
        "run": model.run,
        "bundle": model.bundle,
        "made": model.made.isoformat(timespec="seconds") if model.made is not None else None,
        "outcome": model.outcome,
        "auroc": dict(model.auroc) if model.auroc is not None else None,
        "tests": {"passed": model.n_passed, "total": model.n_tests},
        "gates": model.gates,
        "signatures": model.n_signatures,
        "channels": list(model.channels),
    }


def entries_table(channel: Channel) -> Table:
    """Return the table of ``mlho audit``, the oldest entry first."""
    table = new_table(f"Channel {channel.name}", right=["entry"])
    for name in ("when", "who", "what", "model", "run", "bundle", "self-tests", "gates"):
        table.add_column(name, no_wrap=True)
    table.add_column("why")
    for entry in channel.entries:
        table.add_row(
            str(entry.number),
            f"{entry.at.astimezone():%Y-%m-%d %H:%M}",
            Text(entry.who),
            what_words(entry),
            Text(entry.model),
            entry.run,
            entry.bundle[:_SHORT],
            f"{entry.tests_passed} passed",
            gate_words(entry),
            Text(entry.why),
        )
    return table


def what_words(entry: ChannelEntry) -> str:
    """Describe the change that an entry made."""
    return str(entry.action) if entry.restores is None else f"{entry.action} to entry {entry.restores}"


def gate_words(entry: ChannelEntry) -> str:
    """Return whether the gates passed when the model was promoted."""
    if not entry.gates:
        return "none"
    n_failed = sum(not gate.passed for gate in entry.gates)
    return f"FORCED: {n_failed} of {len(entry.gates)} failed" if n_failed else f"{len(entry.gates)} passed"


def entry_facts(entry: ChannelEntry) -> dict[str, Any]:
    """Return an entry as ``--json`` prints it: as stored, with its digest."""
    return {**entry.model_dump(mode="json", exclude={"schema_"}), "digest": entry.digest}


def change_lines(entry: ChannelEntry, *, is_new: bool) -> Iterator[str]:
    """Yield the effects of a promotion or a rollback, one line each."""
    model = f"{entry.model} ({entry.run})"
    if not is_new:
        yield f"Channel {entry.channel} already shows {model} since {entry.at.astimezone():%Y-%m-%d %H:%M}. The channel was not changed."
    else:
        before = f", in place of bundle {entry.replaces[:_SHORT]}" if entry.replaces is not None else ""
        yield f"Channel {entry.channel} shows {model}{before}."
    yield f"bundle   {entry.bundle}"
    yield f"tests    {entry.tests_passed} passed"
    yield f"gates    {gate_words(entry)}"
    yield f"entry    {entry.number}, digest {entry.digest}"
    yield f"score    bundle: {{uri: channel:{entry.channel}}}"
