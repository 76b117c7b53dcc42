"""Grids and settings of a classifier, and the choice among settings by their out-of-fold scores.

Settings are ordered from simple to complex, and every choice prefers the earlier of equals: what "simple"
means is each parameter's own ``simpler`` direction, parameters in the order of their declaration.
"""

import difflib
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mlho.errors import SpecError
from mlho.method.design_matrix import Floats

Scalar = int | float


@dataclass(frozen=True)
class Parameter:
    """One name of a grid: its type, its range, its default, and which end of it makes the simpler model."""

    name: str
    kind: Literal["int", "float"]
    default: tuple[Scalar, ...]
    low: float
    high: float
    simpler: Literal["low", "high"] = "low"
    low_is_excluded: bool = False

    @property
    def range_in_words(self) -> str:
        """The values that are accepted, as an error names them."""
        kind = "a whole number" if self.kind == "int" else "a number"
        low = f"above {self.low:g}" if self.low_is_excluded else f"of at least {self.low:g}"
        return f"{kind} {low}" + ("" if math.isinf(self.high) else f" and at most {self.high:g}")

    def checked(self, value: Any, where: str) -> Scalar:
        """Return the value as int or float, or raise a SpecError that names the range."""
        number = _number(value)
        is_whole = number is not None and number == int(number)
        fits = (
            number is not None
            and self.low <= number <= self.high
            and not (self.low_is_excluded and number == self.low)
            and (self.kind == "float" or is_whole)
        )
        if number is None or not fits:
            raise SpecError(f"{where}: {self.name} must be {self.range_in_words}; got {str(value)[:64]!r}.")
        return int(number) if self.kind == "int" else number


def _number(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if math.isfinite(value) else None


class Setting(Mapping[str, Scalar]):
    """One choice of all parameters of a classifier; immutable, hashable, ordered as declared.

    ``text`` is its canonical form, such as ``nSteps=100``: parameters whose only default is the value held
    are left out.
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
    """Return one complete setting: the given values, checked, and the first default of every other parameter."""
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
    grid : mapping of str to a sequence of numbers, or to one number
        What is not named takes its documented defaults. Empty: the default grid.
    parameters : sequence of Parameter
        The first varies slowest.
    where : str
        What the error calls the classifier.

    Raises
    ------
    SpecError
        An unknown name (with the nearest valid one), an empty list, a value out of range or given twice.
    """
    _refuse_unknown(grid, {parameter.name for parameter in parameters}, where)
    axes = [_axis(parameter, grid.get(parameter.name, parameter.default), where) for parameter in parameters]
    names = [parameter.name for parameter in parameters]
    return [
        setting_from(dict(zip(names, values, strict=True)), parameters, where)
        for values in itertools.product(*axes)
    ]


def _axis(parameter: Parameter, given: Any, where: str) -> list[Scalar]:
    is_list = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str)
    values = [parameter.checked(value, where) for value in (given if is_list else [given])]
    if not values:
        raise SpecError(
            f"{where}: the grid of {parameter.name} is empty. Give a value or leave the name out."
        )
    if len(set(values)) != len(values):
        raise SpecError(f"{where}: the grid of {parameter.name} names a value twice. Give each once.")
    return sorted(values, reverse=parameter.simpler == "high")


def _refuse_unknown(given: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name in given:
        if name not in known:
            nearest = nearest_name(str(name), known)
            raise SpecError(
                f"{where}: unknown parameter {str(name)[:64]!r}. Did you mean {nearest!r}? Valid: {', '.join(known)}."
            )


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name that looks most like the given one, letter case aside; the first if none does."""
    names = list(known)
    by_lower = {candidate.lower().replace("_", ""): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower().replace("_", ""), by_lower, n=1, cutoff=0.0)
    return by_lower[close[0]] if close else names[0]


def choose_setting(scores: Floats, *, rule: Literal["best", "one-se"] = "best") -> int:
    """Return the index of the chosen setting.

    Parameters
    ----------
    scores : float64, shape (n_settings, n_folds)
        Out-of-fold score (AUROC: higher is better) of each setting in each fold; settings simplest first.
    rule : {"best", "one-se"}
        "best": the highest mean; of means equal within 1e-12 the earlier. "one-se": the earliest whose mean
        is not below the best mean less one standard error of the best setting's fold scores (Breiman et al.
        1984). With one fold there is no standard error, and the rule is "best".

    Raises
    ------
    SpecError
        An unknown rule; no settings or folds; a score that is not finite: a failed fold is never a number.
    """
    table = np.asarray(scores, dtype=np.float64)
    if rule not in ("best", "one-se"):
        raise SpecError(f"choice: unknown rule {str(rule)[:64]!r}. Valid: best, one-se.")
    if table.ndim != 2 or table.size == 0:
        raise SpecError(f"choice: expected scores of shape (n_settings, n_folds); got shape {table.shape}.")
    if not np.isfinite(table).all():
        raise SpecError(
            "choice: a fold has no finite score. A failed fold fails its iteration; it has no score to compare."
        )
    means = [math.fsum(row) / len(row) for row in table.tolist()]
    best = max(means)
    slack = 1e-12
    if rule == "one-se" and table.shape[1] > 1:
        winner = next(i for i, mean in enumerate(means) if mean >= best - slack)
        slack += float(np.std(table[winner], ddof=1)) / math.sqrt(table.shape[1])
    return next(i for i, mean in enumerate(means) if mean >= best - slack)
