"""The figures of a result, by name, shared by report and notebook."""

from collections.abc import Callable, Sequence

from mlho.report.figures import findings, groups, lineage, performance, volume
from mlho.report.figures.figure import Figure
from mlho.report.result import Result


def figures_of(result: Result) -> dict[str, Figure]:
    """Return every figure for which the result has data, by name.

    ``roc``, ``precision_recall``, ``calibration``, ``decision``, ``auroc``, ``candidates``, ``consensus``, ``confidence``,
    ``frequency``, ``errors``, ``importance``, ``volume``, ``lineage``, ``groups``, ``group_calibration``, ``periods``, ``period_calibration``, ``hundred_1``, … (one a threshold) and ``profile_1``, ``profile_2``, …
    """
    makers: Sequence[Callable[[Result], Figure | None]] = (
        performance.auroc_by_test_set,
        performance.candidates,
        findings.consensus_forest,
        findings.confidence_forest,
        findings.frequency,
        performance.errors,
        findings.importance,
        volume.volume,
        lineage.lineage,
    )
    figures = performance.of_test_sets(result)
    figures += [figure for make in makers if (figure := make(result)) is not None]
    figures += groups.of_audit(result.bias)
    figures += groups.pictograms(result)
    figures += [
        findings.profile(i, profile, result.features, result.final_model.calibrator)
        for i, profile in enumerate(result.final_model.profiles, start=1)
    ]
    return {figure.name: figure for figure in figures}
