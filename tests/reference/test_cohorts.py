"""Cohorts by rule on public data: the samples of es-aces on MIMIC-IV (MEDS), and the labels of GiBleed (OMOP).

The figures of es-aces are those of version 0.7.3 on ``data/mimic4_demo_meds``; the docstrings give the same definitions as configurations
of ACES. The tests compare the SHA-256 of the sorted samples, so that no patient's row is stored here.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from mlho.encoding.cohort.labels import LabelRows
from mlho.encoding.rules.whole import make_rule_labels
from mlho.inspection.findings import Inspection
from mlho.inspection.training import find_tables
from mlho.sources import source_of
from mlho.spec.training import TrainingSpec, parse_spec
from tests.builders import make_document

MEDS: dict[str, Any] = {
    "data.tables": {"events": "data"},
    "data.columns": {"events": {"patient_id": "subject_id"}},
}
# Samples, those with the outcome, and the digest of es-aces's samples.
ACES = {
    "readmission": (259, 52, "87475845552f80b8"),
    "icu_death": (40, 16, "2522b06089e051f9"),
    "first_icu": (35, 19, "7a40f56e75e18932"),
    "any_icu": (68, 40, "0a357d4520cc4b83"),
}
ALL_OBSERVED = {"endDate": "2299-12-31"}


def labels_of(folder: Path, rules: dict[str, Any], data: dict[str, Any]) -> LabelRows:
    """Return the samples of a cohort by rule."""
    document = make_document(
        {**data, "cohort.index": None, "cohort.rules": rules, "features.demographics": None}
    )
    spec: TrainingSpec = parse_spec(yaml.safe_dump(document)).spec
    tables = spec.data.tables.model_dump()
    files = find_tables(Inspection(), folder, tables, spec.data.source)["events"]
    return make_rule_labels(spec, source_of(spec.data), folder, files).rows


def figures(rows: LabelRows) -> tuple[int, int, str]:
    """Return the number of samples, the number with the outcome, and the digest of the sorted lines ``patient,microseconds,label``."""
    ids = rows.patient_ids.to_pylist()
    lines = sorted(
        f"{ids[patient]},{us},{label}"
        for patient, us, label in zip(
            rows.patient.tolist(), rows.index_us.tolist(), rows.outcome.tolist(), strict=True
        )
    )
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return len(lines), int(rows.outcome.sum()), digest[:16]


def test_readmissions_are_those_of_aces(data):
    """The entry is any discharge with more than 4 results in the week before and no death so far; the outcome is an admission within (0, 30] days.

    ACES: trigger ``discharge``; window (trigger - 7d, trigger] has ``lab: (5, None)``; [NULL, trigger] has ``death: (None, 0)``;
    target (trigger, trigger + 30d] label ``admission``.
    """
    rules = {
        "entry": {"codes": ["HOSPITAL_DISCHARGE*"], "which": "any"},
        "criteria": [
            {"name": "results", "count": {"codes": ["LAB//*"], "fromDays": -7, "atLeast": 5}},
            {"name": "alive", "count": {"codes": ["MEDS_DEATH"], "atMost": 0}},
        ],
        "outcome": {"codes": ["HOSPITAL_ADMISSION*"], "toDays": 30},
        "observation": ALL_OBSERVED,
    }

    assert figures(labels_of(data / "mimic4_demo_meds", rules, MEDS)) == ACES["readmission"]


def test_deaths_after_intensive_care_are_those_of_aces(data):
    """The entry is any stay in intensive care with a creatinine of at least 1.5 mg/dL in its first day, survived; the outcome is death in the next 90 days.

    ACES: trigger ``icu``; (trigger, trigger + 1d] has ``high_creatinine: (1, None)`` (value_min 1.5, inclusive); [NULL, trigger + 1d]
    has ``death: (None, 0)``; target (trigger + 1d, trigger + 91d] label ``death``.
    """
    rules = {
        "entry": {"codes": ["ICU_ADMISSION*"], "which": "any"},
        "offsetDays": 1,
        "criteria": [
            {
                "name": "raised creatinine",
                "count": {"codes": ["LAB//50912//*"], "low": 1.5, "fromDays": 0, "toDays": 1, "atLeast": 1},
            },
            {"name": "alive", "count": {"codes": ["MEDS_DEATH"], "toDays": 1, "atMost": 0}},
        ],
        "outcome": {"codes": ["MEDS_DEATH"], "toDays": 90},
        "observation": ALL_OBSERVED,
    }

    assert figures(labels_of(data / "mimic4_demo_meds", rules, MEDS)) == ACES["icu_death"]


@pytest.mark.parametrize(("which", "name"), [("first", "first_icu"), ("any", "any_icu")])
def test_intensive_care_with_censoring_is_that_of_aces(which, name, data):
    """The entry is an admission (the first, or any) without intensive care until day 2; the outcome is intensive care until day 365.
    Negatives must be observed until then.

    ACES: trigger ``admission``, for the first [NULL, trigger) has ``admission: (None, 0)``; [NULL, trigger + 2d] has ``icu: (None, 0)``;
    target (trigger + 2d, trigger + 365d] label ``icu``. Of the negatives those for which [target.end, NULL] has ``_ANY_EVENT: (1, None)``.
    """
    rules = {
        "entry": {"codes": ["HOSPITAL_ADMISSION*"], "which": which},
        "outcome": {"codes": ["ICU_ADMISSION*"], "fromDays": 2, "toDays": 365, "excludePrior": True},
    }

    assert figures(labels_of(data / "mimic4_demo_meds", rules, MEDS)) == ACES[name]


def test_gi_bleeds_after_a_first_nsaid_are_those_of_the_tutorial(data):
    """The entry is the first celecoxib or diclofenac, the outcome a bleed within 365 days. The 2,694 patients, index dates and labels equal the table."""
    omop = {
        "data.source": "omop",
        "data.tables": {"events": ".", "demographics": "person.parquet"},
    }
    rules = {
        "entry": {"codes": ["drug:1118084", "drug:1124300"]},
        "outcome": {"codes": ["condition:192671"], "toDays": 365},
        "notObservable": "negative",
    }

    rows = labels_of(data / "omop_gibleed", rules, omop)

    table = pq.read_table(data / "omop_gibleed" / "labels.parquet")
    ids = rows.patient_ids.to_pylist()
    found = {
        (ids[patient], us, label)
        for patient, us, label in zip(
            rows.patient.tolist(), rows.index_us.tolist(), rows.outcome.tolist(), strict=True
        )
    }
    expected = set(
        zip(
            map(str, table["patient_num"].to_pylist()),
            table["index_date"].to_numpy().astype("M8[us]").astype(np.int64).tolist(),
            table["gi_bleed_365d"].to_pylist(),
            strict=True,
        )
    )
    assert (len(found), len(expected), len(found & expected)) == (2694, 2694, 2694)


def test_periods_of_observation_are_those_of_the_cdm(data):
    """The tutorial's cohort can require a year of observation before the entry, and observation for a year after it or until the bleed.

    Expected are the rows of the table of labels whose index date lies in a period of ``observation_period``, checked one by one.
    """
    omop = {"data.source": "omop", "data.tables": {"events": ".", "demographics": "person.parquet"}}
    rules = {
        "entry": {"codes": ["drug:1118084", "drug:1124300"], "priorObservationDays": 365},
        "outcome": {"codes": ["condition:192671"], "toDays": 365},
        "observation": {"periods": "observation_period.parquet"},
    }

    rows = labels_of(data / "omop_gibleed", rules, omop)

    folder, day = data / "omop_gibleed", np.timedelta64(1, "D")
    periods: dict[int, list[Any]] = {}
    for period in pq.read_table(folder / "observation_period.parquet").to_pylist():
        bounds = [
            np.datetime64(str(period[f"OBSERVATION_PERIOD_{end}_DATE"])[:10], "D") for end in ("START", "END")
        ]
        periods.setdefault(period["PERSON_ID"], []).append(bounds)
    expected = set()
    for row in pq.read_table(folder / "labels.parquet").to_pylist():
        index, label = np.datetime64(str(row["index_date"])[:10], "D"), row["gi_bleed_365d"]
        for start, end in periods.get(row["patient_num"], []):
            if start <= index - 365 * day and index <= end and (label or end >= index + 365 * day):
                expected.add((str(row["patient_num"]), index, label))
    ids = rows.patient_ids.to_pylist()
    found = {
        (ids[patient], np.datetime64(us, "us").astype("M8[D]"), label)
        for patient, us, label in zip(
            rows.patient.tolist(), rows.index_us.tolist(), rows.outcome.tolist(), strict=True
        )
    }
    assert found == expected
    assert 0 < len(found) < 2694
