"""Other forms of a part, for systems that do not read Parquet: CSV, and FHIR R4 RiskAssessment as NDJSON. Equal parts give equal bytes."""

import csv
import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mlho.scoring.parts import alert_column

CSV_FILE: Final = "part.csv"
FHIR_FILE: Final = "part.ndjson"
_ALERT: Final = alert_column("")
_RISK: Final = "risk: "  # column of mlho.model.parts.RiskHorizon
_REASONS: Final = "; "


def write_csv(part: Path, out: Path) -> None:
    """Write a part as CSV: its columns in their order, the reasons as one text."""
    import pyarrow.parquet as pq

    names = pq.read_schema(part).names
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_text(row[name]) for name in names] for row in _rows(part))


def write_fhir(
    part: Path, out: Path, *, outcome: str, bundle_digest: str, patient_system: str | None
) -> None:
    """Write a part as FHIR R4 RiskAssessments, one JSON document per line.

    Parameters
    ----------
    patient_system : str or None
        Namespace of the patients' identifiers.
    """
    with out.open("w", encoding="utf-8", newline="") as file:
        for row in _rows(part):
            resource = risk_assessment(
                row, outcome=outcome, bundle_digest=bundle_digest, patient_system=patient_system
            )
            file.write(json.dumps(resource, ensure_ascii=False, separators=(",", ":")) + "\n")


def risk_assessment(
    row: Mapping[str, Any], *, outcome: str, bundle_digest: str, patient_system: str | None
) -> dict[str, Any]:
    """Return the RiskAssessment of a sample.

    Its id follows from bundle, patient and index date, so that a second delivery updates the first. The probability is in
    per cent, as the invariant ras-2 of R4 requires. A time to an event has one prediction for each horizon, the one of
    ``probability`` first, each with the period to which it applies.
    """
    at = _time(row["index_date"])
    key = json.dumps([bundle_digest, row["patient_id"], at])
    system = {} if patient_system is None else {"system": patient_system}
    risks = {name: value for name, value in row.items() if name.startswith(_RISK)}
    predictions = [
        {"outcome": {"text": outcome}, "probabilityDecimal": 100 * risk, **period}
        for risk, period in (
            [(risk, _period(row["index_date"], name)) for name, risk in risks.items()]
            or [(row["probability"], {})]
        )
    ]
    alerts = [name.removeprefix(_ALERT) for name, value in row.items() if name.startswith(_ALERT) and value]
    if alerts:
        predictions[0]["qualitativeRisk"] = {"text": f"at or above the threshold of {', '.join(alerts)}"}
    if row.get("reasons"):
        predictions[0]["rationale"] = _text(row["reasons"])
    return {
        "resourceType": "RiskAssessment",
        "id": hashlib.sha256(key.encode()).hexdigest(),
        "status": "final",
        "method": {"text": f"mlho-batch bundle {bundle_digest}"},
        "subject": {"type": "Patient", "identifier": {**system, "value": row["patient_id"]}},
        "occurrenceDateTime": at,
        "prediction": predictions,
    }


def _period(index: dt.datetime, column: str) -> dict[str, Any]:
    """Return the time to which the risk of a column, such as ``risk: 365 days``, applies."""
    days = int(column.removeprefix(_RISK).split()[0])
    return {"whenPeriod": {"start": _time(index), "end": _time(index + dt.timedelta(days=days))}}


def _rows(part: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(part) as file:
        for batch in file.iter_batches(use_threads=False):
            yield from batch.to_pylist()


def _text(value: Any) -> str:
    """Return a value as text: numbers with all their digits, times in UTC, reasons with the contribution of each."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return _time(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _REASONS.join(f"{reason['feature']} ({reason['contribution']:+.3f})" for reason in value)
    return str(value)


def _time(at: dt.datetime) -> str:
    return f"{at.isoformat()}Z"
