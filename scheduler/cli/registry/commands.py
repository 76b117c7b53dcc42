"""The commands ``mlho models``, ``promote``, ``rollback`` and ``audit``."""

import argparse
import datetime as dt
import getpass
import os
import re
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from mlho.errors import ArtifactDamaged, ChannelDamaged, SpecError, plural
from mlho.model.signature import sign_files
from mlho.printable import has_control
from scheduler.cli import terminal
from scheduler.cli.evaluation.compare import paired_change
from scheduler.cli.listing import RUN_HELP, existing_store, find_finished
from scheduler.cli.options import (
    AuditOptions,
    ChannelOptions,
    Commands,
    ListOptions,
    PromoteOptions,
    RollbackOptions,
)
from scheduler.cli.registry.tables import change_lines, entries_table, entry_facts, model_facts, models_table
from scheduler.cli.results.site import renew
from scheduler.cli.run import usable_store
from scheduler.engine.process_pool import call_beside
from scheduler.registry.models import stored_models
from scheduler.registry.promotion import Author, Change, Signer, model_faults, promote, roll_back
from scheduler.runs.channels import Channel, channel_names, checked_name, inspect_channel
from scheduler.runs.stored import MODELS

_MAX_WORDS: Final = 1000
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_CHANNEL_HELP: Final = "name of the channel, such as production"

MODELS_ABOUT: Final = """\
List the models of a store, the newest first: the bundle of each finished training run, its AUROC on the test sets, its self-tests,
and the channels that show it.
"""

PROMOTE_ABOUT: Final = """\
Make the model of a finished training run the one that a channel shows.

The bundle's digests are verified, its self-tests run, and the gates of its specification must have passed. Then the bundle is
copied under its digest, and one entry is added to the log of the channel: who, when, why, from and to. Entries are never changed.
Of two concurrent promotions, one succeeds and the other reports a conflict. Scoring runs with `bundle: {uri: channel:NAME}` use the
model from then on. Repeating the command changes nothing.
"""

ROLLBACK_ABOUT: Final = """\
Make a channel show an earlier model again: by default the one before the promotion in use.

The log gets another entry; nothing is removed from it. Bundle and self-tests are verified as in a promotion.
"""

AUDIT_ABOUT: Final = """\
Show and verify the log of a channel.

Each entry names the digest of the one before it and ends with its own. A damaged, missing or inserted entry is named, with exit code 1, and so is a
damaged model of an entry.
The removal of the newest entries leaves a valid chain: note the digest that a promotion prints, and check it with --includes.
"""


def add_registry(commands: Commands) -> None:
    """Add the commands of the registry."""

    def add(name: str, words: str, about: str, command: Any) -> Any:
        parser = commands.add(name, command, words, about)
        parser.add_argument("--json", action="store_true", help="the same facts as JSON")
        return parser

    add("models", "the models of a store, and the channels that show them", MODELS_ABOUT, _models)
    promotion = add("promote", "make a run's model the one that a channel shows", PROMOTE_ABOUT, _promote)
    promotion.add_argument("run", help=RUN_HELP)
    promotion.add_argument(
        "--force", action="store_true", help="promote it although a gate failed; the log records it"
    )
    _add_signing(promotion)
    rollback = add("rollback", "make a channel show an earlier model again", ROLLBACK_ABOUT, _roll_back)
    rollback.add_argument(
        "--to", type=int, metavar="K", help="number of the entry whose model is to be shown (see mlho audit)"
    )
    for parser in (promotion, rollback):
        parser.add_argument("--channel", required=True, help=_CHANNEL_HELP)
        parser.add_argument(
            "--why", required=True, metavar="TEXT", help="reason, for the log; no patient's data"
        )
        parser.add_argument("--who", metavar="NAME", help="author, for the log (default: user@host)")
    audit = add("audit", "show and verify the log of a channel", AUDIT_ABOUT, _audit)
    audit.add_argument("--channel", help=f"{_CHANNEL_HELP} (default: every channel)")
    audit.add_argument(
        "--includes",
        metavar="DIGEST",
        help="fail unless an entry has this digest, noted at an earlier promotion",
    )


def _add_signing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sign-key",
        type=Path,
        metavar="FILE",
        help="sign the bundle with this private key (PEM, elliptic curve); needs the extra signing",
    )
    parser.add_argument(
        "--sign-certificate", type=Path, metavar="FILE", help="certificate of that key with its chain (PEM)"
    )


def _models(options: ListOptions) -> int:
    models, damaged = stored_models(existing_store(options))
    if options.json:
        terminal.print_json([model_facts(model) for model in models])
    elif not (models or damaged):
        terminal.print_line(f"No models in {options.store}. Train one: mlho run spec.yaml")
    else:
        terminal.print_table(
            models_table(models), optional=("bundle", "made", "signed", "outcome", "self-tests", "gates")
        )
    if damaged:
        raise ArtifactDamaged(" ".join(damaged))
    return 0


def _promote(options: PromoteOptions) -> int:
    author = _author(options)
    existing_store(options)  # a folder is not created
    store = usable_store(options)
    run = find_finished(store, options.run, kind=MODELS)
    change = promote(
        store,
        run,
        options.channel,
        author,
        force=options.force,
        signer=_signer(options),
        compare=lambda champion, candidate: call_beside(paired_change, options.store, champion, candidate),
    )
    renew(store, options.store)
    return _print_change(change, options)


def _signer(options: PromoteOptions) -> Signer | None:
    if options.sign_key is None:
        if options.sign_certificate is not None:
            raise SpecError("--sign-certificate needs --sign-key, the private key of the certificate.")
        return None
    return partial(sign_files, key=options.sign_key, certificate=options.sign_certificate)


def _roll_back(options: RollbackOptions) -> int:
    author = _author(options)
    existing_store(options)
    store = usable_store(options)
    change = roll_back(store, options.channel, author, to=options.to)
    renew(store, options.store)
    return _print_change(change, options)


def _author(options: ChannelOptions) -> Author:
    checked_name(options.channel)
    who = options.who if options.who is not None else f"{_user()}@{socket.gethostname()}"
    return Author(_words(who, "--who"), dt.datetime.now(dt.UTC), _words(options.why, "--why"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container user without a name
        return f"uid-{os.getuid()}"


def _words(text: str, option: str) -> str:
    """Return the text of an option if the log can keep it."""
    if not text.strip() or len(text) > _MAX_WORDS or has_control(text):
        raise SpecError(f"{option}: expected one line of text, at most {_MAX_WORDS} characters.")
    return text.strip()


def _print_change(change: Change, options: ChannelOptions) -> int:
    if options.json:
        terminal.print_json({"changed": change.is_new, **entry_facts(change.entry)})
    else:
        terminal.print_lines(change_lines(change.entry, is_new=change.is_new))
    return 0


def _audit(options: AuditOptions) -> int:
    store = existing_store(options)
    names = channel_names(store) if options.channel is None else [checked_name(options.channel)]
    channels = [inspect_channel(store, name) for name in names]
    if options.includes is not None:
        _check_digest(options.includes, channels)
    if options.json:
        terminal.print_json([_facts(channel) for channel in channels])
    else:
        _print_channels(channels)
    if not any(channel.entries or channel.faults for channel in channels):
        raise SpecError(
            f"{options.store}: no channel{'' if options.channel is None else f' {options.channel}'} with entries. Promote a model: mlho "
            "promote RUN --channel NAME --why TEXT."
        )
    faults = [f"channel {channel.name}: {fault}" for channel in channels for fault in channel.faults]
    faults += [
        f"channel {channel.name}: {fault}"
        for channel in channels
        if not channel.faults
        for fault in model_faults(store, channel)
    ]
    digests = {entry.digest for channel in channels for entry in channel.entries}
    if options.includes is not None and options.includes not in digests:
        faults.append(
            f"no entry has the digest {options.includes[:64]}: the newest entries may have been removed"
        )
    if faults:
        raise ChannelDamaged(
            f"{'; '.join(fault.rstrip('.') for fault in faults)}. Find out who changed the store, and restore them from a backup."
        )
    return 0


def _check_digest(digest: str, channels: Sequence[Channel]) -> None:
    """Refuse a text that is no digest of an entry: its absence does not mean that entries were removed."""
    is_of_bundle = any(entry.bundle == digest for channel in channels for entry in channel.entries)
    if is_of_bundle or not _DIGEST.fullmatch(digest):
        got = "the digest of a bundle" if is_of_bundle else "another text"
        raise SpecError(
            f"--includes: expected the digest of an entry, 64 hexadecimal digits; got {got}. A promotion prints it in the line “entry”."
        )


def _facts(channel: Channel) -> dict[str, Any]:
    return {
        "channel": channel.name,
        "whole": not channel.faults,
        "faults": list(channel.faults),
        "entries": [entry_facts(entry) for entry in channel.entries],
    }


def _print_channels(channels: list[Channel]) -> None:
    for channel in channels:
        if channel.head is None:
            continue
        terminal.print_table(entries_table(channel), optional=("bundle", "self-tests", "gates", "run"))
        terminal.print_line(
            f"{'Whole' if not channel.faults else 'NOT WHOLE'}: {plural(len(channel.entries), 'entry', 'entries')}, the newest with digest {channel.head.digest}"
        )
