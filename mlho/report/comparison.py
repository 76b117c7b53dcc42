"""The comparison of two training runs, as numbers and as tables of text."""

from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from mlho.report import words
from mlho.report.parts import Estimate, Part, Spread

COMPARISON_SCHEMA: Final = "mlho.io/comparison/v1"
MOST_ROWS: Final = 40  # of a table of text; the document has all


class ComparedRun(Part):
    """One of the two runs."""

    run: str
    name: str
    outcome: str
    classifier: str
    result_digest: str
    matrix_digest: str
    n_patients: int
    n_samples: int
    n_positive_samples: int


class FieldChange(Part):
    """A field of the specification that differs; ``null`` where one run does not have it."""

    field: str
    a: Any = None
    b: Any = None


class RowChange(Part):
    """A rule of a ledger whose rows differ; ``null`` for small cells."""

    rule: str
    a: int | None
    b: int | None


class CodeChange(Part):
    """A code whose used rows differ; fewer than ``minCell`` rows are ``null``."""

    code: str
    a: int | None
    b: int | None


class FeatureChange(Part):
    """A feature that is stable in at least one of the runs."""

    id: str
    words: str
    change: Literal["enters", "leaves", "stays"]
    """``enters``: stable in B only. ``leaves``: in A only."""
    confidence_a: int | None
    confidence_b: int | None
    odds_ratio_a: Estimate
    odds_ratio_b: Estimate
    ratio: Estimate
    """Odds ratio in B by that in A, with an interval that takes the runs as independent: too wide where they share patients."""
    is_shifted: bool
    """Whether that interval excludes 1."""


class PerformanceChange(Part):
    """One figure in both runs, and B minus A."""

    metric: str
    a: Spread
    b: Spread
    difference: Estimate


class PairedChange(Part):
    """B minus A on the samples that both runs tested: each with its mean calibrated probability over the iterations that tested it."""

    n_samples: int
    n_patients: int
    differences: dict[str, Estimate] = Field(default_factory=dict)
    reason: str | None = None
    """Why there is no paired difference."""


class Comparison(Part):
    """Two training runs."""

    schema_: Literal["mlho.io/comparison/v1"] = Field(default=COMPARISON_SCHEMA, alias="schema")
    a: ComparedRun
    b: ComparedRun
    summary: list[str]
    spec: list[FieldChange]
    files: dict[str, list[str]]
    """Input files: only in A, only in B, and with another content."""
    rows: list[RowChange]
    """Event rows in, used, and by rule, where they differ."""
    label_rows: list[RowChange]
    codes_only_a: int
    codes_only_b: int
    codes: list[CodeChange]
    """Codes with other numbers of used rows, the largest difference first."""
    features: list[FeatureChange]
    performance: list[PerformanceChange]
    paired: PairedChange

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def comparison_tables(own: Comparison) -> list[Table]:
    """Return title, columns and rows of each table of text; without those that have no row."""
    tables: list[Table] = [
        (
            "Performance: mean over the test sets of each run",
            ("Figure", "A", "B", "B − A"),
            [
                (
                    words.metric_name(one.metric),
                    words.spread(one.a, 3),
                    words.spread(one.b, 3),
                    difference(one.difference),
                )
                for one in own.performance
            ],
        ),
        (
            f"The same samples in both runs: {words.plural(own.paired.n_samples, 'sample')}",
            ("Figure", "B − A"),
            [(words.metric_name(name), difference(one)) for name, one in own.paired.differences.items()],
        ),
        (
            "Features that are stable in at least one run (confidence score; odds ratio with 95 % CI)",
            ("Feature", "Change", "A", "B", "OR in A", "OR in B", "Ratio"),
            [_feature(one) for one in own.features],
        ),
        (
            "Specification",
            ("Field", "A", "B"),
            [(one.field, _plain(one.a), _plain(one.b)) for one in own.spec],
        ),
        ("Event rows", ("Rule", "A", "B"), [(one.rule, _n(one.a), _n(one.b)) for one in own.rows]),
        ("Label rows", ("Rule", "A", "B"), [(one.rule, _n(one.a), _n(one.b)) for one in own.label_rows]),
        (
            "Codes",
            ("Code", "Rows in A", "Rows in B"),
            [(one.code, _n(one.a), _n(one.b)) for one in own.codes],
        ),
        (
            "Input files",
            ("File", "Where"),
            [(name, where) for where, names in own.files.items() for name in names],
        ),
    ]
    return [(_title(title, rows), columns, rows[:MOST_ROWS]) for title, columns, rows in tables if rows]


def _title(title: str, rows: Sequence[object]) -> str:
    more = len(rows) - MOST_ROWS
    return f"{title} (the first {MOST_ROWS} of {words.count(len(rows))})" if more > 0 else title


def _feature(one: FeatureChange) -> tuple[str, ...]:
    return (
        words.cut(one.words),
        f"{one.change}, shifts" if one.is_shifted else one.change,
        words.DASH if one.confidence_a is None else str(one.confidence_a),
        words.DASH if one.confidence_b is None else str(one.confidence_b),
        *(
            words.odds(own.value, own.low, own.high)
            for own in (one.odds_ratio_a, one.odds_ratio_b, one.ratio)
        ),
    )


def difference(own: Estimate) -> str:
    """Format a difference with its interval: ``-0.012 (-0.020 to -0.004)``."""
    if own.value is None:
        return words.estimate(own)
    ends = (
        ""
        if own.low is None or own.high is None
        else f" ({words.number(own.low, 3)} to {words.number(own.high, 3)})"
    )
    return f"{words.number(own.value, 3)}{ends}"


def _plain(value: Any) -> str:
    return words.DASH if value is None else words.cut(str(value))


def _n(n: int | None) -> str:
    return words.HIDDEN if n is None else words.count(n)
