"""The sections ``validation`` and ``bias`` of a specification: splits, folds, thresholds and intervals; groups and periods."""

from collections.abc import Collection
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from mlho.spec.types import OMITTED, ColumnName, Day, SpecPart, Yes

#: Splits whose test sets are drawn at random; those of the others follow from dates or a column.
DRAWN: Final = ("random", "stratified")


class Validation(SpecPart):
    """Validation: splits, folds, thresholds and intervals."""

    iterations: Annotated[int, Field(ge=1, le=1000)] = 20
    """Number of train/test splits, each with its own selection. Confidence scores are computed over these splits."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Fraction of the patients (of each stratum) held out in an iteration. With ``temporal``, ``rolling``, ``site`` and
    ``given``: the fraction of the training patients that an iteration leaves out, so that iterations differ."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Folds of the cross-validation inside an iteration, which chooses settings and fits calibrators and thresholds."""
    split: Literal["random", "stratified", "temporal", "rolling", "site", "given"] = "stratified"
    """``stratified`` keeps the share of patients with the outcome equal in all parts. ``temporal`` trains before a date and tests
    from that date on, ``rolling`` does so at each of ``origins``. ``site`` leaves out one value of ``splitColumn`` at a time. ``given``
    reads ``train`` and ``test``, or the number of a fold, from ``splitColumn``. Folds inside training are stratified in all but
    ``random``."""
    test_from: Annotated[Day | None, OMITTED] = None
    """First index date of the test set of ``temporal``. Default: the first day of the month from which the share of
    samples is closest to ``testFraction``."""
    origins: Annotated[Annotated[tuple[Day, ...], Field(min_length=1, max_length=100)] | None, OMITTED] = None
    """Dates of ``rolling``, ascending: each test set extends from its date to the next one, the last to the end of the data.
    Iterations use the test sets in turn."""
    split_column: Annotated[ColumnName | None, OMITTED] = None
    """Column of the labels, or else of the demographics, for ``site`` and ``given``."""
    temporal_check: Annotated[Yes | None, OMITTED] = None
    """In addition to a random or stratified split: fit the final model's setting once on the samples before the default date of
    ``testFrom`` and evaluate it on the later ones, if the index dates span more than two years. The report then states both."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all random numbers."""
    choice: Literal["best", "one-se"] = "best"
    """Choice of the setting from a grid: the best mean out-of-fold AUROC, or the simplest setting within one standard
    error of it.
    """
    bootstrap_replicates: Annotated[int, Field(ge=0, le=10_000)] = 200
    """Bootstrap replicates (of patients) for intervals without a closed form. 0 omits these intervals."""
    alert_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of samples that the fixed-alert-rate threshold flags."""
    sensitivity: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Least sensitivity of the fixed-sensitivity threshold on the training samples."""

    @property
    def is_drawn(self) -> bool:
        """Whether the test sets are drawn at random."""
        return self.split in DRAWN

    @property
    def drawn_as(self) -> Literal["random", "stratified"]:
        """How units are drawn; folds inside a split by date, site or given part are stratified."""
        return "random" if self.split == "random" else "stratified"

    @property
    def by_date(self) -> bool:
        """Whether the test sets follow from the index dates."""
        return self.split in ("temporal", "rolling")

    @property
    def drawn_fraction(self) -> float | None:
        """``testFraction`` where the test sets are random draws, which intervals of means over iterations assume; else None."""
        return self.test_fraction if self.is_drawn else None

    @model_validator(mode="after")
    def _split_has_what_it_needs(self) -> Self:
        if self.test_from is not None and self.split != "temporal":
            raise ValueError(f"testFrom requires split: temporal. Got split: {self.split}")
        if (self.origins is not None) != (self.split == "rolling"):
            raise ValueError(f"origins and split: rolling require each other. Got split: {self.split}")
        if self.origins is not None and list(self.origins) != sorted(set(self.origins)):
            raise ValueError("origins must be ascending, without duplicates")
        if self.temporal_check and not self.is_drawn:
            raise ValueError(f"temporalCheck requires split: random or stratified. Got split: {self.split}")
        if (self.split_column is not None) != (self.split in ("site", "given")):
            raise ValueError(
                f"splitColumn and split: site or given require each other. Got split: {self.split}"
            )
        return self


class Bias(SpecPart):
    """Groups and periods by which the performance is audited. Without the section: every categorical demographic, age bands and sites."""

    groups: Annotated[tuple[ColumnName, ...] | None, Field(min_length=1, max_length=32), OMITTED] = None
    """Demographics that define groups: categorical ones, and ``age`` in bands. Default: all of them, and the sites of ``split: site``."""
    columns: Annotated[tuple[ColumnName, ...], Field(max_length=32)] = ()
    """Columns of the labels or the demographics that define groups and enter no model, such as ``[race]``. Their values are taken
    as text; those with few patients count as ``other``. Not the columns of patients, persons, index date and outcome."""
    pairs: Annotated[
        tuple[Annotated[tuple[ColumnName, ...], Field(min_length=2, max_length=2)], ...],
        Field(max_length=32),
    ] = ()
    """Pairs of demographics whose combinations define groups, such as ``[[sex, race]]``."""
    references: dict[ColumnName, Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default_factory=dict
    )
    """Level with which the others of a column are compared, such as ``{sex: female}``. Default: the one with the most samples."""
    periods: Annotated[Literal["month", "quarter", "year"] | None, OMITTED] = None
    """Length of the periods of the index dates in which every group is evaluated. Default: only all patients are evaluated by
    period, with the shortest length that gives at most 24 periods."""
    replicates: Annotated[Annotated[int, Field(ge=0, le=10_000)] | None, OMITTED] = None
    """Bootstrap replicates of patients. Default: ``validation.bootstrapReplicates``."""

    def check_columns(self, demographics: Collection[str]) -> None:
        """Refuse columns that are not demographics of the specification."""
        named = {*(self.groups or ()), *(name for pair in self.pairs for name in pair), *self.references}
        if shared := sorted({*self.columns} & {*demographics}):
            raise ValueError(
                f"bias.columns names features: {', '.join(shared)}. Remove them: features.demographics define groups too"
            )
        if unknown := sorted(named - {*demographics, *self.columns, "site"}):
            raise ValueError(
                f"bias names columns that neither features.demographics nor bias.columns has: {', '.join(unknown)}"
            )
