"""The plan: the tasks of a run and their dependencies. Pure: specification and manifest in, tasks out.

The plan is made in two parts: the number of blocks and the granularity of the learning tasks are known only from the cohort's commit.
Nothing is trained before the checks of leakage and quality have passed: the split check waits for them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mlho.errors import SpecError
from mlho.sources.omop.folder import CDM_FILES, DEATH, OMOP_NAME, cdm_table
from mlho.spec.scoring import ScoringSpec
from mlho.spec.training import TrainingSpec
from mlho.steps import STEPS
from mlho.steps.base import InputFile, Task
from mlho.steps.learn.held_out import held_out_together
from scheduler.engine.cost import final_fold_seconds

# A fold that takes longer than this gets a separate task; a task costs some hundredths of a second.
FOLD_TASK_SECONDS: Final = 1.0
FINAL: Final = "final"
LEFT_OUT_NAMED: Final = 20  # unread files listed per table; the others are only counted
STAGES: Final = (
    "bundle",
    "cohort",
    "encode",
    "pack",
    "learn",
    "summarise",
    "model",
    "report",
    "score",
    "commit",
)


@dataclass(frozen=True)
class Manifest:
    """The pinned inputs of a run: key relative to the data's URI, size and content hash of each file by table."""

    tables: Mapping[str, tuple[InputFile, ...]]
    """By table name."""
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Files in a table's folder that are not read; only tables that have some. By table name."""

    def plain(self) -> dict[str, Any]:
        """Return plain values, for the run id and for the store."""
        tables = {name: [file.plain() for file in files] for name, files in sorted(self.tables.items())}
        return {**tables, "leftOut": left_out_facts(self.left_out)} if self.left_out else tables

    @property
    def n_bytes(self) -> int:
        """Return the total size of all inputs in bytes."""
        return sum(file.size for files in self.tables.values() for file in files)


def left_out_facts(left_out: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the number of unread files by table, and the first of their names."""
    return {
        name: {"files": len(names), "first": list(names[:LEFT_OUT_NAMED])}
        for name, names in sorted(left_out.items())
    }


@dataclass(frozen=True, slots=True)
class Committed:
    """The part of a commit from which later tasks are built."""

    task: str
    """Key of the task."""
    digest: str


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task before its inputs are committed. It refers to other tasks by name."""

    name: str
    kind: str
    stage: str
    spec: TrainingSpec | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[InputFile, ...] = ()
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def bind(self, commits: Mapping[str, Committed]) -> Task:
        """Return the concrete task, once all of its dependencies are committed."""
        return Task(
            kind=self.kind,
            spec=self.spec,
            params=dict(self.params),
            sources=self.sources,
            inputs={name: tuple(commits[task].task for task in tasks) for name, tasks in self.needs.items()},
            digests={
                name: tuple(commits[task].digest for task in tasks) for name, tasks in self.needs.items()
            },
        )


Plan = Mapping[str, PlannedTask]
Needs = Mapping[str, tuple[str, ...]]
COHORT_TASK: Final = "cohort"
LABELS_TASK: Final = "labels"
DESCENDANTS_TASK: Final = "descendants"
SAMPLES_TASK: Final = "samples"
INSPECTION_TASK: Final = "tables"
BUNDLE_TASK: Final = "bundle"
SCORES_TASK: Final = "scores"
COMPARISON_TASK: Final = "comparison"
_COMPARED: Final = "compared/"  # before the names of the tasks of a bundle to compare with
_LAYOUT: Final = {"source", "columns", "format", "after_death_days"}
_MOST_INSPECTED: Final = 20  # event files that are inspected
_NOTHING: Final[Mapping[str, Any]] = {}


class _Maker:
    """Makes the tasks of one specification.

    The part of the specification that a kind reads is computed once per kind: a plan has few kinds and many
    tasks.
    """

    def __init__(self, spec: TrainingSpec) -> None:
        self.spec = spec
        self._narrowed: dict[str, TrainingSpec | None] = {}

    def __call__(
        self,
        name: str,
        kind: str,
        stage: str,
        *,
        params: Mapping[str, Any] | None = None,
        sources: tuple[InputFile, ...] = (),
        needs: Needs | None = None,
    ) -> PlannedTask:
        """Return a task that carries only the part of the specification that its kind reads."""
        if kind not in self._narrowed:
            self._narrowed[kind] = STEPS[kind].narrow(self.spec)
        return PlannedTask(
            name, kind, stage, self._narrowed[kind], params or _NOTHING, sources, needs or _NOTHING
        )


def plan_cohort(spec: TrainingSpec, manifest: Manifest) -> Plan:
    """Return the plan with the first tasks: the one that defines the cohort, and those that make its labels by rule.

    Raise SpecError if the specification has several outcomes or variants.
    """
    if spec.variants is not None or spec.evolution is not None:
        raise SpecError(
            "variants and evolution: a resource is one run. The mlho command makes one run of each. In a cluster, "
            "write one resource for each variant, and compare the runs with mlho compare; or one for each window, with "
            "features.after and cohort.only."
        )
    if spec.cohort.outcomes is not None:
        raise SpecError(
            "cohort.outcomes: a run has one outcome. The mlho command makes one run of each. In a cluster, write one "
            "resource for each, with cohort.outcome and cohort.shareEncoding: true."
        )
    make = _Maker(spec)
    read = ("labels", "demographics", "dataset", CDM_FILES, *(("events",) if spec.reads_static_rows else ()))
    tables = [manifest.tables.get(name, ()) for name in read]
    if spec.data.source == OMOP_NAME:
        tables.append(tuple(file for file in manifest.tables["events"] if cdm_table(file.key) == DEATH))
    sources = tuple(file for files in tables for file in files)
    if spec.cohort.rules is None:
        return _by_name([make(COHORT_TASK, "define_cohort", "cohort", sources=sources)])
    return _by_name(_cohort_by_rule(make, manifest, sources))


def _cohort_by_rule(
    make: _Maker, manifest: Manifest, sources: tuple[InputFile, ...]
) -> Iterator[PlannedTask]:
    """Yield the tasks that make the labels from the events, and the one that defines the cohort from them."""
    events, demographics = manifest.tables["events"], manifest.tables.get("demographics", ())
    of_codes: Needs = {}
    if hierarchy := manifest.tables.get("hierarchy", ()):
        yield make(DESCENDANTS_TASK, "find_descendants", "cohort", sources=hierarchy)
        of_codes = {"descendants": (DESCENDANTS_TASK,)}
    extracted = tuple(f"rules/{number:05d}" for number in range(len(events)))
    for name, file in zip(extracted, events, strict=True):
        yield make(name, "extract_rule_events", "cohort", sources=(file,), needs=of_codes)
    read = (*demographics, *manifest.tables.get("periods", ()))
    yield make(LABELS_TASK, "apply_rules", "cohort", sources=read, needs={"events": extracted})
    needs = {"labels": (LABELS_TASK,)}
    yield make(COHORT_TASK, "define_cohort", "cohort", sources=sources, needs=needs)


def plan_inspection(spec: TrainingSpec, manifest: Manifest) -> Plan:
    """Return the plan with the task that inspects the tables: the small ones, and events spread evenly over the files."""
    sources = inspected_files(manifest, all_events=spec.reads_static_rows)
    return _by_name([_Maker(spec)(INSPECTION_TASK, "inspect_tables", "cohort", sources=sources)])


def inspected_files(manifest: Manifest, *, all_events: bool = False) -> tuple[InputFile, ...]:
    """Return the files that an inspection of the tables reads: the small tables whole, and some or all files of events."""
    events = manifest.tables["events"]
    others = (file for name, files in manifest.tables.items() if name != "events" for file in files)
    step = 1 if all_events else max(1, -(-len(events) // _MOST_INSPECTED))
    return (*others, *events[::step])


def plan_run(
    spec: TrainingSpec,
    manifest: Manifest,
    *,
    n_blocks: int,
    n_samples: int,
    about: Mapping[str, str] = _NOTHING,
) -> Plan:
    """Return every task of a run in topological order.

    Parameters
    ----------
    n_blocks, n_samples : int
        Facts of the cohort's commit record.
    about : mapping
        Contents of ``metadata``, for the report.
    """
    make = _Maker(spec)
    encoded = tuple(f"encode/{number:05d}" for number in range(len(manifest.tables["events"])))
    tasks = [*plan_cohort(spec, manifest).values()]
    tasks += _encoding(make, manifest, encoded, n_blocks)
    by_fold = final_fold_seconds(spec, n_samples) >= FOLD_TASK_SECONDS
    tasks += _learning_by_fold(make, n_blocks) if by_fold else _learning_by_iteration(make, n_blocks)
    if spec.final.features == "consensus":
        tasks += _consensus_folds(make, n_blocks, by_fold=by_fold)
    tasks += _ending(make, manifest, encoded, n_blocks, about, by_fold=by_fold)
    return _by_name(tasks)


def _encoding(
    make: _Maker, manifest: Manifest, encoded: tuple[str, ...], n_blocks: int
) -> Iterator[PlannedTask]:
    events = manifest.tables["events"]
    cohort: Needs = {"cohort": (COHORT_TASK,)}
    if make.spec.cohort.share_encoding:
        yield make(SAMPLES_TASK, "define_samples", "encode", needs=cohort)
        cohort = {"cohort": (SAMPLES_TASK,)}
    roll_up = manifest.tables.get("rollUp", ())
    for name, file in zip(encoded, events, strict=True):
        yield make(name, "encode_partition", "encode", sources=(file, *roll_up), needs=cohort)
    yield make("dictionary", "merge_dictionary", "pack", needs={"partitions": encoded})
    concepts = manifest.tables.get("concepts", ())
    # An OMOP CDM has millions of concepts. Only those in use are kept.
    used: Needs = {"dictionary": ("dictionary",)} if concepts and make.spec.data.source == OMOP_NAME else {}
    described, params = (*(concepts or events), *roll_up), {"roll_up": len(roll_up)} if roll_up else None
    yield make("concepts", "describe_codes", "encode", sources=described, params=params, needs=used)
    for block in range(n_blocks):
        needs = {**cohort, "dictionary": ("dictionary",), "partitions": encoded}
        yield make(f"pack/{block:05d}", "pack_features", "pack", params={"block": block}, needs=needs)
    ledger = {**cohort, "partitions": encoded, "blocks": _blocks(n_blocks)}
    yield make("ledger", "balance_ledger", "pack", sources=events, needs=ledger)
    checked = {name: need for name, need in _matrix(n_blocks, partitions=encoded).items() if name != "splits"}
    for name in ("leakage", "quality"):
        yield make(name, f"check_{name}", "pack", needs=checked)
    passed = {name: (name,) for name in (COHORT_TASK, "leakage", "quality")}
    yield make("splits", "check_splits", "learn", needs=passed)


def _blocks(n_blocks: int) -> tuple[str, ...]:
    return tuple(f"pack/{block:05d}" for block in range(n_blocks))


def _matrix(n_blocks: int, **more: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the inputs of every learning task. The ledger and the split checks must pass before anything is fitted."""
    return {
        "cohort": (COHORT_TASK,),
        "dictionary": ("dictionary",),
        "blocks": _blocks(n_blocks),
        "concepts": ("concepts",),
        "ledger": ("ledger",),
        "splits": ("splits",),
    } | more


def _learning_by_iteration(make: _Maker, n_blocks: int) -> Iterator[PlannedTask]:
    matrix = _matrix(n_blocks)
    for iteration in range(1, make.spec.validation.iterations + 1):
        params = {"iteration": iteration}
        yield make(f"iteration/{iteration:04d}", "run_iteration", "learn", params=params, needs=matrix)


def _learning_by_fold(make: _Maker, n_blocks: int) -> Iterator[PlannedTask]:
    matrix = _matrix(n_blocks)
    # A consensus model has its own folds.
    last = (FINAL,) if make.spec.final.features == "ranking" else ()
    for iteration in [*range(1, make.spec.validation.iterations + 1), *last]:
        tag = iteration if isinstance(iteration, str) else f"{iteration:04d}"
        place = {"iteration": iteration}
        yield make(f"select/{tag}", "select_features", "learn", params=place, needs=matrix)
        needs = {**matrix, "selection": (f"select/{tag}",)}
        by_fold = needs if make.spec.selection.scope == "iteration" else matrix
        for fold in range(make.spec.validation.folds):
            params = {"fold": fold, **place}
            yield make(f"fold/{tag}/{fold:02d}", "run_fold", "learn", params=params, needs=by_fold)
        if iteration != FINAL:
            needs = {**needs, "folds": _folds(make.spec, tag)}
            yield make(f"iteration/{tag}", "finish_iteration", "learn", params=place, needs=needs)


def _consensus_folds(make: _Maker, n_blocks: int, *, by_fold: bool) -> Iterator[PlannedTask]:
    """Yield the consensus procedure for each set of held-out folds. If a fold is a separate task, so is a subsample."""
    matrix = _matrix(n_blocks)
    for held in held_out_together(make.spec.validation):
        params, tag = {"held": list(held)}, _tag(held)
        needs: dict[str, tuple[str, ...]] = matrix
        if by_fold:
            numbers = range(1, make.spec.validation.iterations + 1)
            subsamples = {f"subsample/{tag}/{number:04d}": number for number in numbers}
            for name, number in subsamples.items():
                subsample = {**params, "subsample": number}
                yield make(name, "run_subsample", "learn", params=subsample, needs=matrix)
            needs = {**matrix, "subsamples": tuple(subsamples)}
        yield make(f"consensus/{tag}", "run_consensus_fold", "learn", params=params, needs=needs)


def _tag(held: Iterable[int]) -> str:
    return "-".join(f"{fold:02d}" for fold in held)


def _folds(spec: TrainingSpec, tag: str) -> tuple[str, ...]:
    return tuple(f"fold/{tag}/{fold:02d}" for fold in range(spec.validation.folds))


def _ending(
    make: _Maker,
    manifest: Manifest,
    encoded: tuple[str, ...],
    n_blocks: int,
    about: Mapping[str, str],
    *,
    by_fold: bool,
) -> Iterator[PlannedTask]:
    iterations = tuple(f"iteration/{number:04d}" for number in range(1, make.spec.validation.iterations + 1))
    matrix = _matrix(n_blocks)
    needs = {**matrix, "iterations": iterations}
    yield make("summary", "summarize_run", "summarise", needs=needs)
    needs = {**needs, "summary": ("summary",)}
    is_consensus = make.spec.final.features == "consensus"
    if is_consensus:
        held_out = held_out_together(make.spec.validation)
        needs |= {"consensus_folds": tuple(f"consensus/{_tag(held)}" for held in held_out)}
    yield make("performance", "judge_model", "summarise", needs=needs)
    needs = {**matrix, "summary": ("summary",), "performance": ("performance",)}
    if by_fold and not is_consensus:
        needs |= {"folds": _folds(make.spec, FINAL), "selection": (f"select/{FINAL}",)}
    yield make("model", "fit_final_model", "model", needs=needs)
    yield make("model-tests", "test_model", "model", needs={"model": ("model",)})
    needs = {
        **matrix,
        "partitions": encoded,
        "iterations": iterations,
        "summary": ("summary",),
        "performance": ("performance",),
        "model": ("model",),
        "tests": ("model-tests",),
        "leakage": ("leakage",),
        "quality": ("quality",),
    }
    if make.spec.validation.temporal_check:
        yield make("later", "evaluate_later", "model", needs={**matrix, "model": ("model",)})
        needs |= {"later": ("later",)}
    sources = tuple(file for files in manifest.tables.values() for file in files)
    params: dict[str, Any] = {"left_out": left_out_facts(manifest.left_out)} if manifest.left_out else {}
    if about:
        params["about"] = dict(about)
    yield make("report", "write_report", "report", params=params, sources=sources, needs=needs)


def _by_name(tasks: Iterable[PlannedTask]) -> Plan:
    return {task.name: task for task in tasks}


def plan_scoring(
    spec: ScoringSpec, manifest: Manifest, bundle_digest: str, compared: str | None = None
) -> Plan:
    """Return every task of a scoring run in topological order. Pure.

    Parameters
    ----------
    compared : str, optional
        Digest of a bundle to compare with. Its tasks are those of its own scoring run, which need not be carried out again.
    """
    tasks = {task.name: task for task in _scoring_tasks(spec, manifest, bundle_digest)}
    if compared is None:
        return tasks
    other = {
        _COMPARED + task.name: replace(task, name=_COMPARED + task.name, needs=_compared_needs(task.needs))
        for task in _scoring_tasks(spec, manifest, compared)
        if task.name != SCORES_TASK
    }
    scored = {"bundle": (BUNDLE_TASK,), "parts": tasks[SCORES_TASK].needs["parts"]}
    scored |= {"absent": tasks[SCORES_TASK].needs["absent"]} if spec.data.tables.cohort is not None else {}
    needs = scored | {f"compared_{name}": names for name, names in _compared_needs(scored).items()}
    comparison = PlannedTask(COMPARISON_TASK, "compare_scores", "commit", needs=needs)
    return {**other, **tasks, COMPARISON_TASK: comparison}


def _compared_needs(needs: Needs) -> Needs:
    return {name: tuple(_COMPARED + task for task in tasks) for name, tasks in needs.items()}


def _scoring_tasks(spec: ScoringSpec, manifest: Manifest, bundle_digest: str) -> Iterator[PlannedTask]:
    tables, events = spec.data.tables, manifest.tables["events"]
    index = spec.index.model_dump(mode="json")
    layout = spec.data.model_dump(mode="json", by_alias=True, include=_LAYOUT)
    scoring = {"index": index, **layout, "top_reasons": spec.explain.top_reasons}
    if spec.explain.only_alerts_of is not None:
        scoring["only_alerts_of"] = spec.explain.only_alerts_of
    bundle = {"bundle": (BUNDLE_TASK,)}
    yield PlannedTask(BUNDLE_TASK, "pin_bundle", "bundle", params={"digest": bundle_digest})
    yield PlannedTask("bundle-tests", "test_bundle", "bundle", needs=bundle)
    tested = {**bundle, "tests": ("bundle-tests",)}
    scored: dict[str, tuple[str, ...]] = {}
    if tables.cohort is not None or tables.demographics is not None:
        sources = (*manifest.tables.get("cohort", ()), *manifest.tables.get("demographics", ()))
        named = {"cohort": tables.cohort, "demographics": tables.demographics}
        params = {"index": index, **layout, **named}
        yield PlannedTask("scored", "define_scored", "cohort", params=params, sources=sources, needs=tested)
        scored = {"scored": ("scored",)}
    # A patient is in several tables of a CDM, which is therefore one partition.
    is_omop = spec.data.source == OMOP_NAME
    partitions = [(*events, *manifest.tables.get(CDM_FILES, ()))] if is_omop else [(file,) for file in events]
    parts = tuple(f"score/{number:05d}" for number in range(len(partitions)))
    for name, files in zip(parts, partitions, strict=True):
        yield PlannedTask(
            name, "score_partition", "score", params=scoring, sources=files, needs={**tested, **scored}
        )
    every = {**tested, **scored, "parts": parts}
    if tables.cohort is not None:
        yield PlannedTask("score/absent", "score_absent", "score", params=scoring, needs=every)
        every = {**every, "absent": ("score/absent",)}  # a new mapping: the task above keeps its own
    if spec.output.formats is not None:
        written = {f"deliver/{part}": part for part in (*parts, *every.get("absent", ()))}
        forms = {"formats": sorted(spec.output.formats), "patient_system": spec.output.patient_system}
        for name, part in written.items():
            yield PlannedTask(name, "deliver_part", "commit", params=forms, needs={**bundle, "part": (part,)})
        every = {**every, "delivered": tuple(written)}
    committed: dict[str, Any] = {"index": index, "source": spec.data.source}
    if manifest.left_out:
        committed["left_out"] = left_out_facts(manifest.left_out)
    if is_omop:
        committed["partition"] = tables.events
    if spec.checks.empty_samples == "warn":
        committed["empty_samples"] = "warn"
    yield PlannedTask(SCORES_TASK, "commit_scores", "commit", params=committed, sources=events, needs=every)
