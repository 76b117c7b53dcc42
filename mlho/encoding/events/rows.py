"""Rules for event rows: each row is used or dropped by the first matching rule, and used rows are collected.

One pass over a batch applies all rules of the ledger but the last (duplicates depend on rows of other batches; see
``blocks``). Used rows are written to fixed-size buffers, so memory does not grow with the partition.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.windows import DAY_US, needs_times, needs_values, sample_windows, year_bounds
from mlho.encoding.events.code_patterns import code_filter
from mlho.encoding.events.ledger import Ledger, Rule
from mlho.encoding.events.patients import (
    NO_PATIENT,
    UNKNOWN_PATIENT,
    PatientFinder,
    buffers_of,
    frozen,
    take_ids,
)
from mlho.encoding.tally.counting import RowCounter
from mlho.printable import CONTROL_CHARACTERS
from mlho.sources.arrow import as_numpy, is_given
from mlho.sources.omop.folder import DEATH, OMOP_NAME
from mlho.spec.training import TrainingSpec
from mlho.tables import MAX_CODE_CHARACTERS

BIRTH_SLACK_US: Final = 31 * DAY_US  # birth dates are often truncated to the month
_CONTROL: Final = f"[{CONTROL_CHARACTERS}]"
NO_BIRTH: Final = np.iinfo(np.int64).min  # NaT

NO_CODE: Final = -1
UNUSABLE_CODE: Final = -2
EXCLUDED_CODE: Final = -3
_N_RULES: Final = len(Rule)
# Plain integers are constants in compiled code, whereas members of an enumeration would be looked up.
_NO_PATIENT, _NO_CODE, _UNUSABLE = int(Rule.NO_PATIENT), int(Rule.NO_CODE), int(Rule.UNUSABLE_CODE)
_UNREADABLE = int(Rule.UNREADABLE_TIME)
_NO_TIME, _UNKNOWN, _IMPLAUSIBLE = int(Rule.NO_TIME), int(Rule.UNKNOWN_PATIENT), int(Rule.IMPLAUSIBLE_DATE)
_AFTER, _GAP, _BEFORE = int(Rule.AFTER_INDEX), int(Rule.IN_GAP), int(Rule.BEFORE_LOOK_BACK)
_EXCLUDED = int(Rule.EXCLUDED_CODE)
_AFTER_DEATH = int(Rule.AFTER_DEATH)
_USED: Final = -1


class LocalCodes:
    """Codes of one partition, numbered by first appearance across the dictionaries of its batches.

    Parameters
    ----------
    parents : mapping of code to parent
        Codes that are counted as their parent; ``is_excluded`` applies to the parent.
    """

    def __init__(
        self,
        is_excluded: Callable[[str], bool] = lambda _: False,
        parents: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._ids: dict[str, int] = {}
        self._found: dict[str | None, int] = {}
        self._is_excluded = cache(is_excluded)
        self._parents = parents
        self._has_parent = np.empty(0, np.int32)
        self._dictionary: tuple[Any, NDArray[np.int32]] | None = None
        self.rows_rolled_up = 0

    def __len__(self) -> int:
        return len(self._ids)

    def texts(self) -> tuple[str, ...]:
        """Return the codes by id."""
        return tuple(self._ids)

    def find(self, codes: Any) -> NDArray[np.int32]:
        """Return the id of each row's code: ``NO_CODE`` if missing or empty, ``UNUSABLE_CODE`` if unusable, ``EXCLUDED_CODE``
        if left out.
        """
        encoded = codes if pa.types.is_dictionary(codes.type) else codes.dictionary_encode()
        ids = self._ids_of(encoded.dictionary)
        if self._parents:
            self.rows_rolled_up += int(take_ids(encoded, self._has_parent, missing=0).sum())
        return take_ids(encoded, ids, missing=NO_CODE)

    def _ids_of(self, dictionary: Any) -> NDArray[np.int32]:
        if self._dictionary is None or not dictionary.equals(self._dictionary[0]):
            texts = dictionary.to_pylist()
            if not self._found.keys() >= set(
                texts
            ):  # each row group has its own dictionary, usually of the same codes
                unusable = _is_unusable(dictionary).tolist()
                for text, out in zip(texts, unusable, strict=True):
                    if text not in self._found:
                        self._found[text] = UNUSABLE_CODE if out else self._id_of(text)
            ids = map(self._found.__getitem__, texts)
            self._dictionary = dictionary, np.fromiter(ids, np.int32, len(texts))
            if self._parents:
                has_parent = [text in self._parents for text in texts]
                self._has_parent = np.array(has_parent, np.int32)
        return self._dictionary[1]

    def _id_of(self, text: str | None) -> int:
        if not text:
            return NO_CODE
        text = self._parents.get(text, text)
        return EXCLUDED_CODE if self._is_excluded(text) else self._ids.setdefault(text, len(self._ids))


def _is_unusable(codes: Any) -> NDArray[np.bool_]:
    """Return which codes are too long or contain a control character, shape (n_codes,)."""
    is_long = (
        as_numpy(pc.utf8_length(codes)) > MAX_CODE_CHARACTERS
    )  # Arrow would import pandas to convert the number
    has_control = as_numpy(pc.match_substring_regex(codes, _CONTROL))
    return np.asarray((is_long | has_control) & is_given(codes))


@dataclass(frozen=True, eq=False)
class UsedRows:
    """Rows used by at least one sample, in the order of reading."""

    patient: NDArray[np.int32]
    code: NDArray[np.int32]
    """Patient number in the cohort, code id in the partition. Shape (n_rows,)."""
    time: NDArray[np.int64]
    """Microseconds since 1970; empty unless times are still needed. Shape (n_rows,)."""
    value: NDArray[np.float64]
    """The number, ``NaN`` if missing; empty unless values are needed. Shape (n_rows,)."""

    def __len__(self) -> int:
        return len(self.patient)

    def take(self, rows: Any) -> "UsedRows":
        """Return rows by position or slice."""
        time = self.time[rows] if self.time.size else self.time
        value = self.value[rows] if self.value.size else self.value
        return UsedRows(self.patient[rows], self.code[rows], time, value)


class _Column(NamedTuple):
    """A column with missing values: data, validity bits (empty: all valid), and offset of the bits."""

    data: NDArray[Any]
    validity: NDArray[np.uint8]
    offset: int


class _Rows(NamedTuple):
    """Columns of the rows of a batch, for compiled code."""

    patient: NDArray[np.int32]
    code: NDArray[np.int32]
    time: _Column
    is_unreadable: NDArray[np.uint8]
    """Flags of unreadable times; empty if there is none."""
    value: _Column
    rule: NDArray[np.uint8]
    """Rule of rows that the layout excludes, 0 for the others; empty if there is none."""


class _Bounds(NamedTuple):
    """Windows of the samples, births of the patients, and the plausible time, in microseconds since 1970."""

    starts: NDArray[Any]
    index_us: NDArray[np.int64]
    upper_us: NDArray[np.int64]
    lower_us: NDArray[np.int64]
    birth_us: NDArray[np.int64]
    until_us: NDArray[np.int64]
    """Last plausible time of each patient; empty if there is no such bound."""
    first_us: int
    last_us: int


class _Counts(NamedTuple):
    """Counts that grow with the rows: by rule, patient and code."""

    dropped: NDArray[np.int64]
    fates: NDArray[np.uint16]
    rows_by_code: NDArray[np.int64]


class _Buffer(NamedTuple):
    """Arrays of :class:`UsedRows` to write to."""

    patient: NDArray[np.int32]
    code: NDArray[np.int32]
    time: NDArray[np.int64]
    value: NDArray[np.float64]


@dataclass(eq=False)
class RowRules:
    """The rules for one partition with their running counts. Batches go in, used rows come out."""

    spec: TrainingSpec
    cohort: Cohort
    finder: PatientFinder
    capacity: int
    parents: Mapping[str, str] = MappingProxyType({})
    is_tallied: bool = True
    rows_in: int = 0
    n_buffered: int = 0
    rows_used: int = 0
    rows_with_value: int = 0

    def __post_init__(self) -> None:
        features = self.spec.features
        never = (DEATH,) if self.spec.data.source == OMOP_NAME else ()
        is_filtered = features.include is not None or features.exclude is not None or never
        is_excluded = code_filter(features, never=never) if is_filtered else lambda _: False
        parents = {code: parent for code, parent in self.parents.items() if code not in never}
        self.codes = LocalCodes(is_excluded, parents)
        windows = sample_windows(self.spec, self.cohort)
        # Windows nest, so the longest one decides whether a row is used.
        self._bounds = _Bounds(
            frozen(windows.starts),
            frozen(windows.index_us),
            frozen(windows.upper_us),
            frozen(windows.lower_us[-1]),
            frozen(self.cohort.birth_us),
            frozen(np.empty(0, np.int64) if self.cohort.last_us is None else self.cohort.last_us),
            *year_bounds(self.spec.data.plausible_years),
        )
        self._dropped = np.zeros(_N_RULES, np.int64)
        self._fates = np.zeros(self.cohort.n_patients, np.uint16)
        self._rows_by_code = np.zeros(0, np.int64)
        self._keeps_times = needs_times(self.spec, self.cohort)
        has_values = needs_values(self.spec)
        n_values = self.capacity if has_values else 0
        self.counter = None
        if self.is_tallied:
            self.counter = RowCounter(self.cohort, self.spec.data.plausible_years, has_values=has_values)
        self._buffer = UsedRows(
            np.empty(self.capacity, np.int32),
            np.empty(self.capacity, np.int32),
            np.empty(self.capacity, np.int64),
            np.empty(n_values, np.float64),
        )

    def apply(self, batch: Any) -> None:
        """Apply the rules to the rows of a record batch, which must fit into the rest of the buffer."""
        patient = self.finder.find(batch.column("patient"))
        code = self.codes.find(batch.column("code"))
        self._rows_by_code = _grown(self._rows_by_code, len(self.codes))
        before = self.n_buffered
        rows = _Rows(
            frozen(patient),
            frozen(code),
            _Column(*buffers_of(batch.column("time"), np.int64)),
            _flags(batch, "time_bad"),
            _values(batch, "value"),
            _rules_of_layout(batch),
        )
        counts = _Counts(self._dropped, self._fates, self._rows_by_code)
        buffer = _Buffer(self._buffer.patient, self._buffer.code, self._buffer.time, self._buffer.value)
        self.n_buffered, n_valued = _apply_rules(rows, self._bounds, counts, buffer, before)
        self.rows_in += batch.num_rows
        self.rows_used += self.n_buffered - before
        self.rows_with_value += n_valued
        if self.counter is not None:
            used = self._buffer.take(slice(before, self.n_buffered))
            self.counter.add(self.codes.texts(), used.patient, used.code, used.time, used.value)

    @property
    def room(self) -> int:
        """Free rows in the buffer."""
        return self.capacity - self.n_buffered

    def drain(self) -> UsedRows:
        """Return the buffered rows, valid until the next :meth:`apply`, and empty the buffer."""
        rows = self._buffer.take(slice(0, self.n_buffered))
        self.n_buffered = 0
        return rows if self._keeps_times else replace(rows, time=rows.time[:0])

    def ledger(self) -> Ledger:
        """Return the account so far, without same-day duplicates, which are found later."""
        dropped = {rule: int(self._dropped[rule]) for rule in Rule}
        return Ledger(self.rows_in, self.rows_used, dropped, self.rows_with_value, self.codes.rows_rolled_up)

    def rows_by_code(self) -> NDArray[np.int64]:
        """Return the used rows of each code, including same-day duplicates."""
        return self._rows_by_code.copy()

    def patients_seen(self) -> NDArray[np.int32]:
        """Return the cohort patients named by any row, used or not, in ascending order."""
        return np.flatnonzero(self._fates).astype(np.int32)

    def fates(self) -> NDArray[np.uint16]:
        """Return the fates of :meth:`patients_seen`; see :mod:`mlho.encoding.events.fates`."""
        return np.asarray(self._fates[self._fates != 0])


def _grown(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.concatenate([counts, np.zeros(size - len(counts), np.int64)]) if size > len(counts) else counts


def _flags(batch: Any, name: str) -> NDArray[np.uint8]:
    """Return a Boolean column as bytes; empty if it is absent or all false."""
    if name in batch.schema.names:
        flags = batch.column(name).fill_null(False)
        if flags.true_count:
            return frozen(flags.to_numpy(zero_copy_only=False).view(np.uint8))
    return frozen(np.empty(0, np.uint8))


def _rules_of_layout(batch: Any) -> NDArray[np.uint8]:
    """Return the rules by which the layout excludes rows; empty if there is none."""
    if "rule" not in batch.schema.names:
        return frozen(np.empty(0, np.uint8))
    return frozen(as_numpy(batch.column("rule")))


def _values(batch: Any, name: str) -> _Column:
    """Return a numeric column as float64 with its validity; empty if it is absent."""
    if name not in batch.schema.names:
        return _Column(frozen(np.empty(0, np.float64)), frozen(np.empty(0, np.uint8)), 0)
    return _Column(*buffers_of(batch.column(name).cast(pa.float64()), np.float64))


@njit(cache=True, nogil=True)
def _is_valid(validity: Any, position: Any) -> Any:  # pragma: no cover - compiled
    return validity.size == 0 or (validity[position >> 3] >> (position & 7)) & 1 != 0


@njit(cache=True, nogil=True)
def _is_plausible(
    time: Any, first_us: Any, last_us: Any, birth_us: Any
) -> Any:  # pragma: no cover - compiled
    is_in_range = first_us <= time <= last_us
    return is_in_range and (birth_us == NO_BIRTH or time >= birth_us - BIRTH_SLACK_US)


@njit(cache=True, nogil=True)
def _rule_of_time(
    time: Any, first: Any, stop: Any, index_us: Any, upper_us: Any, lower_us: Any
) -> Any:  # pragma: no cover - compiled
    """Return the rule for a plausible time of a known patient, whose samples are ``first`` to ``stop``."""
    is_after, is_in_gap = True, False
    for s in range(first, stop):
        if time <= index_us[s]:
            is_after = False
            if time > upper_us[s]:
                is_in_gap = True
            elif time > lower_us[s]:
                return _USED
    if is_after:
        return _AFTER
    return _GAP if is_in_gap else _BEFORE


@njit(cache=True, nogil=True)
def _apply_rules(
    rows: Any, bounds: Any, counts: Any, buffer: Any, n_out: Any
) -> Any:  # pragma: no cover - compiled
    """Count the rows dropped by each rule and append used rows. Return the new buffer fill and the number of used values."""
    patient, code, is_unreadable = rows.patient, rows.code, rows.is_unreadable
    time, time_validity, time_offset = rows.time
    value, value_validity, value_offset = rows.value
    by_layout = rows.rule
    starts, index_us, upper_us, lower_us, birth_us, until_us, first_us, last_us = bounds
    dropped, fates, rows_by_code = counts
    out_patient, out_code, out_time, out_value = buffer
    n_valued = 0
    for i in range(patient.size):
        p = patient[i]
        if p == NO_PATIENT:
            rule = _NO_PATIENT
        elif code[i] == NO_CODE:
            rule = _NO_CODE
        elif code[i] == UNUSABLE_CODE:
            rule = _UNUSABLE
        elif is_unreadable.size and is_unreadable[i]:
            rule = _UNREADABLE
        elif not _is_valid(time_validity, i + time_offset):
            rule = _NO_TIME
        elif p == UNKNOWN_PATIENT or starts[p] == starts[p + 1]:
            rule = _UNKNOWN
        elif not _is_plausible(time[i], first_us, last_us, birth_us[p]):
            rule = _IMPLAUSIBLE
        elif until_us.size and time[i] > until_us[p]:
            rule = _AFTER_DEATH
        else:
            rule = _rule_of_time(time[i], starts[p], starts[p + 1], index_us, upper_us, lower_us)
            if rule == _USED and code[i] == EXCLUDED_CODE:
                rule = _EXCLUDED
            elif rule == _USED and by_layout.size and by_layout[i]:
                rule = by_layout[i]
        if p >= 0:
            fates[p] |= 1 << (rule + 1)
        if rule != _USED:
            dropped[rule] += 1
            continue
        number = np.nan
        if value.size and _is_valid(value_validity, i + value_offset) and np.isfinite(value[i]):
            number = value[i] + 0.0  # normalise -0.0 to 0.0, so that the order of rows cannot matter
            n_valued += 1
        rows_by_code[code[i]] += 1
        out_patient[n_out] = p
        out_code[n_out] = code[i]
        out_time[n_out] = time[i]
        if out_value.size:
            out_value[n_out] = number
        n_out += 1
    return n_out, n_valued
