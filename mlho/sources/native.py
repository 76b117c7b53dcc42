"""Our own layout, with the column names of :mod:`mlho.tables`."""

from typing import Final

from mlho.sources.base import Source

NATIVE: Final = Source(name="native")
