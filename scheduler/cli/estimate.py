"""Estimate of a run: tasks, bytes, and approximate time, from the specification, the manifest and two row counts.

Only ``mlho plan`` counts rows: reading a file footer needs pyarrow, which the scheduler does not import at startup.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from mlho.errors import plural
from mlho.spec.training import RunSpec, TrainingSpec
from scheduler.cli.terminal import (
    STAGE_WORDS,
    duration,
    new_table,
    print_json,
    print_lines,
    print_table,
    size,
)
from scheduler.engine.cost import STAGE_SECONDS, guess_samples, stage_seconds, stored_bytes, worker_bytes
from scheduler.engine.plan import Manifest, plan_run
from scheduler.engine.ready_tasks import ReadyTasks
from scheduler.engine.training_run import TrainingRun

if TYPE_CHECKING:
    from mlho.inspection.findings import Inspection
    from mlho.report.verdicts import SampleVerdict
    from mlho.sources.counting import RowCount

_START_SECONDS: Final = 2.0
_ENCODING: Final = ("encode", "pack")  # stages
_BLOCK_PATIENTS: Final = 16_384


@dataclass(frozen=True)
class Rows:
    """Row counts of the labels, which equal the samples except for those that a rule drops, and of the events.

    Without a table of labels (``cohort.rules``) the count is ``None``, and the number of samples comes from the
    inspection of the tables or is a guess.
    """

    labels: "RowCount | None"
    events: "RowCount"


def look_up_rows(manifest: Manifest, data: Path | str) -> Rows:
    """Return the row counts of labels and events, from footers and samples. Objects are read by byte ranges.

    Raise DataError if the content of a file does not match its suffix.
    """
    from mlho.sources.counting import count_rows
    from mlho.sources.files import SourceFile
    from mlho.store.inputs import S3Root, open_data

    root = open_data(data)

    def rows(table: str) -> "RowCount":
        files = manifest.tables[table]
        if isinstance(root, S3Root):
            return count_rows([root.file(file.key, size=file.size, version=file.version) for file in files])
        assert isinstance(root, Path)
        return count_rows([SourceFile(file.key, root / file.key, file.size) for file in files])

    return Rows(rows("labels") if "labels" in manifest.tables else None, rows("events"))


@dataclass(frozen=True)
class StageEstimate:
    """Tasks, bytes and seconds of a stage. ``seconds`` is ``None`` if another run does its work."""

    stage: str
    tasks: int
    bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class Estimate:
    """The approximate cost of a run."""

    name: str
    stages: tuple[StageEstimate, ...]
    tasks: int
    bytes: int
    """Of all stages."""
    seconds: float
    cpu_seconds: float
    """With these workers, and on one core: elapsed time, not CPU time."""
    stored_bytes: int
    worker_bytes: int
    """Largest size in the store, and memory of one worker."""
    workers: int
    basis: str
    """Basis of the estimate."""

    def table(self) -> Group:
        """Return the estimate as a table, with a paragraph on its cost below."""
        table = new_table(f"Plan of {self.name}", ["stage"], ["tasks", "reads", "about"])
        for stage in self.stages:
            reads = size(stage.bytes) if stage.bytes is not None else ""
            about = "shared" if stage.seconds is None else duration(stage.seconds)
            table.add_row(STAGE_WORDS[stage.stage], str(stage.tasks), reads, about)
        table.add_section()
        table.add_row("all", str(self.tasks), size(self.bytes), duration(self.seconds), style="bold")
        cost = (
            f"About {self.cpu_seconds / 3600:.2g} core hours, and up to {size(self.stored_bytes)} in the store. "
            f"{plural(self.workers, 'worker')}, each with about {size(self.worker_bytes)} of memory. {self.basis}"
        )
        return Group(table, Text(cost))


def show_plans(run: TrainingRun, looks: "Sequence[Inspection]", *, n_workers: int, as_json: bool) -> None:
    """Print the estimate of each run of a document, and whether its sample is large enough.

    Parameters
    ----------
    looks : sequence of Inspection
        Findings of an inspection of the tables, one for each run.
    """
    rows = look_up_rows(run.manifest, run.data)
    encoded: set[str] = set()  # digests of samples that an earlier run of this document has encoded
    facts = []
    for part, inspection in zip(run.of_document(), looks, strict=True):
        is_shared = run.spec.spec.cohort.outcomes is not None and inspection.samples in encoded
        n_found = inspection.n_samples
        plan = estimate(
            part.spec, part.manifest, rows, n_workers=n_workers, is_shared=is_shared, n_found=n_found
        )
        encoded |= {inspection.samples} if inspection.samples else set()
        verdict = sample_size_of(part.spec.spec, inspection)
        sentences = [] if verdict is None else [verdict.sentences]
        window = outcome_window_sentences(part.spec.spec)
        facts.append({"run": part.run_id, **asdict(plan), "sample_size": sentences, "outcome_window": window})
        if not as_json:
            print_table(plan.table())
            print_lines([*window, *sentences])
    if as_json:
        print_json(facts)


def estimate(
    spec: RunSpec,
    manifest: Manifest,
    rows: Rows,
    *,
    n_workers: int,
    is_shared: bool = False,
    n_found: int | None = None,
) -> Estimate:
    """Return tasks, bytes and time by stage, with the basis of the estimate.

    With ``is_shared`` another run has made the encoding, which then costs nothing. ``n_found`` is the number of samples that
    rules have made in an inspection of the tables.
    """
    events = sum(file.size for file in manifest.tables["events"])
    n_rows, samples = _samples(rows, n_found)
    n_samples = max(1, n_rows)
    plan = plan_run(spec.spec, manifest, n_blocks=-(-n_samples // _BLOCK_PATIENTS), n_samples=n_samples)
    by_rows = {"n_samples": n_rows, "n_events": 0 if is_shared else rows.events.n_rows}
    is_by_fold = any(task.kind == "run_fold" for task in plan.values())
    seconds = stage_seconds(spec.spec, n_samples=n_rows, n_events=rows.events.n_rows, is_by_fold=is_by_fold)
    stages, on_one_core = [], 0.0
    for stage in ReadyTasks(plan, {}).by_stage():
        if is_shared and stage.name in _ENCODING:
            stages.append(StageEstimate(stage.name, stage.total, None, None))
            continue
        stage_cost = seconds.get(stage.name, STAGE_SECONDS)
        on_one_core += stage_cost
        reads = events if stage.name == "encode" else None
        stages.append(StageEstimate(stage.name, stage.total, reads, stage_cost / min(n_workers, stage.total)))
    basis = (
        f"Rests on {samples} and"
        f" {rows.events.n_rows:,} of events ({rows.events.basis}); times are guesses for {spec.spec.selection.n_features}"
        " features and the requested grids: half or twice the estimate is common."
    )
    return Estimate(
        name=spec.metadata.name,
        stages=tuple(stages),
        tasks=len(plan),
        bytes=manifest.n_bytes,
        seconds=_START_SECONDS + sum(stage.seconds or 0.0 for stage in stages),
        cpu_seconds=on_one_core,
        stored_bytes=round(stored_bytes(spec.spec, **by_rows, is_by_fold=is_by_fold)),
        worker_bytes=round(worker_bytes(spec.spec, **by_rows)),
        workers=n_workers,
        basis=basis,
    )


def _samples(rows: Rows, n_found: int | None) -> tuple[int, str]:
    """Return the number of samples, and its source in words."""
    if rows.labels is not None:
        return rows.labels.n_rows, f"{plural(rows.labels.n_rows, 'row')} of labels ({rows.labels.basis})"
    if n_found is not None:
        return n_found, f"{plural(n_found, 'sample')} by rule (applied to the tables)"
    n_guessed = guess_samples(rows.events.n_rows)
    return (
        n_guessed,
        f"a guess of {plural(n_guessed, 'sample')} by rule (the events are too large to apply the rules)",
    )


def outcome_window_sentences(spec: TrainingSpec) -> list[str]:
    """State the outcome window of a split by date, and the field that sets it. Return no sentence for other splits."""
    asked, window = spec.validation, spec.cohort.outcome_window
    if not asked.by_date and not asked.temporal_check:
        return []
    if window is None:
        return [
            "Outcome window: cohort.followUpDays is not given, so only the index date determines which samples are "
            "before the test period."
        ]
    return [
        f"Outcome window: {plural(window[0], 'day')} ({window[1]}); samples whose window reaches the test period leave training."
    ]


def sample_size_of(spec: TrainingSpec, inspection: "Inspection") -> "SampleVerdict | None":
    """Return whether the sample of a run is large enough; ``None`` if the inspection has not counted its patients."""
    from mlho.report.verdicts import sample_size_verdict

    if inspection.size is None:
        return None
    n_parameters = spec.selection.n_features + len(spec.features.demographics)
    return sample_size_verdict(n_parameters, *inspection.size, min_cell=spec.report.min_cell)
