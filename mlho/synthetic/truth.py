"""The planted effects of a synthetic cohort: ``truth.json`` in memory. Needs neither numpy nor pyarrow."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mlho.errors import DataError

TRUTH_FILE: Final = "truth.json"

Role = Literal["causal", "sequence", "proxy", "leak", "outcome", "cluster", "recoded", "noise"]


@dataclass(frozen=True)
class CausalCode:
    """A code whose presence before the index date changes the odds of the outcome."""

    code: str
    odds_ratio: float
    """Conditional odds ratio of the outcome for patients with the code before the index date."""
    base_prevalence: float
    """Approximate share of patients with the code. The log-odds are 0.3 lower without the condition that makes it more
    frequent, and 0.6 higher with it."""
    vanishes_from: str | None
    """ISO date; for index dates from this day on, the code has no effect."""
    proxies: tuple[str, ...]
    """Codes that follow it and have no effect of their own."""


@dataclass(frozen=True)
class Interaction:
    """Two causal codes with an additional effect for patients with both."""

    codes: tuple[str, ...]
    odds_ratio: float


@dataclass(frozen=True)
class OrderedPair:
    """Two codes that have an effect only if the first record of ``first`` is before that of ``then``."""

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
    """The code that records the outcome, with errors and only after the index date."""

    code: str
    sensitivity: float
    false_positive: float


@dataclass(frozen=True)
class Group:
    """A group of patients: the share of its rows that is lost, and its own effect on the log-odds of the outcome."""

    race: str
    rows_lost: float
    log_odds: float


@dataclass(frozen=True)
class Truth:
    """The planted effects, and the size of the cohort."""

    arguments: Mapping[str, Any]
    """The arguments of :func:`mlho.synthetic.make_cohort`."""
    n_rows: int
    n_positive: int
    """Number of events, and of patients with the outcome."""
    causal: tuple[CausalCode, ...]
    """The strongest harmful effect first, protective effects last."""
    interaction: Interaction
    sequences: tuple[OrderedPair, ...]
    clusters: tuple[CodeCluster, ...]
    """All codes of each condition; a code may be in several."""
    leak: str
    """Recorded only after the outcome; its presence in a model is leakage."""
    outcome_code: OutcomeCode
    groups: tuple[Group, ...]
    recoded: tuple[str, ...]
    """Earlier names of the codes that have another name from ``shift["recode"]`` on (``DX:`` → ``DX10:``)."""
    growing: tuple[str, ...]
    fading: tuple[str, ...]
    """Codes whose frequency has a trend over the calendar, and no effect."""
    shift: Mapping[str, Any]
    """Changes over the calendar: their dates, the new drug, and the drift of the base rate."""
    errors: Mapping[str, float]
    """Share of rows with each recording error."""
    intercept: float
    """Log-odds of the outcome without any effect."""
    # Unknown fields are refused when the truth is read, also in its parts, which take the configuration of this class.
    __pydantic_config__ = ConfigDict(extra="forbid")

    def role_of(self, code: str) -> Role:
        """Return the role of a code as written in the events.

        ``recoded``: either name of a recoded code without another role, or the lower-case spelling of any code.
        ``cluster``: in any cluster, harmful or not. ``noise``: all others, including codes with a trend.
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
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Restore the truth from the output of :meth:`to_json`."""
        return TypeAdapter(cls).validate_python(plain)


# Kinds in turn: four sevenths are diagnoses; laboratory tests, drugs and procedures are one seventh each.
CODE_KINDS: Final = ("DX", "DX", "DX", "LAB", "RX", "PX", "DX")


def code_name(kind: str, number: int) -> str:
    """Return the first name of a code."""
    return f"{kind}:{number:06d}"


def renamed(code: str) -> str:
    """Return the name of a recoded diagnosis from the day of the recode on."""
    return code.replace("DX:", "DX10:", 1)


def _fault_of(error: OSError | ValueError) -> str:
    """Return the unknown fields of the file, or the type of the error."""
    details = error.errors(include_input=False) if isinstance(error, ValidationError) else []
    unknown = [detail["loc"] for detail in details if detail["type"] == "unexpected_keyword_argument"]
    named = ", ".join(".".join(map(str, place)) for place in unknown)
    return f"unknown fields: {named}" if named else type(error).__name__


def read_truth(folder: Path) -> Truth:
    """Read ``truth.json`` of a cohort.

    Raise DataError if the file is missing, has unknown fields, or :func:`mlho.synthetic.make_cohort` did not write it.
    """
    path = folder / TRUTH_FILE
    try:
        return Truth.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(
            str(path),
            "cannot be read as the truth of a synthetic cohort",
            expected="the file that mlho.synthetic writes last",
            got=_fault_of(error),
            remedy="Make the cohort again: python -m mlho.synthetic --out FOLDER.",
        ) from error


def is_complete(folder: Path, arguments: Mapping[str, Any]) -> bool:
    """Return whether a folder has a complete cohort made with these arguments of ``make_cohort``; other arguments are not compared."""
    if not (folder / TRUTH_FILE).is_file():
        return False
    have = read_truth(folder).arguments
    return all(have.get(name) == value for name, value in arguments.items())
