"""Cost of learning: estimated seconds on one core, from the specification and the number of samples alone.

Pure arithmetic, so that a plan that depends on it is the same on every machine. The constants are CPU seconds
measured on 300 count features of ``uci_diabetes130`` with 8 % of the cells stored. Expect a factor of two in
either direction.
"""

from collections.abc import Mapping
from typing import Final

from mlho.grids import GRIDS, Setting, settings_from
from mlho.spec.training import Candidate, TrainingSpec
from mlho.steps.learn.held_out import held_out_together

# Per sample, independent of the specification: reading cells, predicting, computing metrics.
_EACH: Final = 3e-6
# Per sample and pick of the ranking: counting against the remaining columns.
_PICK: Final = 5e-8
# Per sample and feature, and per ...
_STEP: Final = 1.1e-10  # step of glmboost
_TREE_LEVEL: Final = 1.5e-10  # level of a tree
_PENALTY: Final = 1e-7  # penalty of the elastic net
_BAG: Final = 1.5e-6  # bag of the EBM, which stops early, before a thousand rounds
_EBM_ROUNDS: Final = 1_000
# Fixed costs, independent of the number of samples: per level of a tree, and per feature under a weak penalty,
# which needs many rounds.
_LEVEL_SECONDS: Final = 1e-3
_WEAK_SECONDS: Final = 1e-2
_WEAK: Final = 0.05  # inverse penalty c from which a penalty counts as weak


def fold_seconds(spec: TrainingSpec, n_train: int) -> float:
    """Return the seconds to select features and fit every setting of every candidate on ``n_train`` samples."""
    n_features = spec.selection.n_features + len(spec.features.demographics)
    picks = spec.selection.n_features * len(spec.features.aggregates) if spec.selection.scope == "fold" else 0
    fits = sum(_fits(candidate, n_features, n_train) for candidate in spec.fitted)
    return n_train * (_EACH + _PICK * picks) + fits


def final_fold_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Return the seconds of one fold of the final model, the longest fold of a run: every sample trains
    or is held out.
    """
    folds = spec.validation.folds
    return fold_seconds(spec, n_samples * (folds - 1) // folds)


def learning_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Return the seconds of all iterations: their folds, and the fits of the chosen settings, which cost at
    most one fold.
    """
    validation = spec.validation
    n_train = round(n_samples * (1 - validation.test_fraction))
    of_folds = validation.folds * fold_seconds(spec, n_train * (validation.folds - 1) // validation.folds)
    return validation.iterations * (of_folds + fold_seconds(spec, n_train))


def model_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Return the seconds of the final model: its folds and its fit."""
    return spec.validation.folds * final_fold_seconds(spec, n_samples) + fold_seconds(spec, n_samples)


def consensus_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Return the seconds of a consensus model: for each set of held-out folds, one subsample per iteration,
    and the fits.
    """
    validation = spec.validation
    n_train = round(n_samples * (1 - validation.test_fraction))
    subsample = fold_seconds(spec.model_copy(update={"candidates": (spec.consensus_candidate,)}), n_train)
    judging = validation.iterations * subsample + fold_seconds(spec, n_samples)
    return len(held_out_together(validation)) * judging


def _fits(candidate: Candidate, n_features: int, n_train: int) -> float:
    """Return the seconds of fitting a candidate's grid."""
    name, n_cells = candidate.classifier, n_features * n_train
    settings = settings_from(candidate.grid, GRIDS[name], name)
    if name == "elasticnet":
        n_weak = sum(own["c"] >= _WEAK for own in settings)
        return n_cells * _PENALTY * len(settings) + n_features * _WEAK_SECONDS * n_weak
    if name == "ebm":
        rounds = sum(own["nBags"] * min(own["maxRounds"], _EBM_ROUNDS) for own in settings)
        return n_cells * _BAG * rounds / _EBM_ROUNDS
    if name == "glmboost":
        return n_cells * _STEP * sum(_longest(settings, "nSteps").values())
    longest = _longest(settings, "nRounds")
    n_levels = sum(dict(rest)["maxDepth"] * rounds for rest, rounds in longest.items())
    return n_levels * (n_cells * _TREE_LEVEL + _LEVEL_SECONDS)


def _longest(settings: list[Setting], length: str) -> Mapping[tuple[tuple[str, float], ...], float]:
    """Return the longest fit for each combination of the other parameters. It contains the shorter fits as prefixes."""
    longest: dict[tuple[tuple[str, float], ...], float] = {}
    for setting in settings:
        rest = tuple((name, value) for name, value in setting.items() if name != length)
        longest[rest] = max(longest.get(rest, 0), setting[length])
    return longest
