"""RunSpec and its parts. Frozen, strict, and hashed to the run id.

The same YAML document is used locally and in a cluster. Field names are camelCase in YAML and snake_case here; the text under a field is
its documentation. Fields for locations (the data's URI) are not part of the hash: the same data elsewhere gives the same run.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import batched
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from mlho.grids import GRIDS, settings_from
from mlho.spec.checks import Leakage, Quality
from mlho.spec.cohort import OF_TIMES, Evolution
from mlho.spec.cohort import Cohort as Cohort
from mlho.spec.cohort import Index as Index
from mlho.spec.data import Data as Data
from mlho.spec.data import EarlierRun, Recalibrate
from mlho.spec.data import Tables as Tables
from mlho.spec.features import Features, Selection, Variant
from mlho.spec.gates import Gates
from mlho.spec.model_tests import Tests
from mlho.spec.reading import API_VERSION as API_VERSION
from mlho.spec.reading import parse_document, read_text
from mlho.spec.rules import BY_RULES
from mlho.spec.statements import Statements
from mlho.spec.types import MIN_CELL, OMITTED, Number, ShortName, SpecPart, refuse_repeats, refuse_several
from mlho.spec.validation import Bias
from mlho.spec.validation import Validation as Validation

RUN_ID_LENGTH: Final = 16  # hexadecimal digits: 64 bits, no collision in a store's lifetime
_ITEMS_AT_ONCE: Final = 1_000  # items of a long list converted to JSON at a time


LINEAR: Final = ("glmboost", "elasticnet")  # the first one is the default consensus classifier
ClassifierName = Literal["glmboost", "elasticnet", "xgboost", "ebm", "cox", "xgboostAft", "discreteTime"]


class Candidate(SpecPart):
    """One classifier and the grid of settings to try."""

    classifier: ClassifierName
    """``glmboost`` (MLHO's default), ``elasticnet``, ``xgboost`` or ``ebm`` (explainable boosting); with ``cohort.timeToEvent``
    ``cox`` (the default there), ``xgboostAft`` or ``discreteTime``."""
    grid: dict[str, tuple[Number, ...]] = Field(default_factory=dict)
    """Values of each setting. All combinations are tried, at most 1,000. Default: the documented grid of the classifier."""

    @model_validator(mode="after")
    def _grid_can_be_tried(self) -> Self:
        settings_from(self.grid, GRIDS[self.classifier], self.classifier)
        return self


class Consensus(SpecPart):
    """Which features are stable: selected in most iterations with the same direction of effect."""

    classifier: Literal["glmboost", "elasticnet"] | None = None
    """Linear classifier whose coefficients give odds ratios and confidence scores. By default the first linear candidate, or else
    ``glmboost``. A classifier that is not a candidate is fitted with its default grid for this purpose only: it is not compared with
    the candidates and cannot be the final model."""
    min_confidence: Annotated[int, Field(ge=1, le=100)] = 80
    """Minimum confidence score of a consensus feature."""
    max_false_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Choose the minimum score by the expected share of features without effect, estimated by shadow features: the
    lowest score at which this share is at most the given value, for example 0.1.
    """


class FinalModel(SpecPart):
    """The final model, fitted on all samples."""

    classifier: Literal["best"] | ClassifierName = "best"
    """``best``: the candidate with the best mean out-of-fold AUROC."""
    features: Literal["ranking", "consensus"] = "ranking"
    """``ranking``: features screened and ranked on all samples. ``consensus``: features with a sufficient confidence
    score; their validation takes longer.
    """


class Report(SpecPart):
    """Options of the report."""

    min_cell: Annotated[int, Field(ge=0, le=100)] = MIN_CELL
    """Groups and bins with fewer patients are suppressed, together with others from which they could be computed.
    Levels of a demographic with fewer patients count as ``other``. 0 disables suppression.
    """
    real_profiles: bool = False
    """Explain the model on real patients (without ids or dates) instead of synthetic profiles."""


class TrainingSpec(SpecPart, defer_build=False):  # built once; documents and tasks contain it
    """A training run: from events to a tested model and a report."""

    data: Data
    """Input data."""
    cohort: Cohort
    """Patients, index dates and outcome."""
    features: Features = Features()
    """Features of the model."""
    selection: Selection = Selection()
    """Selection of features."""
    validation: Validation = Validation()
    """Validation: splits, folds, thresholds and intervals."""
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=16)] = (
        Candidate(classifier="glmboost"),
    )
    """Classifiers to compare, each with a grid. The one with the best out-of-fold performance becomes the final model."""
    consensus: Consensus = Consensus()
    """Which features are stable: selected in most iterations with the same direction of effect."""
    final: FinalModel = FinalModel()
    """The final model."""
    report: Report = Report()
    """Options of the report."""
    compare_with: Annotated[EarlierRun | None, OMITTED] = None
    """An earlier run: the report then states the changes since that run. Default: none."""
    bias: Annotated[Bias | None, OMITTED] = None
    """Groups and periods by which the performance is audited."""
    gates: Gates = None
    """Bounds that the model must reach before it may be promoted to a channel. A failed gate keeps the bundle and blocks the promotion."""
    leakage: Annotated[Leakage | None, OMITTED] = None
    """The leakage sentinel. Default: findings stop the run before training, at the documented bounds."""
    quality: Annotated[Quality | None, OMITTED] = None
    """Checks of data quality before training. Default: all warn, at the documented bounds."""
    tests: Annotated[Tests | None, OMITTED] = None
    """Tests that the bundle carries: clinical cases, floors and budgets. Default: the tests that the run derives from the
    model and its data."""
    variants: Annotated[
        Annotated[tuple[Variant, ...], Field(min_length=1, max_length=32)] | None, OMITTED
    ] = None
    """The same algorithm on other windows, roll-ups, filters or code lists. The ``mlho`` command creates one run for the document
    and one for each variant, ``NAME-VARIANT``, and a table of paired differences. A custom resource is one run; write one resource
    for each."""
    evolution: Annotated[Evolution | None, OMITTED] = None
    """Evolving phenotypes. The ``mlho`` command creates one run for each window after the index date and group,
    ``NAME-FROM-TO-GROUP``, and a table and figure of the odds ratios. A custom resource is one run, with ``features.after`` and
    ``cohort.only``."""
    recalibrate: Annotated[Recalibrate | None, OMITTED] = None
    """Recalibrate a model on these data instead of training one. Fields that only training uses, such as ``candidates``, are refused."""

    @model_validator(mode="after")
    def _variants_can_be_told_apart(self) -> Self:
        kinds = {
            "variants": self.variants,
            "evolution": self.evolution,
            "cohort.outcomes": self.cohort.outcomes,
            "compareWith": self.compare_with,
            "recalibrate": self.recalibrate,
        }
        refuse_several(kinds)
        names = [variant.name for variant in self.variants or ()]
        refuse_repeats(names, "variants must not repeat a name")
        return self

    @model_validator(mode="after")
    def _index_is_plausible(self) -> Self:
        day, (first, last) = self.cohort.index.date, self.data.plausible_years
        if day is not None and not first <= day.year <= last:
            raise ValueError(f"cohort.index.date must be within data.plausibleYears ({first} to {last})")
        return self

    @model_validator(mode="after")
    def _cohort_is_possible(self) -> Self:
        if self.cohort.time_to_event is not None and "candidates" not in self.model_fields_set:
            object.__setattr__(self, "candidates", (Candidate(classifier=OF_TIMES[0]),))  # frozen, as below
        self.cohort.check_times(self)
        self.cohort.check_uses(self)
        tables = self.data.tables
        self.cohort.check_tables(labels=tables.labels, demographics=tables.demographics)
        if self.recalibrate is not None:
            self.recalibrate.check_alone(self)
        return self

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        self._check_candidates()
        self.features.check_times(
            has_index=self.cohort.has_index,
            look_back_days=self.cohort.look_back_days,
            gap_days=self.cohort.gap_days,
            drops_duplicates=self.data.duplicates == "drop",
        )
        self._check_demographics()
        self._check_consensus()
        if self.selection.ranking == "mlho-r" and len(self.features.aggregates) > 1:
            raise ValueError("selection.ranking: mlho-r is defined for one aggregate only")
        if self.selection.ranking == "mlho-r" and self.features.sequences is not None:
            raise ValueError("selection.ranking: mlho-r does not allow features.sequences. Remove one")
        return self

    def _check_candidates(self) -> None:
        names = [candidate.classifier for candidate in self.candidates]
        refuse_repeats(names, "candidates must not repeat a classifier; extend its grid instead")
        if self.final.classifier not in ("best", *names):
            raise ValueError(
                f"final.classifier must be best or one of the candidates. Got {self.final.classifier}"
            )

    def _check_demographics(self) -> None:
        known = self.features.demographics
        if known and self.data.tables.demographics is None and not self.reads_static_rows:
            raise ValueError("features.demographics requires data.tables.demographics")
        grouped = {
            name for gate in self.gates or () for name in (*(gate.group or ()), gate.groups_by) if name
        }
        audited = () if self.bias is None else self.bias.columns
        if unknown := sorted(grouped - {*known, *audited}):
            raise ValueError(
                f"gates name a group that features.demographics does not have: {', '.join(unknown)}"
            )
        if self.bias is not None:
            self.bias.check_columns(known)
        if self.tests is not None:
            self.tests.check_demographics(known)
        if self.quality is not None:
            self.quality.check_demographics(known)

    def _check_consensus(self) -> None:
        if self.final.features == "consensus" and self.validation.folds < 3:
            raise ValueError("final.features: consensus requires at least 3 validation.folds")
        against = {
            "consensus.minConfidence": self.consensus.min_confidence != Consensus().min_confidence,
            "selection.ranking: mlho-r": self.selection.ranking == "mlho-r",
            "final.features: consensus": self.final.features == "consensus",
        }
        if self.consensus.max_false_share is not None and any(against.values()):
            named = " and ".join(name for name, is_asked in against.items() if is_asked)
            raise ValueError(
                f"consensus.maxFalseShare, which chooses the score, excludes {named}. Remove one"
            )

    @model_validator(mode="after")
    def _split_is_possible(self) -> Self:
        validation = self.validation
        if validation.by_date and self.cohort.index.column is None:
            raise ValueError(f"validation.split: {validation.split} requires cohort.index.column")
        if validation.temporal_check and self.cohort.index.column is None:
            raise ValueError("validation.temporalCheck requires cohort.index.column")
        if validation.temporal_check and self.final.features == "consensus":
            raise ValueError("final.features: consensus and validation.temporalCheck exclude each other")
        if not validation.is_drawn and self.final.features == "consensus":
            raise ValueError(
                f"final.features: consensus, which is validated by folds, excludes validation.split: {validation.split}"
            )
        return self

    @model_validator(mode="after")
    def _name_the_consensus_classifier(self) -> Self:
        if self.consensus.classifier is None:
            linear = (candidate.classifier for candidate in self.candidates if candidate.classifier in LINEAR)
            named = self.consensus.model_copy(update={"classifier": next(linear, LINEAR[0])})
            object.__setattr__(self, "consensus", named)  # frozen; the default depends on the candidates
        return self

    @property
    def consensus_candidate(self) -> Candidate:
        """The consensus classifier with its grid: a candidate, or one with the default grid."""
        name = self.consensus.classifier
        assert name is not None  # set by a validator
        return next(
            (candidate for candidate in self.candidates if candidate.classifier == name),
            Candidate(classifier=name),
        )

    @property
    def fitted(self) -> tuple[Candidate, ...]:
        """All classifiers that an iteration fits: the candidates, and the consensus classifier if it is not among them."""
        candidate = self.consensus_candidate
        return self.candidates if candidate in self.candidates else (*self.candidates, candidate)

    @property
    def reads_static_rows(self) -> bool:
        """Whether demographics are read from static rows of the events, because there is no table."""
        is_static = self.data.source == "meds" and self.data.tables.demographics is None
        return is_static and bool(self.features.demographics)

    @property
    def kept_columns(self) -> tuple[str, ...]:
        """Columns of the labels or the demographics that are not features: persons, sites or parts, and columns of the audit."""
        audited = () if self.bias is None else self.bias.columns
        named = (self.cohort.group_by, self.validation.split_column, *audited)
        return tuple(dict.fromkeys(filter(None, named)))

    @property
    def further_tables(self) -> dict[str, str]:
        """Paths of inputs that are named outside ``data.tables``, by their name in the manifest."""
        of_features = {} if self.features.roll_up is None else {"rollUp": self.features.roll_up.table}
        return of_features | ({} if self.cohort.rules is None else self.cohort.rules.further_tables)

    @property
    def without_rules(self) -> Self:
        """The specification for later steps, with the labels that the rules created."""
        if self.cohort.rules is None:
            return self
        tables = self.data.tables.model_copy(update={"labels": BY_RULES})
        data = self.data.model_copy(update={"tables": tables})
        return self.model_copy(update={"cohort": self.cohort.without_rules, "data": data})

    @property
    def predicts(self) -> bool:
        """Whether features are known at the index date."""
        return self.cohort.has_index and self.features.after is None

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Windows in days, ascending; ``None`` is all history and is the last."""
        if self.features.after is not None:
            return (self.features.after.days,)
        days = tuple(sorted(self.features.windows))
        if self.features.all_history:
            return (*days, None)
        return days or (self.cohort.look_back_days,)


class Metadata(SpecPart):
    """Name and labels. Not part of the run id."""

    name: ShortName
    """Lower-case letters, digits, ``-`` and ``.``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Free labels."""


Words = Annotated[str, Field(min_length=1, max_length=4000)]


class RunMetadata(Metadata):
    """Name, labels, and descriptions for the report. Not part of the run id."""

    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Title of the report. Default: derived from the outcome."""
    description: Words | None = None
    """Purpose of the model."""
    outcome_definition: Words | None = None
    """Meaning of 1 in the outcome column, for example an unplanned readmission within 30 days."""
    follow_up: Words | None = None
    """Follow-up time for the outcome after the index date."""
    intended_use: Words | None = None
    """Intended users, patients, and time of use."""
    statements: Annotated[Statements | None, OMITTED] = None
    """Statements that only a person can make, for ``mlho dossier``: funding, ethical approval, monitoring, and so on."""

    @property
    def about(self) -> dict[str, str]:
        """The fields that the report prints, without fields that are not set."""
        fields = self.model_dump(include={*ABOUT}, exclude_none=True)
        if self.statements is not None and self.statements.out_of_scope is not None:
            fields["out_of_scope"] = self.statements.out_of_scope
        return fields and {"name": self.name, **fields}


ABOUT: Final = ("title", "description", "outcome_definition", "follow_up", "intended_use")  # for the report


class RunSpec(SpecPart):
    """The whole document."""

    api_version: Literal["mlho.io/v1alpha1"]
    kind: Literal["TrainingRun"]
    metadata: RunMetadata
    spec: TrainingSpec

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the normalised ``spec`` without the data's URI."""
        return digest_of(normalised(self.spec))


def normalised(spec: TrainingSpec) -> dict[str, Any]:
    """Return the plain values of a spec with every default filled in and without the data's URI."""
    plain: dict[str, Any] = spec.model_dump(mode="json", by_alias=True)
    del plain["data"]["uri"]
    return plain


def canonical_json(value: object) -> bytes:
    """Return UTF-8 JSON with sorted keys and no spaces, so that equal values give equal bytes. NaN and infinity are refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(value: object) -> str:
    """Return the SHA-256 (hexadecimal) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_of_fields(fields: Mapping[str, object]) -> str:
    """Return the SHA-256 (hexadecimal) of the canonical JSON of an object, which is never completely in memory.

    Examples
    --------
    >>> digest_of_fields({"b": iter([1, 2]), "a": "x"}) == digest_of({"a": "x", "b": [1, 2]})
    True
    """
    if not any(map(_has_iterator, fields.values())):
        return digest_of(fields)
    digest = hashlib.sha256()
    for part in canonical_parts(fields):
        digest.update(part)
    return digest.hexdigest()


def canonical_parts(fields: Mapping[str, object]) -> Iterator[bytes]:
    """Yield the canonical JSON of an object in parts; an iterator in it, or in an object in it, is written as the list of its
    items.

    Examples
    --------
    >>> b"".join(canonical_parts({"b": {"c": iter([1, 2])}, "a": "x"}))
    b'{"a":"x","b":{"c":[1,2]}}'
    """
    yield b"{"
    for place, name in enumerate(sorted(fields)):
        yield (b"," if place else b"") + canonical_json(name) + b":"
        yield from _parts(fields[name])
    yield b"}"


def _parts(value: object) -> Iterator[bytes]:
    if isinstance(value, Iterator):
        yield b"["
        for place, items in enumerate(batched(value, _ITEMS_AT_ONCE)):
            yield (b"," if place else b"") + canonical_json(items)[1:-1]
        yield b"]"
    elif isinstance(value, Mapping) and _has_iterator(value):
        yield from canonical_parts(value)
    else:
        yield canonical_json(value)


def _has_iterator(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(item, Iterator) for item in value.values())
    return isinstance(value, Iterator)


def run_id(spec: RunSpec, manifest: object) -> str:
    """Return the id of a run: the hash of the specification and the data manifest."""
    return digest_of({"manifest": manifest, "spec": spec.digest})[:RUN_ID_LENGTH]


def load_spec(path: Path) -> RunSpec:
    """Read a specification file.

    Raises
    ------
    SpecError
        The file is missing, is not YAML, or contains an unknown field or value; the message names the field, the
        expected value and the nearest valid name.
    """
    return parse_spec(read_text(path), where=str(path))


def parse_spec(text: str, *, where: str = "spec") -> RunSpec:
    """Parse a specification from YAML text; see :func:`load_spec`."""
    return parse_document(text, RunSpec, where=where)
