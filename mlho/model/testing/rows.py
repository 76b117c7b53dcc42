"""Checks on rows of the model's matrix: stored scores, invariances, directions, and refusals."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.errors import DataError, plural
from mlho.method.evaluation.thresholds import values_by_rule
from mlho.model.document import BundleDocument
from mlho.model.testing.records import ModelTest
from mlho.model.testing.subject import Finding, Subject, valid_score
from mlho.spec.training import digest_of

_N_SINGLE_ROWS = 64  # rows scored one by one; xgboost takes about a millisecond per row
_N_NAMED = 3  # columns named in a sentence
_BATCH = 256  # columns at a time: bounded memory for any number of columns


def counted(n: int, noun: str, verb: str, singular: str | None = None) -> str:
    """Return a count with its noun and verb.

    Examples
    --------
    >>> counted(0, "file", "differ"), counted(1, "file", "differ"), counted(1, "column", "have", "has")
    ('0 files differ', '1 file differs', '1 column has')
    """
    return f"{plural(n, noun)} {(singular or f'{verb}s') if n == 1 else verb}"


def golden_scores(subject: Subject, test: ModelTest) -> Finding:
    """Compare the classifier's scores of the synthetic rows with the stored ones, bit by bit."""
    golden = subject.bundle.golden
    return _same(
        subject.bundle.predict_proba(golden.X, calibrated=False),
        golden.probability,
        "The classifier is not the one that was built: a coefficient, a tree or the order of the columns differs.",
        "rows have their stored scores",
    )


def golden_calibration(subject: Subject, test: ModelTest) -> Finding:
    """Compare the calibrated scores of the stored scores with the stored ones, bit by bit."""
    golden = subject.bundle.golden
    calibrated = np.asarray(subject.bundle.calibrator.apply(golden.probability))
    defect = "The calibrator does not belong to this model."
    return _same(calibrated, golden.calibrated, defect, "scores are calibrated as stored")


def golden_columns(subject: Subject, test: ModelTest) -> Finding:
    """Compare the effect of each column alone with the stored one, and name the columns that differ."""
    bundle = subject.bundle
    golden = bundle.golden
    edges = [number for number, kind in enumerate(golden.kinds) if kind == "edge"]
    scores = bundle.predict_proba(golden.X[edges], calibrated=False)
    differ = [row for row, score in zip(edges, scores, strict=True) if score != golden.probability[row]]
    is_set = np.where(np.isnan(golden.empty_row), ~np.isnan(golden.X), golden.empty_row != golden.X)
    columns = list(dict.fromkeys(int(np.flatnonzero(is_set[row])[0]) for row in differ if is_set[row].any()))
    named = ", ".join(bundle.columns[column] for column in columns[:_N_NAMED])
    return Finding(
        not columns,
        f"{counted(len(columns), 'column', 'have', 'has')} a different effect from that at the build",
        f"Columns are swapped, or their coefficients or trees are altered: {named}.",
    )


def model_files(subject: Subject, test: ModelTest) -> Finding:
    """Compare the digests of the model's files with those at the build."""
    files = subject.bundle.document.files
    differ = differing(
        {name: files[name].sha256 for name in files if name.startswith("model/")}, test.expected
    )
    return Finding(
        not differ,
        counted(len(differ), "file", "differ"),
        f"The model was altered after it was built: {', '.join(differ)} is truncated, edited or from another model.",
    )


def thresholds(subject: Subject, test: ModelTest) -> Finding:
    """Compare the thresholds with those at the build."""
    found = values_by_rule(subject.bundle.thresholds)
    differ = sorted(
        rule for rule in {*found, *test.expected} if found.get(rule) != test.expected.get(rule, "absent")
    )
    return Finding(
        not differ,
        counted(len(differ), "threshold", "differ"),
        f"A threshold does not belong to this model: {', '.join(differ)}.",
    )


def dictionary(subject: Subject, test: ModelTest) -> Finding:
    """Compare the code, window and aggregate of each column with those at the build."""
    bundle = subject.bundle
    found = dictionary_lines(bundle.document)
    differ = [
        name for name, line in zip(bundle.columns, found, strict=False) if line not in set(test.expected)
    ]
    is_same = found == test.expected
    moved = [
        name
        for name, line, expected in zip(bundle.columns, found, test.expected, strict=False)
        if line != expected
    ]
    named = ", ".join((differ or moved)[:_N_NAMED]) or "their number"
    return Finding(
        is_same,
        "as built" if is_same else counted(len(differ or moved), "column", "differ"),
        f"The dictionary is stale or from another model, or its columns are swapped: {named}.",
    )


def dictionary_lines(document: BundleDocument) -> list[str]:
    """Return code, window and aggregate of each feature, in column order, and the names of the demographic columns."""
    features = [
        f"{feature.shown_code} | {feature.window_days} | {feature.encoding.aggregate}"
        for feature in document.features
    ]
    return features + list(document.columns[len(features) :])


def scoring_rules(subject: Subject, test: ModelTest) -> Finding:
    """Compare the rules of the cohort on which a score depends with those at the build."""
    differ = differing(scoring_record(subject.bundle.document), test.expected)
    return Finding(
        not differ,
        counted(len(differ), "rule", "differ"),
        f"Scoring would apply different rules from training: {', '.join(differ)}.",
    )


def scoring_record(document: BundleDocument) -> dict[str, Any]:
    """Return the rules of the cohort on which a score depends, and the digest of the map of codes to parents."""
    rules: dict[str, Any] = document.scoring.model_dump(mode="json", by_alias=True)
    return rules | ({"rollUp": digest_of(document.roll_up)} if document.roll_up else {})


def differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return the names whose values differ, sorted; a name without a value has None."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def single_rows(subject: Subject, test: ModelTest) -> Finding:
    """Score rows one by one and together."""
    X = subject.bundle.golden.X[:_N_SINGLE_ROWS]
    scores = subject.bundle.predict_proba(X)
    single = np.concatenate([subject.bundle.predict_proba(X[[row]]) for row in range(len(X))])
    return _same(single, scores, "The score of a row depends on the other rows of its batch.")


def row_order(subject: Subject, test: ModelTest) -> Finding:
    """Score rows in reverse order."""
    X = subject.bundle.golden.X
    reverse = subject.bundle.predict_proba(X[::-1])[::-1]
    return _same(
        reverse, subject.bundle.predict_proba(X), "The score of a row depends on the order of the rows."
    )


def sparse_rows(subject: Subject, test: ModelTest) -> Finding:
    """Score rows in sparse form. A plain conversion would drop zeros that are values, and keep NaN."""
    from scipy.sparse import csc_array

    bundle = subject.bundle
    X = bundle.golden.X
    sparse = csc_array(X if bundle.classifier.absent == "zero" else bundle.classifier.checked(X))
    return _same(
        bundle.predict_proba(sparse),
        bundle.predict_proba(X),
        "The score of a row depends on the format of the matrix.",
    )


def _same(
    found: NDArray[np.float64], expected: NDArray[np.float64], defect: str, words: str = "scores are equal"
) -> Finding:
    n_equal = int(np.count_nonzero(found == expected))
    return Finding(n_equal == len(expected), f"{n_equal} of {len(expected)} {words}", defect)


def score_range(subject: Subject, test: ModelTest) -> Finding:
    """Check that every score is strictly between 0 and 1."""
    scores = subject.bundle.predict_proba(subject.bundle.golden.X)
    n_inside = int(np.count_nonzero((scores > 0) & (scores < 1)))
    return Finding(
        n_inside == len(scores),
        f"{n_inside} of {len(scores)} scores are",
        "The model gives scores that are not probabilities.",
    )


def empty_row(subject: Subject, test: ModelTest) -> Finding:
    """Check the score of a sample without any feature."""
    score = float(subject.bundle.predict_proba(subject.bundle.classifier.empty_row[np.newaxis])[0])
    return valid_score(score, "A sample without any feature gets no valid score.")


def spread(subject: Subject, test: ModelTest) -> Finding:
    """Check that the scores of the synthetic rows differ."""
    deviation = float(np.std(subject.bundle.classifier.log_odds(subject.bundle.golden.X)))
    return Finding(
        deviation >= test.expected,
        f"{deviation:.3g}",
        "The model gives nearly all patients the same score: its trees or coefficients are missing, or it learned nothing.",
    )


def calibration_order(subject: Subject, test: ModelTest) -> Finding:
    """Check that calibration keeps the order of the scores."""
    probability = np.sort(subject.bundle.golden.probability)
    calibrated = np.asarray(subject.bundle.calibrator.apply(probability))
    n_falls = int(np.count_nonzero(np.diff(calibrated) < 0))
    return Finding(n_falls == 0, plural(n_falls, "fall"), "The calibrator reverses the order of scores.")


def coefficient_directions(subject: Subject, test: ModelTest) -> Finding:
    """Check that a higher value of a column moves the score in the direction of its coefficient (linear models)."""
    classifier = subject.bundle.classifier
    coefficients = classifier.coefficients()
    assert coefficients is not None  # written for linear models only
    n_columns, wrong = len(subject.bundle.columns), []
    for start in range(0, n_columns, _BATCH):
        stop = min(start + _BATCH, n_columns)
        rows = np.zeros((stop - start + 1, n_columns))
        rows[np.arange(1, len(rows)), np.arange(start, stop)] = 1.0
        log_odds = classifier.log_odds(rows)
        moved = np.sign(log_odds[1:] - log_odds[0])
        expected = np.sign(coefficients.values[start:stop])
        # A coefficient below the resolution of the intercept has no effect, which is not a wrong direction.
        wrong += (start + np.flatnonzero((moved != expected) & (moved != 0))).tolist()
    named = ", ".join(subject.bundle.columns[column] for column in wrong[:_N_NAMED])
    return Finding(
        not wrong,
        counted(len(wrong), "column", "do not", "does not"),
        f"The score moves against the coefficient of {named}.",
    )


def dictionary_coefficients(subject: Subject, test: ModelTest) -> Finding:
    """Check that the dictionary states the model's own coefficients (linear models)."""
    coefficients = subject.bundle.classifier.coefficients()
    assert coefficients is not None  # written for linear models only
    features = subject.bundle.document.features
    differ = [
        feature.id
        for feature, value in zip(features, coefficients.values.tolist(), strict=False)
        if feature.coefficient is not None and feature.coefficient != value
    ]
    return Finding(
        not differ,
        counted(len(differ), "coefficient", "differ"),
        f"The dictionary states a coefficient that differs from the model's, for {', '.join(differ[:_N_NAMED])}.",
    )


def direction(subject: Subject, test: ModelTest) -> Finding:
    """Move one column from its lower to its higher value in every synthetic row."""
    column = subject.bundle.columns.index(test.inputs["column"])
    low, high = subject.crossed.copy(), subject.crossed.copy()
    absent = subject.bundle.classifier.empty_row[column]
    low[:, column] = absent if test.inputs["from"] is None else test.inputs["from"]
    high[:, column] = test.inputs["to"]
    log_odds = subject.bundle.classifier.log_odds
    moved = (log_odds(high) - log_odds(low)) * (1 if test.expected == "higher" else -1)
    share = float(np.mean(moved < 0))
    mean = float(np.mean(moved))
    name, words = test.inputs["column"], {"higher": "lowers", "lower": "raises"}[test.expected]
    association = "against its association with the outcome in training"
    if mean < 0:
        defect = f"{name} {words} the score, {association}: its coefficient is flipped, or its column is swapped with another."
    else:
        defect = (
            f"{name} {words} the score of some rows, {association}: other columns change its effect. If its direction is "
            "known, declare it in features.monotone, which xgboost and ebm obey; or train with a smaller maxDepth."
        )
    return Finding(
        mean >= 0 and share <= test.tolerance,
        f"mean change {mean:+.3g} in the expected direction, against it in {100 * share:.0f} % of the rows",
        defect,
    )


def monotone(subject: Subject, test: ModelTest) -> Finding:
    """Raise one column through its numbers in every synthetic row, all else unchanged."""
    column = subject.bundle.columns.index(test.inputs["column"])
    numbers = subject.bundle.golden.X[:, column]
    rows, sign = subject.crossed.copy(), 1 if test.expected == "higher" else -1
    worst, before = 0.0, None
    for number in np.unique(numbers[~np.isnan(numbers)]).tolist():
        rows[:, column] = number
        now = sign * subject.bundle.classifier.log_odds(rows)
        worst = worst if before is None else max(worst, float(np.max(before - now)))
        before = now
    words = {"higher": "lowers", "lower": "raises"}[test.expected]
    return Finding(
        worst <= test.tolerance,
        f"largest change of the log-odds against it {worst:.3g}",
        f"A higher {test.inputs['column']} {words} the score, against its declared direction: use xgboost or ebm, which obey it, or correct "
        "features.monotone.",
    )


def contributions(subject: Subject, test: ModelTest) -> Finding:
    """Check that the contributions of each row add up to its log-odds."""
    classifier, X = subject.bundle.classifier, subject.bundle.golden.X
    total = classifier.contributions(X).sum(axis=1)
    gap = float(np.max(np.abs(total - classifier.log_odds(X)), initial=0.0))
    return Finding(
        gap <= test.tolerance,
        f"largest difference {gap:.2g}",
        "Reasons and score come from different models.",
    )


def _with_nan(X: NDArray[np.float64], is_value: NDArray[np.bool_]) -> object:
    X[0, np.flatnonzero(~is_value)[0]] = np.nan
    return X


def _with_infinity(X: NDArray[np.float64], is_value: NDArray[np.bool_]) -> object:
    X[0, 0] = np.inf
    return X


def _with_text(X: NDArray[np.float64], is_value: NDArray[np.bool_]) -> object:
    rows = X.astype(object)
    rows[0, 0] = "text"
    return rows


#: Impossible input by id: its description, and the alteration of a row of zeros.
FAULTS: Final[Mapping[str, tuple[str, Callable[[NDArray[np.float64], NDArray[np.bool_]], object]]]] = {
    "nan": ("NaN where a number must be", _with_nan),
    "infinity": ("an infinite number", _with_infinity),
    "columns": ("a column too many", lambda X, is_value: np.hstack([X, X[:, :1]])),
    "text": ("text in a cell", _with_text),
}


def refused_rows(subject: Subject, test: ModelTest) -> Finding:
    """Give the model an impossible row, which it must refuse."""
    n_columns, is_value = len(subject.bundle.columns), subject.bundle.classifier.value_columns
    mask = np.zeros(n_columns, np.bool_) if is_value is None else is_value
    words, alter = FAULTS[test.inputs["fault"]]
    row = alter(np.zeros((1, n_columns)), mask)
    try:
        subject.bundle.predict_proba(row)
    except DataError:
        return Finding(True, "refused")
    return Finding(False, "a score", f"The model scores a row with {words}.")
