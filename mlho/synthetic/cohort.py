"""A synthetic cohort on disk: batches of patients, drawn one at a time, written as partitions of three tables."""

import datetime as dt
import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlho.errors import SpecError
from mlho.synthetic.people import People, draw_people, sigmoid
from mlho.synthetic.records import Outcomes, Records, draw_records
from mlho.synthetic.settings import SETTINGS, WorldSettings
from mlho.synthetic.truth import (
    TRUTH_FILE,
    CausalCode,
    CodeCluster,
    Group,
    Interaction,
    OrderedPair,
    OutcomeCode,
    Truth,
)
from mlho.synthetic.world import MIN_CODES, Floats, Integers, World, make_world

TABLES: Final = ("events", "labels", "demographics")
_CODES_FILE: Final = "codes.parquet"
_MAKING: Final = ".making"  # holds a cohort until it is complete; sources skip names that begin with a dot

# Each batch has its own random stream, so that partitions can be written in any order. The batch size limits memory (about
# 100 bytes per event). It must not depend on the partitions, because the values would then depend on them, too.
_MAX_PATIENTS_A_BATCH: Final = 2_000
_MIN_BATCHES: Final = 64
_ROWS_A_ROW_GROUP: Final = 500_000
_PATIENTS_STREAM: Final = 1
_PILOT_STREAM: Final = 0xB0
_N_PILOT: Final = (
    20_000  # patients used to compute the intercept and the number of visits; they are not written
)
_UNKNOWN_RACE: Final = 0.03
_MEAN_DAYS_TO_OUTCOME: Final = 180


@dataclass(frozen=True)
class Request:
    """The requested cohort; see :func:`mlho.synthetic.make_cohort`.

    Raise SpecError if an argument is out of range.
    """

    n_patients: int
    n_codes: int
    n_partitions: int
    seed: int
    rows_per_patient: int
    prevalence: float

    def __post_init__(self) -> None:
        for name in ("n_patients", "n_codes", "n_partitions", "seed"):
            _check_whole(name, getattr(self, name))
        for name in ("rows_per_patient", "prevalence"):
            value = getattr(self, name)
            _check(name, isinstance(value, int | float), "a number", repr(value))
        _check("n_patients", self.n_patients >= 1, "1 or more", self.n_patients)
        _check("n_codes", self.n_codes >= MIN_CODES, f"{MIN_CODES} or more", self.n_codes)
        fitting = 1 <= self.n_partitions <= self.n_batches
        _check(
            "n_partitions", fitting, f"1 to {self.n_batches} for this number of patients", self.n_partitions
        )
        _check("seed", self.seed >= 0, "0 or more", self.seed)
        _check("rows_per_patient", self.rows_per_patient >= 4, "4 or more", self.rows_per_patient)
        _check("prevalence", 0 < self.prevalence < 1, "between 0 and 1", self.prevalence)

    @cached_property
    def batch_size(self) -> int:
        """Number of patients in a batch."""
        return max(1, min(_MAX_PATIENTS_A_BATCH, self.n_patients // _MIN_BATCHES))

    @cached_property
    def n_batches(self) -> int:
        """Number of batches; each is in one partition."""
        return -(-self.n_patients // self.batch_size)


@dataclass(frozen=True)
class _Plan:
    """Common input of all batches: the request, the world, and the values computed from the pilot patients."""

    request: Request
    world: World
    intercept: float
    visits_scale: float

    @cached_property
    def names(self) -> pa.Array:
        """The names of the vocabulary as an Arrow array; created once in each process."""
        return pa.array(self.world.vocabulary.names, pa.string())


def write_cohort(
    folder: Path, request: Request, *, n_workers: int = 1, settings: WorldSettings = SETTINGS
) -> Truth:
    """Write a cohort; see :func:`mlho.synthetic.make_cohort`. The tables in the folder are replaced only when it is complete."""
    _check_whole("n_workers", n_workers)
    _check("n_workers", n_workers >= 1, "1 or more", n_workers)
    _refuse_foreign_tables(folder)
    making = folder / _MAKING
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    plan = _make_plan(request, settings)
    counts = _write_partitions(plan, making, n_workers)
    truth = _truth(
        plan, n_rows=sum(rows for rows, _ in counts), n_positive=sum(n_positive for _, n_positive in counts)
    )
    _write_codes(plan.world, truth, making / _CODES_FILE)
    (making / TRUTH_FILE).write_text(json.dumps(truth.to_json(), indent=1), encoding="utf-8")
    _put_in_place(making, folder)
    return truth


def _check(name: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise SpecError(f"{name}: expected {expected}; got {got}. Change it.")


def _check_whole(name: str, got: object) -> None:
    # Numbers of numpy and booleans are refused too: truth.json would not have the arguments that were given.
    _check(name, type(got) is int, "a whole number (int)", repr(got))


def _refuse_foreign_tables(folder: Path) -> None:
    """Refuse to replace tables in a folder without ``truth.json`` or an interrupted cohort: another program wrote them."""
    found = [table for table in TABLES if (folder / table).exists()]
    if found and not (folder / TRUTH_FILE).exists() and not (folder / _MAKING).exists():
        raise SpecError(
            f"{folder}: has {', '.join(found)} and no {TRUTH_FILE}, so these tables were not made here. "
            "Use another folder, or remove them."
        )


def _put_in_place(making: Path, folder: Path) -> None:
    """Move the new cohort into the folder. ``truth.json`` is removed first and moved last: it marks a complete cohort."""
    (folder / TRUTH_FILE).unlink(missing_ok=True)
    for name in TABLES:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (*TABLES, _CODES_FILE, TRUTH_FILE):
        (making / name).replace(folder / name)
    making.rmdir()


def _make_plan(request: Request, settings: WorldSettings) -> _Plan:
    world = make_world(request.seed, request.n_codes, settings)
    pilot = draw_people(world, np.random.default_rng([request.seed, _PILOT_STREAM]), _N_PILOT)
    kept = 1 - sum(race.share * race.rows_lost for race in settings.races)
    visits = request.rows_per_patient / settings.rows_per_visit / kept / (1 + settings.errors.duplicate)
    return _Plan(
        request=request,
        world=world,
        intercept=_solve_intercept(pilot.log_odds, request.prevalence),
        visits_scale=float(visits / pilot.activity.mean()),
    )


def _solve_intercept(log_odds: Floats, prevalence: float) -> float:
    """Return the intercept at which the mean risk is ``prevalence``, by bisection."""
    low, high = -25.0, 25.0
    for _ in range(60):
        middle = (low + high) / 2
        if sigmoid(log_odds + middle).mean() < prevalence:
            low = middle
        else:
            high = middle
    return low


def _write_partitions(plan: _Plan, folder: Path, n_workers: int) -> list[tuple[int, int]]:
    """Write all partitions; return (rows, patients with the outcome) of each."""
    partitions = range(plan.request.n_partitions)
    if n_workers == 1 or len(partitions) == 1:
        return [_write_partition(plan, folder, partition) for partition in partitions]
    # Spawned, because a fork would copy the threads and locks of the caller.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(n_workers, len(partitions)), mp_context=context) as pool:
        return list(pool.map(_write_partition, repeat(plan), repeat(folder), partitions))


def _write_partition(plan: _Plan, folder: Path, partition: int) -> tuple[int, int]:
    request = plan.request
    writers = {table: _TableWriter(folder / table / f"part-{partition:04d}.parquet") for table in TABLES}
    n_rows = n_positive = 0
    for batch in range(partition, request.n_batches, request.n_partitions):
        tables = _draw_batch(plan, batch)
        for table, writer in writers.items():
            writer.add(tables[table])
        n_rows += tables["events"].num_rows
        n_positive += int(tables["labels"]["outcome"].to_numpy().sum())
    for writer in writers.values():
        writer.close()
    return n_rows, n_positive


class _TableWriter:
    """A Parquet file that is written batch by batch, in row groups of about ``_ROWS_A_ROW_GROUP`` rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Add a batch's rows."""
        self._waiting.append(table)
        if sum(batch.num_rows for batch in self._waiting) >= _ROWS_A_ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the buffered rows, and finish the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        self._waiting = []
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            dense = [name for name in table.schema.names if name not in ("value", "true_risk")]
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="zstd", compression_level=1, use_dictionary=dense
            )
        self._writer.write_table(table, row_group_size=2 * _ROWS_A_ROW_GROUP)


def _draw_batch(plan: _Plan, batch: int) -> dict[str, pa.Table]:
    """Return the tables of one batch of patients."""
    request = plan.request
    random = np.random.default_rng([request.seed, _PATIENTS_STREAM, batch])
    first = batch * request.batch_size
    ids = np.arange(first, min(first + request.batch_size, request.n_patients)) + 1
    people = draw_people(plan.world, random, len(ids))
    risk = sigmoid(people.log_odds + plan.intercept)
    delay = 1 + random.exponential(_MEAN_DAYS_TO_OUTCOME, len(ids)).astype(np.int64)
    outcomes = Outcomes(random.random(len(ids)) < risk, np.minimum(people.index + delay, people.end))
    records = draw_records(plan.world, random, people, outcomes, plan.visits_scale)
    has_race = random.random(len(ids)) >= _UNKNOWN_RACE
    return {
        "events": _events_table(plan, ids, records),
        "labels": _labels_table(plan.world, ids, people, outcomes, risk),
        "demographics": _demographics_table(plan.world, ids, people, has_race),
    }


def _events_table(plan: _Plan, ids: Integers, records: Records) -> pa.Table:
    return pa.table(
        {
            "patient_num": ids[records.patient],
            "start_date": _times(plan.world, records.day, records.has_day),
            "phenx": plan.names.take(pa.array(records.name, mask=~records.has_code)),
            "value": pa.array(records.value, mask=~records.has_value),
        }
    )


def _labels_table(world: World, ids: Integers, people: People, outcomes: Outcomes, risk: Floats) -> pa.Table:
    return pa.table(
        {
            "patient_num": ids,
            "index_date": _dates(world, people.index),
            "outcome": outcomes.happened.astype(np.int8),
            "outcome_date": _dates(world, outcomes.day, outcomes.happened),
            "true_risk": risk.astype(np.float32),
        }
    )


def _demographics_table(world: World, ids: Integers, people: People, has_race: Any) -> pa.Table:
    races = np.array([race.name for race in world.settings.races], dtype=object)
    return pa.table(
        {
            "patient_num": ids,
            "sex": pa.array(np.where(people.is_male, "M", "F"), pa.string()),
            "race": pa.array(races[people.race], pa.string(), mask=~has_race),
            "site": people.site.astype(np.int16),
            "birth_date": _dates(world, people.birth),
            "enrol_start": _dates(world, people.start),
            "enrol_end": _dates(world, people.end),
        }
    )


def _times(world: World, day: Integers, is_known: Any) -> pa.Array:
    days = day + _epoch_days(world.settings.first_day)
    return pa.array(days * 86_400_000, pa.timestamp("ms"), mask=~is_known)


def _dates(world: World, day: Integers, is_known: Any = None) -> pa.Array:
    days = (day + _epoch_days(world.settings.first_day)).astype(np.int32)
    return pa.array(days, pa.int32(), mask=None if is_known is None else ~is_known).cast(pa.date32())


def _epoch_days(date: dt.date) -> int:
    return (date - dt.date(1970, 1, 1)).days


def _write_codes(world: World, truth: Truth, path: Path) -> None:
    """Write ``codes.parquet``: the two names of each code, its role, its trend, and whether it has values."""
    vocabulary, n = world.vocabulary, world.vocabulary.n_codes
    table = {
        "phenx": pa.array(vocabulary.names[:n], pa.string()),
        "phenx_from_2015_10": pa.array(vocabulary.names[n : 2 * n], pa.string()),
        "role": pa.array([truth.role_of(name) for name in vocabulary.names[:n]], pa.string()),
        "trend": vocabulary.trend,
        "is_lab": vocabulary.is_lab,
    }
    pq.write_table(pa.table(table), path, compression="zstd")


def _truth(plan: _Plan, *, n_rows: int, n_positive: int) -> Truth:
    world, settings = plan.world, plan.world.settings
    names = world.vocabulary.names.tolist()
    planted, trend = world.planted, world.vocabulary.trend
    return Truth(
        arguments=asdict(plan.request),
        n_rows=n_rows,
        n_positive=n_positive,
        causal=tuple(_causal(world, number) for number in range(settings.n_causal)),
        interaction=Interaction(
            tuple(names[planted.causal[number]] for number in settings.interacting),
            settings.interaction_odds_ratio,
        ),
        sequences=tuple(
            OrderedPair(names[first], names[then], odds_ratio)
            for (first, then), odds_ratio in zip(
                planted.sequences, settings.sequence_odds_ratios, strict=True
            )
        ),
        clusters=tuple(
            CodeCluster(settings.harmful_log_odds if harmful else 0.0, tuple(names[code] for code in codes))
            for harmful, codes in zip(world.conditions.is_harmful, world.conditions.clusters, strict=True)
        ),
        leak=names[planted.leak],
        outcome_code=OutcomeCode(
            names[planted.outcome], settings.outcome_sensitivity, settings.outcome_false_positive
        ),
        groups=tuple(Group(race.name, race.rows_lost, race.log_odds) for race in settings.races),
        recoded=_names_where(world, world.vocabulary.is_recoded),
        growing=_names_where(world, trend == 1),
        fading=_names_where(world, trend == -1),
        shift={
            "recode": settings.recode_day.isoformat(),
            "new_drug": names[world.vocabulary.new_drug],
            "new_drug_from": settings.new_drug_day.isoformat(),
            "effects_vanish": settings.vanish_day.isoformat(),
            "base_log_odds_per_year": settings.log_odds_per_calendar_year,
        },
        errors=asdict(settings.errors),
        intercept=plan.intercept,
    )


def _causal(world: World, number: int) -> CausalCode:
    settings, names = world.settings, world.vocabulary.names
    proxies = world.planted.proxies[number] if number < settings.n_with_proxies else ()
    return CausalCode(
        code=names[world.planted.causal[number]],
        odds_ratio=settings.causal_odds_ratios[number],
        base_prevalence=round(float(world.causal_prevalence[number]), 4),
        vanishes_from=settings.vanish_day.isoformat() if number in settings.vanishing else None,
        proxies=tuple(names[code] for code in proxies),
    )


def _names_where(world: World, holds: Any) -> tuple[str, ...]:
    return tuple(world.vocabulary.names[np.flatnonzero(holds)].tolist())
