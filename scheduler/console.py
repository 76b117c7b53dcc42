"""What the command shows on a terminal: a progress bar while it works, and tables in words. Quiet in a pipe."""

import sys
import time
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

STAGE_WORDS: Final = {
    "cohort": "cohort",
    "encode": "reading events",
    "pack": "packing features",
    "learn": "selecting and fitting",
    "summarise": "summing up",
    "model": "final model",
    "report": "report",
    "bundle": "testing the bundle",
    "score": "scoring",
    "commit": "account and manifest",
}
_RATE_WINDOW_SECONDS: Final = 30.0

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class ProgressBar:
    """Stage, tasks done, rate and time left, on a terminal; nothing in a pipe."""

    def __init__(self, *, enabled: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=err,
            disable=not (enabled and sys.stderr.isatty()),
            transient=True,
        )
        self._bar: TaskID = self._progress.add_task("starting", total=None, rate="")
        self._seen: list[tuple[float, int]] = []
        self._note = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, words: str) -> None:
        """Show these words beside the rate from the next update on."""
        self._note = words

    def update(self, stages: list[tuple[str, int, int]], running: int) -> None:
        """Show where a run is."""
        done, total = sum(own for _, own, _ in stages), sum(own for _, _, own in stages)
        stage = next((name for name, own, wanted in stages if own < wanted), stages[-1][0])
        now = time.monotonic()
        self._seen = [(at, own) for at, own in self._seen if now - at < _RATE_WINDOW_SECONDS] + [(now, done)]
        self._progress.update(
            self._bar,
            completed=done,
            total=total,
            description=STAGE_WORDS[stage],
            rate=", ".join(filter(None, (_rate_words(self._seen, total - done, running), self._note))),
        )


def _rate_words(seen: list[tuple[float, int]], left: int, running: int) -> str:
    (first_at, first_done), (last_at, last_done) = seen[0], seen[-1]
    if last_at - first_at < 1 or last_done == first_done:
        return f"{running} running"
    rate = (last_done - first_done) / (last_at - first_at)
    return f"{running} running, {rate:.1f}/s, {duration(left / rate)} left"


def duration(seconds: float) -> str:
    """A duration as people say it: ``41 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """A size as people say it: ``3.1 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def ledger_table(ledger: dict[str, Any]) -> Table:
    """The ledger of a result: every row used, or dropped by a named rule."""
    table = Table(title="Event rows", title_justify="left", show_edge=False)
    table.add_column("rule")
    table.add_column("rows", justify="right")
    table.add_row("read", f"{ledger['rows_in']:,}")
    for rule in ledger["rules"]:
        if rule["rows"]:
            table.add_row(f"dropped: {rule['rule']}", f"{rule['rows']:,}")
    table.add_row("used", f"{ledger['rows_used']:,}", style="bold")
    return table


def attrition_table(cohort: dict[str, Any]) -> Table:
    """Patients and samples left after each rule."""
    table = Table(title="Cohort", title_justify="left", show_edge=False)
    for name in ("step", "patients", "samples"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for step in cohort["attrition"]:
        table.add_row(step["rule"], f"{step['patients']:,}", f"{step['samples']:,}")
    return table


def features_table(features: list[dict[str, Any]], *, most: int) -> Table:
    """The surest features with their confidence scores and odds ratios."""
    table = Table(title="Features that come back", title_justify="left", show_edge=False)
    table.add_column("feature")
    for name in ("confidence", "seen in", "odds ratio (95 % interval)"):
        table.add_column(name, justify="right")
    for feature in features[:most]:
        confidence = feature["confidence"]
        table.add_row(
            feature["words"], str(confidence["score"]), str(confidence["n_seen"]), _odds_words(feature)
        )
    return table


def _odds_words(feature: dict[str, Any]) -> str:
    ratio = feature["odds_ratio"]
    if not ratio or ratio["per_unit"] is None:
        return ""
    low, high = (
        ratio[f"profile_{end}"] if ratio[f"profile_{end}"] is not None else ratio[f"wald_{end}"]
        for end in ("low", "high")
    )
    interval = "" if low is None or high is None else f" ({low:.2f}–{high:.2f})"
    return f"{ratio['per_unit']:.2f}{interval}"
