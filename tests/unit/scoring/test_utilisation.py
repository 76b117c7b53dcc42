"""Utilisation in scoring: without demographics, and counted over all codes."""

import pytest

from mlho.store.memory import MemoryStore
from tests.builders import make_tables
from tests.unit.scoring.conftest import score_inline, train

CHANGES = {
    "data.tables.demographics": None,
    "features.demographics": None,
    "features.utilisation": True,
    "features.aggregates": ["presence", "recency"],
    "features.windows": [365],
    "features.allHistory": True,
    "candidates": [{"classifier": "xgboost", "grid": {"maxDepth": [2], "nRounds": [20]}}],
}


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Return a run of trees on presence, recency and utilisation."""
    return train(tmp_path_factory.mktemp("counted"), CHANGES, make_tables(200, seed=5))


def test_utilisation_needs_no_demographics(counted):
    """The columns of utilisation are the last ones, and a scoring run agrees with the bundle."""
    bundle = counted.bundle
    events, index, _ = counted.frames()

    assert bundle.demographics is None
    assert bundle.columns[-6:] == (
        "utilisation: events in 365 days",
        "utilisation: codes in 365 days",
        "utilisation: days in 365 days",
        "utilisation: events in all history",
        "utilisation: codes in all history",
        "utilisation: days in all history",
    )
    scored = score_inline(counted.folder, MemoryStore(), {"data.tables.demographics": None})
    expected = bundle.predict_events(events, index)
    assert scored.table()["probability"].tolist() == expected["probability"].tolist()


def test_utilisation_counts_codes_that_are_no_feature(counted):
    """Rows of unknown codes are counted as unknown, and also as events, codes and days."""
    from mlho.model.scoring import encode_events

    bundle = counted.bundle
    events, index, _ = counted.frames()
    numbers = [
        encode_events(bundle, rows, index, None).design.toarray()[:, -3:]
        for rows in (
            events,
            events.assign(code="~" + events["code"]),
        )
    ]

    assert (numbers[0] == numbers[1]).all()
    assert numbers[0].max() > 1
