"""Requirements on every classifier. A classifier added to ``CLASSIFIERS`` is tested here; it only needs a quick grid."""

import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from mlho.errors import BundleError, DataError, SpecError
from mlho.method.classifiers import (
    CLASSIFIERS,
    Classifier,
    FittedClassifier,
    choose_setting,
    classifier_named,
    fitted_from_files,
)
from mlho.method.survival.times import EventTimes

# Small enough to run in a second; two settings each, simplest first.
QUICK_GRIDS = {
    "glmboost": {"nSteps": [20, 60]},
    "elasticnet": {"c": [0.01, 0.1]},
    "xgboost": {"maxDepth": [3], "nRounds": [10, 25], "subsample": [0.7], "colsample": [0.7]},
    "ebm": {"maxRounds": [60, 200], "nBags": [2], "nInteractions": [1]},
    "cox": {"c": [0.01, 0.1]},
    "discreteTime": {"c": [0.01, 0.1]},
    "xgboostAft": {"maxDepth": [3], "nRounds": [10, 25], "subsample": [0.7], "colsample": [0.7]},
}
N_FEATURES = 12
AGE, CONSTANT = 10, 11


@functools.cache
def cohort(seed=0, n=600):
    """Return ten sparse codes (0 and 1 raise the risk, 2 lowers it), an age in years, and a constant column."""
    rng = np.random.default_rng(seed)
    codes = (rng.random((n, 10)) < 0.25) * rng.integers(1, 4, (n, 10))
    age = rng.normal(60.0, 12.0, n)
    X = np.column_stack([codes, age, np.full(n, 3.0)]).astype(float)
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-true_log_odds(X)))).astype(int)
    return X, y


def target(name, y):
    """Return the labels or, for a classifier of times, events on days 5 to 9 and censoring on day 20."""
    if classifier_named(name).target == "label":
        return y
    days = np.where(y == 1, 5.0 + np.arange(len(y)) % 5, 20.0)
    return EventTimes(days, y.astype(np.uint8), 10.0)


def true_log_odds(X):
    """Return the planted log-odds."""
    return 2.0 * (X[:, 0] > 0) + 1.5 * (X[:, 1] > 0) - 1.5 * (X[:, 2] > 0) + 0.04 * (X[:, AGE] - 60.0) - 0.5


@pytest.fixture(params=list(CLASSIFIERS))
def classifier(request) -> Classifier:
    return classifier_named(request.param)


@functools.cache
def fitted_quickly(name: str) -> tuple[FittedClassifier, ...]:
    X, y = cohort()
    kind = classifier_named(name)
    return tuple(kind.fit_settings(X, target(name, y), kind.settings(QUICK_GRIDS[name]), seed=7))


def auroc(y, p):
    above, below = p[y == 1][:, None], p[y == 0][None, :]
    return float(((above > below) + 0.5 * (above == below)).mean())


def test_its_registered_name_is_its_own(classifier):
    """Registry, classifier and fitted model agree on the name."""
    assert CLASSIFIERS[classifier.name] is classifier
    assert classifier.fitted.name == classifier.name


def test_the_planted_signal_is_found(classifier):
    """On unseen rows the model ranks nearly as well as the planted log-odds, and the three planted codes have the largest contributions."""
    X_new, y_new = cohort(seed=1)
    best_possible = auroc(y_new, true_log_odds(X_new))

    for fitted in fitted_quickly(classifier.name):
        assert auroc(y_new, fitted.predict_proba(X_new)) > best_possible - 0.05
        assert set(np.argsort(np.abs(fitted.contributions(X_new)).mean(axis=0)[:10])[-3:]) == {0, 1, 2}


def test_the_same_data_setting_and_seed_give_the_same_bytes(classifier):
    """Two fits, from dense and from sparse columns, write equal files."""
    X, y = cohort()
    setting = classifier.settings(QUICK_GRIDS[classifier.name])[0]

    again = classifier.fit(sp.csr_array(X), target(classifier.name, y), setting, seed=7)

    assert again.to_files() == fitted_quickly(classifier.name)[0].to_files()


def test_fitting_settings_together_is_fitting_each_alone(classifier):
    """Work that is shared between settings does not change any bit."""
    X, y = cohort()
    settings = classifier.settings(QUICK_GRIDS[classifier.name])

    alone = [classifier.fit(X, target(classifier.name, y), setting, seed=7) for setting in settings]

    assert [fitted.to_files() for fitted in alone] == [
        fitted.to_files() for fitted in fitted_quickly(classifier.name)
    ]


def test_a_row_has_the_same_bits_in_any_batch(classifier):
    """A row alone, in odd batches, in reverse order, dense, CSC or CSR has the same probability and contributions to the last bit."""
    X, _ = cohort(seed=2)
    fitted = fitted_quickly(classifier.name)[-1]
    together = fitted.predict_proba(X)
    explained = fitted.contributions(X)

    assert np.array_equal(np.concatenate([fitted.predict_proba(row[None]) for row in X]), together)
    assert np.array_equal(
        np.concatenate([fitted.predict_proba(X[i : i + 17]) for i in range(0, 600, 17)]), together
    )
    assert np.array_equal(fitted.predict_proba(X[::-1])[::-1], together)
    assert np.array_equal(fitted.predict_proba(sp.csc_matrix(X)), together)
    assert np.array_equal(fitted.predict_proba(sp.csr_array(X)), together)
    assert np.array_equal(np.concatenate([fitted.contributions(row[None]) for row in X[:50]]), explained[:50])
    assert np.array_equal(fitted.contributions(sp.csc_array(X)), explained)
    assert np.array_equal(fitted.feature_contributions(X), explained[:, :-1])


def test_probabilities_lie_strictly_between_0_and_1(classifier):
    """Even far outside the training range, a probability has a finite logit."""
    X, _ = cohort()
    far = np.vstack([X * 1e6, -X * 1e6])

    p = fitted_quickly(classifier.name)[-1].predict_proba(far)

    assert p.dtype == np.float64
    assert p.shape == (1200,)
    assert ((p > 0.0) & (p < 1.0)).all()


def test_contributions_add_up_to_the_log_odds(classifier):
    """The sum of a row's contributions, from left to right, is the log-odds of its probability, within 1e-9."""
    X, _ = cohort(seed=3)

    for fitted in fitted_quickly(classifier.name):
        parts = fitted.contributions(X)
        total = np.zeros(len(X))
        for column in parts.T:
            total += column
        p = fitted.predict_proba(X)

        assert parts.shape == (600, N_FEATURES + 1)
        assert np.abs(total - np.log(p / (1.0 - p))).max() < 1e-9
        assert np.abs(total - fitted.log_odds(X)).max() < 1e-12


def test_a_constant_column_is_tolerated_and_has_no_part(classifier):
    """A column that is the same in all rows contributes exactly 0 to each row."""
    X, _ = cohort()

    for fitted in fitted_quickly(classifier.name):
        assert (fitted.contributions(X)[:, CONSTANT] == 0.0).all()


def test_a_column_that_no_training_row_has_is_tolerated_and_has_no_part(classifier):
    """If a rare level is in no training row of a fold, it contributes almost nothing to a row that has it."""
    X, y = cohort()
    empty = np.column_stack([X, np.zeros(600)])
    has_it = np.column_stack([X, np.ones(600)])

    setting = classifier.settings(QUICK_GRIDS[classifier.name])[0]

    fitted = classifier.fit(empty, target(classifier.name, y), setting, seed=7)

    assert np.abs(fitted.contributions(has_it)[:, -2]).max() < 1e-3  # a pair of the EBM may contain it
    assert np.abs(fitted.log_odds(has_it) - fitted.log_odds(empty)).max() < 1e-3


def test_coefficients_are_those_of_the_log_odds_or_absent(classifier):
    """If a model has coefficients, intercept + X·values is the log-odds, and the coefficients per SD are values times scale."""
    X, _ = cohort()
    fitted = fitted_quickly(classifier.name)[-1]
    coefficients = fitted.coefficients()

    if coefficients is None:
        assert classifier.name in ("xgboost", "ebm", "cox", "xgboostAft", "discreteTime")
    else:
        log_odds = coefficients.intercept + (X * coefficients.values).sum(axis=1)
        assert np.abs(log_odds - fitted.log_odds(X)).max() < 1e-12
        assert np.allclose(coefficients.scale, X.std(axis=0, ddof=1), rtol=1e-13, atol=0)


def test_a_round_trip_through_files_is_exact(classifier):
    """A model read from its files writes the same files, and its probabilities and contributions are equal to the last bit."""
    X, _ = cohort(seed=4)

    for fitted in fitted_quickly(classifier.name):
        files = fitted.to_files()
        again = fitted_from_files(classifier.name, files)

        assert again.to_files() == files
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
        assert np.array_equal(again.contributions(X), fitted.contributions(X))


# One process reads all classifiers. Those that import xgboost come last, so that the others show what they import.
_PREDICT_ELSEWHERE = """
import pathlib, sys
import numpy as np
from mlho.method.classifiers import fitted_from_files
def predict(folder):
    files = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
    X = np.load(folder / "X.npy")
    fitted = fitted_from_files(folder.name, files)
    rows = [fitted.predict_proba(row[None]) for row in X]
    np.save(folder / "rows.npy", np.concatenate(rows))
    np.save(folder / "together.npy", fitted.predict_proba(X))
    libraries = ("interpret", "sklearn", "xgboost", "pandas")
    (folder / "imported.txt").write_text(" ".join(name for name in libraries if name in sys.modules))
for folder in map(pathlib.Path, sys.argv[1:]):
    predict(folder)
"""


@pytest.fixture(scope="module")
def predicted_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a folder for each classifier: its files, and the predictions of a new process."""
    place = tmp_path_factory.mktemp("elsewhere")
    X, _ = cohort(seed=5, n=100)
    for classifier in CLASSIFIERS:
        folder = place / classifier
        (folder / "model").mkdir(parents=True)
        for name, content in fitted_quickly(classifier)[-1].to_files().items():
            (folder / "model" / name).write_bytes(content)
        np.save(folder / "X.npy", X)
    names = sorted(CLASSIFIERS, key=lambda name: name.startswith("xgboost"))
    subprocess.run(
        [sys.executable, "-c", _PREDICT_ELSEWHERE, *(str(place / name) for name in names)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return place


def test_a_new_process_predicts_the_bits_of_training(classifier, predicted_elsewhere: Path):
    """A new process needs only the files, and does not import libraries that the model does not need."""
    X, _ = cohort(seed=5, n=100)
    fitted = fitted_quickly(classifier.name)[-1]
    folder = predicted_elsewhere / classifier.name
    imported = (folder / "imported.txt").read_text()

    assert np.array_equal(np.load(folder / "rows.npy"), fitted.predict_proba(X))
    assert np.array_equal(np.load(folder / "together.npy"), fitted.predict_proba(X))
    assert "interpret" not in imported
    if not classifier.name.startswith("xgboost"):
        assert imported == ""


def test_files_are_of_safe_formats(classifier):
    """The files are canonical JSON and, for trees, xgboost's UBJSON. Neither format runs code when it is read."""
    for name, content in fitted_quickly(classifier.name)[-1].to_files().items():
        if name.endswith(".json"):
            document = json.loads(content)
            assert json.dumps(document, sort_keys=True, separators=(",", ":")).encode() == content
            assert document["schema"] == f"mlho.classifier.{classifier.name}/1"
        else:
            assert name.endswith(".ubj")
            assert content.startswith(b"{L")


def damaged(files: dict[str, bytes], how: str) -> dict[str, bytes]:
    document = json.loads(files["model.json"])
    if how == "other version":
        document["schema"] = document["schema"].replace("/1", "/2")
    elif how == "other classifier":
        document["schema"] = "mlho.classifier.other/1"
    elif how == "no schema":
        del document["schema"]
    elif how == "unknown field":
        document["extra"] = 1
    elif how == "missing field":
        del document["nFeatures"]
    elif how == "other number of features":
        document["nFeatures"] += 1
    elif how == "a number is text":
        document["nFeatures"] = "12"
    elif how == "a number that no float holds":
        document["nFeatures"], document["base" if "base" in document else "intercept"] = 12, 10**400
    elif how == "not an object":
        document = [document]
    content = json.dumps(document).encode()
    if how == "cut short":
        content = files["model.json"][:-20]
    elif how == "not text":
        content = b"\x80\x04\x95" + files["model.json"]
    elif how == "NaN":
        content = files["model.json"].replace(b'"nFeatures":12', b'"nFeatures":NaN')
    changed = {**files, "model.json": content}
    if how == "file missing":
        del changed["model.json"]
    elif how == "file too many":
        changed["model.pkl"] = b""
    return changed


@pytest.mark.parametrize(
    "how",
    [
        "other version",
        "other classifier",
        "no schema",
        "unknown field",
        "missing field",
        "other number of features",
        "a number is text",
        "a number that no float holds",
        "not an object",
        "cut short",
        "not text",
        "NaN",
        "file missing",
        "file too many",
    ],
)
def test_damaged_or_foreign_files_are_refused(classifier, how):
    """Damaged files raise a ``BundleError`` and never give another model."""
    files = damaged(fitted_quickly(classifier.name)[0].to_files(), how)

    with pytest.raises(BundleError, match=classifier.name):
        fitted_from_files(classifier.name, files)


def test_trees_that_were_changed_are_refused_before_they_are_parsed():
    """After one flipped byte in ``model.ubj``, its digest does not match."""
    files = fitted_quickly("xgboost")[0].to_files()
    trees = bytearray(files["model.ubj"])
    trees[len(trees) // 2] ^= 1

    with pytest.raises(BundleError, match="digest"):
        fitted_from_files("xgboost", {**files, "model.ubj": bytes(trees)})


TAKES_LABELS = [name for name, kind in CLASSIFIERS.items() if kind.target == "label"]
TAKES_TIMES = [name for name, kind in CLASSIFIERS.items() if kind.target == "time"]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", TAKES_LABELS)
def test_one_class_is_refused(name, label):
    """For labels of one class, the error gives the number of positives and a remedy."""
    X, _ = cohort()
    classifier = classifier_named(name)

    with pytest.raises(DataError, match=r"one class only.*of 600 positive.*stratified"):
        classifier.fit(X, np.full(600, label), {}, seed=0)


@pytest.mark.parametrize("name", TAKES_TIMES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"days": np.zeros(600)}, "600 other samples"),
        ({"status": np.full(600, 3, np.uint8)}, "600 other samples"),
        ({"status": np.zeros(600, np.uint8)}, "no event up to the horizon"),
        ({"horizon": 4.0}, "no event up to the horizon"),
        ({"days": np.ones(599), "status": np.ones(599, np.uint8)}, "600 times; got 599 times"),
    ],
)
def test_invalid_times_are_refused(name, change, words):
    """Days of 0, an unknown status, no event up to the horizon, and another number of times are refused. The error counts the values and does not show them."""
    X, y = cohort()
    times = dataclasses.replace(target(name, y), **change)

    with pytest.raises(DataError, match=words):
        classifier_named(name).fit(X, times, {}, seed=0)


@pytest.mark.parametrize("name", TAKES_LABELS)
def test_labels_beside_0_and_1_are_refused(name):
    """For classes named 1 and 2, the error counts the other values and does not show them."""
    X, y = cohort()
    classifier = classifier_named(name)

    with pytest.raises(DataError, match=rf"{int((y + 1 == 2).sum())} other values"):
        classifier.fit(X, y + 1, {}, seed=0)


@pytest.mark.parametrize("form", [np.asarray, sp.csc_array], ids=["dense", "sparse"])
def test_missing_values_are_refused_with_their_count(classifier, form):
    """NaN and infinity are refused in fitting and in predicting, and the error counts them."""
    X, y = cohort()
    holed = X.copy()
    holed[3, 4], holed[5, 0] = np.nan, np.inf

    with pytest.raises(DataError, match="2 NaN or infinite"):
        classifier.fit(form(holed), target(classifier.name, y), {}, seed=0)
    with pytest.raises(DataError, match="2 NaN or infinite"):
        fitted_quickly(classifier.name)[0].predict_proba(form(holed))


TAKES_MISSING = [name for name, kind in CLASSIFIERS.items() if kind.absent == "missing"]
IS_VALUE = np.arange(N_FEATURES) == AGE


@functools.cache
def cohort_of_values(seed=0):
    """Return the cohort with centred ages, such as a z-score: a third are exactly 0, and a tenth are missing."""
    X, _ = cohort(seed)
    rng = np.random.default_rng(seed + 100)
    values = np.where(rng.random(600) < 1 / 3, 0.0, np.round((X[:, AGE] - 60.0) / 12.0, 2))
    log_odds = 1.5 * (X[:, 0] > 0) + 2.5 * (values == 0.0) - 1.5
    y = (rng.random(600) < 1.0 / (1.0 + np.exp(-log_odds))).astype(int)
    return np.column_stack([X[:, :AGE], np.where(rng.random(600) < 0.1, np.nan, values), X[:, CONSTANT]]), y


@functools.cache
def fitted_on_values(name: str) -> FittedClassifier:
    X, y = cohort_of_values()
    kind = classifier_named(name)
    return kind.fit(X, target(name, y), kind.settings(QUICK_GRIDS[name])[-1], seed=7, value_columns=IS_VALUE)


def known_cells(X: np.ndarray) -> sp.csr_array:
    """Return the rows as a sparse matrix that stores zeros where they are values."""
    rows, columns = np.nonzero(np.where(IS_VALUE, ~np.isnan(X), X != 0))
    return sp.csr_array((X[rows, columns], (rows, columns)), shape=X.shape)


def test_class_model_and_file_agree_on_the_meaning_of_absent(classifier):
    """Linear models treat absent cells as zero and trees treat them as missing; the class, the model and its file agree on this."""
    expected = "zero" if classifier.name in ("glmboost", "elasticnet", "cox", "discreteTime") else "missing"
    fitted = fitted_quickly(classifier.name)[0]

    assert classifier.absent == fitted.absent == expected
    assert json.loads(fitted.to_files()["model.json"])["absent"] == expected
    assert np.array_equal(fitted.empty_row, np.zeros(N_FEATURES))


@pytest.mark.parametrize("name", TAKES_MISSING)
def test_zero_is_a_value_and_missing_is_not_zero(name):
    """If the risk is raised at exactly 0, a value of 0 scores higher than neighbouring values and than a missing value."""
    fitted = fitted_on_values(name)
    rows = np.zeros((4, N_FEATURES))
    rows[:, AGE] = [0.0, -0.5, 0.5, np.nan]

    at_zero, below, above, unknown = fitted.log_odds(rows)

    assert at_zero > max(below, above, unknown) + 0.5
    assert np.array_equal(fitted.empty_row, np.where(IS_VALUE, np.nan, 0.0), equal_nan=True)
    assert fitted.log_odds(fitted.empty_row[None]) == unknown


@pytest.mark.parametrize("name", TAKES_MISSING)
def test_values_have_the_same_bits_in_any_form(name):
    """Dense rows with NaN and sparse rows with stored cells give the same bits in fitting, scoring and contributions, in any batch."""
    X, y = cohort_of_values()
    fitted, kind = fitted_on_values(name), classifier_named(name)
    setting = kind.settings(QUICK_GRIDS[name])[-1]
    log_odds, explained = fitted.log_odds(X), fitted.contributions(X)
    again = kind.fit(known_cells(X).tocsc(), target(name, y), setting, seed=7, value_columns=IS_VALUE)

    assert again.to_files() == fitted.to_files()
    for form in (known_cells(X), known_cells(X).tocsc(), fitted.checked(X)):
        assert np.array_equal(fitted.log_odds(form), log_odds)
        assert np.array_equal(fitted.contributions(form), explained)
    assert np.array_equal(np.concatenate([fitted.log_odds(row[None]) for row in X]), log_odds)
    assert np.array_equal(np.vstack([fitted.contributions(row[None]) for row in X[:50]]), explained[:50])
    assert np.abs(explained.sum(axis=1) - log_odds).max() < 1e-9
    assert (explained[:, CONSTANT] == 0.0).all()


@pytest.mark.parametrize("name", TAKES_MISSING)
def test_columns_of_values_survive_the_way_through_files(name):
    """A model read from its files has the same value columns and gives the same bits. Files with invalid value columns are refused."""
    X, _ = cohort_of_values(seed=1)
    fitted = fitted_on_values(name)
    files = fitted.to_files()
    again = fitted_from_files(name, files)

    assert np.array_equal(again.value_columns, IS_VALUE)
    assert again.to_files() == files
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    for change in (
        {"absent": "nothing"},
        {"valueColumns": [12]},
        {"valueColumns": [3, 3]},
        {"valueColumns": None},
    ):
        document = json.loads(files["model.json"]) | change
        with pytest.raises(BundleError, match=r"absent|valueColumns"):
            fitted_from_files(name, {**files, "model.json": json.dumps(document).encode()})


def test_a_linear_model_that_takes_missing_values_is_refused():
    """A changed file of a linear model is refused, because the model would compute with zeros for missing values."""
    files = fitted_quickly("glmboost")[0].to_files()
    document = json.loads(files["model.json"]) | {"absent": "missing", "valueColumns": []}

    with pytest.raises(BundleError, match="absent is not zero"):
        fitted_from_files("glmboost", {"model.json": json.dumps(document).encode()})


@pytest.mark.parametrize("name", TAKES_MISSING)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_numbers_beyond_float32_are_refused(name, form):
    """Numbers beyond float32 are refused in fitting and in predicting, and the error names the column."""
    X, y = (array.copy() for array in cohort())
    X[3, 4] = 1e39

    with pytest.raises(DataError, match="1 larger values in column 4"):
        classifier_named(name).fit(form(X), target(name, y), {}, seed=0)
    with pytest.raises(DataError, match="1 larger values in column 4"):
        fitted_quickly(name)[0].predict_proba(form(X))


def test_another_number_of_columns_is_refused(classifier):
    """A matrix with another number of columns is not scored."""
    X, _ = cohort()

    with pytest.raises(DataError, match=r"12 columns.*got 11"):
        fitted_quickly(classifier.name)[0].predict_proba(X[:, 1:])
    with pytest.raises(DataError, match=r"12 columns.*got 11"):
        fitted_quickly(classifier.name)[0].contributions(X[:, 1:])


def test_a_matrix_without_columns_is_refused(classifier):
    """If no feature passed the screen, a ``DataError`` says so instead of an error of a library."""
    _, y = cohort()

    with pytest.raises(DataError, match="no feature left"):
        classifier.fit(np.zeros((600, 0)), target(classifier.name, y), {}, seed=0)


def test_settings_are_the_cross_product_simplest_first(classifier):
    """An empty grid means the documented defaults, and the order of the given values does not matter."""
    grid = QUICK_GRIDS[classifier.name]
    backwards = {name: values[::-1] for name, values in grid.items()}

    assert classifier.settings({}) == classifier.settings()
    assert len(classifier.settings()) == math.prod(
        len(parameter.default) for parameter in classifier.parameters
    )
    assert classifier.settings(backwards) == classifier.settings(grid)
    assert len(set(classifier.settings())) == len(classifier.settings())
    assert len({setting.text for setting in classifier.settings()}) == len(classifier.settings())


def test_a_setting_comes_back_from_its_plain_form(classifier):
    """A setting that is read from its JSON form, as in a task, is the same setting."""
    for setting in classifier.settings(QUICK_GRIDS[classifier.name]):
        assert classifier.setting(json.loads(json.dumps(dict(setting)))) == setting


def test_a_setting_has_a_canonical_text_form():
    """Parameters have a fixed order. A parameter with its only default is left out, and a setting without parameters is "defaults"."""
    glmboost, ebm = classifier_named("glmboost"), classifier_named("ebm")

    assert [setting.text for setting in glmboost.settings()] == ["nSteps=50", "nSteps=100", "nSteps=150"]
    assert dict(glmboost.settings()[0]) == {"learningRate": 0.1, "nSteps": 50}
    assert glmboost.setting({"nSteps": 70, "learningRate": 0.05}).text == "learningRate=0.05,nSteps=70"
    assert [setting.text for setting in ebm.settings()] == ["defaults"]


def test_an_unknown_parameter_is_refused_with_the_nearest_name(classifier):
    """For a spelling of R or Python, the error suggests our name."""
    name = classifier.parameters[0].name
    misspelt = name[0].upper() + name[1:] + "s"

    with pytest.raises(SpecError, match=f"unknown parameter '{misspelt}'. Did you mean '{name}'"):
        classifier.settings({misspelt: [1]})


def test_values_out_of_range_are_refused(classifier):
    """Each parameter refuses text, a value below its range, true, NaN, an empty list and a repeated value."""
    for parameter in classifier.parameters:
        for wrong in ("many", parameter.low - 1, True, float("nan")):
            with pytest.raises(SpecError, match=parameter.name):
                classifier.settings({parameter.name: [wrong]})
        for wrong_list in ([], [parameter.default[0]] * 2):
            with pytest.raises(SpecError, match=parameter.name):
                classifier.settings({parameter.name: wrong_list})


def test_an_unknown_classifier_is_refused_with_the_nearest_name():
    """The error for ``xgb`` suggests ``xgboost``."""
    with pytest.raises(SpecError, match="Did you mean 'xgboost'"):
        classifier_named("xgb")


@pytest.mark.parametrize(
    ("scores", "rule", "chosen"),
    [
        pytest.param([[0.7, 0.7], [0.8, 0.8]], "best", 1, id="the best mean"),
        pytest.param([[0.8, 0.7], [0.7, 0.8]], "best", 0, id="of equals the simpler"),
        pytest.param([[0.70, 0.72], [0.74, 0.80], [0.72, 0.86]], "one-se", 1, id="within one standard error"),
        pytest.param([[0.70, 0.70], [0.80, 0.80]], "one-se", 1, id="no spread: the best"),
        pytest.param([[0.7], [0.8]], "one-se", 1, id="one fold has no standard error"),
    ],
)
def test_a_setting_is_chosen_by_its_out_of_fold_scores(scores, rule, chosen):
    """The rule takes the best mean, or the simplest setting within one standard error of it: 0.79 ± 0.07 includes 0.77 but not 0.71."""
    assert choose_setting(np.array(scores), rule=rule) == chosen


def test_the_score_of_a_failed_fold_is_refused():
    """A failed fold is an error and is never compared as a number."""
    with pytest.raises(SpecError, match="choice"):
        choose_setting(np.array([[0.7, np.nan]]))


def test_no_rows_have_no_predictions(classifier):
    """An empty batch has empty probabilities and no rows of contributions."""
    fitted = fitted_quickly(classifier.name)[0]
    nothing = np.empty((0, fitted.n_features))

    assert fitted.predict_proba(nothing).shape == (0,)
    assert fitted.contributions(nothing).shape == (0, fitted.n_features + 1)
