"""Registry of sources by their name in ``data.source``, and the source of a specification's tables."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mlho.errors import SpecError
from mlho.sources.base import Source
from mlho.sources.dbmart import DBMART
from mlho.sources.i2b2 import I2B2
from mlho.sources.meds import MEDS
from mlho.sources.native import NATIVE
from mlho.sources.omop.views import OMOP
from mlho.spec.layout import Format
from mlho.spec.scoring import ScoringData
from mlho.spec.training import Data

SOURCES: Final = (NATIVE, DBMART, MEDS, I2B2, OMOP)
# The cohort table of a scoring run has the columns of labels without an outcome.
_TABLE_OF: Final = {"cohort": "labels"}


def source_named(name: str) -> Source:
    """Return the source with this name in ``data.source`` of the specification.

    Raise SpecError if the source is unknown.
    """
    for source in SOURCES:
        if source.name == name:
            return source
    raise SpecError(
        f"data.source: no source with this name. Known: {', '.join(source.name for source in SOURCES)}."
    )


def source_of(data: Data | ScoringData) -> Source:
    """Return the source of a specification's tables."""
    return source_from(data.model_dump(mode="json", by_alias=True))


def source_from(data: Mapping[str, Any]) -> Source:
    """Return the source of tables that is described by plain values.

    Parameters
    ----------
    data : mapping
        ``source``, and optionally ``columns`` and ``format``, with keys as in the specification's file.

    Examples
    --------
    >>> source_from({"source": "dbmart", "columns": {"events": {"code": "ICD"}}}).names["events"]["code"]
    'ICD'
    """
    source = source_named(data["source"])
    columns = data.get("columns") or {}
    named = {_TABLE_OF.get(table, table): names for table, names in columns.items()}
    names = {
        table: {**source.names.get(table, {}), **named.get(table, {})} for table in {**source.names, **named}
    }
    form = Format.model_validate(data.get("format") or {})
    return replace(
        source, names=names, format=form, named_columns={table: tuple(named[table]) for table in named}
    )
