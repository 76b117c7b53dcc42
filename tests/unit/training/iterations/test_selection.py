"""Selection on training samples: the levels of counts and values in a run's default ranking."""

from types import SimpleNamespace

import numpy as np
import pytest

from mlho.encoding.events.matrix import ColumnBlock
from mlho.method.selection.jmi import rank
from mlho.spec.training import RunSpec
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import select

N_SAMPLES, N_POSITIVE, N_NOISE = 1_125, 99, 60


class DenseMatrix:
    """A small matrix of counts and latest values, with the interface of the packed one."""

    def __init__(self, counts, values):
        self.n_columns = counts.shape[1]
        self._counts, self._values = counts, values

    def patients_per_column(self, samples, number=None):
        return (self._counts[samples] > 0).sum(axis=0)

    def column_block(self, columns, samples, numbers=None):
        counts, values = self._counts[samples][:, columns], self._values[samples][:, columns]
        places = [np.flatnonzero(column) for column in counts.T]
        cells = [
            np.concatenate([t[p] for t, p in zip(table.T, places, strict=True)]) for table in (counts, values)
        ]
        indptr = np.concatenate([[0], np.cumsum([len(p) for p in places])])
        return ColumnBlock(
            indptr, np.concatenate(places).astype(np.int32), cells[0].astype(np.int32), cells[1]
        )

    column_samples = column_block


def problem_of(counts, y, aggregate, **selection):
    """Return a problem with one aggregate; each sample is a patient, and a code's latest value is ten times its count."""
    spec = RunSpec.model_validate(
        {
            "apiVersion": "mlho.io/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": "levels"},
            "spec": {
                "data": {"tables": {"events": "events.csv", "labels": "labels.csv"}},
                "cohort": {"index": "none"},
                "features": {"aggregates": [aggregate]},
                "selection": {"minPrevalence": 0, **selection},
            },
        }
    ).spec
    cohort = SimpleNamespace(patient_of=np.arange(len(y)), outcome=y)
    codes = [f"C{number:03d}" for number in range(counts.shape[1])]
    concepts = SimpleNamespace(descriptions={}, low={}, high={})
    return Problem(spec, cohort, DenseMatrix(counts, counts * 10.0), codes, concepts)


def make_cohort(seed, area):
    """Return noise counts of 20 to 200 levels, and as the last column a code whose presence has exactly this AUROC."""
    rng = np.random.default_rng(seed)
    y = np.zeros(N_SAMPLES, np.uint8)
    y[rng.permutation(N_SAMPLES)[:N_POSITIVE]] = 1
    n_levels = rng.integers(20, 201, N_NOISE)
    noise = rng.integers(1, n_levels + 1, (N_SAMPLES, N_NOISE)) * (rng.random((N_SAMPLES, N_NOISE)) < 0.6)
    predictor = np.zeros(N_SAMPLES, np.int64)
    for label, present in ((1, 2 * area - 1 + 0.1), (0, 0.1)):
        members = np.flatnonzero(y == label)
        predictor[members[: round(present * members.size)]] = 1
    return np.column_stack([noise, predictor]), y


@pytest.mark.parametrize("aggregate", ["count", "last"])
@pytest.mark.parametrize(("area", "within"), [(0.66, 3), (0.575, 25)])
@pytest.mark.parametrize("seed", range(3))
def test_a_predictor_is_found_among_noise_of_many_levels(seed, area, within, aggregate):
    """Plug-in information grows with the number of levels: without terciles and correction, noise would be ranked first."""
    counts, y = make_cohort(seed, area)

    ranked = select(problem_of(counts, y, aggregate), np.ones(N_SAMPLES, bool)).features.tolist()

    assert ranked.index(N_NOISE) < within


@pytest.mark.parametrize("ranking", ["mim", "mrmr", "cmim", "jmim"])
def test_every_ranking_sees_the_same_levels(ranking):
    """A predictor with an AUROC of 0.66 is among the first three picks of every ranking."""
    counts, y = make_cohort(4, 0.66)

    ranked = select(problem_of(counts, y, "count", ranking=ranking), np.ones(N_SAMPLES, bool)).features

    assert N_NOISE in ranked[:3]


def test_mlho_r_keeps_every_count_a_level():
    """``mlho-r`` ranks the counts themselves, without correction, which gives exactly R's numbers."""
    counts, y = make_cohort(1, 0.66)
    train = np.arange(N_SAMPLES) % 3 > 0

    selection = select(problem_of(counts, y, "count", ranking="mlho-r"), train)

    expected = rank(counts[train], y[train], 200, mode="counts", ranking="mlho-r")
    assert selection.features.tolist() == expected.order.tolist()
    assert selection.scores.tobytes() == expected.scores.tobytes()


def test_presence_is_ranked_as_it_is():
    """Columns of two levels have exactly the scores of the plug-in estimate."""
    counts, y = make_cohort(2, 0.575)

    selection = select(problem_of(counts, y, "presence"), np.ones(N_SAMPLES, bool))

    expected = rank(counts, y, 200)
    assert selection.features.tolist() == expected.order.tolist()
    assert selection.scores.tobytes() == expected.scores.tobytes()


def test_terciles_are_learned_on_training_samples_only():
    """Counts of test samples change neither the picks nor their scores."""
    counts, y = make_cohort(3, 0.66)
    train = np.arange(N_SAMPLES) % 3 > 0
    changed = np.where(train[:, np.newaxis], counts, counts * 7 + 1)

    before, after = (select(problem_of(variant, y, "count"), train) for variant in (counts, changed))

    assert before.features.tolist() == after.features.tolist()
    assert before.scores.tobytes() == after.scores.tobytes()
