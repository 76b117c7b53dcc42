"""The comparison program: pandas, mutual information from scikit-learn, and xgboost on sparse matrices with five folds.

Run as a program with the folder of a synthetic cohort, it prints the AUROC of the out-of-fold predictions.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost
from scipy import sparse
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

MIN_PREVALENCE, N_FEATURES, N_ROUNDS, MAX_DEPTH, N_FOLDS = 0.005, 200, 200, 4, 5


def main(folder: Path) -> None:
    events = pd.read_parquet(folder / "events", columns=["patient_num", "start_date", "phenx"])
    labels = pd.read_parquet(folder / "labels", columns=["patient_num", "index_date", "outcome"])
    events["start_date"] = pd.to_datetime(events["start_date"], errors="coerce")
    labels["index_date"] = pd.to_datetime(labels["index_date"], errors="coerce")
    events = events.dropna().merge(labels, on="patient_num")
    events = events[events["start_date"] <= events["index_date"]]
    events = events.drop_duplicates(["patient_num", "phenx"])
    row = pd.Index(labels["patient_num"]).get_indexer(events["patient_num"])
    column, _ = pd.factorize(events["phenx"])
    cells = np.ones(len(events), np.float32)
    X = sparse.csr_matrix((cells, (row, column)), shape=(len(labels), column.max() + 1))
    y = labels["outcome"].to_numpy().astype(np.int64)
    scores = np.empty(len(y))
    for train, held in StratifiedKFold(N_FOLDS, shuffle=True, random_state=7).split(np.zeros(len(y)), y):
        kept = np.flatnonzero(np.diff(X[train].tocsc().indptr) >= MIN_PREVALENCE * len(train))
        information = mutual_info_classif(X[train][:, kept], y[train], discrete_features=True)
        chosen = kept[np.argsort(-information)[:N_FEATURES]]
        booster = xgboost.train(
            {
                "max_depth": MAX_DEPTH,
                "learning_rate": 0.1,
                "objective": "binary:logistic",
                "tree_method": "hist",
            },
            xgboost.DMatrix(X[train][:, chosen], label=y[train]),
            num_boost_round=N_ROUNDS,
        )
        scores[held] = booster.predict(xgboost.DMatrix(X[held][:, chosen]))
    print(f"{roc_auc_score(y, scores):.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
