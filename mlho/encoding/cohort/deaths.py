"""Dates of death of the cohort's patients, and the version of the CDM they come from."""

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND
from mlho.encoding.cohort.windows import DAY_US
from mlho.errors import DataError
from mlho.sources import Source, iter_events
from mlho.sources.arrow import as_numpy, is_given, plain_array, text_array
from mlho.sources.files import SourceFile
from mlho.sources.omop.folder import CDM_SOURCE, DEATH, cdm_table
from mlho.sources.reading import open_table, read_columns
from mlho.tables import is_text

#: Default number of days after a death in which events are used, as in the OHDSI Data Quality Dashboard: autopsies,
#: late results and bills.
AFTER_DEATH_DAYS: Final = 60
_ACCEPTED: Final = re.compile(r"\D{0,8}5\.[34](\.\d+)*")
_MOST: Final = 3  # maximum number of versions that an error lists


def last_days(
    source: Source, files: Sequence[SourceFile], patient_ids: Sequence[str], *, after_days: int | None
) -> NDArray[np.int64] | None:
    """Return the last plausible microsecond of each patient's events: the end of the day of death, plus some days.

    Parameters
    ----------
    files : sequence of SourceFile
        Files of a CDM; those of tables other than ``death`` are skipped.
    patient_ids : sequence of str, shape (n_patients,)
    after_days : int or None
        Days after the death in which events are plausible; ``None`` is the default.

    Returns
    -------
    int64, shape (n_patients,), or None
        ``NO_BOUND`` for a patient without a death; ``None`` if no patient has one. If there are several deaths, the latest counts.
    """
    days_after = AFTER_DEATH_DAYS if after_days is None else after_days
    known, last = text_array(patient_ids), np.full(len(patient_ids), np.iinfo(np.int64).min, np.int64)
    for file in files:
        if cdm_table(file.key) != DEATH:
            continue
        for batch in iter_events(source, file, values=False):
            ids = plain_array(batch.column("patient")).cast(pa.large_string())
            positions = pc.index_in(ids, value_set=known)
            is_known = is_given(positions) & is_given(batch.column("time"))
            days = as_numpy(batch.column("time"))[is_known] // DAY_US
            np.maximum.at(last, as_numpy(positions)[is_known], (days + 1 + days_after) * DAY_US - 1)
    is_dead = last != np.iinfo(np.int64).min
    return np.where(is_dead, last, NO_BOUND) if is_dead.any() else None


def check_cdm_version(source: Source, files: Sequence[SourceFile]) -> list[str]:
    """Refuse a CDM whose version is neither 5.3 nor 5.4; return a warning if the version is not known.

    Parameters
    ----------
    source : Source
        For the form of CSV files only.
    files : sequence of SourceFile
        Files of a CDM; those of tables other than ``cdm_source`` are skipped.

    Raises
    ------
    DataError
        The version is a different one.
    """
    versions: set[str] = set()
    where = ""
    for file in files:
        if cdm_table(file.key) == CDM_SOURCE:
            versions.update(_versions_in(source, file))
            where = file.key
    wrong = sorted(version for version in versions if not _ACCEPTED.fullmatch(version))
    if wrong:
        raise DataError(
            where,
            "this version of the OMOP CDM cannot be read",
            expected="cdm_version 5.3 or 5.4, such as v5.3.1",
            got=", ".join(repr(version[:20]) for version in wrong[:_MOST]),
            remedy="Convert the tables to CDM 5.4 with the scripts of OHDSI, or correct cdm_source.",
        )
    if versions:
        return []
    return [
        "The version of the OMOP CDM is not known (no cdm_source with a cdm_version): read as 5.3 or 5.4."
    ]


def _versions_in(source: Source, file: SourceFile) -> set[str]:
    table = open_table(file, source.of_own_names)
    name = next((column for column in table.column_names if column.casefold() == "cdm_version"), None)
    if name is None or not (is_text(table.type_of(name)) or file.is_parquet):
        return set()
    texts: Any = read_columns(table, [name])[name]
    return {
        str(text).strip() for text in pc.unique(texts).to_pylist() if text is not None and str(text).strip()
    }
