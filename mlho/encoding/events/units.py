"""Units of numeric values: the number of rows of a code whose unit differs from that of most of its rows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from mlho.printable import cut
from mlho.sources.arrow import as_numpy, is_given

#: Marks rows whose unit is not known.
UNKNOWN: Final = ""
FILE: Final = "units.json"
_SHOWN: Final = 3  # codes that a warning names


class UnitCounts:
    """Rows with a value by code and unit, counted while batches pass."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of :func:`mlho.sources.events.iter_events` unchanged, and count the units of those that have any."""
        for batch in batches:
            if {"unit", "value"} <= set(batch.schema.names):
                self._add(batch)
            yield batch

    def _add(self, batch: Any) -> None:
        codes, units, values = (batch.column(name) for name in ("code", "unit", "value"))
        kept = is_given(codes) & is_given(values) & np.isfinite(as_numpy(values))
        unit = np.where(is_given(units), as_numpy(units.indices), -1)[kept].astype(np.int64) + 1
        n_units = len(units.dictionary) + 1
        keys, counts = np.unique(
            as_numpy(codes.indices)[kept].astype(np.int64) * n_units + unit, return_counts=True
        )
        code_texts, unit_texts = codes.dictionary.to_pylist(), [UNKNOWN, *units.dictionary.to_pylist()]
        for key, n in zip(keys.tolist(), counts.tolist(), strict=True):
            self._counts[code_texts[key // n_units], unit_texts[key % n_units]] += n

    def plain(self) -> dict[str, dict[str, int]]:
        """Return the rows by code and unit; empty if no batch had units."""
        by_code: dict[str, dict[str, int]] = {}
        for (code, unit), n in sorted(self._counts.items()):
            by_code.setdefault(code, {})[unit] = n
        return by_code


def judge_units(parts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, Any] | None:
    """Return how many rows have a unit that differs from that of most rows of their code; ``None`` if there are none.

    Parameters
    ----------
    parts : iterable of mapping
        Rows by code and unit, for each partition. A code whose unit is never known counts as having one unit.

    Returns
    -------
    dict or None
        ``codes``: number of codes with several units. ``rows``: rows with a value of these codes. ``others``: those of the
        rows whose unit is not the most frequent one. ``unknown``: those of the others without a known unit. ``first``: the
        codes with the most other rows.

    Examples
    --------
    >>> judge_units([{"measurement:1": {"8840": 8, "8753": 2}}, {"measurement:1": {"": 1}}])
    {'codes': 1, 'rows': 11, 'others': 3, 'unknown': 1, 'first': ['measurement:1']}
    """
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for code, units in part.items():
            total.setdefault(code, Counter()).update(units)
    mixed = {code: units for code, units in total.items() if len(units) > 1}
    if not mixed:
        return None
    most = {code: max(sorted(units), key=units.__getitem__) for code, units in mixed.items()}
    others = {code: units.total() - units[most[code]] for code, units in mixed.items()}
    return {
        "codes": len(mixed),
        "rows": sum(units.total() for units in mixed.values()),
        "others": sum(others.values()),
        "unknown": sum(units[UNKNOWN] for code, units in mixed.items() if most[code] != UNKNOWN),
        "first": sorted(others, key=lambda code: (-others[code], code))[:_SHOWN],
    }


def units_sentence(summary: Mapping[str, Any]) -> str:
    """Return the warning for the result of :func:`judge_units`.

    Examples
    --------
    >>> found = {"codes": 1, "rows": 11, "others": 3, "unknown": 1, "first": ["measurement:1"]}
    >>> units_sentence(found).partition(":")[0]
    '1 code has values in several units'
    """
    codes = "1 code has" if summary["codes"] == 1 else f"{summary['codes']:,} codes have"
    unknown = f" ({summary['unknown']:,} of them no known unit)" if summary["unknown"] else ""
    return (
        f"{codes} values in several units: {summary['others']:,} of {summary['rows']:,} rows have a different unit from most rows of "
        f"their code{unknown}, such as {', '.join(map(cut, summary['first']))}. Values are used as they are: convert them to one unit, or "
        "exclude these codes with features.exclude."
    )
