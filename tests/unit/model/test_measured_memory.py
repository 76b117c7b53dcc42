"""The measured memory of a bundle is that of its scoring, also in a process that has already used more."""

import mmap
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from mlho.model.testing.interface import _CLEAR_REFS, memory

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


def megabytes(predict_proba):
    """Return the measured memory of a bundle with this function."""
    bundle = SimpleNamespace(
        predict_proba=predict_proba, classifier=SimpleNamespace(contributions=lambda rows: rows)
    )
    found = memory(SimpleNamespace(bundle=bundle, drawn=np.ones((7, 3))), SimpleNamespace(expected=1.0))
    return float(found.got.removesuffix(" MB"))


@pytest.mark.skipif(not _CLEAR_REFS.exists(), reason="only Linux can reset the peak of a process")
def test_memory_of_native_libraries_is_measured_after_checks_that_needed_more():
    """Python does not trace their memory, and the peak of the process does not grow unless it is reset."""
    freed = np.ones(200 * MB, np.uint8)
    del freed

    def predict_proba(rows):
        with mmap.mmap(-1, 40 * MB) as native:
            for _ in range(40):
                native.write(bytes(MB))
        return np.ones(len(rows))

    # The kernel counts the pages of a process in batches, so that some are missing in the peak.
    assert 38 <= megabytes(predict_proba) < 100


def test_an_earlier_peak_of_python_is_not_counted():
    """Memory may have been traced before the measurement, with a higher peak."""
    tracemalloc.start()
    try:
        freed = np.ones(100 * MB, np.uint8)
        del freed
        assert megabytes(lambda rows: np.ones(len(rows))) < 50
    finally:
        tracemalloc.stop()
