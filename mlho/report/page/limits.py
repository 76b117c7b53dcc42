"""Limitations of a run's results, in sentences. Pure functions."""

from mlho.report import words
from mlho.report.result import Result
from mlho.report.verdicts import sample_size_of


def limits(result: Result) -> list[str]:
    """Return the limitations of the results."""
    sentences = [
        _validated(result),
        "Records show what was documented, which is not always what happened. The fact that a test was ordered can be more informative than its result.",
        "Odds ratios describe associations, not causal effects. The consensus model is fitted on the same patients that were used to select its features, so its intervals are too narrow and its p values too small.",
        _intervals(result),
        "The final model is fitted on all patients. Its test figures are those of models built in the same way without the test patients.",
    ]
    sample_size = sample_size_of(result)
    if sample_size.is_too_small:
        sentences.insert(1, sample_size.sentences)
    if not result.predictive:
        sentences.insert(0, f"{why_not_predictive(result)} Nothing here is a prediction.")
    if len(result.iterations) < 10:
        sentences.append(
            f"With {words.plural(len(result.iterations), 'iteration')} the confidence scores change in steps of {words.number(100 / max(1, len(result.iterations)), 0)}."
        )
    return sentences


def why_not_predictive(result: Result) -> str:
    """Return the reason why a run describes associations only."""
    if words.after_of(result):
        return (
            "Features are computed from records after the index date, when the outcome may already be known."
        )
    return "The run has no index date, so records after the outcome are used as well."


def is_pooled(result: Result) -> bool:
    """Return whether the test sets are outer folds, whose predictions are pooled."""
    return any(test_set.name.startswith("outer fold") for test_set in result.test_sets)


def _validated(result: Result) -> str:
    same = "Validation is internal: test patients come from the same source as training patients."
    if result.split is None or result.split.kind == "given":
        return f"{same} Other hospitals and later years may differ."
    if result.split.kind == "site":
        return f"{same} Each site was tested by models trained on the other sites; sites outside these data may differ."
    return f"{same} Models were tested on later patients; other hospitals may differ."


def _intervals(result: Result) -> str:
    if is_pooled(result):
        return "Each patient is in one outer fold. The intervals refer to the pooled predictions and do not reflect the sampling of the training patients."
    if result.split is None:
        shared = "Iterations share patients. The intervals of means allow for this approximately (Nadeau and Bengio 2003)."
        if result.lineage.spec["validation"].get("split") == "random":
            return shared
        return (
            f"{shared} All test sets have the same share of patients with the outcome, so the intervals of figures that depend on this share, such as the Brier "
            "score, calibration in the large and the positive predictive value, are too narrow."
        )
    if len(result.split.test_sets) == 1:
        return (
            "All iterations have the same test set. The interval of a mean is the mean of the iterations' intervals: it reflects the "
            "sampling of the test patients, not that of the training patients."
        )
    return (
        "The test sets are not random draws, so a mean over them has no interval. Compare them individually."
    )
