"""CEL validation rules of the custom resources, each with the schema node it belongs to.

The API server evaluates them before it stores a resource. The models check the same conditions afterwards. A
rule that uses ``oldSelf`` is evaluated on updates only.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from scheduler.api.cel_cohort_rules import COHORT_RULES
from scheduler.api.cel_gate_rules import GATE_RULES, QUALITY_RULES
from scheduler.api.cel_rule import CelRule, rules_at
from scheduler.api.channel import CHANNEL_PATTERN
from scheduler.api.resource import MIN_CPU, MIN_MEMORY

# Evaluated at the root of the resource, because only there both spec and status are visible.
_ACCEPTED: Final = (
    "has(oldSelf.status) && has(oldSelf.status.conditions) && "
    "oldSelf.status.conditions.exists(c, c.type == 'Accepted' && c.status == 'True')"
)
# Each sample has its own index date, from a column or by rules.
_HAS_COLUMN: Final = "(has(self.cohort.rules) || (has(self.cohort.index) && has(self.cohort.index.column)))"
_UNIQUE: Final = "self.all(a, self.exists_one(b, b == a))"
ROOT: Final = ""
# As in mlho.spec.scoring, which repeats the check (a test compares the two).
RESERVED_FOLDERS: Final = ("bundle", "cancel", "execution", "leader", "quarantine")


def _unique(at: str) -> CelRule:
    name = at.rsplit(".", 1)[-1]
    return CelRule(at, _UNIQUE, f"{name} must not contain duplicates")


def _inside(at: str, *tables: str, optional: Iterable[str] = ()) -> list[CelRule]:
    """Return the rules that keep each table path inside ``data.uri``."""
    rules = []
    for table in (*tables, *optional):
        guard = f"!has(self.{table}) || " if table in optional else ""
        holds = f"!self.{table}.startsWith('/') && !self.{table}.split('/').exists(part, part == '..')"
        rules.append(
            CelRule(
                at,
                f"{guard}({holds})",
                f"{table} must be a path relative to data.uri, without a leading / and without ..",
            )
        )
    return rules


def _frozen(*parts: str, optional: Iterable[str] = ()) -> list[CelRule]:
    """Return the rules that make parts immutable once the run is accepted."""
    equal = {part: f"self.spec.{part} == oldSelf.spec.{part}" for part in parts}
    # CEL's optional types would be shorter, but their estimated cost is unbounded.
    equal |= {
        part: (
            f"has(self.spec.{part}) == has(oldSelf.spec.{part}) && "
            f"(!has(self.spec.{part}) || self.spec.{part} == oldSelf.spec.{part})"
        )
        for part in optional
    }
    return [
        CelRule(
            ROOT,
            f"!({_ACCEPTED}) || ({holds})",
            f"spec.{part} cannot change once the run is accepted; create another run",
            field=f"spec.{part}",
        )
        for part, holds in equal.items()
    ]


_COMMON: Final = (
    CelRule(ROOT, "self.metadata.name.size() <= 63", "metadata.name must be at most 63 characters long"),
    CelRule(
        "spec",
        "oldSelf.desiredState != 'Cancelled' || self.desiredState == 'Cancelled'",
        "a cancelled run cannot be resumed; create a new resource, which reuses the committed results",
    ),
    *rules_at(
        "spec.data",
        (
            "self.uri.startsWith('s3://')",
            "data.uri must start with s3:// in a cluster, for example s3://bucket/cohort/",
        ),
        ("!self.uri.contains('..')", "data.uri must not contain .."),
        (
            "self.source == 'omop' || !has(self.afterDeathDays)",
            "data.afterDeathDays requires data.source: omop",
        ),
    ),
    *rules_at(
        "spec.workers",
        ("self.min <= self.max", "workers.min must not be more than workers.max"),
        (
            "!has(self.priorityClass) || has(self.kueueQueue)",
            "workers.priorityClass requires workers.kueueQueue",
        ),
    ),
    *rules_at(
        "spec.workers.resources",
        (
            f"quantity(string(self.cpu)).compareTo(quantity('{MIN_CPU}')) >= 0",
            f"workers.resources.cpu must be {MIN_CPU} or more",
        ),
        (
            f"quantity(string(self.memory)).compareTo(quantity('{MIN_MEMORY}')) >= 0",
            f"workers.resources.memory must be {MIN_MEMORY} or more",
        ),
        (
            "!has(self.maxMemory) || quantity(string(self.maxMemory)).compareTo(quantity(string(self.memory))) >= 0",
            "workers.resources.maxMemory must not be less than memory",
        ),
        (
            "!has(self.limits) || !has(self.limits.cpu) || "
            "quantity(string(self.limits.cpu)).compareTo(quantity(string(self.cpu))) >= 0",
            "workers.resources.limits.cpu must not be less than cpu",
        ),
        (
            "!has(self.limits) || !has(self.limits.ephemeralStorage) || !has(self.ephemeralStorage) || "
            "quantity(string(self.limits.ephemeralStorage)).compareTo(quantity(string(self.ephemeralStorage))) >= 0",
            "workers.resources.limits.ephemeralStorage must not be less than ephemeralStorage",
        ),
    ),
    *_frozen("data", "workers.resources", optional=("workers.kueueQueue", "workers.priorityClass")),
)


def _one_index(at: str) -> CelRule:
    return CelRule(
        at,
        "[has(self.column), has(self.date), has(self.none)].exists_one(given, given)",
        "give exactly one: {column: index_date}, {date: 2020-01-01}, or {none: true}",
    )


def _bundle_address(field: str) -> CelRule:
    return CelRule(
        f"spec.{field}",
        "self.uri.startsWith('s3://') || self.uri.matches('^run:[a-z0-9]([-a-z0-9.]*[a-z0-9])?$') || "
        "self.uri.matches('^channel:[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[0-9]+)?$')",
        f"{field}.uri must be s3://bucket/folder/, run:<run id or name> or channel:<name> in a cluster",
    )


_TRAINING: Final = (
    _one_index("spec.cohort.index"),
    _bundle_address("recalibrate.bundle"),
    *rules_at(
        "spec.cohort",
        (
            "!has(self.index) || !has(self.index.none) || !has(self.lookBackDays)",
            "lookBackDays requires an index date, but index is none",
        ),
        (
            "!has(self.index) || !has(self.index.none) || self.gapDays == 0",
            "gapDays requires an index date, but index is none",
        ),
        (
            "!has(self.lookBackDays) || self.gapDays < self.lookBackDays",
            "gapDays must be less than lookBackDays",
        ),
        (
            "!has(self.outcomes)",
            "a resource has one outcome; write one for each, with cohort.outcome and cohort.shareEncoding: true",
        ),
        (
            "!has(self.index) || !has(self.index.none) || !has(self.followUpDays)",
            "followUpDays requires an index date, but index is none",
        ),
    ),
    *rules_at(
        "spec",
        (
            "!has(self.variants) && !has(self.evolution)",
            "a resource is one run; write one resource for each variant, or for each window of the evolution with features.after",
        ),
        (
            "self.candidates.all(c, (c.classifier in ['cox', 'xgboostAft', 'discreteTime']) == has(self.cohort.timeToEvent))",
            "cohort.timeToEvent requires the candidates cox, xgboostAft and discreteTime, which require it; give candidates",
        ),
        (
            "self.final.classifier == 'best' || self.candidates.exists(c, c.classifier == self.final.classifier)",
            "final.classifier must be best or one of the candidates",
        ),
        (
            "self.features.windows.size() == 0 || !has(self.cohort.lookBackDays)",
            "features.windows and cohort.lookBackDays exclude each other; remove one of them",
        ),
        (
            "self.features.windows.size() == 0 || !has(self.cohort.index) || !has(self.cohort.index.none)",
            "features.windows requires an index date, but cohort.index is none",
        ),
        (
            "self.features.windows.all(days, days > self.cohort.gapDays)",
            "each of features.windows must be longer than cohort.gapDays",
        ),
        (
            "!has(self.features.after) || (!has(self.cohort.lookBackDays) && self.cohort.gapDays == 0 && "
            "(!has(self.cohort.index) || !has(self.cohort.index.none)))",
            "features.after requires an index date, and excludes cohort.lookBackDays and gapDays",
        ),
        (
            "!has(self.cohort.index) || !has(self.cohort.index.none) || !('recency' in self.features.aggregates)",
            "the aggregate recency requires an index date, but cohort.index is none",
        ),
        (
            "self.features.demographics.size() == 0 || has(self.data.tables.demographics) || self.data.source == 'meds'",
            "features.demographics requires data.tables.demographics",
        ),
        (
            "self.final.features != 'consensus' || self.validation.folds >= 3",
            "final.features: consensus requires at least 3 validation.folds",
        ),
        (
            "!has(self.consensus.maxFalseShare) || (self.consensus.minConfidence == 80 && self.selection.ranking != 'mlho-r' "
            "&& self.final.features != 'consensus')",
            "consensus.maxFalseShare, which chooses the score, excludes minConfidence, ranking: mlho-r and final.features: consensus",
        ),
        (
            "self.selection.ranking != 'mlho-r' || self.features.aggregates.size() == 1",
            "selection.ranking: mlho-r is defined for one aggregate only",
        ),
        (
            "!has(self.features.sequences) || !self.features.sequences.enabled || self.selection.ranking != 'mlho-r'",
            "selection.ranking: mlho-r does not allow features.sequences; remove one",
        ),
        (
            f"!has(self.validation.temporalCheck) || {_HAS_COLUMN}",
            "validation.temporalCheck requires cohort.index.column",
        ),
        (
            "!has(self.validation.temporalCheck) || self.final.features != 'consensus'",
            "final.features: consensus and validation.temporalCheck exclude each other",
        ),
        (
            f"!(self.validation.split in ['temporal', 'rolling']) || {_HAS_COLUMN}",
            "validation.split: temporal and rolling require cohort.index.column",
        ),
        (
            "self.final.features != 'consensus' || self.validation.split in ['random', 'stratified']",
            "final.features: consensus, which is validated by folds, excludes all splits except random and stratified",
        ),
    ),
    _unique("spec.features.aggregates"),
    _unique("spec.features.windows"),
    _unique("spec.features.demographics"),
    CelRule(
        "spec.features.levelCuts",
        f"self.isSorted() && {_UNIQUE} && self.all(cut, cut >= 1)",
        "levelCuts must be increasing and at least 1, for example [1, 2, 3]",
    ),
    CelRule(
        "spec.candidates",
        "self.all(a, self.exists_one(b, b.classifier == a.classifier))",
        "candidates must not repeat a classifier; extend its grid instead",
    ),
    CelRule(
        "spec.cohort.timeToEvent.horizonDays",
        f"self.isSorted() && {_UNIQUE}",
        "horizonDays must be ascending, without duplicates",
    ),
    *rules_at(
        "spec.features",
        (
            "!has(self.allHistory) || self.windows.size() > 0",
            "allHistory adds a window to windows, which is empty; remove it, or give windows",
        ),
        (
            "!has(self.after) || (self.windows.size() == 0 && !has(self.utilisation) && "
            "(!has(self.sequences) || !self.sequences.enabled))",
            "after excludes windows, utilisation and sequences; remove one of them",
        ),
        (
            "!has(self.utilisation) || !(has(self.include) || has(self.exclude) || has(self.rollUp))",
            "utilisation counts all codes, and excludes include, exclude and rollUp; remove one",
        ),
        (
            "!has(self.sequences) || !self.sequences.enabled || 'presence' in self.aggregates",
            "sequences requires the aggregate presence; add it to aggregates",
        ),
    ),
    *rules_at(
        "spec.features.sequences",
        (
            "!has(self.bands) || self.order == 'first'",
            "sequences: bands requires order: first; add it, or remove bands",
        ),
        (
            "!has(self.bands) || (self.bands.isSorted() && self.bands.all(a, self.bands.exists_one(b, b == a) && a > self.coOccurrenceDays))",
            "sequences: bands must be increasing and above coOccurrenceDays, for example [365, 1095]",
        ),
        (
            "!has(self.durations) || self.order == 'any'",
            "sequences: durations requires order: any; remove durations, or use bands",
        ),
    ),
    CelRule(
        "spec.leakage",
        "!has(self.allow) || self.allow.size() == 0 || self.action == 'block'",
        "leakage.allow requires leakage.action: block; with warn no finding stops the run",
    ),
    *rules_at(
        "spec.data",
        (
            "self.plausibleYears[0] <= self.plausibleYears[1]",
            "plausibleYears must be the first and the last year, such as [1900, 2299]",
        ),
        (
            "self.source != 'omop' || has(self.tables.demographics)",
            "data.source: omop requires data.tables.demographics, the table person of the CDM",
        ),
        (
            "self.source != 'omop' || !has(self.columns) || (!has(self.columns.events) && !has(self.columns.concepts))",
            "data.source: omop excludes data.columns.events and concepts, whose column names are those of the CDM",
        ),
    ),
    *rules_at(
        "spec.validation",
        ("!has(self.testFrom) || self.split == 'temporal'", "testFrom requires split: temporal"),
        ("has(self.origins) == (self.split == 'rolling')", "origins and split: rolling require each other"),
        (
            "!has(self.temporalCheck) || self.split in ['random', 'stratified']",
            "temporalCheck requires split: random or stratified",
        ),
        (
            "has(self.splitColumn) == (self.split in ['site', 'given'])",
            "splitColumn and split: site or given require each other",
        ),
    ),
    CelRule(
        "spec.validation.origins",
        f"self.isSorted() && {_UNIQUE}",
        "origins must be ascending, without duplicates",
    ),
    *rules_at(
        "spec.data.format",
        (
            "self.dateFormats.all(f, f == 'iso' || f.matches('^([^%]|%[YmdbBHIMSfpz])*$'))",
            "a date format has %Y %m %d %b %B %H %I %M %S %f %p %z and literal characters, such as %d.%m.%Y",
        ),
        (
            "self.dateFormats.all(f, f == 'iso' || (f.contains('%Y') && f.contains('%d') && f.matches('%[mbB]')))",
            "a date format has a year (%Y), a month (%m, %b or %B) and a day (%d), such as %d.%m.%Y",
        ),
        (
            "self.dateFormats.all(f, f == 'iso' || (['%Y', '%d', '%H', '%I', '%M', '%S', '%f', '%p', '%z'].all(part, "
            "f.split(part).size() <= 2) && !f.matches('%[mbB].*%[mbB]')))",
            "a date format has each of %Y %d %H %I %M %S %f %p %z, and one of %m %b %B, at most once",
        ),
        (
            "self.dateFormats.all(f, f.contains('%I') == f.contains('%p') && (!f.matches('%[MSfz]') || f.matches('%[HI]')))",
            "in a date format, %I and %p require each other, and %M, %S, %f and %z require an hour: %H, or %I and %p",
        ),
    ),
    _unique("spec.data.format.dateFormats"),
    *COHORT_RULES,
    *_inside("spec.data.tables", "events", optional=("labels", "demographics", "concepts")),
    *_inside("spec.features.rollUp", "table"),
    *_inside("spec.cohort.rules", optional=("hierarchy",)),
    *_inside("spec.cohort.rules.observation", optional=("periods",)),
    *GATE_RULES,
    *QUALITY_RULES,
    *_frozen(
        "cohort",
        "features",
        "selection",
        "validation",
        "candidates",
        "consensus",
        "final",
        "report",
        optional=("bias", "compareWith", "gates", "leakage", "quality", "recalibrate", "tests"),
    ),
)

_SCORING: Final = (
    _one_index("spec.index"),
    *rules_at(
        "spec",
        (
            "!has(self.index.column) || has(self.data.tables.cohort)",
            "index.column requires data.tables.cohort, the table that contains the column",
        ),
        (
            "!has(self.index.none) || !has(self.output.formats) || !('fhir' in self.output.formats)",
            "output.formats: fhir requires index dates, because a RiskAssessment is a prediction; remove fhir, or give an index date",
        ),
    ),
    *(_bundle_address(field) for field in ("bundle", "compareWith")),
    *rules_at(
        "spec.output",
        (
            f"!(self.prefix in {sorted(RESERVED_FOLDERS)})",
            "output.prefix is reserved for the run's own files; choose another name",
        ),
        (
            "!has(self.patientSystem) || (has(self.formats) && 'fhir' in self.formats)",
            "output.patientSystem is written only into FHIR resources; add fhir to formats, or remove it",
        ),
    ),
    _unique("spec.output.formats"),
    CelRule(
        "spec.explain",
        "!has(self.onlyAlertsOf) || self.topReasons >= 1",
        "explain.onlyAlertsOf requires topReasons of at least 1",
    ),
    CelRule(
        "spec.data",
        "self.source != 'omop' || !has(self.columns) || !has(self.columns.events)",
        "data.source: omop excludes data.columns.events, whose column names are those of the CDM",
    ),
    *_inside("spec.data.tables", "events", optional=("cohort", "demographics")),
    *_frozen("bundle", "index", "explain", "output", "checks", optional=("compareWith",)),
)

_CHANNEL: Final = (
    CelRule(
        ROOT,
        f"has(self.spec.channel) || self.metadata.name.matches('{CHANNEL_PATTERN}')",
        "metadata.name is not a valid channel name (at most 63 lower-case letters, digits and -): give spec.channel",
        field="spec.channel",
    ),
)

RULES: Final[Mapping[str, tuple[CelRule, ...]]] = {
    "TrainingRun": (*_COMMON, *_TRAINING),
    "ScoringRun": (*_COMMON, *_SCORING),
    "ModelChannel": _CHANNEL,
}


def add_rules(schema: dict[str, Any], rules: Iterable[CelRule]) -> None:
    """Add each rule to its node of a rendered schema. Raise KeyError if the schema has no such node."""
    for rule in rules:
        node = schema
        for part in filter(None, rule.at.split(".")):
            node = node["properties"][part]
        node.setdefault("x-kubernetes-validations", []).append(rule.plain())
