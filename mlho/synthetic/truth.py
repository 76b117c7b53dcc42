"""The planted effects of a synthetic cohort: ``truth.json`` in memory. Needs neither numpy nor pyarrow."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Self

from mlho.errors import DataError

TRUTH_FILE: Final = "truth.json"

Role = Literal["causal", "sequence", "proxy", "leak", "outcome", "cluster", "recoded", "noise"]


@dataclass(frozen=True)
class CausalCode:
    """A code whose presence before the index date changes the odds of the outcome."""

    code: str
    odds_ratio: float
    """Of having it before the index date, all else equal."""
    base_prevalence: float
    """Probability of having it without the condition that makes it more frequent."""
    vanishes_from: str | None
    """ISO date; patients with a later index date feel no effect."""
    proxies: tuple[str, ...]
    """Codes that follow it without an effect of their own."""

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read the output of :meth:`Truth.to_json`."""
        return cls(**{**plain, "proxies": tuple(plain["proxies"])})


@dataclass(frozen=True)
class Interaction:
    """Two causal codes that do more together than apart."""

    codes: tuple[str, ...]
    odds_ratio: float


@dataclass(frozen=True)
class OrderedPair:
    """Two codes that matter only when the first record of one comes before that of the other."""

    first: str
    then: str
    odds_ratio: float


@dataclass(frozen=True)
class CodeCluster:
    """Codes of one latent condition; ``log_odds`` is the condition's effect on the outcome, 0 if harmless."""

    log_odds: float
    codes: tuple[str, ...]


@dataclass(frozen=True)
class OutcomeCode:
    """The code that records the outcome, imperfectly and only after it happened."""

    code: str
    sensitivity: float
    false_positive: float


@dataclass(frozen=True)
class Group:
    """A group whose records are incomplete, or whose risk differs at equal records."""

    race: str
    rows_lost: float
    log_odds: float


@dataclass(frozen=True)
class Truth:
    """All that was planted, and how much was written."""

    arguments: Mapping[str, Any]
    """The arguments of :func:`mlho.synthetic.make_cohort`."""
    n_rows: int
    n_positive: int
    """Events written; patients with the outcome."""
    causal: tuple[CausalCode, ...]
    """Strongest harmful effect first, protective effects last."""
    interaction: Interaction
    sequences: tuple[OrderedPair, ...]
    clusters: tuple[CodeCluster, ...]
    """Every code of each; a code may be in several."""
    leak: str
    """Recorded only after the outcome; its presence in a model is leakage."""
    outcome_code: OutcomeCode
    groups: tuple[Group, ...]
    recoded: tuple[str, ...]
    """Names before ``shift["recode"]`` of codes that get another one from then on (``DX:`` → ``DX10:``)."""
    growing: tuple[str, ...]
    fading: tuple[str, ...]
    """Codes whose frequency has a trend over the calendar, and no effect."""
    shift: Mapping[str, Any]
    """What changes over the calendar: dates, the new drug, the drift of the base rate."""
    errors: Mapping[str, float]
    """Share of rows with each recording error."""
    intercept: float
    """Log-odds of the outcome with nothing on top."""

    def role_of(self, code: str) -> Role:
        """Role of a code as written in the events.

        ``recoded``: a name that depends on the calendar or on a slip of the pen, without a planted role: either name of
        a recoded code, or a lower-case spelling. ``cluster``: in any cluster, harmful or not. ``noise``: the rest, codes
        with a trend included.
        """
        return self._roles.get(code, "noise" if code == code.upper() else "recoded")

    @cached_property
    def _roles(self) -> Mapping[str, Role]:
        roles: dict[str, Role] = {}
        for code in self.recoded:
            roles[code] = roles[renamed(code)] = "recoded"
        for cluster in self.clusters:
            for code in cluster.codes:
                roles[code] = roles[renamed(code)] = "cluster"
        for pair in self.sequences:
            roles[pair.first] = roles[pair.then] = "sequence"
        for causal in self.causal:
            roles[causal.code] = "causal"
            roles.update(dict.fromkeys(causal.proxies, "proxy"))
        roles[self.leak] = "leak"
        roles[self.outcome_code.code] = "outcome"
        return roles

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read the output of :meth:`to_json`."""
        return cls(
            **{
                **plain,
                "causal": tuple(CausalCode.from_json(code) for code in plain["causal"]),
                "interaction": Interaction(
                    tuple(plain["interaction"]["codes"]), plain["interaction"]["odds_ratio"]
                ),
                "sequences": tuple(OrderedPair(**pair) for pair in plain["sequences"]),
                "clusters": tuple(
                    CodeCluster(cluster["log_odds"], tuple(cluster["codes"])) for cluster in plain["clusters"]
                ),
                "outcome_code": OutcomeCode(**plain["outcome_code"]),
                "groups": tuple(Group(**group) for group in plain["groups"]),
                **{name: tuple(plain[name]) for name in ("recoded", "growing", "fading")},
            }
        )


# One diagnosis vocabulary of four sevenths, and laboratory, drugs and procedures of one seventh each.
CODE_KINDS: Final = ("DX", "DX", "DX", "LAB", "RX", "PX", "DX")


def code_name(kind: str, number: int) -> str:
    """Return the first name of a code."""
    return f"{kind}:{number:06d}"


def renamed(code: str) -> str:
    """Name of a recoded diagnosis from the day of the recode on."""
    return code.replace("DX:", "DX10:", 1)


def read_truth(folder: Path) -> Truth:
    """Read ``truth.json`` of a cohort.

    Raises
    ------
    DataError
        The file is missing, or :func:`mlho.synthetic.make_cohort` did not write it.
    """
    path = folder / TRUTH_FILE
    try:
        return Truth.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            str(path),
            "cannot be read as the truth of a synthetic cohort",
            expected="the file that mlho.synthetic writes last",
            got=type(error).__name__,
            remedy="Make the cohort again: python -m mlho.synthetic --out FOLDER.",
        ) from error


def is_complete(folder: Path, arguments: Mapping[str, Any]) -> bool:
    """Return whether a folder holds the whole cohort that these arguments give; some of the arguments will do."""
    if not (folder / TRUTH_FILE).is_file():
        return False
    have = read_truth(folder).arguments
    return all(have.get(name) == value for name, value in arguments.items())
