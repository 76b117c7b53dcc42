"""Our own layout: every column has the name that :mod:`mlho.tables` gives it."""

from typing import Final

from mlho.sources.base import Source

NATIVE: Final = Source(name="native")
