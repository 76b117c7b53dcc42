"""Estimate of a run: tasks, bytes, and approximate time, from the specification, the manifest and two row counts.

Only ``mlho plan`` counts rows: reading a file footer needs pyarrow, which the scheduler does not import at
start.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from mlho.spec.training import RunSpec
from scheduler.cli.terminal import STAGE_WORDS, duration, size
from scheduler.engine.cost import consensus_seconds, learning_seconds, model_seconds
from scheduler.engine.plan import Manifest, plan_run
from scheduler.engine.ready_tasks import ReadyTasks

if TYPE_CHECKING:
    from mlho.sources.counting import RowCount

# Measured on two shared cores. The estimate is approximate; the progress bar is more precise after a minute.
_READ_ROWS_A_SECOND: Final = 600_000
_PACKED_ROWS_A_SECOND: Final = 3_000_000
_STAGE_SECONDS: Final = 1.0  # of any other stage
_START_SECONDS: Final = 2.0
_BLOCK_PATIENTS: Final = 16_384


@dataclass(frozen=True)
class Rows:
    """Row counts of the labels, which equal the samples except for those that a rule drops, and of the events."""

    labels: "RowCount"
    events: "RowCount"


def look_up_rows(manifest: Manifest, data: Path | str) -> Rows:
    """Return the row counts of labels and events, from footers and samples. Objects are read by byte ranges.

    Raises
    ------
    DataError
        The content of a file does not match its suffix.
    """
    from mlho.sources.counting import count_rows
    from mlho.sources.files import InputFile
    from mlho.store.inputs import S3Root, open_data

    root = open_data(data)

    def rows(table: str) -> "RowCount":
        files = manifest.tables[table]
        if isinstance(root, S3Root):
            return count_rows([root.file(own.key, size=own.size, version=own.version) for own in files])
        assert isinstance(root, Path)
        return count_rows([InputFile(own.key, root / own.key, own.size) for own in files])

    return Rows(rows("labels"), rows("events"))


def estimate(spec: RunSpec, manifest: Manifest, rows: Rows, *, n_workers: int) -> Table:
    """Return a table of tasks, bytes and time by stage, with the basis of the estimate."""
    events = sum(file.size for file in manifest.tables["events"])
    n_samples = max(1, rows.labels.n_rows)
    plan = plan_run(spec.spec, manifest, n_blocks=-(-n_samples // _BLOCK_PATIENTS), n_samples=n_samples)
    seconds = _seconds(spec, rows, is_by_fold=any(task.kind == "run_fold" for task in plan.values()))
    table = Table(title=f"Plan of {spec.metadata.name}", title_justify="left", show_edge=False)
    table.add_column("stage")
    for name in ("tasks", "reads", "about"):
        table.add_column(name, justify="right")
    total = _START_SECONDS
    for stage in ReadyTasks(plan, {}).by_stage():
        own = seconds.get(stage.name, _STAGE_SECONDS) / min(n_workers, stage.total)
        total += own
        reads = size(events) if stage.name == "encode" else ""
        table.add_row(STAGE_WORDS[stage.name], str(stage.total), reads, duration(own))
    table.add_section()
    table.add_row("all", str(len(plan)), size(manifest.n_bytes), duration(total), style="bold")
    table.caption = (
        f"{n_workers} worker(s). Rests on {rows.labels.n_rows:,} rows of labels ({rows.labels.basis}) and"
        f" {rows.events.n_rows:,} of events ({rows.events.basis}); times are guesses for {spec.spec.selection.n_features}"
        " features and the grids asked for: half or twice as much is common."
    )
    table.caption_justify = "left"
    return table


def _seconds(spec: RunSpec, rows: Rows, *, is_by_fold: bool) -> dict[str, float]:
    learning = learning_seconds(spec.spec, rows.labels.n_rows)
    is_consensus = spec.spec.final.features == "consensus"
    cost = consensus_seconds if is_consensus else model_seconds
    model, is_beside = cost(spec.spec, rows.labels.n_rows), is_by_fold or is_consensus
    return {
        "encode": rows.events.n_rows / _READ_ROWS_A_SECOND,
        "pack": rows.events.n_rows / _PACKED_ROWS_A_SECOND,
        # Folds of the final model that are tasks run in parallel with those of the iterations.
        "learn": learning + (model if is_beside else 0.0) + _STAGE_SECONDS,
        "model": (0.0 if is_beside else model) + _STAGE_SECONDS,
    }
