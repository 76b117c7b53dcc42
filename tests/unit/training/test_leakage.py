"""Selection, encodings, fits and calibrators depend on training patients only."""

from dataclasses import replace

import numpy as np
import pytest

from mlho.encoding.cohort.cohort import CategoricalColumn, NumericColumn
from mlho.training.iterations.design import learn_design
from mlho.training.iterations.folds import run_fold
from mlho.training.iterations.iteration import finish_iteration, select_and_run_folds
from mlho.training.iterations.selection import select
from mlho.training.iterations.splits import partition
from tests.builders import make_tables

VALUES = {"features.aggregates": ["presence", "last", "outOfRange"], "data.tables.concepts": None}


def with_outcomes(problem, changed):
    """Return the problem with inverted outcomes of some samples."""
    outcome = np.where(changed, 1 - problem.cohort.outcome, problem.cohort.outcome).astype(np.uint8)
    return replace(problem, cohort=replace(problem.cohort, outcome=outcome))


def with_demographics(problem, changed):
    """Return the problem with absurd demographics for some samples."""
    columns = []
    for column in problem.cohort.demographics:
        if isinstance(column, NumericColumn):
            columns.append(replace(column, values=np.where(changed, 1e6, column.values)))
        else:
            assert isinstance(column, CategoricalColumn)
            columns.append(
                replace(column, codes=np.where(changed, 1, column.codes).astype(column.codes.dtype))
            )
    return replace(problem, cohort=replace(problem.cohort, demographics=tuple(columns)))


def without_events_of(tables, patients):
    """Return the tables without any event of some patients."""
    is_kept = np.array(
        [patient not in patients for patient in tables.events.column("patient_id").to_pylist()]
    )
    return replace(tables, events=tables.events.filter(is_kept))


@pytest.mark.parametrize("ranking", ["jmi", "mlho-r", "mrmr"])
def test_selection_does_not_see_test_patients_events(ranking, make_problem):
    """Without any event of the test patients, the same features are selected with the same scores."""
    tables = make_tables(300, seed=9)
    problem = make_problem({"selection.ranking": ranking}, tables=tables)
    parts = partition(problem.spec, problem.cohort, 1)
    gone = {problem.cohort.patient_ids[patient] for patient in np.flatnonzero(parts.is_test)}
    other = make_problem({"selection.ranking": ranking}, tables=without_events_of(tables, gone))

    assert other.codes == problem.codes
    assert other.matrix.n_cells < problem.matrix.n_cells
    first, second = (select(variant, variant.samples_of(parts.is_train)) for variant in (problem, other))
    assert first.features.tolist() == second.features.tolist()
    assert first.scores.tolist() == second.scores.tolist()
    assert first.n_screened == second.n_screened


def test_selection_does_not_see_test_patients_outcomes(make_problem):
    """With inverted labels of the test patients, the selection is the same, also for values and their ranges."""
    problem = make_problem(VALUES)
    parts = partition(problem.spec, problem.cohort, 1)
    train = problem.samples_of(parts.is_train)
    other = with_outcomes(problem, ~train)

    assert select(other, train).features.tolist() == select(problem, train).features.tolist()


def test_selection_sees_training_patients(make_problem):
    """Inverted labels of training patients change the selection, so the tests above can fail."""
    problem = make_problem()
    train = problem.samples_of(partition(problem.spec, problem.cohort, 1).is_train)
    random = np.random.default_rng(0).random(len(train)) < 0.5

    assert (
        select(with_outcomes(problem, random), train).scores.tolist()
        != select(problem, train).scores.tolist()
    )


@pytest.mark.parametrize("fold", [0, 2])
@pytest.mark.parametrize("changes", [{}, VALUES], ids=["presence", "values"])
def test_a_folds_scores_do_not_depend_on_its_labels(fold, changes, make_problem):
    """With inverted labels of held-out and test patients, every score of every setting is the same."""
    problem = make_problem(changes)
    parts = partition(problem.spec, problem.cohort, 1)
    unseen = problem.samples_of(parts.is_test | (parts.fold == fold))
    first, second = run_fold(problem, 1, fold), run_fold(with_outcomes(problem, unseen), 1, fold)

    assert first.samples.tolist() == np.flatnonzero(problem.samples_of(parts.fold == fold)).tolist()
    assert second.samples.tolist() == first.samples.tolist()
    assert second.by_classifier["glmboost"].tolist() == first.by_classifier["glmboost"].tolist()


def test_a_design_is_learned_on_training_samples(make_problem):
    """Absurd demographics of other samples change no median, no level and no number of the training matrix."""
    problem = make_problem(VALUES)
    train = problem.samples_of(partition(problem.spec, problem.cohort, 1).is_train)
    other = with_demographics(problem, ~train)
    features = np.array([5, 0, 3], np.int64)
    first, second = (learn_design(variant, features, train) for variant in (problem, other))

    assert first.features.tolist() == [0, 3, 5]
    assert first.encodings == second.encodings
    assert first.demographic_names == second.demographic_names
    assert (first.matrix(problem, train) != second.matrix(other, train)).nnz == 0
    assert first.matrix(problem, train).shape == (int(train.sum()), 3 + len(first.demographic_names))


def test_encodings_are_learned_on_training_samples(make_problem):
    """The values of test patients do not change the centre or the range of any feature."""
    tables = make_tables(300, seed=9)
    problem = make_problem(VALUES, tables=tables)
    parts = partition(problem.spec, problem.cohort, 1)
    gone = {problem.cohort.patient_ids[patient] for patient in np.flatnonzero(parts.is_test)}
    other = make_problem(VALUES, tables=without_events_of(tables, gone))
    features = np.arange(len(problem.codes) * 3, dtype=np.int64)
    first, second = (
        learn_design(variant, features, variant.samples_of(parts.is_train)) for variant in (problem, other)
    )

    assert first.encodings == second.encodings


def test_a_model_its_calibrator_and_its_thresholds_do_not_see_the_test_labels(make_problem):
    """Inverted test labels change the evaluation, but not the evaluated predictions."""
    problem = make_problem()
    parts = partition(problem.spec, problem.cohort, 1)
    other = with_outcomes(problem, problem.samples_of(parts.is_test))
    first, second = (
        finish_iteration(variant, 1, *select_and_run_folds(variant, 1)).candidates["glmboost"]
        for variant in (problem, other)
    )

    assert second.probabilities.tolist() == first.probabilities.tolist()
    assert second.calibrated.tolist() == first.calibrated.tolist()
    assert second.calibrator == first.calibrator
    assert second.cv.auroc.tolist() == first.cv.auroc.tolist()
    first_auroc, second_auroc = (
        candidate.evaluation.to_json()["figures"]["auroc"]["value"] for candidate in (first, second)
    )
    assert second_auroc == pytest.approx(1 - first_auroc)


def test_scope_iteration_gives_every_fold_the_selection_of_all(make_problem):
    """As in R MLHO, the selection of a fold has then seen the labels of that fold; the report warns of it."""
    problem = make_problem({"selection.scope": "iteration"})
    selection, folds = select_and_run_folds(problem, 1)
    from_selection = run_fold(problem, 1, 0, selection=selection)

    assert folds[0].by_classifier["glmboost"].tolist() == from_selection.by_classifier["glmboost"].tolist()
