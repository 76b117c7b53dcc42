"""The comparison of two training runs, as numbers and as tables of text."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import Field

from mlho.report import words
from mlho.report.changes import Changes, ChangesSince, ComparedRun, FeatureChange, RunSize
from mlho.report.parts import ALIASED, Estimate

COMPARISON_SCHEMA: Final = "mlho.io/comparison/v1"
MOST_ROWS: Final = 40  # rows of a text table; the document has all of them


class Comparison(Changes):
    """Two training runs."""

    schema_: Literal["mlho.io/comparison/v1"] = Field(default=COMPARISON_SCHEMA, alias="schema")
    a: ComparedRun
    b: ComparedRun
    summary: list[str]
    files: dict[str, list[str]]
    """Input files: only in A, only in B, and with a different content."""

    model_config = ALIASED


Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return title, columns and rows of each text table that has rows."""
    files: list[tuple[str, ...]] = [
        (name, where) for where, names in comparison.files.items() for name in names
    ]
    return _shown(
        [
            *_tables(comparison, comparison.a, comparison.b, ("A", "B", "B − A")),
            ("Input files", ("File", "Where"), files),
        ]
    )


def tables_since(changes: ChangesSince) -> list[Table]:
    """Return the tables of the changes since an earlier run; see :func:`comparison_tables`."""
    return _shown(_tables(changes, changes.earlier, changes.now, ("Earlier", "This run", "Difference")))


def _tables(changes: Changes, a: RunSize, b: RunSize, names: tuple[str, str, str]) -> list[Table]:
    return [
        _cohort_table(a, b, names),
        *_performance_tables(changes, names),
        _feature_table(changes, names),
        *_input_tables(changes, a, b, names),
    ]


def _cohort_table(a: RunSize, b: RunSize, names: tuple[str, str, str]) -> Table:
    rows = [
        ("Patients", words.count(a.n_patients), words.count(b.n_patients)),
        ("Samples", words.count(a.n_samples), words.count(b.n_samples)),
        (
            "Samples with the outcome",
            *(words.share(size.n_positive_samples, size.n_samples) for size in (a, b)),
        ),
    ]
    return "Cohort", ("Number", *names[:2]), rows


def _performance_tables(changes: Changes, names: tuple[str, str, str]) -> list[Table]:
    return [
        (
            "Performance: mean over the test sets of each run (95 % CI)",
            ("Figure", *names),
            [
                (
                    words.metric_name(figure.metric),
                    words.brief(figure.a),
                    words.brief(figure.b),
                    difference(figure.difference),
                )
                for figure in changes.performance
            ],
        ),
        (
            f"The same samples in both runs: {words.plural(changes.paired.n_samples, 'sample')}",
            ("Figure", names[2]),
            [
                (words.metric_name(name), difference(estimate))
                for name, estimate in changes.paired.differences.items()
            ],
        ),
    ]


def _feature_table(changes: Changes, names: tuple[str, str, str]) -> Table:
    first, second, _ = names
    return (
        "Stable features of either run: confidence score and odds ratio (95 % CI)",
        ("Feature", "Change", first, second, f"OR: {first}", f"OR: {second}", "Ratio"),
        [_feature(feature) for feature in changes.features],
    )


def _input_tables(changes: Changes, a: RunSize, b: RunSize, names: tuple[str, str, str]) -> list[Table]:
    first, second, _ = names
    return [
        (
            "Specification",
            ("Field", first, second),
            [(field.field, plain(field.a), plain(field.b)) for field in changes.spec],
        ),
        (
            "Event rows, with the share of the rows that were read",
            ("Rule", first, second),
            [
                (row.rule, _share(row.a, a.n_event_rows), _share(row.b, b.n_event_rows))
                for row in changes.rows
            ],
        ),
        (
            "Label rows",
            ("Rule", first, second),
            [(row.rule, words.counted(row.a), words.counted(row.b)) for row in changes.label_rows],
        ),
        (
            f"Codes of features; {words.count(changes.codes_not_named)} more differ and are not listed",
            ("Code", f"Rows: {first}", f"Rows: {second}"),
            [(row.code, words.counted(row.a), words.counted(row.b)) for row in changes.codes],
        ),
    ]


def _shown(tables: Sequence[Table]) -> list[Table]:
    return [(_title(title, rows), columns, rows[:MOST_ROWS]) for title, columns, rows in tables if rows]


def turnover(changes: Changes) -> str:
    """Return how many stable features enter, leave and stay, in words."""
    n_of = Counter(feature.change for feature in changes.features)
    return f"{n_of['enters']} enter, {n_of['leaves']} leave, {n_of['stays']} stay"


def _title(title: str, rows: Sequence[object]) -> str:
    more = len(rows) - MOST_ROWS
    return f"{title} (the first {MOST_ROWS} of {words.count(len(rows))})" if more > 0 else title


def _feature(feature: FeatureChange) -> tuple[str, ...]:
    return (
        words.cut(feature.words),
        f"{feature.change}, shifts" if feature.is_shifted else feature.change,
        words.DASH if feature.confidence_a is None else str(feature.confidence_a),
        words.DASH if feature.confidence_b is None else str(feature.confidence_b),
        *(
            words.odds(estimate.value, estimate.low, estimate.high)
            for estimate in (feature.odds_ratio_a, feature.odds_ratio_b, feature.ratio)
        ),
    )


def difference(estimate: Estimate) -> str:
    """Format a difference with its interval: ``-0.012 (-0.020 to -0.004)``."""
    if estimate.value is None:
        return words.estimate(estimate)
    value = words.number(estimate.value, 3)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({words.number(estimate.low, 3)} to {words.number(estimate.high, 3)})"


def plain(value: Any) -> str:
    """Format a value of a specification as JSON, a text without quotes; a dash where a run does not have the field."""
    if value is None:
        return words.DASH
    return words.cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _share(n: int | None, total: int) -> str:
    return words.HIDDEN if n is None else f"{words.count(n)} ({words.share(n, total)})"
