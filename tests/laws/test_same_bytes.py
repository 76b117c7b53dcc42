"""Changes that must not affect a run's result. The tests compare the digest of the result and every byte of the bundle."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlho.encoding.cohort.cohort
import mlho.encoding.events.segments
import scheduler.engine.plan
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.engine.loop import carry_out
from scheduler.engine.manifest import make_manifest
from scheduler.engine.process_pool import LocalPool
from scheduler.engine.training_run import TrainingRun
from tests.builders import Home, NullObserver, make_spec, make_tables, run_inline, runs_on, write_tables

TABLES = make_tables(300, seed=3)
SPECS = {
    "presence": {},
    "counts, two windows": {"features.aggregates": ["count"], "features.windows": [180, 720]},
    "levels, one split of its own for selection": {
        "features.aggregates": ["levels"],
        "selection.scope": "iteration",
    },
    "values and their ranges, duplicates dropped": {
        "features.aggregates": ["presence", "last", "outOfRange", "mean", "slope", "recency"],
        "features.windows": [365, 900],
        "features.allHistory": True,
        "features.utilisation": True,
        "data.duplicates": "drop",
        "cohort.gapDays": 10,
    },
    "sequences beside counts": {
        "features.aggregates": ["presence", "count"],
        "features.windows": [180, 720],
        "features.sequences": {"maxCandidates": 40, "coOccurrenceDays": 1, "durations": ["min", "mean"]},
        "selection.nFeatures": 20,
    },
    "without concepts and demographics": {
        "data.tables.concepts": None,
        "data.tables.demographics": None,
        "features.demographics": None,
        "cohort.lookBackDays": 500,
    },
    "a cohort by rule": {
        "data.tables.labels": None,
        "cohort.index": None,
        "cohort.rules": {
            "entry": {"codes": ["N0*"], "which": "any", "washoutDays": 200, "priorObservationDays": 30},
            "criteria": [
                {"name": "adults", "age": {"atLeast": 18}},
                {"name": "no high creatinine", "count": {"codes": ["LOINC:*"], "low": 1.6, "atMost": 0}},
            ],
            "outcome": {"codes": ["E11", "I10"], "toDays": 300},
            "notObservable": "negative",
        },
    },
    "a model on the consensus": {
        "final.features": "consensus",
        "validation.folds": 3,
        "candidates": [
            {"classifier": "glmboost", "grid": {"nSteps": [10, 40]}},
            {"classifier": "elasticnet"},
        ],
    },
    "three candidates": {
        "candidates": [
            {"classifier": "glmboost", "grid": {"nSteps": [20]}},
            {"classifier": "elasticnet"},
            {"classifier": "xgboost", "grid": {"maxDepth": [2], "nRounds": [10]}},
        ],
    },
    "trees of counts and values": {
        "features.aggregates": ["count", "last"],
        "selection.scope": "iteration",
        "final.classifier": "xgboost",
        "candidates": [
            {"classifier": "glmboost", "grid": {"nSteps": [20]}},
            {"classifier": "xgboost", "grid": {"maxDepth": [2, 3], "nRounds": [10]}},
            {"classifier": "ebm", "grid": {"maxRounds": [40], "nBags": [1], "maxBins": [8]}},
        ],
    },
}
some_specs = pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)


def facts(home: Home) -> tuple[str, dict[str, bytes]]:
    return home.digest, home.bundle()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("plain"), TABLES, partitions=2)


@pytest.fixture(scope="module")
def expected(plain: Path) -> Callable[..., Home]:
    """Return a function that gives the run of a specification on the plain tables."""
    return runs_on(plain)


# One partition is another cut of the same kind: a third of the specifications show it.
@pytest.mark.parametrize(
    ("changes", "partitions"),
    [
        *(pytest.param(changes, 7, id=name) for name, changes in SPECS.items()),
        *(pytest.param(SPECS[name], 1, id=f"{name}, one partition") for name in list(SPECS)[3::3]),
    ],
)
def test_rows_in_another_order_and_cut_give_the_same_bytes(changes, partitions, expected, tmp_path):
    """Shuffled rows in one or seven partitions, with patients in several, give the same result and bundle."""
    other = write_tables(tmp_path / "data", TABLES, partitions=partitions, shuffle=partitions)

    plain = expected(changes)
    actual = run_inline(other, MemoryStore(), changes)

    assert plain.finished.run_id != actual.finished.run_id
    assert len(plain.bundle()) > 3
    assert facts(actual) == facts(plain)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(partitions=st.integers(1, 9), shuffle=st.integers(0, 10**6), by_patient=st.booleans())
def test_any_cut_gives_the_same_bytes(partitions, shuffle, by_patient, expected, tmp_path_factory):
    """Randomly drawn partitions and row orders give the same result and bundle."""
    folder = tmp_path_factory.mktemp("cut")
    write_tables(folder, TABLES, partitions=partitions, shuffle=shuffle, by_patient=by_patient)
    changes = SPECS["values and their ranges, duplicates dropped"]

    assert facts(run_inline(folder, MemoryStore(), changes)) == facts(expected(changes))


@some_specs
def test_fold_tasks_give_the_bytes_of_iteration_tasks(changes, expected, plain, monkeypatch):
    """Learning by fold tasks and learning by iteration tasks give the same bytes."""
    coarse = expected(changes)
    monkeypatch.setattr(scheduler.engine.plan, "FOLD_TASK_SECONDS", 0.0)
    fine = run_inline(plain, MemoryStore(), changes)

    assert "run_fold" in fine.kinds()
    assert "run_fold" not in coarse.kinds()
    assert ("run_subsample" in fine.kinds()) == ("run_consensus_fold" in coarse.kinds())
    assert facts(fine) == facts(coarse)


def test_blocks_of_patients_do_not_change_the_numbers(expected, plain, monkeypatch):
    """The number of patients in a block changes how the matrix is stored, but not the model."""
    changes = SPECS["values and their ranges, duplicates dropped"]
    one = expected(changes)
    for module in (mlho.encoding.cohort.cohort, mlho.encoding.events.segments):
        monkeypatch.setattr(module, "BLOCK_PATIENTS", 64)
    many = run_inline(plain, MemoryStore(), changes)

    assert (one.kinds().count("pack_features"), many.kinds().count("pack_features")) == (1, 5)
    assert many.bundle()["model/model.json"] == one.bundle()["model/model.json"]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_gives_the_bytes_of_parquet(suffix, expected, tmp_path):
    """The storage format of a table does not change the result."""
    other = write_tables(tmp_path / "data", TABLES, suffix=suffix)
    changes = SPECS["values and their ranges, duplicates dropped"]
    places = {f"data.tables.{name}": f"{name}{suffix}" for name in ("labels", "demographics", "concepts")}

    assert facts(run_inline(other, MemoryStore(), {**changes, **places})) == facts(expected(changes))


def test_r_names_give_the_bundle_of_ours(expected, tmp_path):
    """A dbmart of the same cohort gives the same model as our column names."""
    other = write_tables(tmp_path / "data", TABLES, layout="dbmart")
    changes = {"data.tables.concepts": None}

    dbmart = run_inline(other, MemoryStore(), {**changes, "data.source": "dbmart"})

    native = expected(changes)
    assert dbmart.bundle()["model/model.json"] == native.bundle()["model/model.json"]


@pytest.mark.parametrize("n_slots", [1, 2, 8])
def test_tasks_in_another_order_give_the_same_bytes(n_slots, expected, plain):
    """The number of concurrent tasks changes their order, but not the result."""
    assert facts(run_inline(plain, MemoryStore(), n_slots=n_slots)) == facts(expected({}))


def test_one_or_four_workers_give_the_bytes_of_none(expected, plain, tmp_path):
    """A pool of one process, a pool of four, and execution in this process give the same bytes."""
    changes = SPECS["three candidates"]
    spec = make_spec(changes)
    manifest = make_manifest(spec.spec.data.tables, plain)
    found = []
    for n_workers in (1, 4):
        store = tmp_path / f"store-{n_workers}"
        run = TrainingRun(spec, manifest, plain, LocalStore(store))
        with LocalPool(str(store), plain, n_workers=n_workers) as pool:
            finished = carry_out(run, pool, NullObserver(), n_slots=n_workers)
        found.append(facts(Home(run, finished, ())))

    assert found == [facts(expected(changes))] * 2


def test_an_equal_seed_gives_equal_bytes_and_another_seed_others(plain):
    """All random draws depend on the seed only: an equal seed gives equal bytes, another seed gives another result."""
    first, again, other = (run_inline(plain, MemoryStore(), {"validation.seed": seed}) for seed in (1, 1, 2))

    assert facts(first) == facts(again)
    assert first.digest != other.digest
