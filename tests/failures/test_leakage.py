"""A code that is recorded because of the outcome is told, by name."""

import json

import pyarrow as pa

from tests.builders import make_tables, run_inline, write_tables


def _with_trace(tables, code):
    """The cohort's tables with one more code, recorded just before the index date of each patient with the outcome."""
    labels = tables.labels.to_pylist()
    traces = [row for row in labels if row["label"] == 1]
    more = pa.table(
        {
            "patient_id": [row["patient_id"] for row in traces],
            "time": pa.array([row["index_date"] for row in traces], pa.timestamp("us")),
            "code": [code] * len(traces),
            "numeric_value": pa.array([None] * len(traces), pa.float64()),
        }
    )
    return type(tables)(
        pa.concat_tables([tables.events, more]), tables.labels, tables.demographics, tables.concepts
    )


def test_a_trace_of_the_outcome_is_named_with_its_auroc(tmp_path):
    """The sentinel warns of the planted trace and of nothing else."""
    tables = _with_trace(make_tables(seed=3), "HOSPICE")

    home = run_inline(write_tables(tmp_path / "data", tables), tmp_path / "store")

    warning = _leakage_warnings(home)
    assert len(warning) == 1
    assert "HOSPICE (0.9" in warning[0]
    assert "E11" not in warning[0]


def test_honest_codes_make_no_warning(tmp_path):
    """Planted effects of a common size are no leakage."""
    home = run_inline(write_tables(tmp_path / "data", make_tables(seed=3)), tmp_path / "store")

    assert _leakage_warnings(home) == []


def _leakage_warnings(home):
    result = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
    return [text for text in result["warnings"] if text.startswith("Possible leakage")]
