"""The ledger: every event row is either used or dropped by exactly one named rule.

The rules have a published order, and the first matching rule drops the row. The counts of partitions add up to the
total, which does not depend on the partitions.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Final

from mlho.encoding.cohort.counts import LARGE_SHARE
from mlho.errors import DataError, MlhoError
from mlho.sources.base import END_BEFORE_START_RULE, MODIFIER_RULE
from mlho.sources.meds import MEDS
from mlho.spec.rules import BY_RULES
from mlho.spec.training import TrainingSpec


class Rule(IntEnum):
    """Reason why a row is dropped, in the published order. The values are bits of the stored fates and never change."""

    NO_PATIENT = 0
    NO_CODE = 1
    UNUSABLE_CODE = 2
    UNREADABLE_TIME = 3
    NO_TIME = 4
    UNKNOWN_PATIENT = 5
    IMPLAUSIBLE_DATE = 6
    AFTER_DEATH = 14
    AFTER_INDEX = 7
    IN_GAP = 8
    BEFORE_LOOK_BACK = 9
    EXCLUDED_CODE = 10
    MODIFIER = MODIFIER_RULE
    END_BEFORE_START = END_BEFORE_START_RULE
    DUPLICATE = 11

    @property
    def words(self) -> str:
        """The rule's name for display: ``after index``."""
        return _WORDS.get(self, self.name.lower().replace("_", " "))

    @property
    def meaning(self) -> str:
        """One sentence that defines the rows dropped by the rule."""
        return _MEANINGS[self]

    @property
    def remedy(self) -> str:
        """Advice for a rule that drops many rows, in one sentence."""
        return _REMEDIES[self]


_WORDS: Final[Mapping[Rule, str]] = {
    Rule.BEFORE_LOOK_BACK: "before look-back",
    Rule.DUPLICATE: "duplicate of one day",
}
_MEANINGS: Final[Mapping[Rule, str]] = {
    Rule.NO_PATIENT: "The row names no patient: the id is missing or empty.",
    Rule.NO_CODE: "The row has no code: it is missing or empty; in OMOP, standard and source concept are 0 or missing.",
    Rule.UNUSABLE_CODE: "The code has more than 1,024 characters, or holds a control character.",
    Rule.UNREADABLE_TIME: "The time is a text that cannot be read as a time.",
    Rule.NO_TIME: "The time is missing; taken as static, the row would pass every index date.",
    Rule.UNKNOWN_PATIENT: "The patient is not in the cohort.",
    Rule.IMPLAUSIBLE_DATE: (
        "The year is not within data.plausibleYears, or the time is more than 31 days before the patient's birth date."
    ),
    Rule.AFTER_DEATH: "The time is more than data.afterDeathDays after the day of the patient's death (OMOP).",
    Rule.AFTER_INDEX: "The time is after every index date of the patient.",
    Rule.IN_GAP: "The time is in no sample's look-back, and in the gap just before an index date.",
    Rule.BEFORE_LOOK_BACK: (
        "The time is in no sample's look-back and in no gap: each index date at or after it is too far ahead."
    ),
    Rule.EXCLUDED_CODE: (
        "The row could be used, and its code is not among features.include, or is among features.exclude, or is "
        "the death of an OMOP patient, which is never a feature."
    ),
    Rule.DUPLICATE: (
        "Another row, usable too, has the same patient, code and day (UTC); only when duplicates are dropped. "
        "Of such rows one counts as used, and a window that holds any of them counts the day once."
    ),
    Rule.MODIFIER: (
        "The row could be used, and it only qualifies another row of the same fact: its modifier_cd is not @ (i2b2)."
    ),
    Rule.END_BEFORE_START: "The row could be used, and it ends on a day before the day on which it starts (OMOP).",
}
_RARE: Final = frozenset((Rule.AFTER_DEATH, Rule.EXCLUDED_CODE, Rule.MODIFIER, Rule.END_BEFORE_START))
_IDS: Final = "Check that the events name their patients, and that ids have the same form in all tables: 17.0 and 17 are different ids."
_CODES: Final = "Check the codes in the events: a code is a text."
_TIMES: Final = "Write times as 2020-01-31 or 2020-01-31T08:30:00, or as a timestamp column, or state their form in data.format."
_INDEX: Final = "Check the index dates."
_REMEDIES: Final[Mapping[Rule, str]] = {
    Rule.NO_PATIENT: _IDS,
    Rule.NO_CODE: _CODES,
    Rule.UNUSABLE_CODE: _CODES,
    Rule.UNREADABLE_TIME: _TIMES,
    Rule.NO_TIME: _TIMES,
    Rule.UNKNOWN_PATIENT: "Check that patient ids have the same form in all tables: 17.0 and 17 are different ids.",
    Rule.IMPLAUSIBLE_DATE: "Check the times and birth dates, or change data.plausibleYears.",
    Rule.AFTER_DEATH: "Check the table death, or change data.afterDeathDays.",
    Rule.AFTER_INDEX: _INDEX,
    Rule.IN_GAP: "Check the index dates, or change cohort.gapDays.",
    Rule.BEFORE_LOOK_BACK: "Check the index dates, or change cohort.lookBackDays or features.windows.",
    Rule.EXCLUDED_CODE: "Check features.include and features.exclude.",
    Rule.DUPLICATE: "Check whether the events were exported twice.",
    Rule.END_BEFORE_START: "Check start and end in the table.",
    Rule.MODIFIER: "Check that each fact has a row with modifier_cd @.",
}


def intended_rules(spec: TrainingSpec) -> tuple[Rule, ...]:
    """Return the rules by which a run drops many rows on purpose.

    A cohort by rule and ``cohort.only`` leave patients out, so rows of unknown patients do not indicate an error.
    """
    leaves_out = spec.cohort.index.column == BY_RULES or spec.cohort.only is not None
    return (*((Rule.UNKNOWN_PATIENT,) if leaves_out else ()), *rules_of_source(spec.data.source))


def rules_of_source(source: str) -> tuple[Rule, ...]:
    """Return the rules that drop rows which are part of the source's format: the static rows of MEDS have no time."""
    return (Rule.NO_TIME,) if source == MEDS.name else ()


@dataclass(frozen=True)
class Ledger:
    """The account of rows: rows in = rows used + rows dropped.

    Examples
    --------
    >>> part = Ledger(rows_in=3, rows_used=2, dropped={Rule.NO_CODE: 1})
    >>> (part + part).check().rows_used
    4
    """

    rows_in: int = 0
    rows_used: int = 0
    """Rows read, and rows inside the longest look-back of at least one sample."""
    dropped: Mapping[Rule, int] = field(default_factory=dict)
    """Rows dropped by each rule; rules without rows may be absent."""
    rows_with_value: int = 0
    """Rows with a finite number that passed all rules but the last; 0 if no aggregate uses numbers."""
    rows_rolled_up: int = 0
    """Rows read whose code was counted as its parent (``features.rollUp``)."""

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(
            rows_in=self.rows_in + other.rows_in,
            rows_used=self.rows_used + other.rows_used,
            dropped={rule: self.n_dropped(rule) + other.n_dropped(rule) for rule in Rule},
            rows_with_value=self.rows_with_value + other.rows_with_value,
            rows_rolled_up=self.rows_rolled_up + other.rows_rolled_up,
        )

    @classmethod
    def total(cls, ledgers: Iterable["Ledger"]) -> "Ledger":
        """Return the sum of ledgers; the empty ledger for no input."""
        return sum(ledgers, cls())

    def n_dropped(self, rule: Rule) -> int:
        """Return the number of rows dropped by one rule."""
        return self.dropped.get(rule, 0)

    def with_duplicates(self, n_duplicates: int) -> "Ledger":
        """Return the ledger after reclassifying ``n_duplicates`` used rows as same-day duplicates."""
        dropped = {**self.dropped, Rule.DUPLICATE: self.n_dropped(Rule.DUPLICATE) + n_duplicates}
        return replace(self, rows_used=self.rows_used - n_duplicates, dropped=dropped)

    def check(self, where: str = "events") -> "Ledger":
        """Return this ledger if it adds up.

        Raises
        ------
        MlhoError
            The counts do not add up: rows were lost or counted twice, which is a defect of this program, not of the data.
        """
        n_dropped = sum(self.dropped.values())
        counts = (self.rows_in, self.rows_used, self.rows_with_value, *self.dropped.values())
        if min(counts) < 0 or self.rows_in != self.rows_used + n_dropped:
            raise MlhoError(
                f"{where}: the ledger does not add up. Expected rows in = rows used + rows dropped; got "
                f"{self.rows_in} in, {self.rows_used} used, {n_dropped} dropped. This is an error of the program: "
                "report it, and do not use any result of this run."
            )
        return self

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules to show, in the published order. Rules that apply to some specifications only are shown if they dropped a row."""
        return tuple(rule for rule in Rule if rule not in _RARE or self.n_dropped(rule))

    @property
    def largest_rule(self) -> Rule | None:
        """The rule that drops the most rows, the first one in a tie; ``None`` if no row is dropped."""
        rule = max(Rule, key=self.n_dropped)
        return rule if self.n_dropped(rule) else None

    def warnings(self, *, intended: Collection[Rule] = ()) -> list[str]:
        """Return a sentence for each rule that drops more than ``LARGE_SHARE`` of the rows, the largest first.

        ``intended``: rules that are expected to drop many rows under this specification.

        Examples
        --------
        >>> Ledger(rows_in=10, rows_used=7, dropped={Rule.AFTER_INDEX: 3}).warnings()
        ['30.0 % of the event rows (3 of 10) are dropped by the rule “after index”. Check the index dates.']
        """
        large = [
            rule
            for rule in Rule
            if rule not in intended and self.n_dropped(rule) > LARGE_SHARE * self.rows_in
        ]
        return [self._warning(rule) for rule in sorted(large, key=self.n_dropped, reverse=True)]

    def _warning(self, rule: Rule) -> str:
        n, share = self.n_dropped(rule), self.n_dropped(rule) / self.rows_in
        return (
            f"{100 * share:.1f} % of the event rows ({n:,} of {self.rows_in:,}) are dropped by the rule “{rule.words}”. "
            f"{rule.remedy}"
        )

    def to_json(self) -> dict[str, object]:
        """Return plain values, with the rules in the published order under their display names."""
        return {
            "rows_in": self.rows_in,
            "rows_used": self.rows_used,
            "dropped": {rule.words: self.n_dropped(rule) for rule in self.rules},
            "rows_with_value": self.rows_with_value,
            **({"rows_rolled_up": self.rows_rolled_up} if self.rows_rolled_up else {}),
        }

    def account(self) -> dict[str, object]:
        """Return the fields of a ``LedgerSummary``: the rows, the rules to show with their meaning, and notes."""
        return {
            "rows_in": self.rows_in,
            "rows_used": self.rows_used,
            "rules": [
                {"rule": rule.words, "meaning": rule.meaning, "rows": self.n_dropped(rule)}
                for rule in self.rules
            ],
            "notes": {"rows with a value": self.rows_with_value}
            | ({"rows whose code counts as its parent": self.rows_rolled_up} if self.rows_rolled_up else {}),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Ledger":
        """Restore a ledger from the output of :meth:`to_json`."""
        return cls(
            rows_in=plain["rows_in"],
            rows_used=plain["rows_used"],
            dropped={rule: plain["dropped"].get(rule.words, 0) for rule in Rule},
            rows_with_value=plain["rows_with_value"],
            rows_rolled_up=plain.get("rows_rolled_up", 0),
        )


def no_row_used(total: Ledger) -> DataError:
    """Return the error for events without any usable row; the remedy depends on the rule that dropped the most rows."""
    cause = total.largest_rule
    dropped = [f"{total.n_dropped(rule)} {rule.words}" for rule in Rule if total.n_dropped(rule)]
    return DataError(
        "events",
        "no row can be used",
        expected="rows of the cohort's patients inside the look-back",
        got=f"{total.rows_in} rows, dropped: {', '.join(dropped) or 'none'}",
        remedy=cause.remedy if cause is not None else "Check data.tables.events.",
    )
