"""Folds that are held out together to evaluate a model on the consensus. Free of numpy, because planning imports it."""

from mlho.spec.training import Validation

Held = tuple[int, ...]


def held_out_together(validation: Validation) -> tuple[Held, ...]:
    """Return each single outer fold, then each pair of an outer and an inner fold; a pair serves both its folds.

    The inner folds of an outer one are its two neighbours on either side, so that there are at most three times as many
    sets as folds.
    """
    n_folds = validation.folds
    near = min(2, n_folds // 2)
    pairs = {
        (min(fold, other), max(fold, other))
        for fold in range(n_folds)
        for step in range(1, near + 1)
        for other in [(fold + step) % n_folds]
    }
    return (*((fold,) for fold in range(n_folds)), *sorted(pairs))
