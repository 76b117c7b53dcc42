"""Shadow features and permuted labels estimate what chance would select. They enter no model."""

import dataclasses

import numpy as np
import pytest

from mlho.method.classifiers import classifier_named
from mlho.report.result import Confidence, ConfidenceLevel, FalseFeatures, OddsRatio
from mlho.training.iterations.iteration import finish_iteration, select_and_run_folds
from mlho.training.iterations.permutation import permuted_labels, sample_ring, shadow_block, shadow_cells
from mlho.training.iterations.selection import select
from mlho.training.iterations.shadows import (
    ShadowRecord,
    choose_threshold,
    levels_of,
    shadow_scores,
    warn_of_share,
)
from mlho.training.results.confidence_table import sets_as_table
from mlho.training.results.summary import contradiction


@pytest.fixture
def problem(make_problem):
    """Return a problem with counts, presence and latest values of 300 patients, a fifth of them with two samples."""
    return make_problem({"features.aggregates": ["count", "last", "presence"]})


def everyone(problem):
    return np.ones(problem.cohort.n_samples, bool)


def test_a_ring_keeps_the_samples_of_a_patient_together(problem):
    """The ring has every sample once. Its order of patients is a hash of seed and patient, and differs by purpose."""
    ring = sample_ring(problem, "shadow")
    patients = problem.cohort.patient_of[ring]

    assert sorted(ring.tolist()) == list(range(problem.cohort.n_samples))
    assert np.count_nonzero(np.diff(patients)) == problem.cohort.n_patients - 1
    assert ring.tolist() != sample_ring(problem, "permuted-labels").tolist()


def test_permuted_labels_have_the_same_cases_and_say_nothing(problem):
    """The number of positives does not change, and the permuted labels are almost uncorrelated with the labels."""
    labels = permuted_labels(problem)

    assert labels.sum() == problem.y.sum()
    assert abs(np.corrcoef(labels, problem.y)[0, 1]) < 0.2


def test_a_shadow_has_the_cells_of_its_column_at_other_patients(problem):
    """A shadow has the counts and values of its column, none at its original patient, and shadows of two codes move by different distances."""
    columns = np.arange(problem.matrix.n_columns)
    numbers = ["last"] * len(columns)
    block = problem.matrix.column_block(columns, numbers=numbers)
    shadow = shadow_block(problem, columns, everyone(problem), numbers)

    distances = set()
    place = np.argsort(sample_ring(problem, "shadow"))
    for column in columns:
        cells = slice(*block.indptr[column : column + 2])
        moved = slice(*shadow.indptr[column : column + 2])
        assert shadow.count[moved].tolist() == block.count[cells].tolist()
        np.testing.assert_array_equal(shadow.number[moved], block.number[cells])
        patients = (
            problem.cohort.patient_of[block.indices[cells]],
            problem.cohort.patient_of[shadow.indices[moved]],
        )
        assert not (patients[0] == patients[1]).any()
        steps = (place[shadow.indices[moved]] - place[block.indices[cells]]) % problem.cohort.n_samples
        assert len(set(steps.tolist())) == 1
        distances |= set(steps.tolist())
    assert len(distances) > len(columns) / 2


def test_shadows_of_a_part_are_those_of_the_whole(problem):
    """A shadow is the same in every iteration; training samples have their part of it, renumbered and in ascending order."""
    train = np.arange(problem.cohort.n_samples) % 3 > 0
    columns = np.array([0, 3, 5])

    for whole, part in zip(
        shadow_cells(problem, columns, everyone(problem)), shadow_cells(problem, columns, train), strict=True
    ):
        kept = train[whole.samples]
        assert np.flatnonzero(train)[part.samples].tolist() == whole.samples[kept].tolist()
        assert part.counts.tolist() == whole.counts[kept].tolist()


@pytest.mark.parametrize("aggregates", [["presence"], ["count", "last", "presence"]], ids=str)
def test_a_shadow_is_seen_exactly_if_adding_it_alone_would_select_it(make_problem, aggregates):
    """Passive competition agrees with brute force, which adds each shadow to the matrix as a column."""
    problem = make_problem({"features.aggregates": aggregates, "selection.nFeatures": 8})
    train = problem.samples_of(problem.partition(1).is_train)
    n = problem.matrix.n_columns
    seen = []
    plain = select(problem, train)
    whole = dataclasses.replace(
        problem,
        spec=problem.spec.model_copy(
            update={"selection": problem.spec.selection.model_copy(update={"n_features": 999})}
        ),
    )
    screened = np.sort(select(whole, train).features)
    for feature in screened.tolist():
        column = feature // len(problem.aggregates)
        added = AddedShadow(problem, column)
        beside = dataclasses.replace(problem, matrix=added, codes=[*problem.codes, "~shadow"])
        picked = select_of(
            beside, screened, n * len(problem.aggregates) + feature % len(problem.aggregates), train
        )
        seen += [feature] if picked else []

    assert select(problem, train, beside_chance=True).shadows.tolist() == seen
    assert 0 < len(seen) < len(screened)
    beside_chance = select(problem, train, beside_chance=True)
    assert beside_chance.features.tolist() == plain.features.tolist()
    assert beside_chance.scores.tobytes() == plain.scores.tobytes()


class AddedShadow:
    """The matrix with the shadow of one column appended."""

    def __init__(self, problem, column):
        self._problem, self._column = problem, column
        self.n_columns = problem.matrix.n_columns + 1

    def column_block(self, columns, samples, numbers=None):
        names = self._problem.aggregates
        real = columns[columns < self.n_columns - 1]
        last = "last" if "last" in names else None
        block = self._problem.matrix.column_block(real, samples, numbers=[last] * len(real))
        if len(real) == len(columns):
            return block
        feature = self._column * len(names) + ("last" in names and names.index("last"))
        (shadow,) = shadow_cells(self._problem, np.array([feature]), samples)
        parts = ((block.indices, shadow.samples), (block.count, shadow.counts), (block.number, shadow.values))
        indptr = np.append(block.indptr, block.indptr[-1] + len(shadow.samples))
        return type(block)(indptr, *(None if a is None else np.concatenate([a, b]) for a, b in parts))

    column_samples = column_block


def select_of(problem, screened, added, train):
    """Return whether a ranking of the screened features and one additional feature picks the additional one."""
    from mlho.method.selection.jmi import rank_columns
    from mlho.training.iterations.selection import _level_columns

    features = np.append(screened, added)
    block = _level_columns(problem, features, train)
    n_features = problem.spec.selection.n_features
    order = rank_columns(block, problem.y[train], n_features, correct_bias=True).order
    return len(features) - 1 in order


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("glmboost", {"nSteps": 40}),
        ("glmboost", {"nSteps": 15, "learningRate": 0.3}),
        ("elasticnet", {"c": 0.02, "l1Ratio": 0.5}),
        ("elasticnet", {"c": 0.05, "l1Ratio": 1.0}),
    ],
    ids=str,
)
def test_a_newcomer_is_used_exactly_if_the_model_fitted_with_it_uses_it(name, setting):
    """Each newcomer is fitted together with the columns by brute force, and its coefficient has the sign of its first step."""
    rng = np.random.default_rng(5)
    X = (rng.random((400, 6)) < rng.uniform(0.1, 0.6, 6)).astype(float)
    y = (rng.random(400) < 1 / (1 + np.exp(1.5 - 1.2 * X[:, 0] - X[:, 1]))).astype(int)
    newcomers = np.column_stack([(rng.random((400, 60)) < 0.3).astype(float), rng.normal(50, 2, (400, 10))])
    classifier = classifier_named(name)
    full = classifier.setting(setting)
    model = classifier.fit(X, y, full, seed=0)

    steps = classifier.first_steps(model, X, y, full, newcomers)

    alone = [
        classifier.fit(np.column_stack([X, newcomer]), y, full, seed=0).coefficients().values[-1]
        for newcomer in newcomers.T
    ]
    assert np.sign(steps).tolist() == np.sign(alone).tolist()
    assert 0 < np.count_nonzero(steps) < len(steps)


def test_an_iteration_records_its_shadows_and_keeps_them_out_of_its_models(problem):
    """The models are equal to the bit to those of a selection without shadows."""
    selection, folds = select_and_run_folds(problem, 1)
    train = problem.samples_of(problem.partition(1).is_train)

    outcome = finish_iteration(problem, 1, selection, folds)
    without = finish_iteration(problem, 1, select(problem, train), folds)

    assert without.shadows == ShadowRecord(features=[], log_odds=[])
    assert set(outcome.shadows.features) <= set(selection.shadows.tolist())
    assert all(outcome.shadows.log_odds)
    assert outcome.design.features.tolist() == without.design.features.tolist()
    model_files, other = (finished.candidates["glmboost"].model.to_files() for finished in (outcome, without))
    assert model_files == other


def test_labels_that_say_nothing_are_selected_for_as_well(problem):
    """Selection on permuted labels picks as many features, but not the same ones."""
    train = problem.samples_of(problem.partition(1).is_train)
    limited = problem.spec.model_copy(
        update={"selection": problem.spec.selection.model_copy(update={"n_features": 5})}
    )
    selection = select(dataclasses.replace(problem, spec=limited), train, beside_chance=True)

    assert len(selection.of_permuted) == len(selection.features) == 5
    assert set(selection.of_permuted.tolist()) != set(selection.features.tolist())


def test_shadows_are_scored_as_features_are():
    """A shadow with the same sign in three of four iterations scores 75, and one with two against one scores 0."""
    records = [
        ShadowRecord(features=[3, 8], log_odds=[0.1, 0.1]),
        ShadowRecord(features=[3, 8], log_odds=[0.2, 0.1]),
        ShadowRecord(features=[3, 8], log_odds=[0.1, -0.1]),
        ShadowRecord(features=[], log_odds=[]),
    ]

    assert shadow_scores(records, 4).tolist() == [75, 0]
    assert shadow_scores([ShadowRecord(features=[], log_odds=[])], 4).tolist() == []


def level(threshold, n_features, n_false):
    return ConfidenceLevel(min_confidence=threshold, n_features=n_features, expected_false=n_false)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([level(40, 20, 8), level(60, 12, 1), level(100, 5, 0)], 60),
        ([level(40, 20, 2), level(60, 12, 3), level(100, 5, 0)], 40),
        (
            [level(60, 12, 6), level(90, 8, 2), level(100, 4, 1)],
            100,
        ),  # no level qualifies: the smallest share, and the highest level among equals
        ([level(40, 0, 3)], 100),
        ([], 100),
    ],
    ids=["lowest that keeps it", "whatever lies between", "none keeps it", "no feature", "nothing"],
)
def test_a_share_chooses_the_threshold(levels, expected):
    """The threshold is the lowest score whose expected share of false features is at most 0.1; if there is none, that with the smallest share."""
    assert choose_threshold(levels, 0.1) == expected


def test_levels_count_features_and_shadows_from_each_score_on():
    """Each positive score is a threshold, with the numbers of features and shadows that reach it."""
    levels = levels_of(np.array([100, 80, 80, -50, 0]), np.array([80, 20, -10]))

    assert [(level.min_confidence, level.n_features, level.expected_false) for level in levels] == [
        (20, 3, 2),
        (80, 3, 1),
        (100, 1, 0),
    ]


def test_an_unreachable_share_gives_a_warning():
    """If the requested share of false features cannot be reached, the warning gives the smallest possible one."""
    found = FalseFeatures.model_validate(
        {"min_confidence": 100, "max_share": 0.1, "expected": {"value": 1.0}, "share": 0.25}
    )

    (warning,) = warn_of_share(found)
    assert "The lowest share is 0.25, at a confidence score of 100" in warning
    assert warn_of_share(found.model_copy(update={"share": 0.1})) == []


def test_sets_become_a_table_of_all_that_could_be_chosen():
    """Features in no set are part of the table, because agreement by chance depends on them."""
    assert sets_as_table([[7, 2], [2], []], 4).tolist() == [
        [True, True, False, False],
        [True, False, False, False],
        [False] * 4,
    ]


@pytest.mark.parametrize(
    ("mean", "per_unit", "is_said"),
    [
        (0.97, 1.55, True),
        (1.2, 0.9, True),
        (1.1, 1.6, False),
        (1.0, 1.6, False),
        (None, 2.0, False),
        (1.2, None, False),
    ],
)
def test_odds_ratios_on_different_sides_of_one_are_flagged(mean, per_unit, is_said):
    """Odds ratios on different sides of 1 have a note, with shrinkage and collinearity as reasons."""
    confidence = Confidence(score=80, n_seen=4, n_positive=4, n_negative=0, mean_odds_ratio=mean)

    note = contradiction(confidence, OddsRatio(per_unit=per_unit))

    assert (note is not None) == is_said
    if note:
        assert "different sides of 1" in note
        assert "collinearity" in note
        assert "shrink" in note
    assert contradiction(None, OddsRatio(per_unit=2.0)) is None
    assert contradiction(confidence, None) is None
