"""The world of a synthetic cohort: codes, conditions and prevalences, drawn once from the seed for all patients."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.synthetic.settings import WorldSettings
from mlho.synthetic.truth import CODE_KINDS, code_name, renamed

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

# Zipf-Mandelbrot: code frequencies of EHR data fall a little faster than one over the rank.
_ZIPF_EXPONENT: Final = 1.07
_ZIPF_SHIFT: Final = 2.7
# Planted codes have middle ranks: they are neither recorded for almost all patients nor too rare to be found.
_FIRST_PLANTED_RANK: Final = 50
_LAST_PLANTED_RANK: Final = 3_000
MIN_CODES: Final = 200  # fewer codes leave too few middle ranks for the planted roles
WORLD_STREAM: Final = 0xC0DE  # separates the random stream of the world from those of the patients


@dataclass(frozen=True)
class PlantedCodes:
    """Positions in the vocabulary of the codes with a role."""

    causal: Integers
    """Shape (n_causal,)."""
    sequences: Integers
    """First and second code of each ordered pair. Shape (n_sequences, 2)."""
    proxies: Integers
    """Shape (n_with_proxies, n_proxies)."""
    leak: int
    outcome: int

    def all(self) -> Integers:
        """Return all codes with a role."""
        groups = (self.causal, self.sequences.ravel(), self.proxies.ravel(), [self.leak, self.outcome])
        return np.concatenate(groups)


@dataclass(frozen=True)
class Vocabulary:
    """The codes."""

    names: NDArray[np.object_]
    """All first names, then all names after the recode, then the latter in lower case. Shape (3 * n_codes,)."""
    is_lab: Booleans
    """Whether records of the code have a value. Shape (n_codes,)."""
    is_recoded: Booleans
    """Shape (n_codes,)."""
    log_value: NDArray[np.float32]
    """Mean of the logarithm of its values. Shape (n_codes,)."""
    cumulative: Floats
    """Cumulative distribution of background events over the codes; planted codes have none. Shape (n_codes,)."""
    trend: NDArray[np.int8]
    """1 if the frequency rises over the calendar, -1 if it falls, otherwise 0. Shape (n_codes,)."""
    new_drug: int
    """Position of the code that does not exist before ``WorldSettings.new_drug_day``."""

    @property
    def n_codes(self) -> int:
        """Size of the vocabulary."""
        return len(self.is_lab)


@dataclass(frozen=True)
class Conditions:
    """Latent conditions: logit of having a condition = intercept + by_age · (age − 50)/20 + by_sex · male + 0.6 · frailty."""

    intercept: Floats
    by_age: Floats
    by_sex: Floats
    """Shape (n_conditions,)."""
    is_harmful: Booleans
    """Shape (n_conditions,)."""
    clusters: Integers
    """Codes of each condition, the most frequent first. Shape (n_conditions, n_codes_of_cluster)."""
    cumulative: Floats
    """Cumulative distribution of a condition's rows over its codes. Shape (n_codes_of_cluster,)."""


@dataclass(frozen=True)
class World:
    """Settings, codes, conditions and prevalences of a cohort: everything that is the same for every patient."""

    settings: WorldSettings
    planted: PlantedCodes
    vocabulary: Vocabulary
    conditions: Conditions
    causal_prevalence: Floats
    """``CausalCode.base_prevalence`` of each causal code, from 0.03 to 0.15. Shape (n_causal,)."""
    causal_condition: Integers
    """The condition that makes a causal code more frequent: the confounder. Shape (n_causal,)."""
    sequence_prevalence: Floats
    """Prevalence of each code of an ordered pair, from 0.15 to 0.25. Shape (n_sequences, 2)."""


def make_world(seed: int, n_codes: int, settings: WorldSettings) -> World:
    """Draw the world. At least ``MIN_CODES`` codes."""
    random = np.random.default_rng([seed, WORLD_STREAM])
    kinds = np.array(CODE_KINDS)[np.arange(n_codes) % len(CODE_KINDS)]
    planted = _plant_codes(random, kinds != "LAB", settings)
    free = np.setdiff1d(np.arange(n_codes), planted.all())
    return World(
        settings=settings,
        planted=planted,
        vocabulary=_make_vocabulary(random, kinds, free, settings),
        conditions=_make_conditions(random, n_codes, free, settings),
        causal_prevalence=random.uniform(0.03, 0.15, settings.n_causal),
        causal_condition=random.integers(0, settings.n_conditions, settings.n_causal),
        sequence_prevalence=random.uniform(0.15, 0.25, (settings.n_sequences, 2)),
    )


def _plant_codes(
    random: np.random.Generator, may_be_planted: Booleans, settings: WorldSettings
) -> PlantedCodes:
    """Choose the codes with a role."""
    n_codes = len(may_be_planted)
    first = min(_FIRST_PLANTED_RANK, n_codes // 10)
    last = min(n_codes, max(MIN_CODES, min(_LAST_PLANTED_RANK, n_codes // 2)))
    middle = np.arange(first, last)
    shape = (settings.n_with_proxies, settings.n_proxies)
    sizes = (settings.n_causal, 2 * settings.n_sequences, shape[0] * shape[1], 2)
    chosen = random.choice(middle[may_be_planted[middle]], sum(sizes), replace=False)
    causal, sequences, proxies, others = np.split(chosen, np.cumsum(sizes)[:-1])
    return PlantedCodes(
        causal, sequences.reshape(-1, 2), proxies.reshape(shape), int(others[0]), int(others[1])
    )


def _make_vocabulary(
    random: np.random.Generator, kinds: NDArray[np.str_], free: Integers, settings: WorldSettings
) -> Vocabulary:
    n_codes = len(kinds)
    weight = np.zeros(n_codes)
    weight[free] = 1.0 / (free + _ZIPF_SHIFT) ** _ZIPF_EXPONENT
    shuffled, n_trend = random.permutation(free), int(n_codes * settings.trend_share)
    trend = np.zeros(n_codes, np.int8)
    trend[shuffled[:n_trend]] = 1
    trend[shuffled[n_trend : 2 * n_trend]] = -1
    is_recoded = (kinds == "DX") & (random.random(n_codes) < settings.recoded_share)
    is_recoded[np.setdiff1d(np.arange(n_codes), free)] = False  # a planted code keeps its name
    first = [code_name(kind, number) for number, kind in enumerate(kinds)]
    later = [
        renamed(name) if is_renamed else name for name, is_renamed in zip(first, is_recoded, strict=True)
    ]
    return Vocabulary(
        names=np.array([*first, *later, *(name.lower() for name in later)], dtype=object),
        is_lab=kinds == "LAB",
        is_recoded=is_recoded,
        log_value=random.normal(3, 1, n_codes).astype(np.float32),
        cumulative=np.cumsum(weight / weight.sum()),
        trend=trend,
        new_drug=int(shuffled[2 * n_trend]),
    )


def _make_conditions(
    random: np.random.Generator, n_codes: int, free: Integers, settings: WorldSettings
) -> Conditions:
    n, n_codes_of_cluster = settings.n_conditions, max(10, n_codes // 50)
    clusters = np.stack([random.choice(free, n_codes_of_cluster, replace=False) for _ in range(n)])
    weight = 1.0 / (np.arange(n_codes_of_cluster) + 1.5)
    is_harmful = np.zeros(n, np.bool_)
    is_harmful[random.choice(n, settings.n_harmful, replace=False)] = True
    return Conditions(
        intercept=random.uniform(-3.2, -1.4, n),
        by_age=random.uniform(0.0, 0.9, n),
        by_sex=random.uniform(-0.5, 0.5, n),
        is_harmful=is_harmful,
        clusters=clusters,
        cumulative=np.cumsum(weight / weight.sum()),
    )
