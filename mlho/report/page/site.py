"""Content of the pages of a store: from the facts of its runs to charts and formatted rows. Pure functions."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from mlho.report import words
from mlho.report.page import cells
from mlho.report.page.performance import Chart, Panel, newest_of, performance_charts, value_of
from mlho.report.site import Evaluation, Figure, Night, ScoredFacts, Site, SiteModel, SiteRun
from mlho.spec.types import MIN_CELL

INDEX_SECTIONS: Final = {"channels": "Channels", "models": "Models", "runs": "Runs"}
MODEL_SECTIONS: Final = {
    "nights": "Scoring runs over time",
    "performance": "Performance with labels",
    "versions": "Versions",
    "scores": "All scoring runs",
}
EVALUATIONS: Final = "evaluations"  # folder of the store
PSI_LIMITS: Final = (0.1, 0.25)
_MAX_ALERT_CHARTS: Final = 3
_STUDIES: Final = {"variants": "its variants", "evolution": "evolving phenotypes"}
_NIGHT_COLUMNS: Final = (
    "Date",
    "Run",
    "Bundle",
    "Samples",
    "Event rows used",
    "PSI of the scores",
    "Shifted features",
    "Columns with more missing values",
    "New codes",
    "Vanished codes",
)
_LAST_COLUMNS: Final = ("Mean probability", "Expected AUROC, 95 % CI", "Warnings")


_COUNT_AND_DRIFT_PANELS: Final[tuple[Panel[ScoredFacts], ...]] = (
    Panel("samples", "Samples scored", "Patients and index dates.", lambda facts: facts.samples),
    Panel("rows", "Event rows used", "After the rules of the ledger.", lambda facts: facts.rows_used),
    Panel(
        "psi",
        "Drift of the scores (PSI)",
        "Difference from training; the dashed lines at 0.1 and 0.25 are the conventional limits.",
        lambda facts: facts.score_psi,
        PSI_LIMITS,
    ),
    Panel(
        "shifted",
        "Shifted features",
        "Share of the features whose prevalence or values differ from training.",
        lambda facts: None if facts.n_shifted is None else facts.n_shifted / facts.n_compared,
    ),
    Panel(
        "missing",
        "Columns with more missing values",
        "Demographics and values of events with more missing values than in training.",
        lambda facts: facts.n_missing_more,
    ),
    Panel(
        "new",
        "New codes",
        "Codes found in at least 30 samples that were absent or rare in training.",
        lambda facts: facts.n_new_codes,
    ),
    Panel(
        "vanished",
        "Vanished codes",
        "Codes expected in at least 30 samples and found in none.",
        lambda facts: facts.n_vanished_codes,
    ),
)
_MEAN_PANEL: Final = Panel[ScoredFacts](
    "mean",
    "Mean predicted probability",
    "The share of samples with the outcome that the model predicts.",
    lambda facts: facts.mean,
)


def index_content(site: Site, pages: Mapping[str, str]) -> dict[str, Any]:
    """Return the values for the template of the first page; ``pages`` are the addresses of the models' pages by name."""
    return {
        "sections": INDEX_SECTIONS,
        "lead": f"{words.plural(len(site.runs), 'run')}, {words.plural(len(site.models), 'model')} and {words.plural(len(site.channels), 'channel')}.",
        "careful": [
            f"Channel {channel.name}: {fault}. Check it with mlho audit."
            for channel in site.channels
            for fault in channel.faults
        ],
        "channels": [
            (
                channel.name,
                _link(pages.get(channel.model), channel.model),
                _time(channel.at),
                channel.who,
                f"{channel.why} (gates were overridden)" if channel.forced else channel.why,
                str(channel.number),
            )
            for channel in site.channels
        ],
        "models": [_model_row(model, site, pages[model.name]) for model in site.models],
        "runs": [_run_row(run) for run in site.runs],
    }


def _model_row(model: SiteModel, site: Site, page: str) -> tuple[str, ...]:
    newest = model.versions[-1].trained if model.versions else None
    shown = [channel.name for channel in site.channels if channel.model == model.name]
    outcome, auroc = words.DASH, words.DASH
    if newest is not None:
        note = "" if newest.predictive else words.NOT_PREDICTIVE
        outcome, auroc = cells.with_note(newest.outcome, note), _figure_cell(newest.auroc)
    channels, n_nights = ", ".join(shown) or words.DASH, words.count(len(model.nights))
    return _link(page, model.name), outcome, channels, auroc, n_nights, *_last_night(model)


def _last_night(model: SiteModel) -> tuple[str, ...]:
    if not model.nights:
        return (words.DASH,) * 5
    facts = model.nights[-1].facts
    return (
        facts.date.isoformat(),
        _samples(facts.samples),
        _number(facts.score_psi),
        _figure_cell(facts.expected_auroc),
        words.count(len(facts.warnings)),
    )


def _run_row(run: SiteRun) -> tuple[str, ...]:
    return (
        run.name,
        run.kind.removesuffix("Run").lower(),
        _link(_page_of(run), run.run),
        _time(run.started),
        words.number(run.seconds, 0) if run.seconds else words.DASH,
        run.state,
        Markup("; ").join([_headline(run), *_studies(run)]),
    )


def _studies(run: SiteRun) -> Iterator[str]:
    """Yield a link to each comparison of the run with the other runs of its document."""
    for name in run.studies:
        yield _link(f"../runs/{run.run}/{name}", _STUDIES[name.partition("-")[0]])


def _page_of(run: SiteRun) -> str | None:
    """Return the address of the published page of a run, relative to the folder of the site."""
    if run.trained is not None:
        return f"../runs/{run.run}/report.html"
    return f"../runs/{run.run}/{run.scored.folder}/scores.json" if run.scored is not None else None


def _headline(run: SiteRun) -> str:
    if run.trained is not None:
        value = run.trained.auroc.value
        auroc = "no AUROC" if value is None else f"AUROC {words.number(value, 3)}"
        prediction = "" if run.trained.predictive else f"; {words.NOT_PREDICTIVE}"
        return f"{auroc} for {run.trained.outcome}{prediction}"
    if run.scored is not None:
        return f"{_samples(run.scored.samples)} scores of {run.scored.outcome}"
    return run.reason


def model_content(model: SiteModel, site: Site, runs: Mapping[str, SiteRun]) -> dict[str, Any]:
    """Return the values for the template of a model's page; ``runs`` are the runs of the store by id."""
    shown = [channel for channel in site.channels if channel.model == model.name]
    has = {"nights": model.nights, "performance": model.evaluations, "versions": True, "scores": model.nights}
    sections = {name: title for name, title in MODEL_SECTIONS.items() if has[name]}
    newest = model.nights[-1] if model.nights else None
    rules = _rules(model.nights)
    return {
        "model": model,
        "sections": sections,
        "lead": _lead(model),
        "facts": [
            (
                f"Channel {channel.name}",
                f"entry {channel.number} of {channel.at.date()}, run {channel.run}: {channel.why}",
            )
            for channel in shown
        ]
        + list(_advice(newest)),
        "careful": [f"{newest.facts.date}: {warning}" for warning in newest.facts.warnings]
        if newest is not None
        else [],
        "charts": charts(model.nights) if model.nights else [],
        "performance": list(performance_charts(model.evaluations)),
        "evaluations": [_evaluation_row(evaluation) for evaluation in model.evaluations],
        "versions": list(_version_rows(model, {channel.run: channel.name for channel in shown})),
        "night_columns": (
            *_NIGHT_COLUMNS,
            *(f"Alert rate, {words.rule_words(rule)}" for rule in rules),
            *_LAST_COLUMNS,
        ),
        "nights": [_night_row(night, runs[night.run], rules) for night in reversed(model.nights)],
    }


def _advice(newest: Night | None) -> Iterator[tuple[str, str]]:
    """Yield the advice of the newest scoring run, with the manifest of the run that follows it."""
    if newest is None or newest.facts.advice is None:
        return
    facts = newest.facts
    text: str = Markup("{}: {}").format(facts.date, facts.advice)
    if facts.advised is not None:
        address = f"../runs/{newest.run}/{facts.folder}/{facts.advised}"
        text += Markup(" Manifest of the advised run, with the inputs to update first: {}.").format(
            _link(address, facts.advised)
        )
    yield "Advice", text


def _lead(model: SiteModel) -> str:
    versions = words.plural(len(model.versions), "version")
    if not model.nights:
        return f"{versions}; no scoring run of this store has used it."
    first, last = model.nights[0].facts.date, model.nights[-1].facts.date
    when = f"on {first}" if first == last else f"from {first} to {last}"
    return f"{versions}; {words.plural(len(model.nights), 'scoring run')} {when}."


def charts(nights: Sequence[Night]) -> list[Chart]:
    """Return the small multiples of scoring runs by date."""
    changes = [b.facts.date for a, b in pairwise(nights) if a.facts.bundle != b.facts.bundle]
    found = []
    for panel in _panels(nights):
        values = [value_of(night.facts.date, panel.value(night.facts)) for night in nights]
        n_absent = sum(value.value is None for value in values)
        if n_absent == len(values):
            continue
        absent = f" Not available in {words.plural(n_absent, 'run')}." if n_absent else ""
        description = f"{panel.title} of {words.plural(len(values), 'scoring run')}; the numbers are in the table below."
        found.append(
            panel.chart(f"nights-{panel.name}", panel.title, description, values, changes, note=absent)
        )
    return found


def _evaluation_row(evaluation: Evaluation) -> tuple[str, ...]:
    facts = evaluation.facts
    days = [
        f"{period.day:%Y-%m}" if facts.by == "month" else period.day.isoformat() for period in facts.periods
    ]
    folder = f"../{EVALUATIONS}/{evaluation.id}"
    advised = None if facts.advised is None else f"{folder}/{facts.advised}"
    return (
        cells.with_note(_link(f"{folder}/report.html", evaluation.id), f"bundle {facts.bundle[:12]}"),
        facts.outcome,
        _link(advised, facts.advice),
        _days(min(days), max(days)) if days else words.ABSENT,
        words.plural(len(days), facts.by),
        _samples(facts.n_samples),
        _figure_cell(facts.auroc),
        _number(facts.training_auroc, 3),
    )


def _days(first: str, last: str) -> Markup:
    """Return two days or months, of which none breaks within itself."""
    return Markup("<time>{}</time> to <time>{}</time>").format(first, last)


def _panels(nights: Sequence[Night]) -> Iterator[Panel[ScoredFacts]]:
    yield from _COUNT_AND_DRIFT_PANELS
    yield from _alert_panels(nights)
    yield _MEAN_PANEL
    yield _auroc_panel(nights)


def _alert_panels(nights: Sequence[Night]) -> Iterator[Panel[ScoredFacts]]:
    for number, rule in enumerate(_rules(nights)[:_MAX_ALERT_CHARTS]):
        training = newest_of(
            alert.training for night in nights for alert in night.facts.alerts if alert.rule == rule
        )
        yield Panel(
            f"alerts-{number}",
            f"Alert rate, {words.rule_words(rule)}",
            "Share of the samples that are flagged."
            + (" Dashed: in training." if training is not None else ""),
            _share_of(rule),
            () if training is None else (training,),
        )


def _auroc_panel(nights: Sequence[Night]) -> Panel[ScoredFacts]:
    auroc = newest_of(night.facts.training_auroc for night in nights)
    return Panel(
        "auroc",
        "Expected AUROC",
        "Computed without labels, with its 95 % interval. It reflects changes in case mix, but cannot show a change in the association between "
        "features and outcome." + (" Dashed: in training." if auroc is not None else ""),
        lambda facts: facts.expected_auroc,
        () if auroc is None else (auroc,),
        is_from_zero=False,
    )


def _share_of(rule: str) -> Callable[[ScoredFacts], float | None]:
    return lambda facts: next((alert.share for alert in facts.alerts if alert.rule == rule), None)


def _rules(nights: Sequence[Night]) -> list[str]:
    return sorted({alert.rule for night in nights for alert in night.facts.alerts})


def _version_rows(model: SiteModel, channels: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield the versions, the newest first, each with its comparison with the previous version."""
    for previous, run in reversed(list(pairwise([None, *model.versions]))):
        assert run is not None  # only the first version has none before it
        trained = run.trained
        assert trained is not None  # a version is a finished training run
        page = model.comparisons.get((previous.run, run.run)) if previous is not None else None
        yield (
            cells.with_note(_link(_page_of(run), run.run), f"bundle {trained.bundle[:12]}"),
            _time(trained.made),
            channels.get(run.run, words.DASH),
            trained.classifier,
            words.count(trained.n_patients),
            _figure_cell(trained.auroc),
            _figure_cell(trained.calibration_slope),
            f"{trained.n_passed} of {trained.n_tests}",
            trained.gates or "none",
            _link(page, "with the one before") if page is not None else words.DASH,
        )


def _night_row(night: Night, run: SiteRun, rules: Sequence[str]) -> tuple[str, ...]:
    facts = night.facts
    return (
        facts.date.isoformat(),
        _link(_page_of(run), night.run),
        cells.with_note(facts.address, facts.bundle[:12]),
        _samples(facts.samples),
        words.count(facts.rows_used),
        _number(facts.score_psi),
        words.ABSENT if facts.n_shifted is None else f"{facts.n_shifted} of {facts.n_compared}",
        *(
            words.ABSENT if n is None else words.count(n)
            for n in (facts.n_missing_more, facts.n_new_codes, facts.n_vanished_codes)
        ),
        *(_percent(_share_of(rule)(facts)) for rule in rules),
        _number(facts.mean, 3),
        _figure_cell(facts.expected_auroc),
        words.count(len(facts.warnings)),
    )


def _link(page: str | None, text: str) -> str:
    return Markup('<a href="{}">{}</a>').format(page, text) if page is not None else text


def _time(at: dt.datetime) -> str:
    return Markup("<time>{}</time>").format(f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M}")


def _figure_cell(figure: Figure) -> str:
    if figure.value is None:
        return words.ABSENT
    return cells.with_ends(figure.value, figure.low, figure.high)


def _samples(n: int) -> str:
    return words.count(n) if n >= MIN_CELL else f"under {MIN_CELL}"


def _number(value: float | None, digits: int = 2) -> str:
    return words.ABSENT if value is None else words.number(value, digits)


def _percent(share: float | None) -> str:
    return words.HIDDEN if share is None else words.percent(share)
