"""The command ``mlho completion``: a script with which a shell completes commands, options and their values."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from scheduler.cli import terminal
from scheduler.cli.help import COMPLETION_ABOUT

_PROGRAM: Final = "mlho"


def add_completion(commands: Any) -> None:
    """Add the command ``completion`` for the commands that were added before."""
    parser = commands.add_parser(
        "completion",
        help="a completion script for your shell",
        description=COMPLETION_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=tuple(_SHELLS), help="your shell")
    parser.set_defaults(command=lambda options: _print(commands, options.shell), log="text")


def _print(commands: Any, shell: str) -> int:
    words = {action.dest: str(action.help or "") for action in commands._choices_actions}
    terminal.print_document(completion_script(shell, commands.choices, words))
    return 0


def completion_script(
    shell: str, parsers: Mapping[str, argparse.ArgumentParser], words: Mapping[str, str]
) -> str:
    """Return the completion script for a shell.

    The shell is ``bash``, ``zsh`` or ``fish``; ``words`` has the help of each command in one sentence.
    """
    return "\n".join(_SHELLS[shell](parsers, words)) + "\n"


def _bash(parsers: Mapping[str, argparse.ArgumentParser], _words: Mapping[str, str]) -> Iterator[str]:
    yield f"_{_PROGRAM}() {{"
    yield '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}" words=""'
    yield '  if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'    words="{" ".join(parsers)}"'
    yield "  else"
    yield '    case "$command $prev" in'
    for name, parser in parsers.items():
        for action in _options(parser):
            if action.choices:
                names = "|".join(f'"{name} {flag}"' for flag in action.option_strings)
                yield f'      {names}) words="{_choices(action)}" ;;'
    yield "    esac"
    yield '    if [ -z "$words" ]; then case "$command" in'
    for name, parser in parsers.items():
        options = " ".join(flag for action in _options(parser) for flag in action.option_strings)
        values = " ".join(_choices(action) for action in _positionals(parser) if action.choices)
        yield f'      {name}) case "$cur" in -*) words="{options}" ;; *) words="{values}" ;; esac ;;'
    yield "    esac; fi"
    yield "  fi"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$cur"))'
    yield "}"
    yield f"complete -o default -F _{_PROGRAM} {_PROGRAM}"


def _zsh(parsers: Mapping[str, argparse.ArgumentParser], words: Mapping[str, str]) -> Iterator[str]:
    yield "autoload -Uz compinit bashcompinit && compinit && bashcompinit"
    yield from _bash(parsers, words)


def _fish(parsers: Mapping[str, argparse.ArgumentParser], words: Mapping[str, str]) -> Iterator[str]:
    yield f"complete -c {_PROGRAM} -e"
    for name, parser in parsers.items():
        about = _quoted(words.get(name, ""))
        yield f"complete -c {_PROGRAM} -f -n __fish_use_subcommand -a {name} -d {about}"
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for action in _options(parser):
            flags = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                for flag in action.option_strings
            )
            takes = " -r" if action.nargs != 0 else ""
            if action.choices:
                takes = f" -x -a {_quoted(_choices(action))}"
            yield f"complete -c {_PROGRAM} {seen} {flags}{takes} -d {_quoted(_sentence(parser, action))}"
        for action in _positionals(parser):
            if action.choices:
                yield f"complete -c {_PROGRAM} -f {seen} -a {_quoted(_choices(action))}"


def _sentence(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the help of an option on one line, with its values filled in as ``--help`` does."""
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return " ".join(text.split())


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]


def _choices(action: argparse.Action) -> str:
    return " ".join(map(str, action.choices or ()))


def _quoted(text: str) -> str:
    """Return a text in single quotes, as fish reads it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_Script = Callable[[Mapping[str, argparse.ArgumentParser], Mapping[str, str]], Iterator[str]]
_SHELLS: Final[Mapping[str, _Script]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
