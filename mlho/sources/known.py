"""The sources that there are, by the name that ``data.source`` of a specification gives them."""

from typing import Final

from mlho.errors import SpecError
from mlho.sources.base import Source
from mlho.sources.dbmart import DBMART
from mlho.sources.native import NATIVE

SOURCES: Final = (NATIVE, DBMART)


def source_named(name: str) -> Source:
    """Source of this name, as ``data.source`` of the specification says it.

    Raises
    ------
    SpecError
        There is no such source.
    """
    for source in SOURCES:
        if source.name == name:
            return source
    raise SpecError(f"data.source: no source of this name. Known: {', '.join(s.name for s in SOURCES)}.")
