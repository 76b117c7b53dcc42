"""The comparison of a run with its variants: one algorithm on other data, as numbers and as tables of text."""

from typing import Final, Literal

from pydantic import Field

from mlho.report import words
from mlho.report.changes import ComparedRun, FieldChange, PairedChange
from mlho.report.comparison import Table, difference, plain
from mlho.report.parts import ALIASED, Part, Spread

VARIANTS_SCHEMA: Final = "mlho.io/variants/v1"
FIGURES: Final = ("auroc", "brier", "log_loss")


class VariantResult(Part):
    """A variant, and its differences from the document."""

    run: ComparedRun
    changes: list[FieldChange]
    """Fields of the specification that differ: ``a`` in the document, ``b`` in the variant."""
    auroc: Spread
    paired: PairedChange
    """The variant minus the document, on the samples tested in both."""
    features_entered: int
    """Features that are stable in the variant only."""
    features_left: int
    features_shifted: int
    """Stable features whose odds ratio differs, by an interval that treats the runs as independent."""


class VariantComparison(Part):
    """A document and its variants."""

    schema_: Literal["mlho.io/variants/v1"] = Field(default=VARIANTS_SCHEMA, alias="schema")
    base: ComparedRun
    auroc: Spread
    summary: list[str]
    variants: list[VariantResult]

    model_config = ALIASED


def variant_tables(comparison: VariantComparison) -> list[Table]:
    """Return title, columns and rows: the paired differences, then the stable features and the changes of each variant."""
    name = comparison.base.name
    paired: list[tuple[str, ...]] = [
        (name, words.brief(comparison.auroc), *[words.DASH] * len(FIGURES), words.DASH)
    ]
    paired += [_paired(variant) for variant in comparison.variants]
    others: list[tuple[str, ...]] = [
        (
            variant.run.name,
            "; ".join(f"{field.field}: {plain(field.a)} → {plain(field.b)}" for field in variant.changes),
            str(variant.features_entered),
            str(variant.features_left),
            str(variant.features_shifted),
        )
        for variant in comparison.variants
    ]
    differences = [f"Δ {words.metric_name(figure)}" for figure in FIGURES]
    return [
        (
            f"Variants minus {name} on the same samples (95 % CI)",
            ("Run", "AUROC of its test sets", *differences, "Samples"),
            paired,
        ),
        (
            f"Stable features, compared with those of {name}",
            ("Run", "Changed fields", "Enter", "Leave", "Odds ratio differs"),
            others,
        ),
    ]


def _paired(variant: VariantResult) -> tuple[str, ...]:
    if variant.paired.reason is not None:
        shown = [f"{words.ABSENT} ({variant.paired.reason})", *[words.DASH] * (len(FIGURES) - 1)]
    else:
        shown = [difference(variant.paired.differences[figure]) for figure in FIGURES]
    return variant.run.name, words.brief(variant.auroc), *shown, words.count(variant.paired.n_samples)
