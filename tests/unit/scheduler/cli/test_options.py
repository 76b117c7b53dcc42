"""The types of a command's options agree with its parser, which mypy cannot compare."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args, get_type_hints

import pytest

from scheduler.cli.parser import _parser

_OF_ALL = {"help", "command", "log", "store"}


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


def _types(command: Callable[..., int]) -> dict[str, Any]:
    """Return the types of the options that a command declares."""
    function = command.func if isinstance(command, partial) else command
    hints = get_type_hints(function)
    hints.pop("return", None)
    (options,) = hints.values()
    return get_type_hints(options)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_a_command_has_its_type(name: str) -> None:
    """A command declares only options that its parser has, and None for those that may be missing."""
    parser = COMMANDS[name]
    command = parser.get_default("command")
    types = {option: kind for option, kind in _types(command).items() if option not in _OF_ALL}
    actions = {action.dest: action for action in parser._actions if action.dest not in _OF_ALL}
    given = set(actions) | set(parser._defaults)

    assert set(types) <= given
    for option in types.keys() & actions.keys():
        action = actions[option]
        may_be_missing = action.default is None and not action.required and action.nargs != "+"
        assert type(None) in get_args(types[option]) or not may_be_missing, option
