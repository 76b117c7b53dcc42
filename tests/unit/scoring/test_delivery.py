"""Delivery: every format has every score, FHIR resources conform to the published profile, and the manifest lists the objects."""

import csv
import datetime as dt
import hashlib
import io
import json

import pytest

from mlho.errors import SpecError
from mlho.scoring.delivery import risk_assessment
from mlho.spec.scoring import parse_scoring_spec
from mlho.store.keys import run_key
from mlho.store.memory import MemoryStore
from tests.unit.scoring.conftest import make_score_document, score_inline

FORMS = {"output.formats": ["csv", "fhir"], "output.patientSystem": "urn:example:mrn"}


@pytest.fixture(scope="module")
def scored(trained):
    return score_inline(trained.folder, MemoryStore(), FORMS)


def delivered(scored, suffix):
    """Return the text of all objects of a format that the manifest lists."""
    names = [entry["name"] for part in scored.manifest["parts"] for entry in part["delivered"]]
    return [scored.file(name).decode() for name in names if name.endswith(suffix)]


def test_the_manifest_names_one_object_a_part_and_form(scored):
    """Each object has a size and a digest, so that a receiver can check it."""
    for part in scored.manifest["parts"]:
        stem = part["name"].removesuffix(".parquet")
        assert [entry["name"] for entry in part["delivered"]] == [f"{stem}.csv", f"{stem}.ndjson"]
        for entry in part["delivered"]:
            content = scored.file(entry["name"])
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["size"])


def test_csv_has_every_row_with_all_digits(scored):
    rows = [row for text in delivered(scored, ".csv") for row in csv.DictReader(io.StringIO(text))]
    table = scored.table()

    found = {(row["patient_id"], row["index_date"]): float(row["probability"]) for row in rows}
    expected = {
        (scored_row.patient_id, f"{scored_row.index_date.isoformat()}Z"): scored_row.probability
        for scored_row in table.itertuples()
    }
    assert found == expected
    rule = next(name for name in table.columns if name.startswith("alert: "))
    assert sum(row[rule] == "true" for row in rows) == int(table[rule].sum())


def test_each_line_is_a_risk_assessment_of_the_published_profile(scored):
    """The models for validation are built from the structure definitions; R4B has the RiskAssessment of R4."""
    from fhir.resources.R4B.riskassessment import RiskAssessment

    lines = [json.loads(line) for text in delivered(scored, ".ndjson") for line in text.splitlines()]
    table = scored.table()

    for line in lines:
        RiskAssessment.model_validate(line)
        assert line["subject"]["identifier"]["system"] == "urn:example:mrn"
        assert 0 <= line["prediction"][0]["probabilityDecimal"] <= 100  # the invariant ras-2
    found = {
        (assessment["subject"]["identifier"]["value"], assessment["occurrenceDateTime"]): assessment[
            "prediction"
        ][0]
        for assessment in lines
    }
    assert len(found) == len(lines) == len(table)
    for row in table.itertuples():
        prediction = found[row.patient_id, f"{row.index_date.isoformat()}Z"]
        assert prediction["probabilityDecimal"] == 100 * row.probability
        assert all(reason["feature"] in prediction["rationale"] for reason in row.reasons)


def test_each_horizon_of_a_time_to_an_event_is_a_prediction_with_its_period():
    """A risk without the time to which it applies cannot be interpreted; alerts and reasons are those of the first horizon."""
    from fhir.resources.R4B.riskassessment import RiskAssessment

    row = {
        "patient_id": "7",
        "index_date": dt.datetime(2020, 1, 1),
        "probability": 0.25,
        "uncalibrated": 0.2,
        "risk: 31 days": 0.25,
        "risk: 366 days": 0.5,
        "alert: youden": True,
    }
    found = risk_assessment(row, outcome="bleeding", bundle_digest="0" * 64, patient_system=None)

    RiskAssessment.model_validate(found)
    outcome, start = {"text": "bleeding"}, "2020-01-01T00:00:00Z"
    assert found["prediction"] == [
        {
            "outcome": outcome,
            "probabilityDecimal": 25.0,
            "whenPeriod": {"start": start, "end": "2020-02-01T00:00:00Z"},
            "qualitativeRisk": {"text": "at or above the threshold of youden"},
        },
        {
            "outcome": outcome,
            "probabilityDecimal": 50.0,
            "whenPeriod": {"start": start, "end": "2021-01-01T00:00:00Z"},
        },
    ]


def test_the_model_of_the_profile_refuses_invalid_resources():
    """Invalid resources are refused, so the test above can fail."""
    from fhir.resources.R4B.riskassessment import RiskAssessment

    with pytest.raises(ValueError, match="status"):
        RiskAssessment.model_validate({"resourceType": "RiskAssessment", "subject": {"display": "x"}})
    with pytest.raises(ValueError, match="risk"):
        RiskAssessment.model_validate({"resourceType": "RiskAssessment", "status": "final", "risk": 1})


def test_the_ids_stay_when_a_night_is_delivered_again(scored, trained):
    """Stable ids let a receiver update existing resources. Another order of tasks also gives the same bytes."""
    again = score_inline(trained.folder, MemoryStore(), FORMS, n_slots=1)

    assert delivered(again, ".ndjson") == delivered(scored, ".ndjson")
    assert delivered(again, ".csv") == delivered(scored, ".csv")


def test_a_form_that_is_added_later_scores_nothing_again(trained):
    """Scoring and delivery are separate tasks, so another format only adds a delivery."""
    store = MemoryStore()
    plain = score_inline(trained.folder, store)
    more = score_inline(trained.folder, store, {"output.formats": ["csv"]})

    assert set(more.kinds()) == {"deliver_part", "commit_scores"}
    assert more.run.run_id != plain.run.run_id
    assert not any(key.endswith(".csv") for key in store.keys(run_key(plain.run.run_id, "")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output.patientSystem": "urn:x"}, "Add fhir to formats"),
        ({"output.formats": ["csv", "csv"]}, "must not repeat a format"),
        ({"output.formats": ["hl7v2"]}, "csv"),
        ({"output.formats": ["fhir"], "index": "none"}, "fhir needs index dates"),
    ],
)
def test_forms_that_cannot_be_written_are_refused(changes, words):
    import yaml

    with pytest.raises(SpecError, match=words):
        parse_scoring_spec(yaml.safe_dump(make_score_document(changes)))
