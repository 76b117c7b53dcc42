"""Compare boosted trees on our sparse tree matrix with dense rows: 20,000 samples × 300 columns, 5 % of the cells stored.

Run with ``python benchmarks/tree_matrix.py``. "Dense" is the former method: float32 rows in which a missing value is zero.
Both include the conversion from the CSC matrix of the design, and use one thread. The limits are ratios of 1.5 (fit) and 1
(predict).
"""

import sys

import numpy as np
import xgboost
from _figures import best_seconds, show
from scipy import sparse

from mlho.method.classifiers import classifier_named

N_SAMPLES, N_COLUMNS, DENSITY = 20_000, 300, 0.05
SETTING = {"maxDepth": 6, "learningRate": 0.1, "nRounds": 50}


def make_cohort() -> tuple[sparse.csc_array, np.ndarray]:
    """Return counts of skewed prevalence, and a label that depends on the first ten columns."""
    rng = np.random.default_rng(20260801)
    prevalence = rng.lognormal(mean=-3.5, sigma=1.0, size=N_COLUMNS)
    prevalence = np.clip(prevalence * DENSITY / prevalence.mean(), 0.002, 0.6)
    rows = [np.flatnonzero(rng.random(N_SAMPLES) < share).astype(np.int32) for share in prevalence]
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    counts = 1.0 + rng.poisson(1.0, size=indptr[-1])
    X = sparse.csc_array((counts, np.concatenate(rows), indptr), shape=(N_SAMPLES, N_COLUMNS))
    logit = -2.2 + (X[:, :10].toarray() > 0) @ rng.uniform(0.5, 1.5, size=10)
    return X, (rng.random(N_SAMPLES) < 1 / (1 + np.exp(-logit))).astype(np.int8)


def fit_dense(X: sparse.csc_array, y: np.ndarray) -> xgboost.Booster:
    """Fit the same trees on dense float32 rows in which a missing value is zero."""
    parameters = {
        "max_depth": SETTING["maxDepth"],
        "learning_rate": SETTING["learningRate"],
        "objective": "binary:logistic",
        "tree_method": "hist",
        "nthread": 1,
        "verbosity": 0,
    }
    table = xgboost.DMatrix(X.astype(np.float32).toarray(), label=y, nthread=1)
    return xgboost.train(parameters, table, num_boost_round=SETTING["nRounds"])


def predict_dense(booster: xgboost.Booster, X: sparse.csc_array) -> np.ndarray:
    return booster.predict(xgboost.DMatrix(X.astype(np.float32).toarray(), nthread=1), output_margin=True)


def main() -> int:
    X, y = make_cohort()
    kind = classifier_named("xgboost")
    print(f"{N_SAMPLES} × {N_COLUMNS}, {X.nnz / N_SAMPLES / N_COLUMNS:.1%} stored, {SETTING}")
    fitted, dense = kind.fit(X, y, SETTING, seed=0), fit_dense(X, y)
    fit = [best_seconds(lambda: kind.fit(X, y, SETTING, seed=0)), best_seconds(lambda: fit_dense(X, y))]
    predict = [best_seconds(lambda: fitted.log_odds(X)), best_seconds(lambda: predict_dense(dense, X))]
    is_ok = [
        show("fit", fit[0], fit[1] / 1.5, "s", source="dense / 1.5"),
        show("predict", predict[0], predict[1], "s", source="dense"),
    ]
    print(f"dense over sparse: fit {fit[1] / fit[0]:.2f}×, predict {predict[1] / predict[0]:.2f}×")
    return 0 if all(is_ok) else 1


if __name__ == "__main__":
    sys.exit(main())
