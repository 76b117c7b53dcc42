"""Drift of values: another unit is found, and chance is not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pytest

from mlho.model.parts import TrainingSamples
from mlho.scoring.drift import find_drift
from mlho.scoring.value_drift import find_value_shifts
from mlho.store.memory import MemoryStore
from mlho.training.results.final import value_bounds
from scheduler.cli.show_scores import sentences
from tests.builders import CREATININE, make_tables, write_tables
from tests.unit.scoring.conftest import score_inline, train

LEAST = 11


def shifts_of(then, now, *, n_patients=None):
    """Return the shifts of features whose values in training and now are the rows of two matrices."""
    features = [SimpleNamespace(id=str(place), words=str(place)) for place in range(len(then))]
    bounds = {feature.id: value_bounds(values, LEAST) for feature, values in zip(features, then, strict=True)}
    training = TrainingSamples(
        without_events=0.0, alert_rates={}, n_samples=then.shape[1], missing={}, values=bounds
    )
    above = [
        int((values > bound).sum())
        for feature, values in zip(features, now, strict=True)
        for bound, _ in bounds[feature.id]
    ]
    n = now.shape[1]
    with_value = np.full(len(now), n)
    found = find_value_shifts(features, training, with_value, np.array(above), n, n_patients=n_patients or n)
    return [shift for shift in found.values() if shift is not None], len(found)


def creatinine(rng, n):
    return rng.lognormal(np.log(0.9), 0.25, (1, n))


@pytest.mark.parametrize("n_training", [60, 300, 3_000])
@pytest.mark.parametrize("n", [22, 110, 500])
def test_values_of_one_population_are_no_shift(n, n_training):
    """Of 4,000 features whose values have the distribution of training, at most 4 are shifted, in few samples and against few."""
    rng = np.random.default_rng(n + n_training)

    shifts, n_compared = shifts_of(rng.normal(size=(4_000, n_training)), rng.normal(size=(4_000, n)))

    assert (len(shifts) <= 4, n_compared) == (True, 4_000)


@pytest.mark.parametrize("factor", [88.4, 1 / 88.4, 10, 1.2])
@pytest.mark.parametrize("seed", range(3))
def test_values_in_another_unit_are_a_shift(factor, seed):
    """200 patients suffice for milligrams per decilitre that became micromoles per litre, a lost decimal point, and a rise of 20 %."""
    rng = np.random.default_rng(seed)

    (shift,), _ = shifts_of(creatinine(rng, 3_000), factor * creatinine(rng, 200))

    assert (shift.now > shift.training) == (factor > 1)
    if factor in (10, 88.4):
        assert (shift.now, shift.training) == (1.0, pytest.approx(0.05, abs=0.001))


def test_samples_of_a_patient_are_alike_and_few_values_are_not_compared():
    rng = np.random.default_rng(0)
    then, now = creatinine(rng, 3_000), 10 * creatinine(rng, 200)

    assert shifts_of(then, now, n_patients=1)[0] == []
    assert shifts_of(then, now[:, :21]) == ([], 0)


def test_a_share_of_few_values_is_not_shown():
    """Three values in the unit of training are shown as the smallest cell."""
    rng = np.random.default_rng(0)
    now = 88.4 * creatinine(rng, 200)
    now[:, :3] = 0.9

    (shift,), _ = shifts_of(creatinine(rng, 3_000), now)

    assert shift.now == (200 - 11) / 200


def test_bounds_have_enough_values_on_either_side():
    """Of 100 values five are below the 5th percentile; equal values have no bound between them."""
    assert value_bounds(np.arange(100.0), LEAST) == ((49.5, 0.5),)
    assert value_bounds(np.arange(20.0), LEAST) == ()
    assert value_bounds(np.repeat(138.0, 500), LEAST) == ()
    assert value_bounds(np.repeat([0.0, 1.0], [300, 300]), LEAST) == ((0.5, 0.5),)


def test_a_bundle_of_an_earlier_version_has_no_values_to_compare():
    features = [SimpleNamespace(id="a", words="a")]
    earlier = TrainingSamples(without_events=0.0, alert_rates={}, n_samples=300, missing={"a": 0.1})

    for training in (earlier, None):
        values = find_value_shifts(
            features, training, np.array([90]), np.empty(0, np.int64), 100, n_patients=100
        )
        drift = find_drift(
            features, [0.9], np.array([90]), 100, n_patients=100, n_training=300, values=values
        )
        assert (drift.n_compared, drift.n_values_compared, drift.n_shifted) == (1, 0, 0)


def folder_of(folder, tables, trained, **options):
    """Write tables into a folder that also has the bundle."""
    write_tables(folder, tables, by_patient=True, **options)
    (folder / "bundle").symlink_to(trained.folder / "bundle", target_is_directory=True)
    return folder


def test_a_run_names_the_code_whose_unit_changed_for_any_partitions(tmp_path):
    """Creatinine in another unit: drift, warning and terminal name it, and other partitions give the same scores.json."""
    changes = {"features.aggregates": ["presence", "last", "mean"], "selection.nFeatures": 16}
    trained = train(tmp_path, changes, make_tables(300, seed=4))
    events = trained.tables.events
    is_creatinine = pc.fill_null(pc.equal(events["code"], CREATININE), False)
    scaled = pc.if_else(is_creatinine, pc.multiply(events["numeric_value"], 88.4), events["numeric_value"])
    place = events.column_names.index("numeric_value")
    tables = replace(trained.tables, events=events.set_column(place, "numeric_value", scaled))

    as_trained = score_inline(trained.folder, MemoryStore()).scores["drift"]
    scores, other = (
        score_inline(
            folder_of(tmp_path / str(n), tables, trained, partitions=n, shuffle=n), MemoryStore()
        ).scores
        for n in (3, 2)
    )

    known = trained.bundle.document.training.values
    assert known
    assert (as_trained["n_values_compared"], as_trained["n_shifted"]) == (len(known), 0)
    drift = scores["drift"]
    of_values = {shift["feature"]: shift for shift in drift["shifted"] if shift["bound"] is not None}
    assert of_values.keys() == {name for name in known if name.startswith(CREATININE)}
    assert all(shift["now"] > 0.9 for shift in of_values.values())
    assert any(
        "a unit may have changed: Creatinine (LOINC:2160-0)" in warning for warning in scores["warnings"]
    )
    assert "of the values exceed" in " ".join(sentences(scores))
    assert other == scores
