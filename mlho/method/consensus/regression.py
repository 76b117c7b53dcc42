"""The consensus model: logistic regression with odds ratios and intervals for clinical use.

It is fitted after selection on the same patients. Its intervals and p values are conditional on the selected
features and too optimistic ("post-selection"); the report states this. Samples are treated as independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
import numpy.typing as npt

from mlho.errors import DataError
from mlho.method.consensus import likelihood
from mlho.method.consensus.cholesky import invert
from mlho.method.consensus.likelihood import Z_95, FloatArray, Groups, IntArray, Maximum
from mlho.method.consensus.profile import Interval, ProfileInterval, profile_interval

Penalty = Literal["none", "firth"]


@dataclass(frozen=True)
class DroppedColumn:
    """A column without a coefficient, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class LogisticFit:
    """A fitted logistic regression."""

    names: tuple[str, ...]
    """Names of the kept columns in order, without the intercept."""
    kept: IntArray
    """Indices of the kept columns in ``X``. Shape (n_kept,)."""
    dropped: tuple[DroppedColumn, ...]
    """Constant columns, and the later of two aliased ones (R's ``NA``)."""
    intercept: float
    coef: FloatArray
    """Log odds ratios per unit of each column. Shape (n_kept,)."""
    covariance: FloatArray
    """Inverse Fisher information at the estimate, intercept first. Shape (n_kept + 1, n_kept + 1)."""
    log_likelihood: float
    converged: bool
    """If false, the estimates are not usable."""
    separated: bool
    """The unpenalised likelihood has no maximum: a combination of columns separates the labels perfectly."""
    penalty: Penalty
    method: str
    """Description of the maximised objective."""
    n_samples: int
    n_positive: int

    @property
    def standard_errors(self) -> FloatArray:
        """Standard errors of ``coef``, shape (n_kept,)."""
        return np.sqrt(np.diag(self.covariance)[1:])


@dataclass(frozen=True)
class OddsRatio:
    """One row of the table of odds ratios; fields ending in ``_per_sd`` are per standard deviation."""

    name: str
    odds_ratio: float
    wald_low: float | None
    wald_high: float | None
    profile_low: float | None
    profile_high: float | None
    sd: float
    odds_ratio_per_sd: float
    wald_low_per_sd: float | None
    wald_high_per_sd: float | None
    profile_low_per_sd: float | None
    profile_high_per_sd: float | None
    p_wald: float | None
    p_lr: float | None


def fit_logistic(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    names: Sequence[str] | None = None,
    penalty: Penalty = "none",
) -> LogisticFit:
    """Fit a logistic regression with intercept by Newton's method, or by Firth's if the labels are separated.

    Parameters
    ----------
    X : array of numbers, shape (n_samples, n_features)
        Finite, in any unit; columns are not scaled.
    y : array, shape (n_samples,)
        0 or 1 (or bool); both must be present.
    names : sequence of str, optional
        Column names; default ``x0, x1, …``.
    penalty : {"none", "firth"}
        ``none`` is maximum likelihood, and switches to Firth's penalty (recorded in ``method``) if the labels
        are separated, where no maximum exists.

    Returns
    -------
    LogisticFit
        Bit-identical for any order of the samples.

    Raises
    ------
    DataError
        Values are not finite, or labels are not both 0 and 1.

    Notes
    -----
    Separation is detected without a linear programme: if it exists, Newton's step converges to a direction
    that raises positive samples, lowers negative ones and leaves all others unchanged, which is the definition of
    separation.

    References
    ----------
    Albert and Anderson 1984, Biometrika 71:1. Firth 1993, Biometrika 80:27. Heinze and Schemper 2002, Stat
    Med 21:2409. Unpenalised, the same as R's ``glm(family = binomial)``; penalised, as ``logistf``.

    Examples
    --------
    >>> fit = fit_logistic([[0], [0], [0], [1], [1], [1]], [0, 0, 1, 0, 1, 1])
    >>> round(math.exp(fit.coef[0]), 6)
    4.0
    """
    matrix, labels = _checked(X, y)
    columns = tuple(f"x{at}" for at in range(matrix.shape[1])) if names is None else tuple(names)
    groups = likelihood.group_rows(matrix, labels)
    kept, dropped = _drop_aliased(groups, matrix, columns)
    if dropped:
        groups = likelihood.group_rows(matrix[:, kept], labels)
    start = likelihood.null_coefficients(groups)
    plain = _climb(groups, start, "none")
    used: Penalty = "firth" if plain.separated else penalty
    maximum = plain if used == "none" else _climb(groups, start, "firth")
    point = maximum.point
    covariance = invert(point.information)
    return LogisticFit(
        names=tuple(columns[at] for at in kept.tolist()),
        kept=kept,
        dropped=dropped,
        intercept=float(point.beta[0]),
        coef=point.beta[1:].copy(),
        covariance=np.zeros_like(point.information) if covariance is None else covariance,
        log_likelihood=point.log_likelihood,
        converged=maximum.converged and covariance is not None,
        separated=plain.separated,
        penalty=used,
        method=_in_words(used, plain.separated),
        n_samples=matrix.shape[0],
        n_positive=int(np.count_nonzero(labels)),
    )


def wald_intervals(fit: LogisticFit) -> tuple[Interval, ...]:
    """Return coef ± 1.96 · standard error for each kept column.

    Returns
    -------
    tuple of Interval
        On the log odds ratio per unit, in the order of ``fit.names``; without limits if the fit has not
        converged.
    """
    if not fit.converged:
        return tuple(Interval(name, None, None) for name in fit.names)
    return tuple(
        Interval(name, coef - Z_95 * error, coef + Z_95 * error)
        for name, coef, error in zip(fit.names, fit.coef.tolist(), fit.standard_errors.tolist(), strict=True)
    )


def profile_intervals(fit: LogisticFit, X: npt.ArrayLike, y: npt.ArrayLike) -> tuple[ProfileInterval, ...]:
    """Return the 95 % limits: twice the drop of the profile log-likelihood equals the chi-square quantile.

    Parameters
    ----------
    fit : LogisticFit
        Its penalty applies to the profile: for Firth the penalised likelihood is profiled, as Heinze and Schemper
        recommend.
    X, y : arrays
        Data of the fit.

    Returns
    -------
    tuple of ProfileInterval
        Of each kept column, on the log odds ratio per unit, and the likelihood-ratio test of no effect (one degree of freedom; its
        p value in [0, 1]). Limits are exact to about 1e-8 of a standard error; R interpolates a spline
        through the profile. A limit is ``None`` if the fit has not converged or the profile never falls
        that far.

    References
    ----------
    Venzon and Moolgavkar 1988, Applied Statistics 37:87 (the problem); the signed root of the drop is nearly linear in the
    coefficient, so Newton's method on it needs two or three steps.
    """
    matrix, labels = _checked(X, y)
    if not fit.converged:
        return tuple(ProfileInterval(name, None, None, None) for name in fit.names)
    groups = likelihood.group_rows(matrix[:, fit.kept], labels)
    beta = np.concatenate([[fit.intercept], fit.coef])
    top = likelihood.evaluate(groups, beta, penalised=fit.penalty == "firth")
    return tuple(
        profile_interval(groups, top, column, name=name, error=error, penalised=fit.penalty == "firth")
        for column, (name, error) in enumerate(
            zip(fit.names, fit.standard_errors.tolist(), strict=True), start=1
        )
    )


def odds_ratios(
    fit: LogisticFit, sd: npt.ArrayLike, *, profile: Sequence[ProfileInterval] = ()
) -> tuple[OddsRatio, ...]:
    """Tabulate odds ratios per unit and per standard deviation with their intervals and p values.

    Parameters
    ----------
    sd : array, shape (n_features,)
        Standard deviation (ddof 1) of every column of ``X``, including dropped ones.
    profile : sequence of ProfileInterval
        From :func:`profile_intervals`; profile limits of other columns are ``None``.

    Returns
    -------
    tuple of OddsRatio
        One per kept column. ``p_wald`` is Wald's, ``None`` if the fit has not converged; ``p_lr`` is that of the
        likelihood-ratio test. Values are clipped to 1e±300.
    """
    scale = np.asarray(sd, dtype=np.float64)
    by_name = {interval.name: interval for interval in profile}
    nothing = ProfileInterval("", None, None, None)
    return tuple(
        _odds_ratio(wald, by_name.get(wald.name, nothing), coef, error, width)
        for wald, coef, error, width in zip(
            wald_intervals(fit),
            fit.coef.tolist(),
            fit.standard_errors.tolist(),
            scale[fit.kept].tolist(),
            strict=True,
        )
    )


def _odds_ratio(wald: Interval, profile: ProfileInterval, coef: float, error: float, sd: float) -> OddsRatio:
    z = None if wald.low is None else coef / error
    return OddsRatio(
        name=wald.name,
        odds_ratio=_exp(coef),
        wald_low=_limit(wald.low),
        wald_high=_limit(wald.high),
        profile_low=_limit(profile.low),
        profile_high=_limit(profile.high),
        sd=sd,
        odds_ratio_per_sd=_exp(coef * sd),
        wald_low_per_sd=_limit(wald.low, sd),
        wald_high_per_sd=_limit(wald.high, sd),
        profile_low_per_sd=_limit(profile.low, sd),
        profile_high_per_sd=_limit(profile.high, sd),
        p_wald=None if z is None else math.erfc(abs(z) / math.sqrt(2)),
        p_lr=profile.p_value,
    )


def _limit(log_odds: float | None, units: float = 1.0) -> float | None:
    return None if log_odds is None else _exp(log_odds * units)


def _climb(groups: Groups, start: FloatArray, penalty: Penalty) -> Maximum:
    penalised = penalty == "firth"
    return likelihood.maximise(
        groups,
        likelihood.evaluate(groups, start, penalised=penalised),
        penalised=penalised,
    )


def _drop_aliased(
    groups: Groups, matrix: FloatArray, columns: tuple[str, ...]
) -> tuple[IntArray, tuple[DroppedColumn, ...]]:
    aliased = likelihood.find_aliased(groups)[1:]
    dropped = tuple(
        DroppedColumn(
            columns[at],
            "constant"
            if np.all(matrix[:, at] == matrix[0, at])
            else "a linear combination of earlier columns",
        )
        for at in np.flatnonzero(aliased).tolist()
    )
    return np.flatnonzero(~aliased).astype(np.int64), dropped


def _in_words(penalty: Penalty, separated: bool) -> str:
    if penalty == "none":
        return "maximum likelihood"
    return "Firth's penalised likelihood" + (", because the labels are separated" if separated else "")


def _exp(value: float) -> float:
    """Exponentiate within the range of floats and JSON."""
    return math.exp(min(max(value, -690.0), 690.0))


def _checked(X: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[np.int8]]:
    matrix = np.asarray(X, dtype=np.float64)
    labels = np.asarray(y)
    n_bad = int(np.count_nonzero(~np.isfinite(matrix)))
    if n_bad:
        _refuse(
            "values must be finite",
            "no missing or infinite value",
            f"{n_bad}",
            "Impute before the consensus model.",
        )
    n_positive = int(np.count_nonzero(labels == 1))
    n_negative = int(np.count_nonzero(labels == 0))
    if not (n_positive and n_negative and n_positive + n_negative == len(labels)):
        _refuse(
            "labels must be 0 and 1, both present",
            "two classes",
            f"{n_negative} zeros, {n_positive} ones, {len(labels) - n_positive - n_negative} others",
            "Check the outcome of the cohort.",
        )
    return matrix, (labels == 1).astype(np.int8)


def _refuse(rule: str, expected: str, got: str, remedy: str) -> NoReturn:
    raise DataError("consensus model", rule, expected=expected, got=got, remedy=remedy)
