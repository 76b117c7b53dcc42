"""glmboost against R: hestiri/mlho 635d695 with mboost 2.9.11 and caret 7.0.1 on R 4.5.0, its 70/30 split of SyntheticMass.

The reference holds the split, the folds and R's results; see the README beside it. The runs with and without demographics
give the same model, because no demographic is ever picked. Both are compared.
"""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mlho.method.classifiers import boosting, choose_setting, classifier_named
from mlho.method.evaluation.auroc import auroc

DEMOGRAPHICS = ("white", "black", "hispanic", "sex_cd")
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Case:
    """One run of R's glmboost: its training and test set, and the folder and prefix of its files."""

    folder: Path
    prefix: str
    features: list[str]
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    test_patients: list[str]

    def table(self, name: str) -> list[dict[str, str]]:
        return read(self.folder / f"{self.prefix}_{name}.csv")


def read(path: Path) -> list[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def plain(term: str) -> str:
    """Return a feature's name without R's quoting."""
    return term.replace("`", "").replace("\\", "")


def matrix(
    rows: list[dict[str, str]], features: list[str], by_patient: dict[str, dict[str, str]]
) -> np.ndarray:
    # A code that no test patient has is missing from R's test matrix, where it counts as zero.
    return np.array(
        [
            [float(by_patient[r["patient_num"]][f] if f in DEMOGRAPHICS else r.get(f, 0.0)) for f in features]
            for r in rows
        ]
    )


@pytest.fixture(scope="module", params=["glmboost", "glmboost_nodems"], ids=["demographics", "codes only"])
def case(request, reference: Path, data: Path) -> Case:
    folder = reference / "mlearn"
    train, test = read(folder / "train_matrix.csv.gz"), read(folder / "test_matrix.csv.gz")
    by_patient = {r["patient_num"]: r for r in read(data / "syntheticmass" / "dems.csv.gz")}
    features = [plain(r["feature"]) for r in read(folder / f"{request.param}_preproc.csv")]
    return Case(
        folder=folder,
        prefix=request.param,
        features=features,
        X=matrix(train, features, by_patient),
        y=np.array([int(r["label"]) for r in train]),
        X_test=matrix(test, features, by_patient),
        y_test=np.array([int(r["label"]) for r in test]),
        test_patients=[r["patient_num"] for r in test],
    )


@pytest.fixture(scope="module")
def chosen(case: Case) -> boosting.GLMBoostResult:
    n_steps = int(case.table("bestTune")[0]["mstop"])
    assert n_steps == 100
    return boosting.fit(case.X, case.y, n_steps)


def test_columns_are_scaled_as_r_scales_them(case, chosen):
    """Training mean and standard deviation of each column agree with caret's."""
    rows = case.table("preproc")

    assert np.abs(chosen.mean - [float(r["mean"]) for r in rows]).max() < TOLERANCE
    assert np.abs(chosen.scale - [float(r["sd"]) for r in rows]).max() < TOLERANCE


def test_each_step_picks_the_column_that_r_picks(case, chosen):
    """All 100 steps of the boosting path pick the same columns in the same order."""
    path = [plain(r["term"]) for r in case.table("boostpath")]

    assert [case.features[j] if j != boosting.INTERCEPT else "(Intercept)" for j in chosen.path] == path


def test_coefficients_are_those_of_r(case, chosen):
    """The coefficients agree in R's unit, half log-odds per standard deviation from its offset. All other coefficients are zero in both."""
    rows = {plain(r["term"]): r for r in case.table("rawcoef")}
    expected = [float(rows[f]["coef"]) if f in rows else 0.0 for f in case.features]

    assert np.abs(chosen.coefficients * chosen.scale / 2.0 - expected).max() < TOLERANCE
    assert abs(chosen.offset - float(rows["(Intercept)"]["offset"])) < TOLERANCE
    assert abs(chosen.base / 2.0 - chosen.offset - float(rows["(Intercept)"]["coef"])) < TOLERANCE
    assert np.count_nonzero(chosen.coefficients) == 12


def test_test_patients_have_the_probabilities_of_r(case, chosen):
    """All 351 patients of the test set have R's probabilities, and the AUROC is equal."""
    by_patient = {r["patient_num"]: float(r["Y"]) for r in case.table("absErr")}
    expected = np.array([by_patient[patient] for patient in case.test_patients])

    assert np.abs(chosen.predict_proba(case.X_test) - expected).max() < TOLERANCE
    assert auroc(case.y_test, chosen.predict_proba(case.X_test)) == pytest.approx(
        0.942868525896414, abs=TOLERANCE
    )


def test_cross_validated_auroc_and_the_choice_are_those_of_r(case):
    """On R's own folds, the mean and spread of the AUROC at 50, 100 and 150 steps agree, and 100 steps are chosen."""
    kind = classifier_named("glmboost")
    settings = kind.settings({"nSteps": [50, 100, 150]})
    folds = case.table("folds")
    scores = []
    for fold in sorted({r["fold"] for r in folds}):
        is_held_out = np.zeros(len(case.y), dtype=bool)
        is_held_out[[int(r["row"]) - 1 for r in folds if r["fold"] == fold]] = True
        fitted = kind.fit_settings(case.X[~is_held_out], case.y[~is_held_out], settings, seed=0)
        scores.append(
            [auroc(case.y[is_held_out], model.predict_proba(case.X[is_held_out])) for model in fitted]
        )
    by_setting = np.array(scores).T
    rows = {int(r["mstop"]): r for r in case.table("cv_results")}

    assert np.abs(by_setting.mean(axis=1) - [float(rows[n]["ROC"]) for n in (50, 100, 150)]).max() < TOLERANCE
    assert (
        np.abs(by_setting.std(axis=1, ddof=1) - [float(rows[n]["ROCSD"]) for n in (50, 100, 150)]).max()
        < TOLERANCE
    )
    assert settings[choose_setting(by_setting)]["nSteps"] == 100
