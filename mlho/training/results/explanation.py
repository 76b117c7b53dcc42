"""Explanation of the final model: mean contributions of its columns, and explained examples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.method.classifiers import FittedClassifier
from mlho.method.splits import patient_order
from mlho.model.parts import BundleFeature
from mlho.model.values import demographic_in_words, value_in_words
from mlho.report.result import Contribution, Profile
from mlho.training.iterations.splits import FINAL
from mlho.training.results.final import FinalModel

MOST_SAMPLES: Final = 10_000  # for mean contributions: the error of the mean is then below 1 % of the spread
_AT_ONCE: Final = 500  # rows whose contributions are held in memory together
_N_CONTRIBUTIONS: Final = 10  # shown per profile; the rest is summed up


def drawn_samples(cohort: Cohort, *, seed: int, most: int = MOST_SAMPLES) -> NDArray[np.int64]:
    """Return at most ``most`` samples in ascending order, drawn by a hash of seed and patient; all samples if there are fewer.

    Whole patients are drawn, so that the draw depends neither on the order of rows nor on samples per patient.
    """
    if cohort.n_samples <= most:
        return np.arange(cohort.n_samples)
    order = patient_order(cohort.patient_ids, seed=seed, purpose="contributions", iteration=FINAL)
    starts = cohort.sample_starts()
    n_samples = np.cumsum(np.diff(starts)[order])
    drawn = np.zeros(cohort.n_patients, np.bool_)
    drawn[order[: int(np.searchsorted(n_samples, most, side="right"))]] = True
    return np.flatnonzero(drawn[cohort.patient_of])


def mean_contributions(model: FittedClassifier, X: Any, samples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean absolute contribution of each column to the log-odds, over the given samples.

    Parameters
    ----------
    model : FittedClassifier
        Linear: |coefficient · (x − mean)|; trees: |TreeSHAP value|; explainable boosting: |score|. All are on the log-odds
        scale and comparable between classifiers.
    X : sparse, shape (n_samples, n_columns)
        The training matrix.
    samples : int64, shape (n,)

    Returns
    -------
    float64, shape (n_columns,)

    References
    ----------
    Lundberg et al. (2020), Nature Machine Intelligence 2: TreeSHAP; the mean of |SHAP| as global importance.
    """
    rows = X.tocsr()
    total = np.zeros(X.shape[1])
    for start in range(0, len(samples), _AT_ONCE):
        some = rows[samples[start : start + _AT_ONCE]]
        total += np.abs(model.contributions(some)[:, :-1]).sum(axis=0)
    return total / max(len(samples), 1)


@dataclass(frozen=True)
class ExplainedColumn:
    """A column of the final model for display."""

    id: str
    words: str
    in_words: Callable[[float], str]
    """Converts the encoded number to text."""


def explained_columns(final: FinalModel, features: Sequence[BundleFeature]) -> list[ExplainedColumn]:
    """Return the columns of the final model: features, then demographics."""
    columns = [
        ExplainedColumn(feature.id, feature.words, partial(value_in_words, feature.encoding))
        for feature in features
    ]
    if final.design.demographics is not None:
        columns += [
            ExplainedColumn(name, name, in_words)
            for name, in_words in demographic_in_words(final.design.demographics)
        ]
    return columns


def explain_rows(
    final: FinalModel,
    rows: NDArray[np.float64],
    titles: Sequence[str],
    columns: Sequence[ExplainedColumn],
    *,
    synthetic: bool,
) -> list[Profile]:
    """Explain rows of the design exactly: base and contributions add up to the log-odds.

    Parameters
    ----------
    rows : float64, shape (n_rows, n_columns)
    synthetic : bool
        Whether the rows are synthetic, not those of real patients.
    """
    contributions = final.model.contributions(rows)
    probabilities = final.model.predict_proba(rows)
    calibrated = final.calibrator.apply(probabilities)
    return [
        _profile(title, row, shares, float(p), float(c), columns, synthetic)
        for title, row, shares, p, c in zip(
            titles, rows, contributions, probabilities, calibrated, strict=True
        )
    ]


def _profile(
    title: str,
    row: NDArray[np.float64],
    contributions: NDArray[np.float64],
    probability: float,
    calibrated: float,
    columns: Sequence[ExplainedColumn],
    synthetic: bool,
) -> Profile:
    of_columns, base = contributions[:-1], float(contributions[-1])
    order = np.argsort(-np.abs(of_columns), kind="stable")[:_N_CONTRIBUTIONS]
    shown = [number for number in order.tolist() if of_columns[number] != 0]
    others = np.delete(of_columns, shown)
    return Profile(
        title=title,
        synthetic=synthetic,
        probability=probability,
        calibrated_probability=calibrated,
        base=base,
        contributions=[
            Contribution(
                feature=columns[number].id,
                words=columns[number].words,
                value=columns[number].in_words(float(row[number])),
                contribution=float(of_columns[number]),
            )
            for number in shown
        ],
        others=float(sum(others.tolist())),
    )


def typical_rows(scores: NDArray[np.float64], among: Iterable[int]) -> list[tuple[int, str]]:
    """Choose rows of lower, intermediate and higher predicted risk, each with a title."""
    ordered = sorted(among, key=lambda row: (float(scores[row]), row))
    if not ordered:
        return []
    places = {
        "Lower risk": len(ordered) // 10,
        "Intermediate risk": len(ordered) // 2,
        "Higher risk": len(ordered) * 9 // 10,
    }
    return [(ordered[place], title) for title, place in places.items()]
