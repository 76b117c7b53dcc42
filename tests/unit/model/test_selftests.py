"""The tests that a bundle carries find a model that misbehaves."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mlho.model.bundle import load_bundle
from mlho.model.selftests import run_all


@dataclass(frozen=True)
class Misbehaving:
    """A classifier that hands all on to a true one but for the methods that are replaced."""

    true: Any
    replaced: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.replaced[name] if name in self.replaced else getattr(self.true, name)


def centred(true, X):
    """Scores that depend on the batch."""
    scores = true.predict_proba(X)
    return scores / (2 * scores.max())


def swapped(true, X):
    """Log-odds that move against the coefficients."""
    return -true.log_odds(X)


def beyond(true, X):
    """Scores that are certain."""
    return np.ones(np.shape(X)[0])


def broken(true, X):
    """No scores."""
    raise RuntimeError("a message that might hold a patient's value")


@pytest.mark.parametrize(
    ("method", "behaviour", "must_fail"),
    [
        ("predict_proba", centred, {"golden rows", "batches"}),
        ("log_odds", swapped, {"directions"}),
        ("predict_proba", beyond, {"golden rows"}),
        (
            "predict_proba",
            broken,
            {"golden rows", "batches", "score range", "missing features", "other ids", "unknown code"},
        ),
    ],
)
def test_what_is_wrong_fails_its_test(method, behaviour, must_fail, bundle_folder):
    """Each fault fails the tests that look for it, and never hides the others."""
    bundle = load_bundle(bundle_folder)
    true = bundle.classifier
    replaced = {method: lambda X: behaviour(true, X)}

    results = run_all(replace(bundle, classifier=Misbehaving(true, replaced)))

    assert {result.name for result in results if not result.passed} == must_fail
    assert not any("a message" in result.detail for result in results)


def test_the_details_are_the_same_every_time(bundle_folder):
    """No seconds, no places: a result that holds them has one digest."""
    assert load_bundle(bundle_folder).run_tests() == load_bundle(bundle_folder).run_tests()


def test_a_bundle_that_is_too_large_fails_its_budget(bundle_folder):
    """20 MiB is the budget; the size is said when it is over."""
    results = run_all(replace(load_bundle(bundle_folder), n_bytes=21 * 1024**2))

    [failed] = [result for result in results if not result.passed]
    assert (failed.name, failed.detail) == ("size", "22020096 bytes")
