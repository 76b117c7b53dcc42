"""Shadow features: the expected number of features without effect at each confidence score.

A shadow is a row-permuted copy of a screened column (:mod:`mlho.training.iterations.permutation`). It has the prevalence and
the levels of the column and is independent of the outcome. Every selection and every fit of the consensus classifier is
evaluated for shadows without including them: an iteration *sees* a shadow if the ranking would have selected it and the model
would have used it, had it alone been added. Shadows thus count like real features without effect, and change no model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.method.classifiers import FittedClassifier, classifier_named
from mlho.method.stability.confidence import confidence_scores
from mlho.model.design import build_design
from mlho.report.parts import Part
from mlho.report.result import ConfidenceLevel, Estimate, FalseFeatures
from mlho.training.iterations.permutation import shadow_cells
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import Selection, has_shadows, learn_feature

METHOD = "shadow features: copies of the screened columns with permuted rows"
OF_SEQUENCES = "; sequences: the best pairs of the permuted rows"


class ShadowRecord(Part):
    """The shadows that one iteration saw: their feature numbers, ascending, and a log odds ratio per standard deviation."""

    features: list[int]
    log_odds: list[float]


def see_shadows(
    problem: Problem,
    selection: Selection,
    train: NDArray[np.bool_],
    X: Any,
    model: FittedClassifier,
    setting: Mapping[str, Any],
) -> ShadowRecord:
    """Determine which of the shadows that would have been selected the consensus classifier would have used.

    Parameters
    ----------
    selection : Selection
        Selection computed with shadows.
    train : bool, shape (n_samples,)
    X : CSC, shape (n_train, n_columns)
        Training matrix of the model; it contains no shadows.
    """
    features = selection.shadows
    if not features.size:
        return ShadowRecord(features=[], log_odds=[])
    cells = shadow_cells(problem, features, train)
    encodings = [
        learn_feature(problem, feature, feature_cells)
        for feature, feature_cells in zip(features.tolist(), cells, strict=True)
    ]
    newcomers = build_design(encodings, cells, int(np.count_nonzero(train)))
    classifier = classifier_named(problem.spec.consensus_candidate.classifier)
    steps = classifier.first_steps(model, X, problem.y[train], setting, newcomers)
    is_seen = steps != 0
    return ShadowRecord(features=features[is_seen].tolist(), log_odds=steps[is_seen].tolist())


def expect_false(
    problem: Problem, scores: NDArray[np.int64], records: Sequence[ShadowRecord]
) -> FalseFeatures:
    """Estimate the number of features without effect at each confidence score, and choose the consensus threshold.

    Parameters
    ----------
    scores : int64, shape (n_features,)
        Confidence scores of the real features.
    records : sequence of ShadowRecord
        One per iteration.
    """
    asked = problem.spec.consensus
    method = METHOD if problem.spec.features.sequences is None else METHOD + OF_SEQUENCES
    if not has_shadows(problem):
        return FalseFeatures(
            min_confidence=asked.min_confidence,
            max_share=None,
            expected=Estimate(
                value=None,
                method=method,
                reason="ranking: mlho-r gives no order in which shadows could be placed",
            ),
        )
    levels = levels_of(scores, shadow_scores(records, problem.spec.validation.iterations))
    threshold = asked.min_confidence
    if asked.max_false_share is not None:
        threshold = choose_threshold(levels, asked.max_false_share)
    n_false = max((level.expected_false for level in levels if level.min_confidence >= threshold), default=0)
    n_features = int(np.count_nonzero(scores >= threshold))
    return FalseFeatures(
        min_confidence=threshold,
        max_share=asked.max_false_share,
        expected=Estimate(value=float(n_false), method=method),
        share=min(1.0, n_false / n_features) if n_features else None,
        levels=levels,
    )


def warn_of_share(found: FalseFeatures) -> list[str]:
    """Warn if no threshold reaches the requested share."""
    if found.max_share is None or found.share is None or found.share <= found.max_share:
        return []
    return [
        f"No confidence score keeps the expected share of features without effect at or below {found.max_share:g} (consensus.maxFalseShare). "
        f"The lowest share is {found.share:.2f}, at a confidence score of {found.min_confidence}."
    ]


def shadow_scores(records: Sequence[ShadowRecord], n_iterations: int) -> NDArray[np.int64]:
    """Confidence scores of the shadows that any iteration saw: int64, shape (n_shadows,)."""
    features = sorted({feature for record in records for feature in record.features})
    place = {feature: number for number, feature in enumerate(features)}
    log_odds = np.full((len(records), len(features)), np.nan)
    for row, record in enumerate(records):
        log_odds[row, [place[feature] for feature in record.features]] = record.log_odds
    return confidence_scores(log_odds, n_iterations_planned=n_iterations).score


def levels_of(scores: NDArray[np.int64], of_shadows: NDArray[np.int64]) -> list[ConfidenceLevel]:
    """Count features and shadows at or above each score that occurs, from 1 to 100.

    Examples
    --------
    >>> [(level.min_confidence, level.n_features, level.expected_false) for level in levels_of(np.array([100, 40]), np.array([40]))]
    [(40, 2, 1), (100, 1, 0)]
    """
    thresholds = np.unique(np.concatenate([scores, of_shadows]))
    return [
        ConfidenceLevel(
            min_confidence=threshold,
            n_features=int(np.count_nonzero(scores >= threshold)),
            expected_false=int(np.count_nonzero(of_shadows >= threshold)),
        )
        for threshold in thresholds[thresholds >= 1].tolist()
    ]


def choose_threshold(levels: Sequence[ConfidenceLevel], max_share: float) -> int:
    """Return the lowest confidence score at which the expected share of false features is at most ``max_share``.

    If no score reaches it, return the score with the smallest share, the highest one in case of ties; 100 without features.
    """
    shares = {
        level.min_confidence: level.expected_false / level.n_features for level in levels if level.n_features
    }
    kept = [threshold for threshold, share in shares.items() if share <= max_share]
    if kept:
        return min(kept)
    return min(shares, key=lambda threshold: (shares[threshold], -threshold), default=100)
