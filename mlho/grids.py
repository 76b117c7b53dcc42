"""Grids: the allowed settings of each classifier, their ranges, and their cross product.

The specification and the classifiers share this module, so that a grid is validated before any data are read. It imports
no numerical library, because the scheduler plans without one. Settings are ordered from simple to complex, by each
parameter's ``simpler`` direction, with parameters in order of declaration.
"""

import difflib
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, Literal

from mlho.errors import SpecError

Scalar = int | float

MAX_SETTINGS: Final = 1_000  # per candidate: each is fitted in every fold of every iteration


@dataclass(frozen=True)
class Parameter:
    """One parameter of a grid: its type, range and default, and the end of the range that gives the simpler model."""

    name: str
    kind: Literal["int", "float"]
    default: tuple[Scalar, ...]
    low: float
    high: float
    simpler: Literal["low", "high"] = "low"
    low_is_excluded: bool = False

    @property
    def range_in_words(self) -> str:
        """Describe the accepted values, for errors."""
        kind = "a whole number" if self.kind == "int" else "a number"
        low = f"above {self.low:g}" if self.low_is_excluded else f"of at least {self.low:g}"
        return f"{kind} {low}" + ("" if math.isinf(self.high) else f" and at most {self.high:g}")

    def checked(self, value: Any, where: str) -> Scalar:
        """Return the value as int or float. Raise a SpecError with the range if it is invalid."""
        number = _number(value)
        fits = (
            number is not None
            and self.low <= number <= self.high
            and not (self.low_is_excluded and number == self.low)
            and (self.kind == "float" or number == int(number))
        )
        if number is None or not fits:
            raise SpecError(f"{where}: {self.name} must be {self.range_in_words}; got {_shown(value)}.")
        return int(number) if self.kind == "int" else number


def _number(value: Any) -> float | None:
    """Return a finite float; None for Booleans and other values."""
    if isinstance(value, bool) or not isinstance(value, Integral | Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    is_long = (
        isinstance(value, int) and value.bit_length() > 256
    )  # Python refuses to format integers with thousands of digits
    return "a number that is too large" if is_long else repr(str(value)[:64])


class Setting(Mapping[str, Scalar]):
    """One choice of all parameters of a classifier; immutable, hashable, ordered as declared.

    ``text`` is its canonical form, such as ``nSteps=100``. It omits parameters whose value is their only default.
    """

    __slots__ = ("_values", "text")

    def __init__(self, values: Mapping[str, Scalar], text: str) -> None:
        self._values = dict(values)
        self.text = text

    def __getitem__(self, name: str) -> Scalar:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Setting({self.text})"


def setting_from(values: Mapping[str, Any], parameters: Sequence[Parameter], where: str) -> Setting:
    """Return one complete setting: the given values, validated, and the first default of every other parameter."""
    by_name = {parameter.name: parameter for parameter in parameters}
    _refuse_unknown(values, by_name, where)
    complete = {
        name: parameter.checked(values[name], where) if name in values else parameter.default[0]
        for name, parameter in by_name.items()
    }
    shown = [f"{name}={value}" for name, value in complete.items() if by_name[name].default != (value,)]
    return Setting(complete, ",".join(shown) or "defaults")


def settings_from(grid: Mapping[str, Any], parameters: Sequence[Parameter], where: str) -> list[Setting]:
    """Return the cross product of a grid, simplest first.

    Parameters
    ----------
    grid : mapping of str to several numbers, or to one number
        Parameters that are not named take their documented defaults. Empty: the default grid.
    parameters : sequence of Parameter
        The first varies slowest.

    Raises
    ------
    SpecError
        An unknown name (with the nearest valid one), an empty list, a value out of range or given twice, or more than
        ``MAX_SETTINGS`` combinations.
    """
    _refuse_unknown(grid, {parameter.name for parameter in parameters}, where)
    axes = [_axis(parameter, grid.get(parameter.name, parameter.default), where) for parameter in parameters]
    n_settings = math.prod(map(len, axes))
    if n_settings > MAX_SETTINGS:
        raise SpecError(
            f"{where}: the grid has {n_settings:,} combinations; at most {MAX_SETTINGS:,} are tried. Give fewer values."
        )
    names = [parameter.name for parameter in parameters]
    return [
        setting_from(dict(zip(names, values, strict=True)), parameters, where)
        for values in itertools.product(*axes)
    ]


def _axis(parameter: Parameter, stated: Any, where: str) -> list[Scalar]:
    is_list = isinstance(stated, Iterable) and not isinstance(stated, str)
    values = [parameter.checked(value, where) for value in (stated if is_list else [stated])]
    if not values:
        raise SpecError(
            f"{where}: the grid of {parameter.name} is empty. Give a value or leave the name out."
        )
    if len(set(values)) != len(values):
        raise SpecError(f"{where}: the grid of {parameter.name} names a value twice. Give each once.")
    return sorted(values, reverse=parameter.simpler == "high")


def _refuse_unknown(stated: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name in stated:
        if name not in known:
            nearest = nearest_name(str(name), known)
            raise SpecError(
                f"{where}: unknown parameter {str(name)[:64]!r}. Did you mean {nearest!r}? Valid: {', '.join(known)}."
            )


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name most similar to the given one, ignoring case; the first one if none is similar."""
    names = list(known)
    by_lower = {candidate.lower().replace("_", ""): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower().replace("_", ""), by_lower, n=1, cutoff=0.0)
    return by_lower[close[0]] if close else names[0]


_PENALTY: Final = (
    Parameter("c", "float", (0.001, 0.01, 0.1, 1.0), low=1e-9, high=1e9),
    Parameter("l1Ratio", "float", (0.5,), low=0.0, high=1.0, simpler="high"),
)
_TREE: Final = (
    Parameter("maxDepth", "int", (2, 4), low=1, high=16),
    Parameter("learningRate", "float", (0.1,), low=0.0, high=1.0, low_is_excluded=True),
)
_TREES: Final = (
    Parameter("minChildWeight", "float", (1.0,), low=0.0, high=1e9, simpler="high"),
    Parameter("subsample", "float", (1.0,), low=0.0, high=1.0, low_is_excluded=True),
    Parameter("colsample", "float", (1.0,), low=0.0, high=1.0, low_is_excluded=True),
    Parameter("lambda", "float", (1.0,), low=0.0, high=1e9, simpler="high"),
    Parameter("nRounds", "int", (100, 200), low=1, high=100_000),
)
#: Grid of each classifier, with parameters in the order of its settings: the first one varies slowest. The upper limits
#: keep penalties from overflowing in the fitting libraries.
GRIDS: Final[Mapping[str, tuple[Parameter, ...]]] = {
    "glmboost": (
        Parameter("learningRate", "float", (0.1,), low=0.0, high=1.0, low_is_excluded=True),
        # R MLHO's grid of mstop.
        Parameter("nSteps", "int", (50, 100, 150), low=1, high=100_000),
    ),
    "elasticnet": _PENALTY,
    "xgboost": (*_TREE, *_TREES),
    "cox": _PENALTY,
    "xgboostAft": (
        *_TREE,
        # Scale of the logistic distribution of the log of the time.
        Parameter("scale", "float", (1.0,), low=0.01, high=100.0, simpler="high"),
        *_TREES,
    ),
    "discreteTime": (
        *_PENALTY,
        # Intervals up to the horizon; the same number follow after it.
        Parameter("nIntervals", "int", (10,), low=1, high=100),
    ),
    "ebm": (
        Parameter("nInteractions", "int", (0,), low=0, high=1000),
        Parameter("maxBins", "int", (256,), low=4, high=32_768),
        # Default of interpret.
        Parameter("learningRate", "float", (0.015,), low=0.0, high=1.0, low_is_excluded=True),
        # Each round visits all features; fitting stops early on a held-out share of the training rows.
        Parameter("maxRounds", "int", (5_000,), low=1, high=100_000),
        # Number of averaged models; interpret's default of 14 gives smoother steps at three times the work.
        Parameter("nBags", "int", (4,), low=1, high=100, simpler="low"),
    ),
}
