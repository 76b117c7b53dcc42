"""The events of a batch of patients: visits, background codes, planted codes, and the errors of recording."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.synthetic.people import People
from mlho.synthetic.world import Booleans, Integers, World

Codes = NDArray[np.int32]

_MAX_VISITS: Final = 1_500
_FOLLOW_UP_SHARE: Final = 0.35  # share of visits that are within three weeks of the previous one
_CHRONIC_SHARE: Final = 0.35  # share of the rows that repeat an earlier code of the patient
_LATE_CAUSAL_SHARE: Final = (
    0.03  # share of patients who get a causal code only after the index date, without an effect
)


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of a batch of patients."""

    happened: Booleans
    """Shape (n,)."""
    day: Integers
    """Day after the index date, in days since the first day of the calendar; unused without the outcome. Shape (n,)."""


@dataclass(frozen=True)
class Records:
    """Events of a batch, sorted by patient and by the day before errors are added."""

    patient: Integers
    """Position in the batch. Shape (n_rows,)."""
    day: Integers
    """Days since the first day of the calendar. Shape (n_rows,)."""
    name: Integers
    """Position among the vocabulary's names. Shape (n_rows,)."""
    has_day: Booleans
    has_code: Booleans
    has_value: Booleans
    """Whether day, code and value are recorded. Shape (n_rows,)."""
    value: NDArray[np.float32]
    """Unused without a value. Shape (n_rows,)."""


@dataclass
class _Rows:
    """Rows collected in parts."""

    patient: list[Integers] = field(default_factory=list)
    day: list[Integers] = field(default_factory=list)
    code: list[Codes] = field(default_factory=list)

    def add(self, patient: Integers, day: Integers, code: int | Codes) -> None:
        """Add rows. A single code applies to all of them."""
        self.patient.append(patient)
        self.day.append(day)
        self.code.append(np.broadcast_to(np.asarray(code, np.int32), patient.shape))

    def joined(self) -> tuple[Integers, Integers, Codes]:
        """Return the patient, day and code of all rows."""
        return np.concatenate(self.patient), np.concatenate(self.day), np.concatenate(self.code)


def draw_records(
    world: World, random: np.random.Generator, people: People, outcomes: Outcomes, visits_scale: float
) -> Records:
    """Draw all events of a batch.

    Parameters
    ----------
    visits_scale : float
        Mean number of visits of a patient whose activity is 1.
    """
    rows = _Rows()
    rows.add(*_draw_background(world, random, people, visits_scale))
    _add_causal(world, random, people, rows)
    _add_sequences(world, random, people, rows)
    _add_outcome(world, random, people, outcomes, rows)
    patient, day, code = _with_duplicates(world, random, *rows.joined())
    order = np.argsort(patient << 32 | (day + 100_000), kind="stable")  # by patient, then day
    return _record(world, random, people, patient[order], day[order], code[order])


def _draw_background(
    world: World, random: np.random.Generator, people: People, visits_scale: float
) -> tuple[Integers, Integers, Codes]:
    """Draw the rows without a planted role: visits, and the codes of each visit. Leave out the rows that a group loses."""
    visitor, visit_day = _draw_visits(random, people, visits_scale)
    n_rows = 1 + random.poisson(world.settings.rows_per_visit - 1, len(visitor))
    patient, day = np.repeat(visitor, n_rows), np.repeat(visit_day, n_rows)
    code = _draw_codes(world, random, len(patient))
    _put_cluster_codes(world, random, people, patient, code)
    _repeat_chronic_codes(random, len(people), patient, code)
    _follow_trends(world, random, day, code)
    lost = np.array([race.rows_lost for race in world.settings.races])[people.race]
    kept = random.random(len(patient)) >= lost[patient]
    return patient[kept], day[kept], code[kept]


def _draw_visits(
    random: np.random.Generator, people: People, visits_scale: float
) -> tuple[Integers, Integers]:
    mean = np.maximum(people.activity * visits_scale - 1, 0.2)
    n_visits = np.minimum(1 + random.poisson(mean), _MAX_VISITS)
    patient = np.repeat(np.arange(len(people)), n_visits)
    span = (people.end - people.start)[patient]
    day = people.start[patient] + (random.random(len(patient)) * span).astype(np.int64)
    same_patient = np.concatenate([[False], patient[1:] == patient[:-1]])
    follow_up = np.flatnonzero((random.random(len(patient)) < _FOLLOW_UP_SHARE) & same_patient)
    soon = day[follow_up - 1] + random.integers(1, 22, len(follow_up))
    day[follow_up] = np.minimum(soon, people.end[patient[follow_up]])
    return patient, day


def _draw_codes(world: World, random: np.random.Generator, n: int) -> Codes:
    drawn = np.searchsorted(world.vocabulary.cumulative, random.random(n))
    # Because of rounding, the last cumulative sum may be below 1.
    return np.minimum(drawn, world.vocabulary.n_codes - 1).astype(np.int32)


def _put_cluster_codes(
    world: World, random: np.random.Generator, people: People, patient: Integers, code: Codes
) -> None:
    """Replace some rows with codes of the patient's conditions; more rows are replaced with more conditions."""
    n_conditions = people.conditions.sum(axis=1)
    share = np.where(n_conditions > 0, np.minimum(0.15 + 0.1 * n_conditions, 0.6), 0.0)
    rows = np.flatnonzero(random.random(len(patient)) < share[patient])
    of_patient = np.nonzero(people.conditions)[1]
    first = np.concatenate([[0], np.cumsum(n_conditions)])[patient[rows]]
    which = (random.random(len(rows)) * n_conditions[patient[rows]]).astype(np.int64)
    rank = np.searchsorted(world.conditions.cumulative, random.random(len(rows)))
    rank = np.minimum(rank, world.conditions.clusters.shape[1] - 1)
    code[rows] = world.conditions.clusters[of_patient[first + which], rank]


def _repeat_chronic_codes(
    random: np.random.Generator, n_patients: int, patient: Integers, code: Codes
) -> None:
    """Replace the code of some rows with an earlier code of the same patient."""
    n_rows = np.bincount(patient, minlength=n_patients)
    first = (np.cumsum(n_rows) - n_rows)[patient]
    position = np.arange(len(patient)) - first
    rows = np.flatnonzero((random.random(len(patient)) < _CHRONIC_SHARE) & (position > 0))
    earlier = (random.random(len(rows)) * position[rows]).astype(np.int64)
    code[rows] = code[first[rows] + earlier]


def _follow_trends(world: World, random: np.random.Generator, day: Integers, code: Codes) -> None:
    """Redraw some early rows of growing codes, some late rows of fading codes, and rows of the new drug before its date."""
    settings, vocabulary = world.settings, world.vocabulary
    trend, chance, when = vocabulary.trend[code], random.random(len(code)), day / settings.n_days
    too_new = (code == vocabulary.new_drug) & (day < settings.day_of(settings.new_drug_day))
    rows = np.flatnonzero(((trend == 1) & (chance > when)) | ((trend == -1) & (chance < when)) | too_new)
    code[rows] = _draw_codes(world, random, len(rows))


def _add(
    random: np.random.Generator,
    rows: _Rows,
    people: People,
    patient: Integers,
    first_day: Integers,
    code: int,
    *,
    mean_repeats: float,
) -> None:
    """Add the first record of a code on a day, and repeats from that day to the end of observation."""
    rows.add(patient, first_day, code)
    if not mean_repeats:
        return
    again = np.repeat(np.arange(len(patient)), random.poisson(mean_repeats, len(patient)))
    who, start = patient[again], first_day[again]
    span = np.maximum(people.end[who] - start, 1)
    rows.add(who, start + (random.random(len(who)) * span).astype(np.int64), code)


def _add_causal(world: World, random: np.random.Generator, people: People, rows: _Rows) -> None:
    """Add causal codes, their proxies, and causal codes after the index date, which have no effect."""
    for number, code in enumerate(world.planted.causal.tolist()):
        has = people.has_causal[:, number]
        patient = np.flatnonzero(has)
        _add(random, rows, people, patient, people.causal_day[patient, number], code, mean_repeats=1.2)
        late = np.flatnonzero(~has & (random.random(len(people)) < _LATE_CAUSAL_SHARE))
        span = (people.end - people.index)[late] * 0.9
        day = people.index[late] + 1 + (random.random(len(late)) * span).astype(np.int64)
        _add(random, rows, people, late, day, code, mean_repeats=0)
    for number, follower in np.ndindex(world.planted.proxies.shape):
        patient = np.flatnonzero(people.has_proxy[:, number, follower])
        soon = people.causal_day[patient, number] + random.integers(0, 60, len(patient))
        day = np.minimum(soon, people.index[patient] - 1)
        _add(
            random, rows, people, patient, day, int(world.planted.proxies[number, follower]), mean_repeats=0.5
        )


def _add_sequences(world: World, random: np.random.Generator, people: People, rows: _Rows) -> None:
    for number, half in np.ndindex(world.planted.sequences.shape):
        patient = np.flatnonzero(people.has_sequence[:, number, half])
        day = people.sequence_day[patient, number, half]
        _add(random, rows, people, patient, day, int(world.planted.sequences[number, half]), mean_repeats=0.8)


def _add_outcome(
    world: World, random: np.random.Generator, people: People, outcomes: Outcomes, rows: _Rows
) -> None:
    """Add the outcome code, correctly and falsely recorded, and the leak code after the outcome."""
    settings, n = world.settings, len(people)
    true = np.flatnonzero(outcomes.happened & (random.random(n) < settings.outcome_sensitivity))
    _add(random, rows, people, true, outcomes.day[true], world.planted.outcome, mean_repeats=1.0)
    false = np.flatnonzero(~outcomes.happened & (random.random(n) < settings.outcome_false_positive))
    _add(random, rows, people, false, people.index[false] + 30, world.planted.outcome, mean_repeats=0)
    leaked = np.flatnonzero(outcomes.happened & (random.random(n) < settings.leak_sensitivity))
    soon = np.minimum(outcomes.day[leaked] + random.integers(0, 30, len(leaked)), people.end[leaked])
    _add(random, rows, people, leaked, soon, world.planted.leak, mean_repeats=0)


def _with_duplicates(
    world: World, random: np.random.Generator, patient: Integers, day: Integers, code: Codes
) -> tuple[Integers, Integers, Codes]:
    n = len(patient)
    again = random.integers(0, n, int(n * world.settings.errors.duplicate))
    rows = np.concatenate([np.arange(n), again])
    return patient[rows], day[rows], code[rows]


def _record(
    world: World,
    random: np.random.Generator,
    people: People,
    patient: Integers,
    day: Integers,
    code: Codes,
) -> Records:
    """Record rows: add values, the names in use on the day, and errors, at most one in the day or code of each row."""
    settings, vocabulary, n = world.settings, world.vocabulary, len(patient)
    errors = settings.errors
    noise = np.float32(0.25) * random.standard_normal(n, np.float32)
    value = np.exp(vocabulary.log_value[code] + noise + np.float32(0.1) * people.conditions[patient, 0])
    value[random.random(n) < errors.unit_x1000] *= 1000
    name = code + vocabulary.n_codes * (day >= settings.day_of(settings.recode_day)).astype(np.int64)
    rates = (
        errors.missing_date,
        errors.future_date,
        errors.before_birth,
        errors.lower_case,
        errors.missing_code,
    )
    # Number of the error, from 0; len(rates) means no error.
    kind = np.searchsorted(np.cumsum(rates), random.random(n), side="right")
    future, unborn, lower = (np.flatnonzero(kind == number) for number in (1, 2, 3))
    day[future] = settings.n_days + random.integers(1, 1_800, len(future))
    day[unborn] = people.birth[patient[unborn]] - random.integers(1, 4_000, len(unborn))
    name[lower] = code[lower] + 2 * vocabulary.n_codes
    return Records(
        patient=patient,
        day=day,
        name=name,
        has_day=kind != 0,
        has_code=kind != 4,
        has_value=vocabulary.is_lab[code],
        value=value,
    )
