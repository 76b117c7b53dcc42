"""What the API server itself checks of a custom resource: rules in CEL, each with the place where it stands.

They say before a run is accepted what the models would say after. A rule with ``oldSelf`` is asked on updates only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scheduler.api.resource import MIN_CPU, MIN_MEMORY

# Evaluated at the root of the resource, where spec and status are both seen.
_ACCEPTED: Final = (
    "has(oldSelf.status) && has(oldSelf.status.conditions) && "
    "oldSelf.status.conditions.exists(c, c.type == 'Accepted' && c.status == 'True')"
)
_UNIQUE: Final = "self.all(a, self.exists_one(b, b == a))"
ROOT: Final = ""
# As in mlho.spec.scoring, whose own check says the same after the fact (a test compares).
RESERVED_FOLDERS: Final = ("bundle", "cancel", "execution", "leader", "quarantine")


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes
    ----------
    at : str
        Path of the schema node that it is asked of, such as ``spec.cohort``; empty is the resource.
    rule : str
        CEL; true is well.
    message : str
        What the user reads when it is not.
    field : str
        Path of the field to name, below ``at``; empty is the node itself.
    """

    at: str
    rule: str
    message: str
    field: str = ""

    def plain(self) -> dict[str, str]:
        """As it stands in the schema."""
        own = {"rule": self.rule, "message": self.message}
        return own | ({"fieldPath": f".{self.field}"} if self.field else {})


def _unique(at: str) -> Rule:
    name = at.rsplit(".", 1)[-1]
    return Rule(at, _UNIQUE, f"{name} names something twice")


def _inside(at: str, *tables: str, optional: Iterable[str] = ()) -> list[Rule]:
    """Each table is a path below ``data.uri`` and cannot climb out of it."""
    rules = []
    for table in (*tables, *optional):
        guard = f"!has(self.{table}) || " if table in optional else ""
        holds = f"!self.{table}.startsWith('/') && !self.{table}.split('/').exists(part, part == '..')"
        rules.append(
            Rule(at, f"{guard}({holds})", f"{table} is a path below data.uri: no leading / and no .. in it")
        )
    return rules


def _frozen(*parts: str, optional: Iterable[str] = ()) -> list[Rule]:
    """Parts that stay as they are from the moment at which the run is accepted."""
    equal = {part: f"self.spec.{part} == oldSelf.spec.{part}" for part in parts}
    # CEL's optional types would say it shorter; their cost is estimated as unbounded.
    equal |= {
        part: (
            f"has(self.spec.{part}) == has(oldSelf.spec.{part}) && "
            f"(!has(self.spec.{part}) || self.spec.{part} == oldSelf.spec.{part})"
        )
        for part in optional
    }
    return [
        Rule(
            ROOT,
            f"!({_ACCEPTED}) || ({holds})",
            f"spec.{part} cannot change once the run is accepted; create another run",
            field=f"spec.{part}",
        )
        for part, holds in equal.items()
    ]


_COMMON: Final = (
    Rule(ROOT, "self.metadata.name.size() <= 63", "metadata.name must be at most 63 characters long"),
    Rule(
        "spec",
        "oldSelf.desiredState != 'Cancelled' || self.desiredState == 'Cancelled'",
        "a cancelled run stays cancelled; create another one, which goes on from what is committed",
    ),
    Rule(
        "spec.data",
        "self.uri.startsWith('s3://')",
        "data.uri must begin with s3:// in a cluster, such as s3://bucket/cohort/",
    ),
    Rule("spec.data", "!self.uri.contains('..')", "data.uri must not contain .."),
    Rule("spec.workers", "self.min <= self.max", "workers.min must not be more than workers.max"),
    Rule(
        "spec.workers",
        "!has(self.priorityClass) || has(self.kueueQueue)",
        "workers.priorityClass is Kueue's, and workers.kueueQueue is not given",
    ),
    Rule(
        "spec.workers.resources",
        f"quantity(string(self.cpu)).compareTo(quantity('{MIN_CPU}')) >= 0",
        f"workers.resources.cpu must be {MIN_CPU} or more",
    ),
    Rule(
        "spec.workers.resources",
        f"quantity(string(self.memory)).compareTo(quantity('{MIN_MEMORY}')) >= 0",
        f"workers.resources.memory must be {MIN_MEMORY} or more",
    ),
    Rule(
        "spec.workers.resources",
        "!has(self.maxMemory) || quantity(string(self.maxMemory)).compareTo(quantity(string(self.memory))) >= 0",
        "workers.resources.maxMemory must not be less than memory",
    ),
    Rule(
        "spec.workers.resources",
        "!has(self.limits) || !has(self.limits.cpu) || "
        "quantity(string(self.limits.cpu)).compareTo(quantity(string(self.cpu))) >= 0",
        "workers.resources.limits.cpu must not be less than cpu",
    ),
    Rule(
        "spec.workers.resources",
        "!has(self.limits) || !has(self.limits.ephemeralStorage) || !has(self.ephemeralStorage) || "
        "quantity(string(self.limits.ephemeralStorage)).compareTo(quantity(string(self.ephemeralStorage))) >= 0",
        "workers.resources.limits.ephemeralStorage must not be less than ephemeralStorage",
    ),
    *_frozen("data", "workers.resources", optional=("workers.kueueQueue", "workers.priorityClass")),
)


def _one_index(at: str) -> Rule:
    return Rule(
        at,
        "[has(self.column), has(self.date), has(self.none)].exists_one(given, given)",
        "give exactly one: {column: index_date}, {date: 2020-01-01}, or {none: true}",
    )


_TRAINING: Final = (
    _one_index("spec.cohort.index"),
    Rule(
        "spec.cohort",
        "!has(self.index.none) || !has(self.lookBackDays)",
        "lookBackDays counts from an index date, and index is none",
    ),
    Rule(
        "spec.cohort",
        "!has(self.index.none) || self.gapDays == 0",
        "gapDays counts from an index date, and index is none",
    ),
    Rule(
        "spec.cohort",
        "!has(self.lookBackDays) || self.gapDays < self.lookBackDays",
        "gapDays must be less than lookBackDays",
    ),
    _unique("spec.features.aggregates"),
    _unique("spec.features.windows"),
    _unique("spec.features.demographics"),
    Rule(
        "spec.features.levelCuts",
        f"self.isSorted() && {_UNIQUE} && self.all(cut, cut >= 1)",
        "levelCuts must rise from 1 or more, such as [1, 2, 3]",
    ),
    Rule(
        "spec.candidates",
        "self.all(a, self.exists_one(b, b.classifier == a.classifier))",
        "candidates: each classifier once; widen its grid instead of naming it twice",
    ),
    Rule(
        "spec",
        "self.candidates.exists(c, c.classifier == self.consensus.classifier)",
        "consensus.classifier must be a candidate",
    ),
    Rule(
        "spec",
        "self.final.classifier == 'best' || self.candidates.exists(c, c.classifier == self.final.classifier)",
        "final.classifier must be best or a candidate",
    ),
    Rule(
        "spec",
        "self.features.windows.size() == 0 || !has(self.cohort.lookBackDays)",
        "features.windows and cohort.lookBackDays both say the window; give one of them",
    ),
    Rule(
        "spec",
        "self.features.windows.size() == 0 || !has(self.cohort.index.none)",
        "features.windows count from an index date, and cohort.index is none",
    ),
    Rule(
        "spec",
        "self.features.windows.all(days, days > self.cohort.gapDays)",
        "features.windows must each be longer than cohort.gapDays",
    ),
    Rule(
        "spec",
        "self.features.demographics.size() == 0 || has(self.data.tables.demographics)",
        "features.demographics names columns, and data.tables.demographics is not given",
    ),
    Rule(
        "spec",
        "self.final.features != 'consensus' || self.validation.folds >= 3",
        "final.features: consensus needs validation.folds of 3 or more to be judged",
    ),
    Rule(
        "spec",
        "!has(self.consensus.maxFalseShare) || (self.consensus.minConfidence == 80 && self.selection.ranking != 'mlho-r' "
        "&& self.final.features != 'consensus')",
        "consensus.maxFalseShare, which chooses the score, excludes minConfidence, ranking: mlho-r and final.features: consensus",
    ),
    Rule(
        "spec",
        "self.selection.ranking != 'mlho-r' || self.features.aggregates.size() == 1",
        "selection.ranking: mlho-r is defined for one aggregate only",
    ),
    *_inside("spec.data.tables", "events", "labels", optional=("demographics", "concepts")),
    *_frozen("cohort", "features", "selection", "validation", "candidates", "consensus", "final", "report"),
)

_SCORING: Final = (
    _one_index("spec.index"),
    Rule(
        "spec",
        "!has(self.index.column) || has(self.data.tables.cohort)",
        "index.column is a column of the cohort table, and data.tables.cohort is not given",
    ),
    Rule(
        "spec.bundle",
        "self.uri.startsWith('s3://') || self.uri.matches('^run:[0-9a-f]{16}$')",
        "bundle.uri must be s3://bucket/folder/ or run:<run id> in a cluster",
    ),
    Rule(
        "spec.output",
        f"!(self.prefix in {sorted(RESERVED_FOLDERS)})",
        "output.prefix is a name that a run keeps for its own files",
    ),
    *_inside("spec.data.tables", "events", optional=("cohort", "demographics")),
    *_frozen("bundle", "index", "explain", "output"),
)

RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "TrainingRun": (*_COMMON, *_TRAINING),
    "ScoringRun": (*_COMMON, *_SCORING),
}


def add_rules(schema: dict[str, Any], rules: Iterable[Rule]) -> None:
    """Put each rule on its node of a rendered schema.

    Raises
    ------
    KeyError
        The schema has no such node: the models and the rules have parted.
    """
    for rule in rules:
        node = schema
        for part in filter(None, rule.at.split(".")):
            node = node["properties"][part]
        node.setdefault("x-kubernetes-validations", []).append(rule.plain())
