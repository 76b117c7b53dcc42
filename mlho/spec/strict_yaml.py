"""Strict YAML: texts, numbers, truth values, lists and mappings, and nothing that two readers could read differently.

kubectl reads YAML 1.1, most other programs 1.2. They differ in unquoted scalars such as ``010``, ``1:30`` and ``yes``: these are
refused here with a suggested replacement, so a file means the same to every reader. Dates stay text. Anchors, tags and repeated
keys are refused; sizes are bounded. Nothing is recursive, so that depth cannot exhaust the stack.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mlho.errors import plural
from mlho.printable import has_control, shown

MAX_BYTES: Final = 256 * 1024  # kubectl apply stores the resource in an annotation of at most this size
TAB: Final = "\t"  # the only control character allowed as a text, because it can be a separator
MAX_DEPTH: Final = 32  # a specification has 6 levels
_LONGEST_NUMBER: Final = 128  # characters
INT64: Final = range(-(2**63), 2**63)

# The same events, about twenty times as fast, if PyYAML was built with libyaml.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_TRUTHS: Final = {
    text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_REAL: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TRUTHS_OF_11: Final = frozenset(("y", "n", "yes", "no", "on", "off"))
# Scalars that are numbers only in YAML 1.1 or have a different value in 1.2, and numbers that are not accepted here.
_OTHER_NUMBERS: Final = re.compile(
    r"[-+]?(0[0-9_]+(\.[0-9_]*)?([eE][-+]?[0-9]+)?|0[bBoOxX][0-9a-fA-F_]+|[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*\.[0-9]*_[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
)


class YamlError(Exception):
    """Invalid YAML, with the line (from 1; 0 if unknown) and the remedy for the author."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        super().__init__(problem)


@dataclass
class _Open:
    """A list or mapping that is not yet complete."""

    value: list[Any] | dict[str, Any]
    line: int
    key: str | None = None
    keys: set[str] = field(default_factory=set)


def read_yaml(text: str) -> Any:
    """Return the plain values of one YAML document.

    Raise YamlError if the text is not YAML, or has a construct that is refused here.

    Parameters
    ----------
    text : str
        At most ``MAX_BYTES`` as UTF-8.

    Returns
    -------
    None, bool, int (of 64 bits), float (finite), str, list, or dict with text as keys

    Examples
    --------
    >>> read_yaml("{day: 2020-01-31, rate: 1e-3, name: '010'}")
    {'day': '2020-01-31', 'rate': 0.001, 'name': '010'}
    """
    n_bytes = len(text.encode("utf-8", "surrogatepass"))
    if n_bytes > MAX_BYTES:
        raise YamlError(0, f"it has {plural(n_bytes, 'byte')}; a specification has at most {MAX_BYTES:,}")
    number = next(
        (
            n
            for n, line in enumerate(text.split("\n"), 1)
            if has_control(line.strip("\r\ufeff").replace("\t", " "))
        ),
        0,
    )
    if number:
        raise YamlError(number, "it contains a control character. Remove it")
    return _build(_events(text))


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "no YAML"
        raise YamlError(
            mark.line + 1 if mark else 0, f"{shown(str(problem))}. Check the indentation and the quotes there"
        ) from error


def _build(events: Iterator[Any]) -> Any:
    """Build the values of a document from its events."""
    root: list[Any] = []
    open_parts: list[_Open] = []
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent) and root:
            raise YamlError(line, "a second document begins there. Write each document to its own file")
        if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            open_parts.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        value = _value(event, line)
        _add(value, event, line, open_parts, root)
        if isinstance(value, list | dict):
            if len(open_parts) >= MAX_DEPTH:
                raise YamlError(line, f"more than {MAX_DEPTH} levels are nested there")
            open_parts.append(_Open(value, line))
    return root[0] if root else None


def _value(event: Any, line: int) -> Any:
    """Return the value that an event starts or contains."""
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise YamlError(
            line, "anchors and aliases (& and *) are not supported. Write the value out, or quote it"
        )
    if event.tag is not None:
        raise YamlError(line, f"tags ({shown(event.tag)}) are not supported. Remove it")
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    if isinstance(event, yaml.SequenceStartEvent):
        return []
    text = str(event.value)
    if has_control(text) and text != TAB:
        raise YamlError(
            line, "a text contains a line break or another control character. Write it on one line"
        )
    return _scalar(text, line) if event.implicit[0] else text


def _add(value: Any, event: Any, line: int, open_parts: list[_Open], root: list[Any]) -> None:
    if not open_parts:
        root.append(value)
        return
    part = open_parts[-1]
    if isinstance(part.value, list):
        part.value.append(value)
    elif part.key is None:
        part.key = _key(value, event, line)
        if part.key in part.value:
            raise YamlError(line, f"the key {shown(part.key)!r} occurs twice")
    else:
        part.value[part.key] = value
        part.key = None


def _key(value: Any, event: Any, line: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        raise YamlError(line, "a list or a mapping is used as a key")
    raise YamlError(line, f"the key {shown(event.value)!r} is not a text. Quote it: '{shown(event.value)}'")


def _scalar(text: str, line: int) -> Any:
    """Return the value of an unquoted scalar."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if len(text) > _LONGEST_NUMBER:  # matching time grows with the square of the length of a number
        if text[0] in "+-.0123456789":
            raise YamlError(line, f"{shown(text)} is too long for a number. Quote it if it is a text")
        return text
    if text.lower() in _TRUTHS_OF_11 or text in ("=", "<<") or _OTHER_NUMBERS.fullmatch(text):
        raise YamlError(line, _ambiguous(text))
    if _WHOLE.fullmatch(text):
        number = int(text) if len(text) < 21 else INT64.stop
        if number not in INT64:
            raise YamlError(line, f"the number {shown(text)} is too large. Quote it if it is a text")
        return number
    if _REAL.fullmatch(text):
        real = float(text)
        if real in (float("inf"), float("-inf")):
            raise YamlError(line, f"the number {shown(text)} is too large. Quote it if it is a text")
        return real
    return text


def _ambiguous(text: str) -> str:
    """Describe the fault of a scalar that YAML 1.1 and 1.2 read as different values, and the form to write."""
    quoted = f"'{shown(text)}'"
    if text.lower() in _TRUTHS_OF_11:
        instead = "true" if text.lower() in ("y", "yes", "on") else "false"
        return f"{text} without quotes is a truth value in YAML 1.1, and text in 1.2. Write {quoted} for the text, or {instead}"
    if "inf" in text.lower() or "nan" in text.lower():
        return f"{text} is not a usable number. Write {quoted} for the text, or a finite number"
    return f"{shown(text)} without quotes has different values in YAML 1.1 and 1.2. Write {quoted} for the text, or a decimal number"
