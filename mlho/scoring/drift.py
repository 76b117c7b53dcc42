"""Drift: how far the samples of a scoring run differ from the training samples, by feature and in their scores. Pure.

The population stability index (PSI) of two distributions over the same bins is Σ (now − then) · ln(now / then). By convention a
value below 0.1 is small, and one above 0.25 is large. The index does not account for chance, so a feature counts as shifted only
if its prevalence also differs by more than chance explains, and the scores only if their index also exceeds what chance explains.

References
----------
Siddiqi (2006), Credit Risk Scorecards, chapter 10. Yurdakul & Naranjo (2020), Statistical properties of the PSI, J. Risk Model Validation 14(4).
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mlho.errors import listed, plural
from mlho.method.selection.features import VALUES
from mlho.model.parts import BundleFeature, TrainingSamples
from mlho.printable import cut
from mlho.report.monitoring import CodeDrift
from mlho.report.result import Part
from mlho.scoring.code_drift import code_warnings, descriptions_of
from mlho.spec.features import EVENT_VALUES
from mlho.spec.types import MIN_CELL

#: Of the deciles in a bundle, which have four decimal places.
DECILE_ROUNDING: Final = 5.1e-5
LARGE: Final = 0.25
SMALL: Final = 0.1
# 99.99 % quantile of chi-square with 9 degrees of freedom, for ten bins (fewer, with equal deciles, exceed it more rarely). With 110 to
# 200 samples the index has a longer tail: up to 0.1 % of nights without drift exceed it, less than one in two years of nightly runs.
_CHANCE: Final = 33.72
# 99.99 % quantile of chi-square with one degree of freedom: at most two false findings in 10,000, for any share and number of samples.
_CHANCE_OF_ONE: Final = 15.14
_MIN_EXPECTED: Final = (
    30.0  # expected patients with a feature; if none has it, chance cannot explain its absence
)
_N_LISTED: Final = 20
_N_NAMED: Final = 5


class FeatureShift(Part):
    """A feature whose prevalence differs from training, or whose values do."""

    feature: str
    words: str
    training: float
    """Share of the training samples with the feature."""
    now: float | None
    """Share of these samples; null if fewer than 11 samples are on either side of it."""
    psi: float | None
    """Null where ``now`` is."""
    bound: float | None = None
    """For values: the shares are those of the values above this bound, with at least 11 values on either side if there is any. Null for
    the prevalence."""


class MissingShift(Part):
    """Missing values of a demographic or of a feature that is a value of an event."""

    column: str
    words: str
    training: float
    """Share of the training samples without a value; for a demographic, at least the share of ``report.minCell`` samples."""
    now: float | None
    """Share of these samples; null if fewer than 11 samples are on either side of it."""
    psi: float | None
    """Null where ``now`` is."""
    is_shifted: bool
    """Whether more are missing than in training, with a PSI of at least 0.1 and beyond chance."""


class Drift(Part):
    """Difference between these samples and those of training."""

    score_psi: float | None = None
    """PSI of the calibrated probabilities over the deciles of those in training."""
    score_psi_by_chance: float | None = None
    """PSI that at most 0.1 % of such samples exceed without drift; null where ``score_psi`` is, and in scores of earlier versions."""
    reason: str | None = None
    """Why the PSI is absent."""
    n_compared: int = 0
    """Features whose prevalence or values in training are known."""
    n_values_compared: int = 0
    """Those with values in training, and at least 22 here; 0 with a bundle of an earlier version."""
    n_shifted: int = 0
    """Features with a PSI of at least 0.1 and a difference beyond chance, in prevalence or values, and those that vanished."""
    shifted: list[FeatureShift] = Field(default_factory=list)
    """The 20 shifts with the largest PSI; a feature may have one of its prevalence and one of its values."""
    vanished: list[str] = Field(default_factory=list)
    """Features expected in at least 30 of these patients and found in none."""
    n_missing_compared: int = 0
    """Demographics, and features that are values of events, whose share of missing values in training is known."""
    n_missing_shifted: int = 0
    """Columns with more missing values than in training, with a PSI of at least 0.1 and beyond chance."""
    missing: list[MissingShift] = Field(default_factory=list)
    """The 20 columns with the largest PSI, shifted or not."""
    codes: CodeDrift | None = None
    """Codes of the events that are new or have vanished; null in scores of earlier versions."""


def psi(then: Sequence[float], now: Sequence[float], n: int) -> float:
    """Return the population stability index of two distributions.

    Parameters
    ----------
    then, now : sequence of float
        Shares of the bins, each summing to 1.
    n : int
        Samples behind ``now``. An empty bin counts as half a sample.

    Examples
    --------
    >>> round(psi([0.5, 0.5], [0.9, 0.1], 1000), 3)
    0.879
    """
    least = 0.5 / max(n, 1)
    pairs = [(max(a, least), max(b, least)) for a, b in zip(then, now, strict=True)]
    return math.fsum((b - a) * math.log(b / a) for a, b in pairs)


def deciles_of(values: NDArray[np.float64]) -> list[float]:
    """Return the nine deciles of at least one value: the smallest that 10 %, 20 %, … of the values do not exceed."""
    ordered, n = np.sort(values), len(values)
    return [float(ordered[-(-tenth * n // 10) - 1]) for tenth in range(1, 10)]


def score_psi(
    probability: NDArray[np.float64], deciles: Sequence[float] | None, *, rounding: float = DECILE_ROUNDING
) -> tuple[float | None, str | None]:
    """Return the PSI of probabilities over the deciles of training, or why it is absent.

    Many samples may have the probability of a decile. The deciles do not show how many of those in training exceed the tenth that
    ends there, so the samples on a decile are divided between its two bins as in training, as far as possible.

    Parameters
    ----------
    rounding : float
        Largest difference between the deciles and exact ones; probabilities within it are on a decile.

    Examples
    --------
    >>> score_psi(np.arange(1000) / 1000, [tenth / 10 for tenth in range(1, 10)])[0] < 0.01
    True
    """
    if deciles is None:
        return None, "the bundle has no deciles of the training scores"
    if len(probability) < 10 * MIN_CELL:
        return None, f"fewer than {10 * MIN_CELL} samples"
    ordered, n = np.sort(probability), len(probability)
    # Equal deciles are one edge: the bin below it holds all tenths that end there.
    edges = np.unique(np.asarray(deciles, np.float64))
    tenths = np.searchsorted(np.asarray(deciles), edges, side="right") / 10
    below = np.searchsorted(ordered, edges - rounding, side="left") / n
    up_to = np.searchsorted(ordered, edges + rounding, side="right") / n
    cuts = np.clip(tenths, below, up_to)
    then, now = (np.diff([0.0, *ends.tolist(), 1.0]).tolist() for ends in (tenths, cuts))
    return round(psi(then, now, n), 4), None


def psi_by_chance(n: int, n_training: int | None) -> float:
    """Return the PSI of the scores that chance explains, for independent samples.

    Without drift, the index divided by 1/n + 1/n_training is approximately chi-square with one degree of freedom less than bins.

    Parameters
    ----------
    n : int
        Independent samples: patients, at least 1.
    n_training : int or None
        Training samples. None in bundles of earlier versions: their deciles count as exact.

    References
    ----------
    Yurdakul & Naranjo (2020), section 3.

    Examples
    --------
    >>> round(psi_by_chance(110, 150), 2), round(psi_by_chance(2000, 5000), 2)
    (0.53, 0.02)
    """
    return round(_CHANCE * (1 / n + (1 / n_training if n_training else 0.0)), 4)


def is_beyond_chance(
    share: float, then: float, n: int, n_training: int | None, *, limit: float = _CHANCE_OF_ONE
) -> bool:
    """Return whether a share differs from that in training by more than chance explains: likelihood-ratio test of two shares.

    Parameters
    ----------
    n : int
        Independent samples behind ``share``: patients, because the samples of a patient are alike.
    n_training : int or None
        As in :func:`psi_by_chance`.

    Examples
    --------
    >>> is_beyond_chance(3 / 20, 0.02, 20, 5000), is_beyond_chance(300 / 2000, 0.02, 2000, 5000)
    (False, True)
    """
    m = n_training or 10**9
    both = (n * share + m * then) / (n + m)
    return 2.0 * (n * _divergence(share, both) + m * _divergence(then, both)) > limit


def _divergence(p: float, q: float) -> float:
    """Return the Kullback–Leibler divergence of two shares; q is between p and another share."""
    sides = ((p, q), (1.0 - p, 1.0 - q))
    return math.fsum(a * math.log(a / b) for a, b in sides if a > 0.0)


def large_score_psi(drift: Drift) -> float | None:
    """Return the PSI of the scores if it is large and beyond chance, else None."""
    index = drift.score_psi
    return None if index is None or index <= max(LARGE, drift.score_psi_by_chance or 0.0) else index


def is_counted_by_value(feature: BundleFeature, training: TrainingSamples | None) -> bool:
    """Return whether the samples with a feature are counted by its value, in training and here.

    The design of a linear model does not show which samples have a value: a value equal to the training median and a missing value are both
    zero. Bundles without shares of missing values have only the prevalence in their design.
    """
    missing = None if training is None else training.missing
    return feature.aggregate in VALUES and feature.id in (missing or {})


def shares_in_training(
    features: Sequence[BundleFeature], training: TrainingSamples | None
) -> list[float | None] | None:
    """Return the share of the training samples with each feature; None where it is not known."""
    if training is None or training.prevalence is None:
        return None
    missing = training.missing or {}
    return [
        round(1.0 - missing[feature.id], 4) if p is not None and is_counted_by_value(feature, training) else p
        for feature, p in zip(features, training.prevalence, strict=True)
    ]


def find_drift(
    features: Sequence[BundleFeature],
    prevalence: Sequence[float | None] | None,
    present: NDArray[np.int64],
    n: int,
    *,
    n_patients: int,
    n_training: int | None,
    values: Mapping[str, FeatureShift | None] = MappingProxyType({}),
) -> Drift:
    """Compare the prevalence of each feature with training, and add the shifts of values.

    Parameters
    ----------
    prevalence : sequence of float or None, same length, or None
        Shares in training; None where they are not known.
    present : int64, shape (n_features,)
        Samples with each feature, of ``n``.
    n_patients, n_training : int
        Patients of these samples, and training samples (:func:`is_beyond_chance`).
    values : mapping
        From :func:`mlho.scoring.value_drift.find_value_shifts`.
    """
    known = [] if prevalence is None else [(place, p) for place, p in enumerate(prevalence) if p is not None]
    found: list[tuple[float, FeatureShift]] = []
    vanished: list[str] = []
    for place, p in known:
        count = int(present[place])
        if count == 0 and p * n_patients >= _MIN_EXPECTED:
            vanished.append(features[place].id)
        index = psi_of_share(p, count, n)
        if index < SMALL or not is_beyond_chance(count / n, p, n_patients, n_training):
            continue
        now, shown = _shown(count, n, index)
        feature = features[place]
        shift = FeatureShift(feature=feature.id, words=feature.words, training=p, now=now, psi=shown)
        found.append((0.0 if now is None else index, shift))
    found += [(shift.psi or 0.0, shift) for shift in values.values() if shift is not None]
    found.sort(key=lambda shift: (-shift[0], shift[1].feature))
    return Drift(
        n_compared=len({features[place].id for place, _ in known} | values.keys()),
        n_values_compared=len(values),
        n_shifted=len({shift.feature for _, shift in found}),
        shifted=[shift for _, shift in found[:_N_LISTED]],
        vanished=vanished,
    )


def psi_of_share(p: float, count: int, n: int) -> float:
    """Return the PSI of having a feature, from a share in training and a count here."""
    return psi([p, 1 - p], [count / n, 1 - count / n], n)


def _shown(count: int, n: int, index: float) -> tuple[float | None, float | None]:
    """Return the share and the PSI for a result; None where few samples are on either side of the share."""
    if 0 < count < MIN_CELL or 0 < n - count < MIN_CELL:
        return None, None
    return round(count / n if n else 0.0, 4), round(index, 4)


def find_missing(
    features: Sequence[BundleFeature],
    training: TrainingSamples | None,
    with_value: NDArray[np.int64],
    demographics: Mapping[str, int],
    n: int,
    *,
    n_patients: int,
) -> list[MissingShift]:
    """Compare the missing values with training: of each demographic, and of each feature that is a value of an event.

    Parameters
    ----------
    with_value : int64, shape (n_features,)
        Samples with a value of each such feature.
    demographics : mapping of name to int
        Samples without a value of each demographic.
    n_patients : int
        Patients of these samples (:func:`is_beyond_chance`).

    Returns
    -------
    list of MissingShift
        The largest PSI first.
    """
    if training is None or not n:
        return []
    # A bundle of an earlier version has only the prevalence, which in a linear model does not count the median.
    pairs = zip(features, training.prevalence or (), strict=False)
    shares = {feature.id: 1.0 - p for feature, p in pairs if p is not None} | (training.missing or {})
    known = [(name, name, shares.get(name), n_missing) for name, n_missing in demographics.items()]
    known += [
        (feature.id, feature.words, shares.get(feature.id), n - int(with_value[place]))
        for place, feature in enumerate(features)
        if feature.aggregate in EVENT_VALUES
    ]
    found = []
    for column, words, p, count in known:
        if p is None:
            continue
        share = count / n
        index = psi_of_share(p, count, n)
        now, shown_index = _shown(count, n, index)
        shown = MissingShift(
            column=column,
            words=words,
            training=round(p, 4),
            now=now,
            psi=shown_index,
            is_shifted=share > p
            and index >= SMALL
            and is_beyond_chance(share, p, n_patients, training.n_samples),
        )
        found.append((-1.0 if now is None else -index, column, shown))
    return [shown for *_, shown in sorted(found, key=lambda row: row[:2])]


def with_missing(drift: Drift, found: Sequence[MissingShift]) -> Drift:
    """Return the drift, including that of missing values, with the largest ones listed."""
    return drift.model_copy(
        update={
            "n_missing_compared": len(found),
            "n_missing_shifted": sum(shift.is_shifted for shift in found),
            "missing": list(found[:_N_LISTED]),
        }
    )


def drift_warnings(drift: Drift, features: Sequence[BundleFeature] = ()) -> list[str]:
    """Return warnings about a shifted distribution of the scores, and about vanished features and missing values.

    Parameters
    ----------
    features : sequence of BundleFeature
        Of the bundle: vanished features and codes are named by their words.

    Examples
    --------
    >>> drift_warnings(Drift(score_psi=0.31, n_compared=200, n_shifted=12))
    ['The distribution of the scores differs from that in training (PSI 0.31; over 0.25 is large). 12 of 200 features are shifted.']
    """
    said = []
    index = large_score_psi(drift)
    if index is not None:
        said.append(
            f"The distribution of the scores differs from that in training (PSI {index:.2f}; over {LARGE} is large). "
            f"{drift.n_shifted:,} of {plural(drift.n_compared, 'feature')} {'is' if drift.n_shifted == 1 else 'are'} shifted."
        )
    if drift.vanished:
        words = {feature.id: feature.words for feature in features}
        # Descriptions contain commas.
        named = listed([cut(words.get(name, name)) for name in drift.vanished], _N_NAMED, "; ")
        said.append(
            f"Features that were common in training are absent from all samples: {named}. Check the codes of the events."
        )
    said += _missing_warnings(drift.missing)
    return said if drift.codes is None else [*said, *code_warnings(drift.codes, descriptions_of(features))]


def _missing_warnings(missing: Sequence[MissingShift]) -> list[str]:
    """Return a warning about columns with far more missing values than in training."""
    named = [
        f"{cut(shift.words)} ({100 * shift.now:.1f} % of the samples; {100 * shift.training:.1f} % in training)"
        for shift in missing
        if shift.is_shifted and shift.now is not None and shift.psi is not None and shift.psi > LARGE
    ]
    if not named:
        return []
    return [
        f"Many more values are missing than in training: {listed(named, _N_NAMED, '; ')}. Check the columns of demographics and events."
    ]
