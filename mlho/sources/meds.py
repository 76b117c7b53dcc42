"""MEDS 0.4 (Medical Event Data Standard): shards of events, label files, and ``metadata/codes.parquet`` as concepts.

A prediction time is inclusive, as our index date is. Rows without a time are static: the ledger drops them as events,
and :mod:`mlho.encoding.cohort.static_rows` reads demographics from them.
"""

from typing import Final

from mlho.sources.base import Source

_SUBJECT: Final = {"patient_id": "subject_id"}

MEDS: Final = Source(
    name="meds", names={"events": _SUBJECT, "labels": _SUBJECT, "demographics": _SUBJECT, "concepts": {}}
)
