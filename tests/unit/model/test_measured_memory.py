"""The measured memory of a bundle is that of its scoring, also in a process that has already used more."""

from types import SimpleNamespace

import numpy as np
import pytest

from mlho.model.testing.interface import memory

MB = 1024**2


@pytest.mark.parametrize("expected", [10, 100])
def test_memory_is_measured_after_checks_that_needed_more(expected):
    """The peak of a process never falls: its growth was 0 after any check that needed as much."""
    freed = np.ones(100 * MB, np.uint8)
    del freed

    def predict_proba(rows):
        return np.ones(40 * MB, np.uint8)[: len(rows)]

    bundle = SimpleNamespace(
        predict_proba=predict_proba, classifier=SimpleNamespace(contributions=lambda rows: rows)
    )
    found = memory(SimpleNamespace(bundle=bundle, drawn=np.ones((7, 3))), SimpleNamespace(expected=expected))

    amount, unit = found.got.split()
    assert unit == "MB"
    assert 40 <= float(amount) < 100
    assert found.passed == (expected == 100)
