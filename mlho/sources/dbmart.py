"""R MLHO's three tables: ``dbmart`` (events), ``labeldt`` (labels) and ``dems`` (demographics), and their names."""

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
    # R writes a missing value as NA without quotes, and a text "NA" with them.
    missing_texts=("", "NA"),
)
