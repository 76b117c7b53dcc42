"""The section ``features`` of a specification: the columns, their content and selection, and variants of the data."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from mlho.spec.types import OMITTED, ColumnName, ShortName, SpecPart, TablePattern, Yes, refuse_repeats

# At most 1,000 patterns of 256 characters; a longer list is a concept set, which belongs in the table.
CodePatterns = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...] | None,
    Field(min_length=1, max_length=1000),
    OMITTED,
]
Aggregate = Literal[
    "presence", "count", "levels", "recency", "last", "first", "min", "max", "mean", "slope", "outOfRange"
]
RECENCY: Final = "recency"
#: The number in a cell from which an aggregate is computed; the other aggregates need only the count.
NUMBERS: Final[Mapping[str, str]] = {
    RECENCY: RECENCY,
    "last": "last",
    "outOfRange": "last",
    "first": "first",
    "min": "min",
    "max": "max",
    "mean": "mean",
    "slope": "slope",
}
#: Aggregates of event values; they are missing in a sample without values.
EVENT_VALUES: Final = frozenset(NUMBERS) - {RECENCY}


class RollUp(SpecPart):
    """Map of codes to coarser codes."""

    table: TablePattern
    """Path relative to ``data.uri``: Parquet or CSV with ``code``, ``parent``, and optionally ``description`` of the parent."""


class Sequences(SpecPart):
    """Transitive sequences: for ordered pairs of codes, whether the first is recorded before the second."""

    enabled: bool = True
    """``false`` has the same effect as omitting ``sequences``."""
    max_candidates: Annotated[int, Field(ge=1, le=20_000)] = 5_000
    """Maximum number of candidate pairs: those whose order is most informative about the outcome among the training samples with
    both codes. Significant ones are selected first, at most half of ``selection.nFeatures``; the others are ranked together with
    the codes."""
    order: Literal["any", "first"] = "any"
    """``any``: an event of the first code is earlier than an event of the second. ``first``: the first event of the first
    code is earlier than the first event of the second. ``any`` depends more on how often the codes are recorded."""
    co_occurrence_days: Annotated[int, Field(ge=0, le=36_525)] = 0
    """Events at most this number of days apart have no order. With 0, only events on the same day have none."""
    bands: Annotated[
        tuple[Annotated[int, Field(ge=1, le=36_525)], ...] | None, Field(min_length=1, max_length=8), OMITTED
    ] = None
    """Edges, in days, of bands of the time from the first event of the first code to the first event of the second, such as ``[365,
    1095]``: up to a year, 1 to 3 years, more than 3 years. A significant pair is selected together with its bands that pass the
    screen. Requires ``order: first``."""
    durations: Annotated[tuple[Literal["min", "mean", "max"], ...] | None, Field(min_length=1), OMITTED] = (
        None
    )
    """Aggregates of the days from events of the first code to later events of the second: ``min``, ``mean`` and ``max`` are the
    shortest, mean and longest time. Each is a column of every candidate pair, ranked together with the codes. Requires ``order:
    any``."""
    start_codes: CodePatterns = None
    """Patterns of the codes that a pair may start with, as in ``include``. Default: all."""
    end_codes: CodePatterns = None
    """Patterns of the codes that a pair may end with. Default: all."""

    def days_of_band(self, band: int) -> tuple[int, int | None] | None:
        """Return the exclusive lower and the inclusive upper bound of a band in days; None for band 0, which means any time."""
        if band == 0 or self.bands is None:
            return None
        low = (self.co_occurrence_days, *self.bands)[band - 1]
        return low, self.bands[band - 1] if band <= len(self.bands) else None

    @model_validator(mode="after")
    def _durations_are_of_any_events(self) -> Self:
        if self.durations is not None and self.order != "any":
            raise ValueError(
                "sequences: durations requires order: any; two first events have only one duration. Remove durations, or use bands"
            )
        refuse_repeats(self.durations or (), "sequences: durations must not contain duplicates")
        return self

    @model_validator(mode="after")
    def _bands_are_of_first_events(self) -> Self:
        if self.bands is None:
            return self
        if self.order != "first":
            raise ValueError("sequences: bands requires order: first. Add it, or remove bands")
        edges = (self.co_occurrence_days, *self.bands)
        if list(edges) != sorted(set(edges)):
            raise ValueError(
                "sequences: bands must be increasing and above coOccurrenceDays, for example [365, 1095]"
            )
        return self


class After(SpecPart):
    """A window after the index date instead of look-back windows, with codes that are new relative to the past."""

    from_days: Annotated[int, Field(ge=0, le=36_525)] = 0
    """Start of the window in days after the index date, exclusive."""
    to_days: Annotated[int, Field(ge=1, le=36_525)]
    """End of the window in days after the index date, inclusive."""
    past_days: Annotated[Annotated[int, Field(ge=1, le=36_525)] | None, OMITTED] = None
    """Days up to and including the index date. A code recorded in them is not new, and counts as absent. Default: all history."""

    @model_validator(mode="after")
    def _window_rises(self) -> Self:
        if self.from_days >= self.to_days:
            raise ValueError("fromDays must be less than toDays")
        return self

    @property
    def days(self) -> int:
        """Length of the window."""
        return self.to_days - self.from_days

    @property
    def words(self) -> str:
        """The window in words, such as ``91 to 180 days after the index date``."""
        return f"{self.from_days + 1} to {self.to_days} days after the index date"


class Features(SpecPart):
    """Columns of the matrix: code × window × aggregate, and demographics."""

    aggregates: Annotated[tuple[Aggregate, ...], Field(min_length=1)] = ("presence",)
    """``presence``: any event. ``count``: events. ``levels``: the count cut at ``levelCuts``. ``recency``: whole days from
    the last event to the index date. Of the numeric values: ``last``, ``first``, ``min``, ``max``, ``mean``, and ``slope``,
    the least-squares change per year (needs values on at least two days). ``outOfRange``: whether the last value is outside its
    reference range (from the concepts, otherwise Tukey's fences of the training values)."""
    include: CodePatterns = None
    """Patterns of the codes to use, such as ``[ICD10:*, "LOINC:2160-?"]``: ``*`` is any text, ``?`` one character, all else is
    literal. Without it: all codes. Rows of other codes are dropped by the ledger rule "excluded code"."""
    exclude: CodePatterns = None
    """Patterns of codes to exclude. They take precedence over ``include``."""
    roll_up: Annotated[RollUp | None, OMITTED] = None
    """Map of codes to coarser ones, such as ``{table: maps/phecode.parquet}``. A code in the map counts as its parent, in training
    and in scoring; other codes are kept. ``include`` and ``exclude`` apply to the mapped codes."""
    windows: Annotated[tuple[Annotated[int, Field(ge=1, le=36525)], ...], Field(max_length=32)] = ()
    """Look-back windows in days; each gives its own columns. Default: one window, ``cohort.lookBackDays`` or all
    history.
    """
    all_history: Annotated[Yes | None, OMITTED] = None
    """``true`` adds all history to ``windows`` as one more window."""
    utilisation: Annotated[Yes | None, OMITTED] = None
    """``true`` adds the counts of events, of distinct codes and of days with an event in each window. Like demographics, they enter
    every candidate. They count all codes and therefore exclude ``include``, ``exclude`` and ``rollUp``."""
    after: Annotated[After | None, OMITTED] = None
    """Codes of a window after the index date that are new relative to the past, such as ``{fromDays: 90, toDays: 180, pastDays: 730}``.
    Such a run does not predict, and every report states this. Excludes look-back windows, ``utilisation`` and ``sequences``."""
    sequences: Annotated[Sequences | None, OMITTED] = None
    """Sequences in the longest window; ``{}`` uses all defaults. Requires the aggregate ``presence``."""
    level_cuts: Annotated[tuple[int, ...], Field(min_length=1, max_length=15)] = (1, 2, 3)
    """Cut points of ``levels``: (1, 2, 3) gives none, one, two, three or more."""
    demographics: Annotated[tuple[ColumnName, ...], Field(max_length=256)] = ()
    """Columns of the demographics that enter every candidate. An absent ``age`` is computed from ``birth_date``,
    and absent ``index_year`` and ``index_month`` from the index date. With ``data.source: meds`` and without a table they are read from the codes of the events."""
    monotone: Annotated[dict[ColumnName, Literal["increasing", "decreasing"]] | None, OMITTED] = None
    """Numbers whose effect has a known direction, such as ``{age: increasing, "LOINC:2160-0": increasing}``: a demographic that is a number, or a
    code with the aggregates ``last``, ``first``, ``min``, ``max`` or ``mean``; or ``CODE|presence`` and ``CODE|count``, in which an absent code is
    zero. ``xgboost`` and ``ebm`` enforce the direction; a required test of the bundle checks it for every classifier. It does not
    apply to unknown values."""
    categorical: Annotated[tuple[ColumnName, ...], Field(max_length=256)] = ()
    """Demographics whose numbers are category codes, for example of a ward. Text columns are always categorical."""

    @model_validator(mode="after")
    def _sequences_are_of_presence(self) -> Self:
        if self.sequences is not None and not self.sequences.enabled:
            object.__setattr__(self, "sequences", None)  # frozen; enabled: false counts as absent
        if self.sequences is not None and "presence" not in self.aggregates:
            raise ValueError("sequences requires the aggregate presence. Add it to aggregates")
        return self

    @model_validator(mode="after")
    def _utilisation_counts_all_codes(self) -> Self:
        if self.utilisation and (self.include or self.exclude or self.roll_up):
            raise ValueError(
                "utilisation counts all codes, and excludes include, exclude and rollUp. Remove one"
            )
        return self

    @model_validator(mode="after")
    def _after_has_one_window(self) -> Self:
        others = {"windows": self.windows, "utilisation": self.utilisation, "sequences": self.sequences}
        if self.after is not None and (given_fields := [name for name, value in others.items() if value]):
            raise ValueError(f"after and {given_fields[0]} exclude each other. Remove one of them")
        return self

    def check_times(
        self, *, has_index: bool, look_back_days: int | None, gap_days: int, drops_duplicates: bool
    ) -> None:
        """Refuse ``windows``, ``after`` and ``recency`` together with fields of other sections that they exclude."""
        if self.windows and look_back_days is not None:
            raise ValueError(
                "features.windows and cohort.lookBackDays exclude each other. Remove one of them"
            )
        if self.windows and not has_index:
            raise ValueError("features.windows requires an index date, but cohort.index is none")
        if self.windows and min(self.windows) <= gap_days:
            raise ValueError("each of features.windows must be longer than cohort.gapDays")
        if self.after is not None and not has_index:
            raise ValueError("features.after requires an index date, but cohort.index is none")
        if self.after is not None and (look_back_days is not None or gap_days > 0):
            raise ValueError("features.after excludes cohort.lookBackDays and gapDays. Remove them")
        if self.after is not None and drops_duplicates:
            raise ValueError(
                "features.after excludes data.duplicates: drop. Remove it; the aggregate presence does not depend on duplicates"
            )
        if RECENCY in self.aggregates and not has_index:
            raise ValueError("the aggregate recency requires an index date, but cohort.index is none")

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers in a cell that the aggregates need, in a fixed order."""
        needed = {NUMBERS[name] for name in self.aggregates if name in NUMBERS}
        return tuple(name for name in dict.fromkeys(NUMBERS.values()) if name in needed)

    @model_validator(mode="after")
    def _all_history_is_beside_windows(self) -> Self:
        if self.all_history and not self.windows:
            raise ValueError(
                "allHistory adds a window to windows, which is empty: all history is the default. Remove it, or give windows"
            )
        return self

    @model_validator(mode="after")
    def _lists_are_sets(self) -> Self:
        for name in ("aggregates", "windows", "demographics", "categorical"):
            refuse_repeats(getattr(self, name), f"{name} must not contain duplicates")
        if unknown := [name for name in self.categorical if name not in self.demographics]:
            raise ValueError(f"categorical names columns that are not in demographics: {', '.join(unknown)}")
        if list(self.level_cuts) != sorted(set(self.level_cuts)) or self.level_cuts[0] < 1:
            raise ValueError("levelCuts must be increasing and at least 1, for example [1, 2, 3]")
        return self


class Selection(SpecPart):
    """Selection of columns: first the screen, then the ranking."""

    min_prevalence: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """Minimum fraction of training patients in which a column must be present."""
    screen: Literal["at-least", "mlho-r"] = "at-least"
    """``at-least``: at least ``minPrevalence``. ``mlho-r``: R MLHO's rule (more than the rounded bound)."""
    ranking: Literal["jmi", "mlho-r", "mim", "mrmr", "cmim", "jmim"] = "jmi"
    """``jmi``: joint mutual information. ``mlho-r`` reproduces the ranking of R MLHO. The other methods are for comparison. All but
    ``mlho-r`` bin ``count``, ``recency`` and values at the terciles of the training values, and correct for the number of levels.
    """
    n_features: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Number of columns that the ranking keeps, not counting demographics."""
    scope: Literal["fold", "iteration"] = "fold"
    """``fold``: screen and rank inside each fold. ``iteration``: once for all folds, as in R, which makes out-of-fold
    results too optimistic.
    """


class Variant(SpecPart):
    """Different data for the same algorithm: fields that replace those of the document. ``null`` removes a field."""

    name: ShortName
    """Suffix of the run's name: ``NAME-VARIANT``."""
    features: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of ``features``: ``{windows: [30, 365]}``, ``{exclude: ["LOINC:*"]}``, ``{rollUp: {table: maps/phecode.parquet}}``."""
    cohort: dict[str, JsonValue] = Field(default_factory=dict)
    """Of ``cohort``: ``lookBackDays``, ``gapDays``, ``followUpDays``, ``conflictingLabels``, ``unknownPatients``, ``rules``."""
    data: dict[str, JsonValue] = Field(default_factory=dict)
    """Of ``data``: ``duplicates``, ``plausibleYears``, ``afterDeathDays``."""

    @property
    def sections(self) -> dict[str, dict[str, JsonValue]]:
        """The changes by section, without sections that do not change."""
        all_of = {"features": self.features, "cohort": self.cohort, "data": self.data}
        return {section: changes for section, changes in all_of.items() if changes}

    @model_validator(mode="after")
    def _changes_only_data(self) -> Self:
        if not self.sections:
            raise ValueError("a variant changes at least one field of features, cohort or data")
        allowed = {"features": {to_camel(name) for name in Features.model_fields}, **_VARIED}
        for section, changes in self.sections.items():
            if unknown := sorted({*changes} - allowed[section]):
                raise ValueError(
                    f"a variant cannot change {section}.{unknown[0]}. Expected one of {', '.join(sorted(allowed[section]))}"
                )
        return self


#: Fields that a variant may change in addition to those of ``features``: neither tables nor outcome nor index date.
_VARIED: Final[Mapping[str, set[str]]] = {
    "cohort": {"lookBackDays", "gapDays", "followUpDays", "conflictingLabels", "unknownPatients", "rules"},
    "data": {"duplicates", "plausibleYears", "afterDeathDays"},
}


def utilisation_names(windows: Sequence[int | None]) -> tuple[str, ...]:
    """Return the names of the utilisation columns: events, codes and days in each window.

    Examples
    --------
    >>> utilisation_names([None])
    ('utilisation: events in all history', 'utilisation: codes in all history', 'utilisation: days in all history')
    """
    spans = ["all history" if days is None else f"{days} days" for days in windows]
    return tuple(f"utilisation: {what} in {span}" for span in spans for what in ("events", "codes", "days"))
