"""The section ``data`` of a specification: where the tables are, and how they are laid out."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic.fields import FieldInfo

from mlho.spec.layout import PATIENT, Columns, Format, SourceName
from mlho.spec.types import OMITTED, PLAUSIBLE_YEARS, Address, SpecPart, TablePattern, Year

AfterDeathDays = Annotated[int | None, Field(ge=0, le=3650), OMITTED]


def refuse_other_layout(source: str, *, has_names: bool, after_death_days: int | None) -> None:
    """Refuse fields that the layout does not have.

    Raise ValueError if a field does not fit the source.

    Parameters
    ----------
    has_names : bool
        Whether ``data.columns`` names columns of the events or the concepts.
    """
    if source == "omop" and has_names:
        raise ValueError(
            "data.source: omop excludes data.columns.events and concepts, whose column names are those of the CDM"
        )
    if source != "omop" and after_death_days is not None:
        raise ValueError("data.afterDeathDays requires data.source: omop")


class Tables(SpecPart):
    """Location of each table relative to ``data.uri``: a file, a folder (read recursively) or a glob pattern."""

    events: TablePattern
    """Events: patient, time, code, and optionally a numeric value."""
    labels: Annotated[TablePattern | None, OMITTED] = None
    """Labels: patient, outcome columns, and optionally an index date, a fold or a site. Required without ``cohort.rules``."""
    demographics: TablePattern | None = None
    """Demographics: one row per patient."""
    concepts: TablePattern | None = None
    """Concepts: code, description, optional reference range (low, high) and parent."""


class Data(SpecPart):
    """Input data."""

    source: SourceName = "native"
    """Layout of the tables. ``native``: column names of mlho-batch. ``dbmart``: the tables and column names of R MLHO. ``meds``: a
    MEDS 0.4 data set and label files. ``i2b2``: ``observation_fact``, ``concept_dimension`` and ``patient_dimension``. ``omop``: a
    folder of OMOP CDM 5.3 or 5.4 tables as ``tables.events``, ``person`` as ``tables.demographics``, ``concept`` as
    ``tables.concepts``."""
    uri: Address = "."
    """Folder of the tables. A relative path is relative to the specification file. Not part of the run id."""
    tables: Tables
    columns: Annotated[Columns | None, OMITTED] = None
    """Column names of your files where they differ from those of ``source``: ``events: {patient_id: MRN, time:
    EVENT_DT}``.
    """
    format: Annotated[Format | None, OMITTED] = None
    """Separator and encoding of CSV files, and the form of dates and times."""
    partitioned_by: Literal["nothing", "patient"] = "nothing"
    """``patient`` asserts that all events of a patient are in one partition. The run verifies this and fails if it
    does not hold.
    """
    duplicates: Literal["keep", "drop"] = "keep"
    """``drop`` counts a code at most once per patient and day. ``keep`` counts all rows, as R MLHO does."""
    plausible_years: Annotated[tuple[Year, ...], Field(min_length=2, max_length=2)] = PLAUSIBLE_YEARS
    """First and last plausible year of events and index dates. Rows outside this range are dropped by a named rule. Dates that were
    shifted into the future to protect patients, up to 2299, are plausible.
    """
    after_death_days: AfterDeathDays = None
    """With ``omop``: number of days after a death in which events are still used. Later events are dropped by the rule "after
    death". Default: 60.
    """

    @model_validator(mode="after")
    def _is_of_one_layout(self) -> Self:
        if self.source == "omop" and self.tables.demographics is None:
            raise ValueError(
                "data.source: omop requires data.tables.demographics, the table person of the CDM"
            )
        names = self.columns
        refuse_other_layout(
            self.source,
            has_names=bool(names and (names.events or names.concepts)),
            after_death_days=self.after_death_days,
        )
        return self

    @property
    def patient_columns(self) -> frozenset[str]:
        """Names of the column of the patients in the labels and the demographics."""
        columns = self.columns or Columns()
        of_labels = None if columns.labels is None else columns.labels.patient_id
        of_persons = (columns.demographics or {}).get("patient_id")
        return frozenset(filter(None, ("patient_id", PATIENT[self.source], of_labels, of_persons)))

    @model_validator(mode="after")
    def _years_rise(self) -> Self:
        if self.plausible_years[0] > self.plausible_years[1]:
            raise ValueError("plausibleYears must be the first and the last year, such as [1900, 2299]")
        return self


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]


class BundleSource(SpecPart):
    """The model."""

    uri: Address
    """Folder of the bundle (a relative path is relative to the specification file), its address in object storage, or
    ``run:<run id>`` for the bundle of a training run in the same store; ``run:<name>`` means the newest training run of that
    name when the run is submitted. ``channel:<name>`` means the model that the channel shows when the run is
    submitted, and ``channel:<name>/<number>`` the model of that entry. The field itself is not part of the run id; the bundle's
    digest is, and the run records it."""
    digest: Digest | None = None
    """Required SHA-256 of the bundle, as printed by ``mlho run`` and in ``bundle.sha256``. A different bundle is rejected."""


class EarlierRun(SpecPart):
    """The run with which the report compares this one."""

    uri: Annotated[
        str, StringConstraints(pattern=r"^(run|channel):[a-z0-9]([-a-z0-9./]*[a-z0-9])?$", max_length=128)
    ]
    """``run:<name>``, the newest finished training run of that name in the same store, ``run:<run id>``, or ``channel:<name>``, the run
    whose model the channel shows. It is looked up when the run is submitted; the run records the id that was found."""
    digest: Digest | None = None
    """Required result digest of that run. The run records it; a different result is rejected."""


class Recalibrate(SpecPart):
    """Fit a new calibrator to an existing model instead of training a model."""

    bundle: BundleSource
    """The model to recalibrate, usually ``channel:production``."""
    correction: Literal["line", "intercept"] = "line"
    """Correction of the log-odds: ``line`` fits an intercept and a slope; ``intercept`` fits an intercept and keeps the slope."""

    def check_alone(self, spec: BaseModel) -> None:
        """Refuse sections of a training specification that a recalibration would ignore."""
        if names := training_only(spec):
            raise ValueError(
                f"recalibrate fits a new calibrator to an existing model, so {', '.join(names)} would be ignored. Remove them, or "
                "remove recalibrate to train a model"
            )


#: Fields of a training specification that describe labelled data for an existing model, by section; None means the whole section.
#: Variants and evolution, which specify several runs, are refused elsewhere.
_OF_LABELLED_DATA: Final[dict[str, tuple[str, ...] | None]] = {
    **dict.fromkeys(("data", "cohort", "bias", "gates", "recalibrate", "variants", "evolution")),
    "features": ("demographics", "categorical"),
    "validation": ("seed", "bootstrap_replicates"),
    "report": ("min_cell",),
}
_OF_SITES: Final = ("split", "split_column")


def training_only(spec: BaseModel) -> list[str]:
    """Return the fields that the user has set in a training specification and that only training uses.

    A field with its default value does not count, because an API server fills in defaults.
    """
    return [
        field.alias or name if section is None else f"{section}.{field.alias or name}"
        for section, name, field in _training_fields(spec)
        if (section or name) in spec.model_fields_set
    ]


def without_training[Spec: BaseModel](spec: Spec) -> Spec:
    """Return a training specification with the default of each field that only training uses."""
    changed: dict[str, dict[str, object]] = {}
    whole = {}
    for section, name, field in _training_fields(spec):
        if section is None:
            whole[name] = field.get_default(call_default_factory=True)
        else:
            changed.setdefault(section, {})[name] = field.get_default(call_default_factory=True)
    parts = {name: getattr(spec, name).model_copy(update=defaults) for name, defaults in changed.items()}
    return spec.model_copy(update=whole | parts)


def _training_fields(spec: BaseModel) -> Iterator[tuple[str | None, str, FieldInfo]]:
    """Yield section and name of each field that only training uses and that is not at its default; None and the name for a section."""
    for name, field in type(spec).model_fields.items():
        value, kept = getattr(spec, name), _OF_LABELLED_DATA.get(name, ())
        if kept is None:
            continue
        if not kept:
            if value != field.get_default(call_default_factory=True):
                yield None, name, field
            continue
        if name == "validation" and value.split == "site":
            kept = (*kept, *_OF_SITES)
        for part, inner in type(value).model_fields.items():
            if part not in kept and getattr(value, part) != inner.get_default(call_default_factory=True):
                yield name, part, inner
