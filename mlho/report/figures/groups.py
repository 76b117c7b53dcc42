"""Figures for fairness and use: the AUROC in groups, and a hundred patients at each threshold."""

from collections.abc import Mapping

from markupsafe import Markup

from mlho.report import words
from mlho.report.figures.figure import Figure, both
from mlho.report.result import Result
from mlho.report.svg import charts
from mlho.report.svg.charts import Row
from mlho.report.svg.pictogram import pictogram


def auroc_by_group(result: Result) -> Figure | None:
    """Plot the AUROC in each group, with the AUROC of all patients as reference."""
    overall = result.headline.get("auroc")
    known = [
        (group, auroc)
        for group in result.groups
        if (auroc := group.figures.get("auroc")) is not None and auroc.mean is not None
    ]
    if len(known) < 2 or overall is None or overall.mean is None:
        return None
    rows: list[Row] = []
    for name in dict.fromkeys(group.name for group, _ in known):
        rows.append(Row(name.capitalize(), is_heading=True))
        for group, auroc in known:
            if group.name == name and auroc.mean is not None:
                ends = [auroc.mean if end is None else end for end in (auroc.low, auroc.high)]
                rows.append(Row(group.level, words.brief(auroc), (auroc.mean, *ends)))
    reference = overall.mean

    def draw(width: float) -> Markup:
        return charts.intervals(
            "groups",
            "AUROC by group",
            f"Mean AUROC of {len(known)} groups with 95 % intervals; the dashed line is the AUROC of all patients.",
            rows,
            "AUROC on the test set",
            reference=reference,
            width=width,
        )

    wide, narrow = both(draw)
    return Figure(
        "groups",
        "AUROC by group",
        "Mean over the test sets with its 95 % interval. The dashed line is the AUROC of all patients. Within a group of similar age, "
        "age itself no longer separates patients, so the AUROC is usually lower.",
        wide,
        narrow,
        ("Group", "AUROC (95 % CI)", "Test sets"),
        tuple(
            (f"{group.name}: {group.level}", words.spread(auroc, 3), words.count(auroc.n))
            for group, auroc in known
        ),
    )


def pictograms(result: Result) -> list[Figure]:
    """Draw 100 samples at each threshold that was tried."""
    rules = sorted({key.partition("/")[0] for key in result.headline if "/" in key})
    found: list[Figure] = []
    for rule in rules:
        counts = _of_hundred(result, rule)
        if counts is not None:
            found.append(_pictogram(len(found) + 1, rule, counts))
    return found


def _pictogram(number: int, rule: str, counts: Mapping[str, int]) -> Figure:
    title = words.rule_words(rule)
    title = title[:1].upper() + title[1:]
    n_flagged, n_cases = counts["hit"] + counts["false"], counts["hit"] + counts["missed"]
    reading = (
        f"Of 100 patients, {n_cases} {_have(n_cases)} the outcome. The model flags {n_flagged}, of whom {counts['hit']} "
        f"{_have(counts['hit'])} the outcome."
    )
    name = f"hundred_{number}"
    return Figure(
        name,
        title,
        reading,
        pictogram(name.replace("_", "-"), f"100 patients: {title}", counts),
        None,
        ("Patients of 100", "Flagged", "Not flagged"),
        (
            ("With the outcome", str(counts["hit"]), str(counts["missed"])),
            ("Without the outcome", str(counts["false"]), str(counts["rest"])),
        ),
    )


def _have(n: int) -> str:
    return "has" if n == 1 else "have"


def _of_hundred(result: Result, rule: str) -> dict[str, int] | None:
    """Return whole numbers of 100 samples, from the mean sensitivity and alert rate on the test sets."""
    alerts = result.headline.get(f"{rule}/alerts_per_100")
    sensitivity = result.headline.get(f"{rule}/sensitivity")
    if alerts is None or sensitivity is None or alerts.mean is None or sensitivity.mean is None:
        return None
    cohort = result.cohort
    cases = 100 * cohort.n_positive_samples / cohort.n_samples if cohort.n_samples else 0.0
    n_cases, n_flagged = round(cases), round(alerts.mean)
    hit = min(round(sensitivity.mean * cases), n_cases, n_flagged)
    false = min(n_flagged - hit, 100 - n_cases)
    return {"hit": hit, "false": false, "missed": n_cases - hit, "rest": 100 - n_cases - false}
