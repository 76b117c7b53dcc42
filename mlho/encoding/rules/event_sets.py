"""The numbered sets of events that rules mention (``Rules.event_sets``), and the bits that say which sets an event is in."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.events.code_patterns import matches
from mlho.spec.rules import EventSet

ENTRY: Final = 0
OUTCOME: Final = 1
# The sets of the conditions follow in order from this number. The competing event is the last set.
FIRST_COUNT: Final = 2


def memberships(
    sets: Sequence[EventSet], codes: Sequence[str], below: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> NDArray[np.uint64]:
    """Return for each code, as bits, the sets whose patterns match it or whose codes have it as a descendant.

    Examples
    --------
    >>> memberships([EventSet(codes=("I2*",)), EventSet(codes=("I21", "E11"))], ["I21", "E11", "Z99"]).tolist()
    [3, 2, 0]
    """
    bits = np.zeros(len(codes), np.uint64)
    for number, event_set in enumerate(sets):
        is_in = matches(event_set.codes, codes)
        if event_set.descendants:
            more = {code for ancestor in event_set.codes for code in below.get(ancestor, ())}
            is_in |= np.array([code in more for code in codes], np.bool_)
        bits[is_in] |= _bit(number)
    return bits


def without_values_outside(
    bits: NDArray[np.uint64], values: NDArray[np.float64], sets: Sequence[EventSet]
) -> NDArray[np.uint64]:
    """Clear the bits of sets whose range excludes the event's value, and return the rest. A missing value is outside every range.

    Parameters
    ----------
    bits : uint64, shape (n_events,)
    values : float64, shape (n_events,)
        NaN if missing.
    """
    kept = bits.copy()
    for number, event_set in enumerate(sets):
        if event_set.has_range:
            low, high = _bound(event_set.low, -np.inf), _bound(event_set.high, np.inf)
            is_in = np.isfinite(values) & (values >= low) & (values <= high)
            kept[~is_in] &= ~_bit(number)
    return kept


def in_set(bits: NDArray[Any], number: int) -> NDArray[np.bool_]:
    """Return which events are in a set."""
    return np.asarray((bits & _bit(number)) != 0)


def _bit(number: int) -> np.uint64:
    return np.uint64(1 << number)


def _bound(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound
