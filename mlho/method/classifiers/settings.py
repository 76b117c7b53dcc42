"""Choice among settings by their out-of-fold scores. :mod:`mlho.grids` defines the settings.

Settings are ordered from simple to complex, and ties go to the earlier one.
"""

import math
from typing import Literal

import numpy as np

from mlho.errors import SpecError
from mlho.method.classifiers.design_matrix import Floats


def choose_setting(scores: Floats, *, rule: Literal["best", "one-se"] = "best") -> int:
    """Return the index of the chosen setting.

    Parameters
    ----------
    scores : float64, shape (n_settings, n_folds)
        Out-of-fold score (AUROC: higher is better) of each setting in each fold; settings simplest first.
    rule : {"best", "one-se"}
        "best": the highest mean; means within 1e-12 are tied, and the earlier wins. "one-se": the earliest whose mean
        is not below the best mean minus one standard error of the best setting's fold scores (Breiman et al.
        1984). With one fold there is no standard error, and the rule is "best".

    Raises
    ------
    SpecError
        A score is not finite: a failed fold has no score.
    """
    table = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(table).all():
        raise SpecError(
            "choice: a fold has no finite score. A failed fold fails its iteration; it has no score to compare."
        )
    means = [math.fsum(row) / len(row) for row in table.tolist()]
    best = max(means)
    slack = 1e-12
    if rule == "one-se" and table.shape[1] > 1:
        winner = next(i for i, mean in enumerate(means) if mean >= best - slack)
        slack += float(np.std(table[winner], ddof=1)) / math.sqrt(table.shape[1])
    return next(i for i, mean in enumerate(means) if mean >= best - slack)
