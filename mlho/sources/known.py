"""Registry of sources by their name in ``data.source``."""

from typing import Final

from mlho.errors import SpecError
from mlho.sources.base import Source
from mlho.sources.dbmart import DBMART
from mlho.sources.native import NATIVE

SOURCES: Final = (NATIVE, DBMART)


def source_named(name: str) -> Source:
    """Return the source with this name in ``data.source`` of the specification.

    Raises
    ------
    SpecError
        The source is unknown.
    """
    for source in SOURCES:
        if source.name == name:
            return source
    raise SpecError(f"data.source: no source of this name. Known: {', '.join(s.name for s in SOURCES)}.")
