"""What learning costs: estimated seconds on one core, from the specification and the number of samples alone.

Pure arithmetic, so that a plan that depends on it is the same everywhere. The figures are CPU seconds on 300 counts of
``uci_diabetes130``, 8 % of the cells stored; half or twice as much is common.
"""

from collections.abc import Mapping
from typing import Final

from mlho.grids import GRIDS, Setting, settings_from
from mlho.spec import Candidate, TrainingSpec

#: For each sample, whatever is asked: reading its cells, predicting, figures.
_EACH: Final = 3e-6
#: For each sample and pick of the ranking: counting with the columns that are left.
_PICK: Final = 5e-8
# For each sample and feature, and each ...
_STEP: Final = 1.1e-10  # step of glmboost
_TREE_LEVEL: Final = 2.5e-10  # level of a tree
_PENALTY: Final = 5e-7  # penalty of the elastic net: 6e-8 for strong ones, over 1e-6 for weak ones
_BAG: Final = 9e-7  # bag of the EBM, which stops by itself before a thousand rounds
_EBM_ROUNDS: Final = 1_000


def fold_seconds(spec: TrainingSpec, n_train: int) -> float:
    """Seconds of selecting and fitting every setting of every candidate on ``n_train`` samples."""
    n_features = spec.selection.n_features + len(spec.features.demographics)
    picks = spec.selection.n_features * len(spec.features.aggregates) if spec.selection.scope == "fold" else 0
    fits = n_features * sum(_fits(candidate) for candidate in spec.candidates)
    return n_train * (_EACH + _PICK * picks + fits)


def final_fold_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Seconds of one fold of the final model, in which every sample trains or is held out: the longest of a run."""
    folds = spec.validation.folds
    return fold_seconds(spec, n_samples * (folds - 1) // folds)


def learning_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Seconds of all iterations: their folds, and the fits of the chosen settings, which cost at most a fold."""
    validation = spec.validation
    n_train = round(n_samples * (1 - validation.test_fraction))
    of_folds = validation.folds * fold_seconds(spec, n_train * (validation.folds - 1) // validation.folds)
    return validation.iterations * (of_folds + fold_seconds(spec, n_train))


def model_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Seconds of the final model: its folds and its fit."""
    return spec.validation.folds * final_fold_seconds(spec, n_samples) + fold_seconds(spec, n_samples)


def _fits(candidate: Candidate) -> float:
    """Seconds for each sample and feature of fitting a candidate's grid."""
    name = candidate.classifier
    settings = settings_from(candidate.grid, GRIDS[name], name)
    if name == "elasticnet":
        return _PENALTY * len(settings)
    if name == "ebm":
        rounds = sum(own["nBags"] * min(own["maxRounds"], _EBM_ROUNDS) for own in settings)
        return _BAG * rounds / _EBM_ROUNDS
    if name == "glmboost":
        return _STEP * sum(_longest(settings, "nSteps").values())
    longest = _longest(settings, "nRounds")
    return _TREE_LEVEL * sum(dict(rest)["maxDepth"] * rounds for rest, rounds in longest.items())


def _longest(settings: list[Setting], length: str) -> Mapping[tuple[tuple[str, float], ...], float]:
    """The longest fit for each choice of the other parameters: the shorter ones are its beginnings."""
    longest: dict[tuple[tuple[str, float], ...], float] = {}
    for setting in settings:
        rest = tuple((name, value) for name, value in setting.items() if name != length)
        longest[rest] = max(longest.get(rest, 0), setting[length])
    return longest
