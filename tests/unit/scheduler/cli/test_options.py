"""The types of a command's options agree with its parser, which mypy cannot compare."""

import argparse
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from scheduler.cli.options import Options
from scheduler.cli.parser import _parser

_OF_ALL = {"help", "log", "store"}


def _commands(
    parser: argparse.ArgumentParser, name: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in nested:
        for word, inner in action.choices.items():
            yield from _commands(inner, f"{name} {word}".strip())
    if not nested:
        yield name, parser


COMMANDS = {
    name: parser for name, parser in _commands(_parser()) if name != "completion"
}  # it reads one option, in a lambda


TYPES = get_type_hints(Options)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_a_command_has_its_type(name: str) -> None:
    """Each option is declared, with None if it may be missing."""
    actions = [action for action in COMMANDS[name]._actions if action.dest not in _OF_ALL]

    for action in actions:
        may_be_missing = action.default is None and not action.required and action.nargs != "+"
        type_ = TYPES[action.dest]
        assert type_ is Any or not may_be_missing or type(None) in get_args(type_), action.dest


def test_each_declared_option_is_one_of_a_command() -> None:
    """No option is declared that no command has."""
    given = {action.dest for parser in COMMANDS.values() for action in parser._actions}

    assert set(TYPES) <= given
