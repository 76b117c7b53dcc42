"""Output of the command for a scoring run: its plan, and its scores as counts. Never a patient."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mlho.errors import plural
from mlho.report.words import rule_words
from mlho.spec.types import MIN_CELL
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.cli import terminal
from scheduler.cli.listing import last_document
from scheduler.engine.manifest import left_out_sentences
from scheduler.engine.plan import Manifest
from scheduler.engine.ready_tasks import ReadyTasks
from scheduler.engine.scoring_run import COMPARISON_FILE, RETRAIN_FILE, SCORES_MANIFEST, ScoringRun

# Measured on two shared cores with glmboost and five reasons. The estimate is approximate.
_EVENT_BYTES_A_SECOND: Final = 8e6
_START_SECONDS: Final = 3.0
_N_NAMED: Final = 5
_N_PARTITIONS: Final = 20


def read_manifest(store: Store, run: str) -> dict[str, Any]:
    """Return the manifest of a finished scoring run. Raise SpecError if the run is not finished."""
    return last_document(store, run, _score_key(_spec_of(store, run), run, SCORES_MANIFEST))


def _spec_of(store: Store, run: str) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(store.get(run_key(run, "spec.yaml")))["spec"]
    return spec


def _score_key(spec: Mapping[str, Any], run: str, name: str) -> str:
    return run_key(run, f"{spec.get('output', {}).get('prefix', 'scores')}/{name}")


def sentences(scores: dict[str, Any]) -> Iterator[str]:
    """Yield a summary of the scores in sentences, the most important first."""
    kind = "risk" if scores["predictive"] else "association (no index date: not a prediction)"
    who = f"{plural(scores['samples'], 'score')} of {plural(scores['patients'], 'patient')}"
    yield f"{who}: {kind} of {scores['outcome']}{_within(scores.get('horizons', ()))}."
    if scores["patients_without_events"]:
        yield f"Scored without any event: {plural(scores['patients_without_events'], 'patient')} of the cohort."
    if scores.get("samples_without_events"):
        yield f"{plural(scores['samples_without_events'], 'score')} without any usable event of the sample."
    spread = scores["distribution"]
    if spread["deciles"] is not None:
        low, middle, high = (spread["deciles"][place] for place in (0, 4, 8))
        yield (
            f"Mean probability {spread['mean']:.3f}; a tenth of the scores are at most {low:.3f}, half at most "
            f"{middle:.3f}, and a tenth are above {high:.3f}."
        )
    yield from _drift(scores.get("drift"))
    yield from _expected(scores.get("expected"))
    if advice := scores.get("advice"):
        yield f"Advice: {advice['action']}. {advice['reason']} {advice['gain']}"
    unknown = scores["unknown"]
    if unknown["rows"]:
        yield f"Ignored: {plural(unknown['rows'], 'usable row')} with {plural(unknown['codes'], 'code')} that the bundle does not use."


def _within(horizons: Sequence[int]) -> str:
    """Return the horizon of the probability, and the others; scores of earlier versions do not contain them."""
    if not horizons:
        return ""
    first, *others = (f"{days:,}" for days in horizons)
    more = f", and in further columns within {', '.join(others)} days" if others else ""
    return f" within {first} days of the index date{more}"


def _drift(drift: dict[str, Any] | None) -> Iterator[str]:
    """Yield the difference from training; scores of earlier versions do not contain it."""
    if drift is None or not drift["n_compared"]:
        return
    psi = drift["score_psi"]
    index = "no PSI of the scores" if psi is None else f"PSI of the scores {psi:.2f}"
    are = "is" if drift["n_shifted"] == 1 else "are"
    yield f"Compared with training: {index}; {drift['n_shifted']:,} of {plural(drift['n_compared'], 'feature')} {are} shifted{_shares(drift['shifted'])}."
    yield from _missing(drift)
    yield from _codes(drift.get("codes"))


def _missing(drift: dict[str, Any]) -> Iterator[str]:
    """Yield the columns with more missing values than in training; scores of earlier versions do not contain it."""
    if not drift.get("n_missing_compared"):
        return
    named = _shares([column for column in drift["missing"] if column["is_shifted"]])
    have = "has" if drift["n_missing_shifted"] == 1 else "have"
    yield (
        f"Missing values: {drift['n_missing_shifted']} of {plural(drift['n_missing_compared'], 'column')} {have} more missing values than in training{named}."
    )


def _shares(columns: list[dict[str, Any]]) -> str:
    named = [
        f"{column['words']} ({_percent(column['now'])}{_above(column.get('bound'))}, {_percent(column['training'])} in training)"
        for column in columns
        if column["now"] is not None
    ]
    return f": {', '.join(named[:_N_NAMED])}" if named else ""


def _above(bound: float | None) -> str:
    """Return which values a share counts; scores of earlier versions contain no bound."""
    return "" if bound is None else f" of the values exceed {bound:g}"


def _codes(codes: dict[str, Any] | None) -> Iterator[str]:
    """Yield the codes that are new or have vanished."""
    if codes is None or not codes["n_compared"]:
        return
    new = [f"{code['code']} ({_percent(code['now'])})" for code in codes["new"][:_N_NAMED]]
    gone = [
        f"{code['code']} ({_percent(code['training'])} in training)" for code in codes["vanished"][:_N_NAMED]
    ]
    have = "has" if codes["n_vanished"] == 1 else "have"
    yield (
        f"Codes of the events: {codes['n_new']:,} new{_first(new)}; {codes['n_vanished']:,} of {codes['n_compared']:,} {have} vanished{_first(gone)}."
    )


def _first(named: list[str]) -> str:
    return f", first {', '.join(named)}" if named else ""


def _expected(expected: dict[str, Any] | None) -> Iterator[str]:
    """Yield the performance expected without labels; scores of earlier versions do not contain it."""
    if expected is None:
        return
    auroc, trained = expected["auroc"], expected["training_auroc"]
    if auroc["value"] is None:
        yield f"No AUROC can be expected without labels: {auroc['reason']}."
        return
    before = "" if trained is None else f"; {trained:.3f} in training"
    yield f"Expected AUROC without labels {auroc['value']:.3f} (95 % {auroc['low']:.3f}–{auroc['high']:.3f}{before}). {expected['assumes']}"


def alerts_table(scores: dict[str, Any]) -> Table:
    """Return a table with the number of samples that each threshold of the bundle flags."""
    figures = ["probability at least", "alerts", "of all", "expected PPV"]
    table = terminal.new_table("Alerts", ["threshold"], figures)
    for alert in scores["alerts"]:
        if alert["value"] is None:
            table.add_row(rule_words(alert["rule"]), f"absent: {alert['reason']}", "", "", "")
            continue
        share = alert["alerts"] / scores["samples"]
        ppv = (scores.get("expected") or {}).get("ppv", {}).get(alert["rule"])
        count = f"{alert['alerts']:,}"
        table.add_row(rule_words(alert["rule"]), f"{alert['value']:.3f}", count, _percent(share), _ppv(ppv))
    return table


def partitions_table(parts: list[dict[str, Any]]) -> Table:
    """Return a table with the event rows and the scores of each partition, those with the smallest share of used rows first."""
    table = terminal.new_table(
        "Partitions, the smallest share of used rows first", ["partition"], ["event rows", "used", "scores"]
    )
    table.columns[0].overflow = "fold"
    ledgers = [(part["source"] or "no events", part["ledger"] or {}, part["rows"]) for part in parts]
    ordered = sorted(ledgers, key=lambda row: row[1].get("rows_used", 0) / max(row[1].get("rows_in", 0), 1))
    for source, ledger, n_scores in ordered[:_N_PARTITIONS]:
        counts = (ledger.get("rows_in", 0), ledger.get("rows_used", 0), n_scores)
        table.add_row(source, *(_count(count) for count in counts))
    if len(ordered) > _N_PARTITIONS:
        table.add_row(f"and {len(ordered) - _N_PARTITIONS} more, in the manifest", "", "", "")
    return table


def _percent(share: float, digits: int = 1) -> str:
    """Return a share as in the other sentences of the program, with a space.

    Examples
    --------
    >>> _percent(0.0834), _percent(0.31, 0)
    ('8.3 %', '31 %')
    """
    return f"{100 * share:.{digits}f} %"


def _count(n: int) -> str:
    return f"under {MIN_CELL}" if 0 < n < MIN_CELL else f"{n:,}"


def _ppv(ppv: dict[str, Any] | None) -> str:
    """Return a PPV with its interval, or the reason why one of them is absent."""
    if ppv is None:
        return ""
    value = "–" if ppv["value"] is None else _percent(ppv["value"], 0)
    if ppv["low"] is None:
        return f"{value} ({ppv['reason']})" if ppv.get("reason") else value
    return f"{value} ({100 * ppv['low']:.0f}–{_percent(ppv['high'], 0)})"


def show_scores(store: Store, run: str) -> None:
    """Print the scores of a finished run, as counts."""
    manifest, spec = read_manifest(store, run), _spec_of(store, run)
    scores = manifest["scores"]
    terminal.print_lines(sentences(scores))
    terminal.print_lines(_advised(store, spec, run))
    terminal.print_lines(_comparison(store, spec, run))
    terminal.print_lines(f"Warning: {warning}" for warning in warnings_of(manifest))
    terminal.print_line(f"Model: {spec['bundle']['uri']}, bundle {scores['bundle_digest']}.")
    terminal.print_tables(
        [alerts_table(scores), terminal.ledger_table(scores["ledger"]), partitions_table(manifest["parts"])]
    )


def warnings_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the warnings of all scores and of single partitions; scores of earlier versions have none."""
    return [
        *manifest["scores"].get("warnings", ()),
        *manifest.get("warnings", ()),
        *left_out_sentences(manifest.get("left_out", {})),
    ]


def _advised(store: Store, spec: Mapping[str, Any], run: str) -> Iterator[str]:
    """Yield where the manifest of the advised run is, if the run wrote one."""
    key = _score_key(spec, run, RETRAIN_FILE)
    if store.exists(key):
        yield f"The manifest of the advised run is {key} in the store. Its first lines state the tables to renew, and the command."


def _comparison(store: Store, spec: Mapping[str, Any], run: str) -> Iterator[str]:
    """Yield the differences from the scores of the bundle in ``compareWith``, if the run names one."""
    if "compareWith" not in spec:
        return
    comparison = json.loads(store.get(_score_key(spec, run, COMPARISON_FILE)))
    rank = comparison["rank_correlation"]
    words = "no rank correlation" if rank is None else f"rank correlation {rank:.3f}"
    yield (
        f"Against {spec['compareWith']['uri']}: {words}, mean probability {comparison['mean']:.3f} and {comparison['compared_mean']:.3f}, mean "
        f"difference of a score {comparison['mean_absolute_difference']:.3f}; {_percent(comparison['top_tenth_shared'], 0)} of its highest tenth are in the highest tenth here."
    )
    for threshold in comparison["alerts"]:
        yield (
            f"Threshold “{rule_words(threshold['rule'])}”: {threshold['both']:,} alerts by both, {threshold['only_this']:,} only here, {threshold['only_other']:,} only there."
        )


def plan_facts(run: ScoringRun, *, n_workers: int) -> dict[str, Any]:
    """Return tasks and approximate seconds of the whole run, as ``mlho plan --json`` prints them."""
    events = sum(file.size for file in run.manifest.tables["events"])
    return {
        "run": run.run_id,
        "name": run.spec.metadata.name,
        "tasks": len(run.first_plan()),
        "bytes": run.manifest.n_bytes,
        "seconds": _START_SECONDS + events / _EVENT_BYTES_A_SECOND / n_workers,
        "workers": n_workers,
        "bundle": run.bundle.digest,
    }


def plan_table(run: ScoringRun, *, n_workers: int) -> Group:
    """Return a table of tasks, bytes and approximate time by stage, from the specification and the manifest alone."""
    events = sum(file.size for file in run.manifest.tables["events"])
    table = terminal.new_table(f"Plan of {run.spec.metadata.name}", ["stage"], ["tasks", "reads", "about"])
    plan = run.first_plan()
    seconds = {"score": events / _EVENT_BYTES_A_SECOND / n_workers}
    for stage in ReadyTasks(plan, {}).by_stage():
        about = terminal.duration(seconds.get(stage.name, 1.0))
        reads = _reads(run.manifest, stage.name)
        table.add_row(terminal.STAGE_WORDS[stage.name], str(stage.total), reads, about)
    table.add_section()
    total_seconds = _START_SECONDS + seconds["score"]
    size = terminal.size(run.manifest.n_bytes)
    table.add_row("all", str(len(plan)), size, terminal.duration(total_seconds), style="bold")
    basis = f"{plural(n_workers, 'worker')}; bundle {run.bundle.digest[:12]}; run {run.run_id}. Times are guesses from the bytes."
    return Group(table, Text(basis))


def _reads(manifest: Manifest, stage: str) -> str:
    names = {"cohort": ("cohort", "demographics"), "score": ("events",)}.get(stage, ())
    n_bytes = sum(file.size for name in names for file in manifest.tables.get(name, ()))
    return terminal.size(n_bytes) if names else ""
