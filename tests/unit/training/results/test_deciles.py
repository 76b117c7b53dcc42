"""The deciles that a bundle carries are those of the scores that new samples get."""

import numpy as np

from mlho.training.iterations.folds import cross_validate
from mlho.training.iterations.iteration import select_and_run_folds
from mlho.training.iterations.splits import FINAL
from mlho.training.results.final import fit_final, training_samples


def test_deciles_of_a_model_with_few_scores_are_scores_of_the_model(make_problem):
    """Out of fold, samples with equal features have a score for each fold. No new sample has these scores."""
    asked = {
        "features": {"aggregates": ["presence"], "demographics": ["sex"]},
        "selection.nFeatures": 2,
        "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [50]}}],
    }
    problem = make_problem(asked)
    selection, folds = select_and_run_folds(problem, FINAL)
    final = fit_final(problem, "glmboost", selection.features, cross_validate(problem, folds)["glmboost"])

    deciles = training_samples(problem, final).deciles

    of_model = np.round(final.calibrator.apply(final.model.predict_proba(final.X)), 4)
    of_folds = np.round(final.calibrator.apply(final.cv.scores), 4)
    assert len(set(of_model)) < 15
    assert not set(of_folds) <= set(of_model)
    assert set(deciles) <= set(of_model)
