"""Comparison of a run with its variants: the same algorithm on other windows, roll-ups, filters or code lists."""

from collections.abc import Iterable, Sequence

from mlho.external.comparison import RunFacts, compare_runs, compared_run
from mlho.report.variants import VariantComparison, VariantResult
from mlho.report.words import estimate, plural, spread


def compare_variants(base: RunFacts, variants: Iterable[RunFacts]) -> VariantComparison:
    """Compare each variant with the run of the document; a difference is the variant minus the document."""
    results = [_result(base, variant) for variant in variants]
    return VariantComparison(
        base=compared_run(base),
        auroc=base.result.headline["auroc"],
        summary=_summary(base, results),
        variants=results,
    )


def _result(base: RunFacts, variant: RunFacts) -> VariantResult:
    comparison = compare_runs(base, variant)
    changes = [feature.change for feature in comparison.features]
    return VariantResult(
        run=comparison.b,
        changes=comparison.spec,
        auroc=variant.result.headline["auroc"],
        paired=comparison.paired,
        features_entered=changes.count("enters"),
        features_left=changes.count("leaves"),
        features_shifted=sum(feature.is_shifted for feature in comparison.features),
    )


def _summary(base: RunFacts, results: Sequence[VariantResult]) -> list[str]:
    said = [
        f"{base.name}, the document without its {plural(len(results), 'variant')}, has an AUROC of "
        f"{spread(base.result.headline['auroc'], 3)}."
    ]
    for result in results:
        if result.paired.reason is not None:
            said.append(f"{result.run.name} has no paired difference: {result.paired.reason}.")
            continue
        auroc = result.paired.differences["auroc"]
        clear = auroc.low is not None and auroc.high is not None and (auroc.low > 0 or auroc.high < 0)
        verdict = "its interval excludes 0" if clear else "its interval includes 0"
        said.append(
            f"{result.run.name} differs by {estimate(auroc, 3)} in AUROC on {plural(result.paired.n_samples, 'sample')} "
            f"tested in both runs; {verdict}."
        )
    said.append("Intervals are not adjusted for the number of variants.")
    return said
