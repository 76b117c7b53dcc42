"""Groups and periods of a cohort, and the audit of predictions by them."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.cohort.cohort import NO_BOUND, CategoricalColumn, Cohort, NumericColumn
from mlho.encoding.cohort.levels import OTHER, patients_by_level
from mlho.errors import SpecError
from mlho.method.bias.audit import audit
from mlho.method.bias.contradictions import Contradictions
from mlho.method.bias.groups import EVERYONE, Grouping, Periods
from mlho.method.splits import fold_of_patients
from mlho.report.bias.audit import BiasAudit, ContradictedLabels, GroupBias, without_standard_errors
from mlho.spec.training import TrainingSpec
from mlho.training.iterations.copies import counted, times_of
from mlho.training.iterations.splits import FINAL, seed_of
from mlho.training.results.performance import estimate_of

# The bands of children, younger and older adults, and the two bands of geriatric medicine.
AGE_BANDS: Final = (
    ("under 18", 18.0),
    ("18–39", 40.0),
    ("40–64", 65.0),
    ("65–79", 80.0),
    ("80 and over", math.inf),
)
MONTHS_OF: Final = {"month": 1, "quarter": 3, "year": 12}
DAYS_A_YEAR: Final = 365.25
MOST_PERIODS: Final = 24  # in a report, if the specification does not set their length
N_FOLDS: Final = 5  # of the recalibration within groups
PAIR: Final = " × "


@dataclass(frozen=True)
class Predictions:
    """Predictions on one test set."""

    samples: NDArray[np.int64]
    """Shape (n_test_samples,)."""
    calibrated: NDArray[np.float64]
    """Shape (n_test_samples,)."""
    thresholds: Mapping[str, float | None]
    """On the calibrated probability. By rule."""


def audit_test_sets(spec: TrainingSpec, cohort: Cohort, tested: Iterable[Predictions]) -> BiasAudit:
    """Audit the predictions on test sets, each sample once: with the first test set that contains it.

    A prediction is thus that of one model, as in use, and not a mean over several, which would be better than any of them.

    Parameters
    ----------
    tested : iterable of Predictions
        Only one entry is in memory.
    """
    p, model = np.full(cohort.n_samples, np.nan), np.zeros(cohort.n_samples, np.int64)
    alerts: dict[str, NDArray[np.bool_]] = {}
    without: set[str] = set()
    for number, predictions in enumerate(tested):
        new = np.isnan(p[predictions.samples])
        if not new.any():
            continue
        samples, calibrated = predictions.samples[new], predictions.calibrated[new]
        p[samples], model[samples] = calibrated, number
        for rule, threshold in predictions.thresholds.items():
            if threshold is None:
                without.add(rule)
            else:
                alerts.setdefault(rule, np.zeros(cohort.n_samples, np.bool_))[samples] = (
                    calibrated >= threshold
                )
    known = {rule: alert for rule, alert in alerts.items() if rule not in without}
    return audit_predictions(spec, cohort, np.flatnonzero(~np.isnan(p)), p, known, models=model)


def audit_predictions(
    spec: TrainingSpec,
    cohort: Cohort,
    samples: NDArray[np.int64],
    p: NDArray[np.float64],
    alerts: Mapping[str, NDArray[np.bool_]],
    *,
    models: NDArray[np.int64] | None = None,
    period: str | None = None,
    n_threads: int = 1,
) -> BiasAudit:
    """Audit probabilities by the groups and periods of the specification.

    Parameters
    ----------
    spec : TrainingSpec
        Its sections ``bias``, ``report`` and, of ``validation``, the seed and the bootstrap are used.
    samples : int64, shape (n_audited,)
        Samples with a prediction, ascending.
    p : float64, shape (n_samples,)
    alerts : mapping of rule to bool, shape (n_samples,)
    models : int64, shape (n_samples,), or None
        Number of the model that predicted each sample; None: one model.
    period : str or None
        Length of the periods, if not that of the specification: also ``night``.
    n_threads : int
        It has no effect on the result.
    """
    times = times_of(spec, cohort)
    seed, asked = spec.validation.seed, spec.bias
    replicates = spec.validation.bootstrap_replicates
    periods = periods_of(
        cohort.index_us[samples],
        cohort.unit_of[samples],
        period or (None if asked is None else asked.periods),
        spec.report.min_cell,
    )
    found = audit(
        cohort.outcome[samples],
        p[samples],
        [
            Grouping(
                grouping.by, grouping.levels, grouping.codes[samples], grouping.reference, grouping.is_crossed
            )
            for grouping in groupings(spec, cohort)
        ],
        patients=cohort.unit_of[samples],
        alerts={rule: alert[samples] for rule, alert in alerts.items()},
        seed=[seed_of(seed, "bias", FINAL)],
        periods=periods,
        groups_by_period=asked is not None and asked.periods is not None,
        folds=_folds(cohort, samples, seed),
        models=None if models is None else models[samples],
        copies=None
        if times is None
        else lambda of: of[counted(times, samples[of], p[samples[of]], spec, within=True)],
        min_cell=spec.report.min_cell,
        n_replicates=replicates if asked is None or asked.replicates is None else asked.replicates,
        n_threads=n_threads,
    )
    return BiasAudit.model_validate(without_standard_errors(asdict(found)))


def add_contradictions(
    audited: BiasAudit, spec: TrainingSpec, cohort: Cohort, found: Contradictions
) -> BiasAudit:
    """Return the audit with the share of contradicted labels of each group that has figures, if enough patients were tested."""
    members = {("all", EVERYONE): np.ones(cohort.n_samples, np.bool_)} | {
        (grouping.by, level): grouping.codes == place
        for grouping in groupings(spec, cohort)
        for place, level in enumerate(grouping.levels)
    }

    def completed(group: GroupBias) -> GroupBias:
        samples = members[group.by, group.level]
        enough = cohort.n_units(samples & found.is_judged) >= max(1, spec.report.min_cell)
        if not group.figures or not enough:
            return group
        rate = found.rate(samples, cohort.unit_of)
        labels = ContradictedLabels(
            n_samples=None if group.n_samples is None else rate.n_samples,
            observed=estimate_of(rate.observed.to_json()),
            expected=rate.expected,
        )
        return group.model_copy(update={"contradicted": labels})

    return audited.model_copy(update={"groups": [completed(group) for group in audited.groups]})


def _folds(cohort: Cohort, samples: NDArray[np.int64], seed: int) -> NDArray[np.int8] | None:
    units = len(cohort.unit_ids)
    if units < N_FOLDS:
        return None
    ids = np.array(cohort.unit_ids, dtype=object)
    fold = fold_of_patients(ids, cohort.positive_units(), seed=seed, iteration="bias", n_folds=N_FOLDS)
    return fold[cohort.unit_of[samples]]


def groupings(spec: TrainingSpec, cohort: Cohort) -> list[Grouping]:
    """Return the groups that are audited: by each column, by pairs of columns, and by site.

    Raises
    ------
    SpecError
        ``bias`` names a column that is neither categorical nor the age, or a level that does not exist.
    """
    by_name = {grouping.by: grouping for grouping in _columns(cohort)}
    asked = spec.bias
    for column in cohort.audited:
        by_name[column.name] = pooled(column.name, column, cohort.unit_of, spec.report.min_cell)
    if cohort.parts is not None and spec.validation.split == "site":
        by_name.setdefault("site", pooled("site", cohort.parts, cohort.unit_of, spec.report.min_cell))
    if asked is None:
        return list(by_name.values())
    names = list(by_name) if asked.groups is None else asked.groups
    pairs = [name for pair in asked.pairs for name in pair]
    for name in (*names, *pairs, *asked.references):
        if name not in by_name:
            raise SpecError(
                f"bias: {name!r} does not define groups. Expected a categorical demographic or age; got a number. List it in "
                "features.categorical, or remove it from bias."
            )
    for name, level in asked.references.items():
        by_name[name] = _with_reference(by_name[name], level)
    return [
        *(by_name[name] for name in names),
        *(_pair(by_name[first], by_name[second]) for first, second in asked.pairs),
    ]


def pooled(by: str, column: CategoricalColumn, unit_of: NDArray[np.int32], min_cell: int) -> Grouping:
    """Return the levels of a column; those with few patients count as ``other``, which is the last unless the column has it."""
    n_units = patients_by_level(column, unit_of)
    kept = [code for code, n in enumerate(n_units) if n >= min_cell]
    names = [column.levels[code] for code in kept]
    if len(kept) < len(n_units) and OTHER not in names:
        names.append(OTHER)
    place = np.full(len(column.levels), names.index(OTHER) if OTHER in names else 0)
    place[kept] = np.arange(len(kept))
    return Grouping(by, tuple(names), place[column.codes])


def _with_reference(grouping: Grouping, level: str) -> Grouping:
    spelled = next(
        (spelling for spelling in (level, level.replace("-", "–")) if spelling in grouping.levels), None
    )
    if spelled is None:
        raise SpecError(
            f"bias.references: {grouping.by} has no level {level!r}. Expected one of {', '.join(grouping.levels)}. Correct it."
        )
    return Grouping(grouping.by, grouping.levels, grouping.codes, grouping.levels.index(spelled))


def _pair(first: Grouping, second: Grouping) -> Grouping:
    """Return the groups by both columns, without combinations that no sample has."""
    n = len(second.levels)
    both = np.where(
        (first.codes < 0) | (second.codes < 0), -1, first.codes.astype(np.int64) * n + second.codes
    )
    used, codes = _in_use(both)
    names = tuple(f"{first.levels[code // n]}, {second.levels[code % n]}" for code in used)
    return Grouping(f"{first.by}{PAIR}{second.by}", names, codes, is_crossed=True)


def _columns(cohort: Cohort) -> Iterator[Grouping]:
    for column in cohort.demographics:
        if isinstance(column, CategoricalColumn):
            yield Grouping(column.name, column.levels, column.codes)
        elif column.name == "age":
            yield _age_bands(column)


def _age_bands(column: NumericColumn) -> Grouping:
    ends = np.array([end for _, end in AGE_BANDS])
    band = np.where(np.isnan(column.values), -1, np.searchsorted(ends, column.values, side="right"))
    used, codes = _in_use(band)
    return Grouping(column.name, tuple(AGE_BANDS[place][0] for place in used), codes)


def _in_use(codes: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """Return the codes that any sample has, and the place of each sample's code among them; -1 stays."""
    used = np.unique(codes[codes >= 0])
    return used.tolist(), np.where(codes < 0, -1, np.searchsorted(used, codes))


def periods_of(
    index_us: NDArray[np.int64], unit_of: NDArray[np.int32], unit: str | None, min_cell: int
) -> Periods | None:
    """Return the periods of index dates with enough patients; None without index dates, or within one period.

    Parameters
    ----------
    index_us : int64, shape (n_samples,)
    unit_of : int32, shape (n_samples,)
        Patient of each sample.
    unit : str or None
        ``night``, ``month``, ``quarter`` or ``year``. None: the shortest unit, other than nights, that gives at most 24 periods.
    min_cell : int
        Samples of a period with fewer patients are in none.
    """
    if not index_us.size or int(index_us[0]) == NO_BOUND:
        return None
    if unit is None:
        lengths = (name for name in MONTHS_OF if np.unique(_numbered(index_us, name)).size <= MOST_PERIODS)
        unit = next(lengths, "year")
    distinct, codes = np.unique(_numbered(index_us, unit), return_inverse=True)
    large = np.array([n_distinct(unit_of[codes == code]) >= min_cell for code in range(distinct.size)])
    if not large.any():
        return None
    shown, codes = distinct[large], np.where(large[codes], np.cumsum(large)[codes] - 1, -1)
    names = tuple(_period_name(unit, period) for period in shown.tolist())
    a_year = DAYS_A_YEAR if unit == "night" else 12.0 / MONTHS_OF[unit]
    return Periods(unit, names, codes, (shown - shown[0]) / a_year)


def _numbered(index_us: NDArray[np.int64], unit: str) -> NDArray[np.int64]:
    """Return the number of each sample's period since 1970."""
    dates = index_us.astype("datetime64[us]")
    if unit == "night":
        return dates.astype("datetime64[D]").astype(np.int64)
    return dates.astype("datetime64[M]").astype(np.int64) // MONTHS_OF[unit]


def _period_name(unit: str, number: int) -> str:
    """Return the name of a period by its number since 1970.

    Examples
    --------
    >>> _period_name("month", 603), _period_name("quarter", 201), _period_name("year", 50), _period_name("night", 18262)
    ('2020-04', '2020 Q2', '2020', '2020-01-01')
    """
    if unit == "quarter":
        return f"{1970 + number // 4} Q{number % 4 + 1}"
    units = {"night": "datetime64[D]", "month": "datetime64[M]", "year": "datetime64[Y]"}
    return str(np.int64(number).astype(units[unit]))
