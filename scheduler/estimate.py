"""What a run would do: tasks, bytes, and a rough time, from the specification and the manifest alone."""

from typing import Final

from rich.table import Table

from mlho.spec import RunSpec
from mlho.steps.held_out import held_out_together
from scheduler.console import STAGE_WORDS, duration, size
from scheduler.plan import Manifest, plan_run
from scheduler.progress import Progress

# Measured on two shared cores; an estimate says "about", and the progress bar knows better after a minute.
_EVENT_BYTES_A_SECOND: Final = 20e6
_BYTES_A_SAMPLE: Final = 2_000  # of events, in compressed Parquet
_SECONDS_A_FIT: Final = {"glmboost": 6e-6, "elasticnet": 4e-6, "xgboost": 7e-5, "ebm": 7e-4}  # a sample
_START_SECONDS: Final = 2.0


def estimate(spec: RunSpec, manifest: Manifest, *, n_workers: int) -> Table:
    """Tasks by stage with bytes and time.

    How many patients there are is not known before the cohort is read: it is guessed from the bytes, and so are the
    tasks that depend on it.
    """
    events = sum(file.size for file in manifest.tables["events"])
    n_samples = max(100, int(events / _BYTES_A_SAMPLE))
    n_blocks = max(1, -(-n_samples // 16_384))
    plan = plan_run(spec.spec, manifest, n_blocks=n_blocks, n_samples=n_samples)
    seconds = _seconds(spec, events, n_samples)
    table = Table(title=f"Plan of {spec.metadata.name}", title_justify="left", show_edge=False)
    table.add_column("stage")
    for name in ("tasks", "reads", "about"):
        table.add_column(name, justify="right")
    for stage, _, total in Progress(plan, {}).by_stage():
        reads = size(events) if stage == "encode" else ""
        table.add_row(STAGE_WORDS[stage], str(total), reads, duration(seconds.get(stage, 1.0) / n_workers))
    total_seconds = _START_SECONDS + sum(seconds.values()) / n_workers
    table.add_section()
    table.add_row("all", str(len(plan)), size(manifest.n_bytes), duration(total_seconds), style="bold")
    table.caption = f"{n_workers} worker(s); sizes and times are guesses from {size(events)} of events, about {n_samples:,} samples."
    table.caption_justify = "left"
    return table


def _seconds(spec: RunSpec, events: int, n_samples: int) -> dict[str, float]:
    validation = spec.spec.validation
    fits = (validation.iterations + 1) * (validation.folds + 1)
    fit = sum(_SECONDS_A_FIT[own.classifier] for own in spec.spec.candidates) * n_samples
    judging = 0.0
    if spec.spec.final.features == "consensus":
        subsample = _SECONDS_A_FIT[spec.spec.consensus.classifier] * n_samples
        judging = len(held_out_together(validation)) * (validation.iterations * subsample + fit)
    return {
        "encode": events / _EVENT_BYTES_A_SECOND,
        "pack": events / _EVENT_BYTES_A_SECOND,
        "learn": fits * fit + judging + 1,
    }
