"""Terminal output of the command: progress while it works, and result tables. In a pipe, progress is a few lines."""

import io
import os
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mlho.errors import plural
from mlho.log import error_fields, log
from mlho.printable import printable, printable_json
from mlho.report.gates import gates_in_words
from scheduler.engine.manifest import left_out_sentences
from scheduler.engine.progress import Counts, Facts, RateEstimator, StageProgress, Stages
from scheduler.runs.record import RunCost

if TYPE_CHECKING:
    from mlho.protocol.documents import Execution
    from scheduler.queue.executor import QueueExecutor

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


class SafeConsole(Console):
    """A console that escapes control characters in the data, but keeps its own styles."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments to write. Control characters in text segments are escaped."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise for a closed standard output, which the command handles. Go on without a closed standard error, as the log does."""
        if not self.stderr:
            raise
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


out = SafeConsole(highlight=False, soft_wrap=True)
_wide = SafeConsole(highlight=False, width=2000)  # in a pipe: each row of a table stays on one line
_AROUND: Final = 3  # blanks and line of a column
err = SafeConsole(stderr=True, highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    """Print a line on standard output, without markup."""
    out.print(text, markup=False)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output, without markup."""
    for line in lines:
        print_line(line)


def print_progress(text: str) -> None:
    """Print a line of progress on standard error, without markup."""
    err.print(text, markup=False)


def print_note(text: str) -> None:
    """Print a note on standard error, without markup; with a JSON log, as an event."""
    if log.is_on:
        log.info("note_given", note=text.strip())
    else:
        print_progress(text)


def print_error(error: Exception | str) -> None:
    """Print the error that ends a command on standard error; with a JSON log, as an event."""
    if log.is_on:
        fields = {"error": error} if isinstance(error, str) else error_fields(error)
        log.error("command_failed", **fields)
    else:
        err.print(f"[bold red]error:[/] {escape(str(error))}")


def print_warning(sentence: str) -> None:
    """Print a warning on standard error; with a JSON log, as an event."""
    if log.is_on:
        log.warning("warning_found", warning=sentence)
    else:
        print_note(f"Warning: {sentence}")


def print_json(value: object) -> None:
    """Print a value as JSON on standard output."""
    print_document(f"{printable_json(value)}\n")


def print_document(text: str) -> None:
    """Print JSON or YAML on standard output in UTF-8, in every locale."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # a surrogate is then valid JSON
    print(text, end="", flush=True)  # noqa: T201 - the command's output


def new_table(title: str | None, left: Iterable[str] = (), right: Iterable[str] = ()) -> Table:
    """Return a table with columns of text on the left, and then of numbers on the right."""
    table = Table(title=title, title_justify="left", show_edge=False)
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def text_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Return a table of text, at least as wide as its title, which would otherwise be wrapped."""
    table = new_table(title, columns)
    table.min_width = min(cell_len(title), out.width)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def print_table(table: RenderableType, *, optional: Sequence[str] = ()) -> None:
    """Print a table on standard output; in a pipe as wide as it needs to be.

    On a terminal that is too narrow, ``optional`` columns are left out in this order until the others fit. Otherwise
    all columns would be cut off.
    """
    if not out.is_terminal:
        _wide.print(table)
        return
    left_out = []
    for name in optional:
        if not isinstance(table, Table) or _least_width(table) <= out.width:
            break
        table.columns = [column for column in table.columns if column.header != name]
        left_out.append(name)
    out.print(table)
    if left_out:
        out.print(f"Too narrow for: {', '.join(left_out)}. --json prints all columns.", markup=False)


def print_tables(tables: Iterable[RenderableType]) -> None:
    """Print tables, with a blank line before each."""
    for table in tables:
        out.print()
        print_table(table)


def _least_width(table: Table) -> int:
    """Return the width below which columns that are not wrapped are cut off."""
    widths = []
    for column in table.columns:
        sizes = [Measurement.get(_wide, _wide.options, cell) for cell in (column.header, *column.cells)]
        widths.append(max(size.maximum if column.no_wrap else size.minimum for size in sizes))
    return sum(widths) + _AROUND * len(widths)


@dataclass(eq=False)
class Track:
    """One run on a display. This base class shows nothing."""

    name: str
    run: str = ""
    estimator: RateEstimator = field(default_factory=lambda: RateEstimator(Counts()), init=False)

    def follow(self, counts: Counts) -> None:
        """Read retries and other counters from this object."""
        self.estimator.counts = counts

    def started(self, _execution: "Execution", executor: "QueueExecutor") -> None:
        """Read the counters of a run on a queue."""
        self.follow(executor.counters)

    def update(self, stages: Stages, running: int) -> None:
        """Show the progress of the run."""
        self.show(self.estimator.take(stages, running))

    def show(self, facts: Facts) -> None:
        """Show these facts."""

    def end(self, state: str) -> None:
        """Show that the run has ended: ``finished``, ``failed`` or ``stopped``."""


class Display(AbstractContextManager["Display"]):
    """A display of progress. This base class has nothing to open or close."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        pass

    @abstractmethod
    def tracks(self, names: Mapping[str, str]) -> list[Track]:
        """Return a track for each run (id to name)."""


class ProgressLines(Display):
    """A display for a pipe: a line when a stage begins, at each tenth of it, and when it ends."""

    def tracks(self, names: Mapping[str, str]) -> list[Track]:
        """Return the lines of each run (id to name), which begin with its name if there are several."""
        return [StageLines(name if len(names) > 1 else "", run) for run, name in names.items()]


@dataclass(eq=False)
class StageLines(Track):
    """The lines of one run."""

    write: Callable[[str], None] = print_progress
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    _tenths: dict[str, int] = field(default_factory=dict, init=False)
    _began: dict[str, float] = field(default_factory=dict, init=False)

    def update(self, stages: Stages, running: int) -> None:
        """Write a line for each stage that has begun, reached another tenth, or ended."""
        facts = self.estimator.take(stages, running)
        is_reached = True
        for stage in stages:
            if stage.done or is_reached:
                self._write_stage(stage, facts)
            is_reached = is_reached and stage.done == stage.total

    def _write_stage(self, stage: StageProgress, facts: Facts) -> None:
        reached, tenth = self._tenths.get(stage.name), 10 * stage.done // max(1, stage.total)
        words = ""
        if reached is None and tenth < 10:
            self._began[stage.name] = self.clock()
            words = f"begins, {plural(stage.total, 'task')}"
        elif tenth == 10 and reached != 10:
            words = f"done, {plural(stage.total, 'task')}{self._duration_of(stage)}"
        elif tenth > (reached or 0):
            words = f"{stage.done:,} of {plural(stage.total, 'task')} ({100 * stage.done // stage.total} %){self._rest_of(stage, facts)}"
        self._tenths[stage.name] = max(tenth, reached or 0)
        if words:
            label = f"{self.name}: " if self.name else ""
            self.write(f"{label}{STAGE_WORDS.get(stage.name, stage.name)}: {words}")

    def _duration_of(self, stage: StageProgress) -> str:
        began = self._began.get(stage.name)
        return "" if began is None else f" in {duration(self.clock() - began)}"

    def _rest_of(self, stage: StageProgress, facts: Facts) -> str:
        seconds = self.clock() - self._began[stage.name]
        words = [f"about {duration(seconds * (stage.total - stage.done) / stage.done)} left"]
        words += [f"{facts.retried} retried"] if facts.retried else []
        words += [f"{facts.quarantined} quarantined"] if facts.quarantined else []
        return ", " + ", ".join(words)


class ProgressBars(Display):
    """A display with a bar for each run: stage, completed and running tasks, rate and time left."""

    def __init__(self, *, enabled: bool) -> None:
        self._bars = Progress(
            TextColumn("{task.fields[label]}{task.description:<22}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=err,
            disable=not (enabled and sys.stderr.isatty()),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._bars.stop()

    def tracks(self, names: Mapping[str, str]) -> list[Track]:
        """Return a bar for each run (id to name), labelled with its name if there are several."""
        return [_Bar(self._bars, name if len(names) > 1 else "", run) for run, name in names.items()]


class _Bar(Track):
    def __init__(self, bars: Progress, name: str, run: str = "") -> None:
        super().__init__(name, run)
        self._bars = bars
        label = f"{name[:20]:<20}  " if name else ""
        self._task: TaskID = bars.add_task("starting", total=None, label=label, words="")

    def show(self, facts: Facts) -> None:
        self._bars.update(
            self._task,
            completed=facts.done,
            total=facts.total,
            description=STAGE_WORDS.get(facts.stage, facts.stage),
            words=words_of(facts),
        )

    def end(self, state: str) -> None:
        self._bars.update(self._task, words=state)
        self._bars.stop_task(self._task)


def words_of(facts: Facts) -> str:
    """Return the facts that the bar itself does not show: ``2 running, 1 retried, 0.8/s, 41 s left``."""
    words = [f"{facts.running} running"]
    words += [f"{facts.slots} slots"] if facts.slots else []
    words += [f"{facts.retried} retried"] if facts.retried else []
    words += [f"{facts.quarantined} quarantined"] if facts.quarantined else []
    words += [f"{facts.rate:.1f}/s"] if facts.rate else []
    words += [f"{duration(facts.seconds_left)} left"] if facts.seconds_left is not None else []
    words += ["queue does not serve"] if facts.is_degraded else []
    words += [facts.outage.short] if facts.outage else []
    return ", ".join(words)


def result_sentences(result: Mapping[str, Any]) -> list[str]:
    """Return the first sentences of a result: its summary, its warnings, and the files that were not read."""
    warnings = [*result["warnings"], *left_out_sentences(result["inputs"].get("left_out", {}))]
    passed = ["All gates passed: the model may be promoted."] if gates_in_words(result) == "passed" else []
    return [*result["summary"], *(f"Warning: {warning}" for warning in warnings), *passed]


def duration(seconds: float) -> str:
    """Return a readable duration: ``41 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def cost_words(cost: RunCost) -> str:
    """Return the cost of a run: ``0.42 core hours, 12.3 MB read, 45.6 MB stored``."""
    read, stored = size(cost.read_bytes), size(cost.stored_bytes)
    return f"{cost.cpu_seconds / 3600:.2g} core hours, {read} read, {stored} stored"


def size(n_bytes: float) -> str:
    """Return a readable size: ``3.1 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def ledger_table(ledger: dict[str, Any]) -> Table:
    """Return the ledger of a result as a table: every row used, or dropped by a named rule."""
    table = new_table("Event rows", ["rule"], ["rows"])
    table.add_row("read", f"{ledger['rows_in']:,}")
    for rule in ledger["rules"]:
        if rule["rows"]:
            table.add_row(f"dropped: {rule['rule']}", f"{rule['rows']:,}")
    table.add_row("used", f"{ledger['rows_used']:,}", style="bold")
    return table


def attrition_table(cohort: dict[str, Any]) -> Table:
    """Return a table of the patients and samples left after each rule."""
    table = new_table("Cohort", ["step"], ["patients", "samples"])
    for step in cohort["attrition"]:
        table.add_row(step["rule"], _shown(step["patients"]), _shown(step["samples"]))
    return table


def _shown(n: int | None) -> str:
    """Return a count as text. Small counts are withheld in the result, to protect patients."""
    return "not shown" if n is None else f"{n:,}"


def features_table(features: list[dict[str, Any]], *, most: int) -> Table:
    """Return a table of the stable features with their odds ratios; if there are none, of those with the highest confidence scores."""
    stable = [feature for feature in features if feature["in_consensus"]]
    title = "Stable features" if stable else "No feature is stable; the highest confidence scores"
    n_more = len(stable) - most
    title += f" ({n_more:,} more in the report)" if n_more > 0 else ""
    table = new_table(title, ["feature"], ["confidence", "seen in", "odds ratio (95 % interval)"])
    for feature in (stable or features)[:most]:
        confidence = feature["confidence"]
        table.add_row(
            Text(printable(feature["words"])),
            str(confidence["score"]),
            str(confidence["n_seen"]),
            _odds_words(feature),
        )
    return table


def _odds_words(feature: dict[str, Any]) -> str:
    # The schema of a result takes time to build, and most commands do not need it.
    from mlho.report.odds import shown_odds
    from mlho.report.result import OddsRatio
    from mlho.report.words import odds as odds_words

    odds = feature["odds_ratio"]
    shown = shown_odds(OddsRatio.model_validate(odds)) if odds else None
    if shown is None:
        return ""
    return " ".join(part for part in (odds_words(shown.value, shown.low, shown.high), shown.unit) if part)
