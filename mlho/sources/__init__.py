"""Adapters from other table layouts to ours, one module each.

Modules that read data import Arrow, so they are imported lazily: a manifest can be made without Arrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mlho.sources.files import SourceFile, list_inputs

if TYPE_CHECKING:
    from mlho.sources.base import Source
    from mlho.sources.events import iter_events
    from mlho.sources.known import SOURCES, source_from, source_named, source_of

__all__ = [
    "SOURCES",
    "Source",
    "SourceFile",
    "iter_events",
    "list_inputs",
    "source_from",
    "source_named",
    "source_of",
]

_HOMES: Final = {
    "SOURCES": "known",
    "Source": "base",
    "iter_events": "events",
    "source_from": "known",
    "source_named": "known",
    "source_of": "known",
}


def __getattr__(name: str) -> Any:
    """Import a public name of this package from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
