"""Self-tests of a bundle. They need only the bundle, and run when it is built and wherever it is used.

Details depend only on the bundle (no times, no locations), so that a result containing them has one digest.
"""

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.model.scorer import Scorer
from mlho.report.result import BundleTest

if TYPE_CHECKING:
    import pandas as pd


MAX_BUNDLE_BYTES: Final = 20 * 1024**2  # size that a pod downloads at start without a noticeable delay
_N_SINGLE_ROWS = 64  # rows scored one by one; xgboost takes about a millisecond per row
_N_PATIENTS = 6  # synthetic patients in the tests on events
_N_CODES = 24
_INDEX_DATE = dt.date(2020, 1, 1)  # arbitrary; only differences matter
_FOREIGN_CODE = "mlho:self-test:no such code"


def run_all(bundle: Scorer) -> list[BundleTest]:
    """Run every test in a fixed order. A test that raises an exception has failed."""
    results = []
    for name, test in TESTS.items():
        try:
            outcome = test(bundle)
        except Exception as error:  # any exception is a failure, and the other tests still run
            outcome = False, f"raised {type(error).__name__}"
        if outcome is not None:
            results.append(BundleTest(name=name, passed=outcome[0], detail=outcome[1]))
    return results


Outcome = tuple[bool, str] | None  # None: the test does not apply to this bundle


def golden_rows(bundle: Scorer) -> Outcome:
    """Synthetic rows get exactly the scores stored when the bundle was built."""
    golden = bundle.golden
    raw = bundle.predict_proba(golden.X, calibrated=False)
    calibrated = bundle.predict_proba(golden.X)
    n_equal = int(np.count_nonzero((raw == golden.probability) & (calibrated == golden.calibrated)))
    return n_equal == len(
        raw
    ), f"{n_equal} of {len(raw)} synthetic rows have their stored scores, to the last bit"


def batch_invariance(bundle: Scorer) -> Outcome:
    """The score of a row does not depend on the batch, the order, or the matrix format."""
    X = bundle.golden.X
    scores = bundle.predict_proba(X)
    single = np.concatenate([bundle.predict_proba(X[[row]]) for row in range(min(len(X), _N_SINGLE_ROWS))])
    checks = {
        "one by one": np.array_equal(single, scores[: len(single)]),
        "in reverse order": np.array_equal(bundle.predict_proba(X[::-1])[::-1], scores),
        "as a sparse matrix": np.array_equal(bundle.predict_proba(_as_sparse(bundle, X)), scores),
    }
    return _all_hold(checks, "same bits")


def _as_sparse(bundle: Scorer, X: NDArray[np.float64]) -> Any:
    """Return the rows in sparse form. A plain conversion would drop zeros that are values, and keep NaN."""
    from scipy.sparse import csc_array

    return csc_array(X if bundle.classifier.absent == "zero" else bundle.classifier.checked(X))


def score_range(bundle: Scorer) -> Outcome:
    """Every score is strictly between 0 and 1."""
    scores = bundle.predict_proba(bundle.golden.X)
    n_inside = int(np.count_nonzero((scores > 0) & (scores < 1)))
    return n_inside == len(scores), f"{n_inside} of {len(scores)} scores are strictly between 0 and 1"


def missing_features(bundle: Scorer) -> Outcome:
    """A sample without any feature gets a valid score."""
    score = float(bundle.predict_proba(bundle.classifier.empty_row[np.newaxis])[0])
    return 0 < score < 1, f"a row without any feature scores {score:.6g}"


def directions(bundle: Scorer) -> Outcome:
    """More of a feature moves the score in the direction of its coefficient (linear models)."""
    coefficients = bundle.classifier.coefficients()
    if coefficients is None:
        return None
    n_columns = len(bundle.columns)
    n_right = 0
    for start in range(0, n_columns, 256):  # bounded memory for any number of columns
        stop = min(start + 256, n_columns)
        rows = np.zeros((stop - start + 1, n_columns))
        rows[np.arange(1, len(rows)), np.arange(start, stop)] = 1.0
        log_odds = bundle.classifier.log_odds(rows)
        moved = np.sign(log_odds[1:] - log_odds[0])
        expected = np.sign(coefficients.values[start:stop])
        # A coefficient below the resolution of the intercept has no effect, which is not a wrong direction.
        n_right += int(np.count_nonzero((moved == expected) | (moved == 0)))
    return n_right == n_columns, f"{n_right} of {n_columns} columns move the score as their coefficient says"


def calibration_order(bundle: Scorer) -> Outcome:
    """Calibration preserves the order of scores."""
    order = np.argsort(bundle.golden.probability, kind="stable")
    calibrated = bundle.calibrator.apply(bundle.golden.probability[order])
    return bool(np.all(np.diff(calibrated) >= 0)), "calibrated scores rise with the classifier's"


def id_relabelling(bundle: Scorer) -> Outcome:
    """Scores do not depend on patient ids or the order of events."""
    events = _synthetic_events(bundle)
    if events is None:
        return None
    scores = _scores(bundle, events)
    names = {patient: f"renamed {_N_PATIENTS - number}" for number, patient in enumerate(scores)}
    renamed = events.assign(patient_id=events["patient_id"].map(names)).iloc[::-1]
    found = _scores(bundle, renamed)
    is_equal = {names[patient]: score for patient, score in scores.items()} == found
    return (
        is_equal,
        f"{len(scores)} synthetic patients score the same under other ids, events in reverse order",
    )


def unknown_code(bundle: Scorer) -> Outcome:
    """An unknown code is ignored and counted."""
    events = _synthetic_events(bundle)
    if events is None:
        return None
    foreign = events.drop_duplicates("patient_id").assign(code=_FOREIGN_CODE)
    scores = _scores(bundle, events)
    import pandas as pd

    table = _score_table(bundle, pd.concat([events, foreign], ignore_index=True))
    found = dict(zip(table["patient_id"], table["probability"], strict=True))
    is_counted = table.attrs["unknown_code_rows"] == len(foreign)
    return found == scores and is_counted, f"{len(foreign)} rows of an unknown code are ignored and counted"


def size_budget(bundle: Scorer) -> Outcome:
    """The bundle is small enough to be downloaded at every start."""
    return (
        bundle.n_bytes <= MAX_BUNDLE_BYTES,
        f"at most {MAX_BUNDLE_BYTES} bytes"
        if bundle.n_bytes <= MAX_BUNDLE_BYTES
        else f"{bundle.n_bytes} bytes",
    )


TESTS: Final[dict[str, Callable[[Scorer], Outcome]]] = {
    "golden rows": golden_rows,
    "batches": batch_invariance,
    "score range": score_range,
    "missing features": missing_features,
    "directions": directions,
    "calibration keeps the order": calibration_order,
    "other ids": id_relabelling,
    "unknown code": unknown_code,
    "size": size_budget,
}


def _all_hold(checks: dict[str, bool], words: str) -> tuple[bool, str]:
    failed = [name for name, holds in checks.items() if not holds]
    return not failed, f"{words}: " + (", ".join(checks) if not failed else "not " + ", not ".join(failed))


def _synthetic_events(bundle: Scorer) -> "pd.DataFrame | None":
    """Create events of synthetic patients with the bundle's codes: patient k has every k-th code."""
    import pandas as pd

    codes = sorted({feature.code for feature in bundle.document.features})[:_N_CODES]
    if not codes:
        return None
    day = _INDEX_DATE - dt.timedelta(days=bundle.document.scoring.gap_days)
    rows = [
        (f"patient {number}", pd.Timestamp(day), code, float(1 + place % 3))
        for number in range(_N_PATIENTS)
        for place, code in enumerate(codes)
        if place % (number + 1) == 0
    ]
    return pd.DataFrame(rows, columns=["patient_id", "time", "code", "numeric_value"])


def _score_table(bundle: Scorer, events: "pd.DataFrame") -> "pd.DataFrame":
    has_index = bundle.document.scoring.index_kind != "none"
    return bundle.predict_events(events, _INDEX_DATE if has_index else None, _nothing_known(bundle))


def _nothing_known(bundle: Scorer) -> "pd.DataFrame | None":
    """Return demographics without rows, with the columns used by the bundle."""
    import pandas as pd

    if bundle.demographics is None:
        return None
    return pd.DataFrame(
        {name: [] for name in ("patient_id", *(code.name for code in bundle.demographics.codes))}
    )


def _scores(bundle: Scorer, events: "pd.DataFrame") -> dict[Any, float]:
    table = _score_table(bundle, events)
    return dict(zip(table["patient_id"], table["probability"].tolist(), strict=True))
