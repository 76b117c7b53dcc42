"""Modules that worker processes inherit from their server."""

import subprocess
import sys

_FIT = """
import hashlib, sys
import numpy as np
if sys.argv[1] == "alone":
    from mlho.method.classifiers.xgboost import import_without_sklearn
    import_without_sklearn()
    assert "sklearn" not in sys.modules
import xgboost
rows = np.random.default_rng(1).random((200, 3))
binned = xgboost.DMatrix(rows, rows[:, 0] > 0.5, nthread=1)
trees = xgboost.train({"objective": "binary:logistic", "nthread": 1}, binned, num_boost_round=3)
import sklearn.base
print(hashlib.sha256(trees.save_raw("ubj")).hexdigest(), hasattr(sklearn.base, "BaseEstimator"))
"""


def test_xgboost_without_sklearn_fits_the_same_trees_and_sklearn_can_be_imported_later():
    """Workers skip an import of 0.6 s. The additive model of interpret, in the same worker, needs scikit-learn."""
    alone, usual = (
        subprocess.run(
            [sys.executable, "-c", _FIT, how], capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for how in ("alone", "usual")
    )

    assert alone == usual
    assert alone.split()[1] == "True"
