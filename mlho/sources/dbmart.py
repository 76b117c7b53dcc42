"""The three tables of R MLHO, with their column names: ``dbmart`` (events), ``labeldt`` (labels) and ``dems`` (demographics)."""

from typing import Final

from mlho.sources.base import Source

DBMART: Final = Source(
    name="dbmart",
    names={
        "events": {
            "patient_id": "patient_num",
            "time": "start_date",
            "code": "phenx",
            "numeric_value": "value",
            "description": "DESCRIPTION",
        },
        "labels": {"patient_id": "patient_num"},
        "demographics": {"patient_id": "patient_num"},
        "concepts": {"code": "phenx", "description": "DESCRIPTION"},
    },
    # R writes a missing value as unquoted NA, and the text "NA" in quotes.
    missing_texts=("", "NA"),
)
