"""ScoringRunSpec and its parts: the patients, the bundle, and the output. As strict as :mod:`mlho.spec.training`."""

import datetime as dt
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from mlho.errors import SpecError
from mlho.spec.data import AfterDeathDays, refuse_other_layout
from mlho.spec.data import BundleSource as BundleSource
from mlho.spec.layout import Format, ScoringColumns, SourceName
from mlho.spec.reading import parse_document, parse_mapping
from mlho.spec.training import RUN_ID_LENGTH, Index, Metadata, RunSpec, digest_of
from mlho.spec.types import (
    OMITTED,
    PLAUSIBLE_YEARS,
    Address,
    ColumnName,
    Day,
    SpecPart,
    TablePattern,
    Yes,
    refuse_repeats,
)

#: How a bundle of a run in the same store is named: ``run:<run id>``, or ``run:<name>`` for the newest run of that name.
RUN_BUNDLE: Final = "run:"
#: How the model of a channel is named: ``channel:NAME`` for the one in use, or ``channel:NAME/K`` for that of entry K.
CHANNEL_BUNDLE: Final = "channel:"
RUN_ID: Final = re.compile(rf"[0-9a-f]{{{RUN_ID_LENGTH}}}")
_EARLIEST_ZONE: Final = dt.timedelta(hours=14)  # Kiribati, where each day begins first
# Other names in a run's folder, which scores must not overwrite.
_RESERVED: Final = frozenset({"bundle", "cancel", "execution", "leader", "quarantine"})

FolderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class ScoringTables(SpecPart):
    """Location of each table relative to ``data.uri``: a file, a folder (read recursively) or a glob pattern."""

    events: TablePattern
    """Events: patient, time, code, and a numeric value where the bundle uses values. One file is one partition."""
    cohort: TablePattern | None = None
    """Cohort table: the patients to score and, with ``index.column``, their index dates. Default: all patients with an event."""
    demographics: TablePattern | None = None
    """Demographics: one row per patient, with the columns that the bundle uses. With ``source: meds`` and without a table they are
    read from the codes of the events."""


class ScoringData(SpecPart):
    """Input data."""

    source: SourceName = "native"
    """Layout of the tables. ``native``: column names of mlho-batch. ``dbmart``: the tables and column names of R MLHO. ``meds``: a
    MEDS 0.4 data set and label files. ``i2b2``: ``observation_fact``, ``concept_dimension`` and ``patient_dimension``. ``omop``: a
    folder of OMOP CDM 5.3 or 5.4 tables as ``tables.events``, which is scored as one partition."""
    uri: Address = "."
    """Folder of the tables. A relative path is relative to the specification file. Not part of the run id."""
    tables: ScoringTables
    columns: Annotated[ScoringColumns | None, OMITTED] = None
    """Column names of your files where they differ from those of ``source``. The bundle does not contain those of its
    training tables.
    """
    format: Annotated[Format | None, OMITTED] = None
    """Separator and encoding of CSV files, and the form of dates and times; not necessarily those of training."""
    partitioned_by: Literal["patient"]
    """``patient``, stated explicitly: all events of a patient are in one partition, because each partition is scored
    separately. This is verified before publication.
    """
    after_death_days: AfterDeathDays = None
    """As in training, with ``omop``: number of days after a death in which events are still used. Default: 60."""

    @model_validator(mode="after")
    def _is_of_one_layout(self) -> Self:
        has_names = self.columns is not None and self.columns.events is not None
        refuse_other_layout(self.source, has_names=has_names, after_death_days=self.after_death_days)
        return self


class ScoringIndex(Index):
    """The index date, up to and including which data may be used. Set exactly one of the three fields; it must match the bundle."""

    column: ColumnName | None = None
    """A column of the cohort table. A date includes its whole day; a timestamp means up to and including that instant."""
    date: Day | None = None
    """One date for all patients. The whole day is included."""
    none: Yes | None = None
    """Use all events of each patient, for a bundle that was trained without index dates. In a file, ``index: none`` is
    short for ``{none: true}``.
    """


class Explain(SpecPart):
    """Explanation of each score."""

    top_reasons: Annotated[int, Field(ge=0, le=50)] = 5
    """Number of features to report for each score: those with the largest effect on its log-odds. 0 reports none and
    is faster.
    """
    only_alerts_of: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=64)] | None, OMITTED
    ] = None
    """Explain only the samples that alert by this threshold of the bundle, such as ``fixed-alert-rate:0.1``; the others have an
    empty list of reasons. This saves most of the time spent on explanations."""

    @model_validator(mode="after")
    def _explains_something(self) -> Self:
        if self.only_alerts_of is not None and self.top_reasons == 0:
            raise ValueError("onlyAlertsOf needs topReasons of at least 1")
        return self


class Output(SpecPart):
    """Location and formats of the scores."""

    prefix: FolderName = "scores"
    """Folder of the parts and their manifest, under ``runs/<run id>/`` of the store. Lower-case letters, digits, ``-``."""
    formats: Annotated[
        tuple[Literal["csv", "fhir"], ...] | None, Field(min_length=1, max_length=2), OMITTED
    ] = None
    """Formats in addition to Parquet, one object for each part: ``csv``, or ``fhir`` for FHIR R4 ``RiskAssessment`` resources as NDJSON, which need index
    dates."""
    patient_system: Annotated[Address | None, OMITTED] = None
    """With ``fhir``: the namespace of the patients' identifiers, a URI (``subject.identifier.system``). Default: none."""

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if self.prefix in _RESERVED:
            raise ValueError(
                f"prefix may not be {', '.join(sorted(_RESERVED))}: a run keeps its own files there"
            )
        if self.patient_system is not None and "fhir" not in (self.formats or ()):
            raise ValueError(
                "patientSystem is written only into FHIR resources. Add fhir to formats, or remove patientSystem"
            )
        refuse_repeats(self.formats or (), "formats must not repeat a format")
        return self


class PreviousNights(SpecPart):
    """The runs with which a night is compared: the finished runs in the store that have the same name with an earlier date."""

    nights: Annotated[int, Field(ge=1, le=60)] = 7
    """Number of previous nights to compare with, the latest first. The first night of a name is not compared."""
    min_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Minimum number of event rows, as a share of the median of these nights."""
    new_events: Annotated[Yes | None, OMITTED] = None
    """Also refuse the run if its event files are identical to those of the night before, which shows that the extract was not
    renewed."""


class Completeness(SpecPart):
    """Conditions for the tables of a night to be complete. Until then nothing is scored, and the same run can be repeated."""

    partitions: Annotated[tuple[TablePattern, ...], Field(max_length=64)] = ()
    """Patterns such as ``events/north-*``, relative to ``data.uri``: at least one file of events must match each."""
    min_files: Annotated[int, Field(ge=1)] | None = None
    """Minimum number of event files."""
    min_rows: Annotated[int, Field(ge=1)] | None = None
    """Minimum number of event rows."""
    min_samples: Annotated[int, Field(ge=1)] | None = None
    """Minimum number of samples to score."""
    previous_nights: PreviousNights | None = None
    """Compare the event rows with those of previous nights. The name of the run must end with its date, such as
    ``nightly-2026-11-24``, as ``mlho score --as-of`` and schedules name it."""


class Checks(SpecPart):
    """Checks of all scores before publication."""

    empty_samples: Literal["fail", "warn"] = "fail"
    """Action if the share of samples without any usable event exceeds that of training by more than 20 percentage points, beyond chance. ``fail``
    publishes nothing, because dates, codes or partitioning then usually differ from training. ``warn`` publishes the scores with a
    warning. Bundles that do not record the share are not checked. It also applies to events without any code of the bundle, and to demographics
    in which no value of a column is a level of the bundle."""
    complete: Annotated[Completeness | None, OMITTED] = None
    """When the tables of a night count as complete. Default: each named table has a file."""
    future_date: Annotated[Literal["allow"] | None, OMITTED] = None
    """``allow``: accept an ``index.date`` after today, for data whose dates were shifted into the future to protect patients.
    Without ``allow`` such a date is refused when the run is submitted, because events up to it are not yet recorded."""


class ScoringSpec(SpecPart):
    """A scoring run: from a bundle and new events to a calibrated probability for each sample."""

    bundle: BundleSource
    compare_with: Annotated[BundleSource | None, OMITTED] = None
    """Another bundle that scores the same samples, usually the model in use (``channel:production``) when ``bundle`` is its
    challenger. ``comparison.json`` contains the differences; the run does not publish the scores of this bundle."""
    data: ScoringData
    index: ScoringIndex
    """The index date, up to and including which data may be used: ``{date: 2026-11-24}``, ``{column: index_date}`` of
    the cohort table, or ``none``, stated explicitly. A bundle that was trained with index dates requires an index date; a bundle
    that was trained without them requires ``none``.
    """
    explain: Explain = Explain()
    output: Output = Output()
    checks: Checks = Checks()

    @model_validator(mode="after")
    def _fhir_needs_dates(self) -> Self:
        if self.index.none is not None and "fhir" in (self.output.formats or ()):
            raise ValueError(
                "output.formats: fhir needs index dates, because a RiskAssessment is a prediction; without them the "
                "scores are associations. Leave fhir out, or use a bundle with index dates"
            )
        return self

    @model_validator(mode="after")
    def _column_needs_a_cohort(self) -> Self:
        if self.index.column is not None and self.data.tables.cohort is None:
            raise ValueError(
                "index.column requires data.tables.cohort, the table that contains the column. Give the table, or one "
                "date for all patients: index: {date: 2026-11-24}"
            )
        return self


class ScoringRunSpec(SpecPart):
    """The whole document."""

    api_version: Literal["mlho.io/v1alpha1"]
    kind: Literal["ScoringRun"]
    metadata: Metadata
    spec: ScoringSpec


def normalised(spec: ScoringSpec) -> dict[str, Any]:
    """Return the plain values of a spec with every default filled in, without the locations of the bundle and the data.

    Checks are included only if they differ from the default, so that runs from before this field keep their ids.
    """
    plain: dict[str, Any] = spec.model_dump(mode="json", by_alias=True)
    del plain["bundle"], plain["data"]["uri"]
    plain.pop("compareWith", None)
    if spec.checks == Checks():
        del plain["checks"]
    return plain


def scoring_run_id(
    spec: ScoringSpec, manifest: object, bundle_digest: str, compared: str | None = None
) -> str:
    """Return the id of a scoring run: the hash of the specification, the manifest and the bundles."""
    identity = {"bundle": bundle_digest, "kind": "ScoringRun", "manifest": manifest, "spec": normalised(spec)}
    identity |= {} if compared is None else {"comparedWith": compared}
    return digest_of(identity)[:RUN_ID_LENGTH]


def parse_scoring_spec(text: str, *, where: str = "spec") -> ScoringRunSpec:
    """Parse the specification of a scoring run from YAML text."""
    return parse_document(text, ScoringRunSpec, where=where)


def parse_any_spec(text: str, *, where: str = "spec") -> RunSpec | ScoringRunSpec:
    """Parse a specification of either kind from YAML text; see :func:`mlho.spec.training.parse_spec`."""
    if parse_mapping(text, where=where).get("kind") == "ScoringRun":
        return parse_document(text, ScoringRunSpec, where=where)
    return parse_document(text, RunSpec, where=where)


def check_not_future(spec: ScoringSpec, now: dt.datetime) -> None:
    """Refuse an index date that has not yet begun in any time zone.

    Raise SpecError if the date is in the future, and ``checks.futureDate`` does not allow it.

    Parameters
    ----------
    now : datetime
        With a time zone.
    """
    latest = (now.astimezone(dt.UTC) + _EARLIEST_ZONE).date()
    if spec.index.date is not None and spec.index.date > latest and spec.checks.future_date is None:
        raise SpecError(
            f"index.date: in the future. Expected {latest} or earlier, because later events are not yet recorded; got "
            f"{spec.index.date}. Correct it, or for data with shifted dates set checks: {{futureDate: allow}}."
        )


def check_fits(spec: ScoringSpec, document: dict[str, Any]) -> None:
    """Refuse a specification that does not fit the bundle.

    Raise SpecError if the index is of a different kind than in training, or the bundle uses demographics and no table is named.

    Parameters
    ----------
    document : dict
        The bundle's ``bundle.json`` as plain values.
    """
    kind = document["scoring"]["indexKind"]
    if kind == "none" and spec.index.none is None:
        raise SpecError(
            "index: the bundle was trained with index: none, so it uses all events of a patient. Expected index: none; "
            f"got {'a date' if spec.index.date else 'a column'}. Correct index, or use a bundle with index dates."
        )
    if kind != "none" and spec.index.none is not None:
        raise SpecError(
            f"index: the bundle was trained with an index {kind}. Expected {{date: 2026-11-24}} or a column of the cohort "
            "table; got none. State the date up to which data may be used."
        )
    first, last = document["scoring"].get("plausibleYears", PLAUSIBLE_YEARS)
    if spec.index.date is not None and not first <= spec.index.date.year <= last:
        raise SpecError(
            f"index.date: expected a year from {first} to {last}, as in training (data.plausibleYears); got {spec.index.date}. "
            "Correct it."
        )
    names = [str(entry["name"]) for entry in document["demographics"] or ()]
    if names and spec.data.tables.demographics is None and spec.data.source != "meds":
        raise SpecError(
            f"data.tables.demographics: the bundle uses demographics. Expected a table of patient_id, {', '.join(names)}; got "
            "none. Add the table; single values may be missing."
        )
