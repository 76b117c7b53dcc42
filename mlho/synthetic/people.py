"""The patients of a synthetic cohort: their demographics, conditions, and log-odds of the outcome."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from mlho.synthetic.world import Booleans, Floats, Integers, World

_N_SITES: Final = 10
_SHARE_OF_MEN: Final = 0.47
_MIN_DAYS_ENROLLED: Final = 400
_DAYS_A_YEAR: Final = 365.25


@dataclass(frozen=True)
class _Person:
    """Demographics and observation of a batch of patients. The other fields of :class:`People` depend on these."""

    is_male: Booleans
    """Shape (n,)."""
    race: Integers
    site: Integers
    """Positions of the group in ``WorldSettings.races`` and of the site, from 0. Shape (n,)."""
    birth: Integers
    start: Integers
    end: Integers
    index: Integers
    """Birth, first and last day of observation, and index date, at 50 to 80 % of the observation. Shape (n,)."""
    age: Floats
    """In years at the index date. Shape (n,)."""

    def __len__(self) -> int:
        return len(self.is_male)


@dataclass(frozen=True)
class People(_Person):
    """A batch of patients. Times are days since the first day of the world's calendar."""

    conditions: Booleans
    """Shape (n, n_conditions)."""
    activity: Floats
    """Relative number of rows; heavy-tailed, and larger with more conditions, which gives the confounding of real records. Shape (n,)."""
    has_causal: Booleans
    """Shape (n, n_causal)."""
    causal_day: Integers
    """Day of the first record of each causal code, before the index date; unused without the code. Shape (n, n_causal)."""
    has_proxy: Booleans
    """Shape (n, n_with_proxies, n_proxies)."""
    has_sequence: Booleans
    """Whether each code of each ordered pair is recorded. Shape (n, n_sequences, 2)."""
    sequence_day: Integers
    """Day of its first record, before the index date; unused without the code. Shape (n, n_sequences, 2)."""
    log_odds: Floats
    """Log-odds of the outcome, without the intercept. Shape (n,)."""


def sigmoid(x: Floats) -> Floats:
    """Return the probability at the log-odds ``x``."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def draw_people(world: World, random: np.random.Generator, n: int) -> People:
    """Draw a batch of ``n`` patients."""
    person = _draw_persons(world, random, n)
    frailty = random.normal(0.0, 1.0, n)
    conditions = _draw_conditions(world, random, person, frailty)
    activity = (
        np.exp(0.22 * conditions.sum(axis=1) + 0.25 * frailty)
        * np.where(person.race == 1, 0.8, 1.0)  # one group has less access to care
        * random.gamma(1.3, 1 / 1.3, n)
    )
    prevalence = world.causal_prevalence
    logit = np.log(prevalence / (1 - prevalence)) - 0.3 + 0.9 * conditions[:, world.causal_condition]
    has_causal = random.random(logit.shape) < sigmoid(logit)
    causal_day = _days_before_index(random, person, has_causal.shape)
    has_proxy = _draw_proxies(world, random, has_causal)
    has_sequence = random.random((n, *world.sequence_prevalence.shape)) < world.sequence_prevalence
    sequence_day = _days_before_index(random, person, has_sequence.shape)
    return People(
        **vars(person),
        conditions=conditions,
        activity=activity,
        has_causal=has_causal,
        causal_day=causal_day,
        has_proxy=has_proxy,
        has_sequence=has_sequence,
        sequence_day=sequence_day,
        log_odds=_log_odds(world, person, conditions, has_causal, has_sequence, sequence_day),
    )


def _draw_persons(world: World, random: np.random.Generator, n: int) -> _Person:
    n_days = world.settings.n_days
    sites = 1.0 / np.arange(1, _N_SITES + 1)
    is_male = random.random(n) < _SHARE_OF_MEN
    race = random.choice(len(world.settings.races), n, p=[race.share for race in world.settings.races])
    site = np.searchsorted(np.cumsum(sites) / sites.sum(), random.random(n))
    age_mid_calendar = np.clip(random.gamma(6.0, 9.0, n), 0, 99)
    start = (random.random(n) ** 1.5 * (n_days - 730)).astype(np.int64)
    enrolled = _MIN_DAYS_ENROLLED + random.exponential(2_500, n).astype(np.int64)
    end = np.minimum(n_days - 1, start + enrolled)
    # No patient is enrolled before birth.
    birth = np.minimum((n_days // 2 - age_mid_calendar * _DAYS_A_YEAR).astype(np.int64), start)
    index = start + ((0.5 + 0.3 * random.random(n)) * (end - start)).astype(np.int64)
    return _Person(is_male, race, site, birth, start, end, index, (index - birth) / _DAYS_A_YEAR)


def _draw_conditions(world: World, random: np.random.Generator, person: _Person, frailty: Floats) -> Booleans:
    conditions = world.conditions
    logit = (
        conditions.intercept
        + conditions.by_age * ((person.age - 50) / 20)[:, np.newaxis]
        + conditions.by_sex * person.is_male[:, np.newaxis]
        + 0.6 * frailty[:, np.newaxis]
    )
    return np.asarray(random.random(logit.shape) < sigmoid(logit))


def _draw_proxies(world: World, random: np.random.Generator, has_causal: Booleans) -> Booleans:
    settings = world.settings
    causes = has_causal[:, : settings.n_with_proxies, np.newaxis]
    chance = np.where(causes, settings.proxy_sensitivity, settings.proxy_background)
    shape = (len(has_causal), settings.n_with_proxies, settings.n_proxies)
    return np.asarray(random.random(shape) < chance)


def _days_before_index(random: np.random.Generator, person: _Person, shape: tuple[int, ...]) -> Integers:
    """Draw days uniformly from the start of observation to the day before the index date."""
    wide = (slice(None), *(np.newaxis for _ in shape[1:]))
    span = (person.index - person.start)[wide]
    return np.asarray(person.start[wide] + (random.random(shape) * span).astype(np.int64))


def _log_odds(
    world: World,
    person: _Person,
    conditions: Booleans,
    has_causal: Booleans,
    has_sequence: Booleans,
    sequence_day: Integers,
) -> Floats:
    """Return the log-odds of the outcome without the intercept: planted effects, confounders, group and calendar."""
    settings = world.settings
    effect = np.tile(np.log(settings.causal_odds_ratios), (len(has_causal), 1))
    is_late = person.index >= settings.day_of(settings.vanish_day)
    effect[np.ix_(is_late, settings.vanishing)] = 0.0
    in_order = has_sequence.all(axis=2) & (sequence_day[:, :, 0] < sequence_day[:, :, 1])
    first, second = settings.interacting
    log_odds = (
        (has_causal * effect).sum(axis=1)
        + (in_order * np.log(settings.sequence_odds_ratios)).sum(axis=1)
        + np.log(settings.interaction_odds_ratio) * (has_causal[:, first] & has_causal[:, second])
        + settings.harmful_log_odds * conditions[:, world.conditions.is_harmful].sum(axis=1)
        + settings.log_odds_per_year_of_age * (person.age - 50)
        + settings.log_odds_of_men * person.is_male
        + np.array([race.log_odds for race in settings.races])[person.race]
        + settings.log_odds_per_calendar_year * (person.index - settings.n_days / 2) / _DAYS_A_YEAR
    )
    return np.asarray(log_odds)
