"""MEDS 0.4 (Medical Event Data Standard): shards of events, label files, and ``metadata/codes.parquet`` as concepts.

A prediction time is inclusive, as our index date is. Rows without a time are static: the ledger drops them as events,
and :mod:`mlho.encoding.cohort.static_rows` reads demographics from them.
"""

import json
from pathlib import Path
from typing import Any, Final

from mlho.errors import DataError
from mlho.sources.base import Source
from mlho.sources.files import DataRoot, find_file

#: File in which a data set describes its format.
DATASET: Final = "metadata/dataset.json"
_READ: Final = ("0.3", "0.4")  # versions with the columns that are read here
_MOST_BYTES: Final = 1 << 20
_SUBJECT: Final = {"patient_id": "subject_id"}

MEDS: Final = Source(
    name="meds",
    names={"events": _SUBJECT, "labels": _SUBJECT, "demographics": _SUBJECT, "concepts": {}},
    static_codes={"birth_date": "MEDS_BIRTH", "sex": "GENDER"},
)


def check_version(root: DataRoot) -> None:
    """Refuse a data set of a different version of MEDS. A data set that does not state its version is read.

    Raise DataError if ``metadata/dataset.json`` names a different version, or cannot be read.
    """
    file = find_file(root, DATASET)
    if file is None:
        return
    with file.path.open("rb") if isinstance(file.path, Path) else file.path.open() as stream:
        text = stream.read(_MOST_BYTES)
    try:
        version = json.loads(text).get("meds_version")
    except (ValueError, AttributeError):
        raise _refusal("the description of the data set cannot be read", "other content") from None
    if version is not None and ".".join(str(version).split(".")[:2]) not in _READ:
        raise _refusal("the data set has a different version of MEDS", _shown(version))


def _shown(version: Any) -> str:
    is_version = isinstance(version, str) and len(version) < 20 and version.replace(".", "").isalnum()
    return f"version {version}" if is_version else "something else"


def _refusal(rule: str, got: str) -> DataError:
    return DataError(
        DATASET,
        rule,
        expected=f"a JSON object with a meds_version of {' or '.join(_READ)}",
        got=got,
        remedy="Convert the data set to MEDS 0.4.",
    )
