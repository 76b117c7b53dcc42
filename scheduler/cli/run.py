"""The command ``mlho run``, and the parts that it shares with ``mlho score``: prepare, execute locally or on a queue, print the outputs."""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, overload

import yaml

from mlho.errors import MlhoError, SpecError, plural
from mlho.processes import STOP_SECONDS, is_interrupt, stopping_on_sigterm, usable_cpus
from mlho.settings import store_patience
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec, parse_spec
from mlho.steps.base import Task
from mlho.steps.commit_log import CommitLog
from mlho.steps.records import Outcome
from mlho.store import open_store
from mlho.store.base import Store, get_if_present
from mlho.store.keys import RUNS, run_key
from mlho.store.probe import COMPAT_WORDS, probe_store
from scheduler.api.resource import load_checked
from scheduler.cli import terminal
from scheduler.cli.evaluation.study_tables import print_study, publish_study
from scheduler.cli.json_progress import JsonProgress
from scheduler.cli.listing import result_of, run_facts
from scheduler.cli.options import ExecutionOptions, OutputOptions, RunOptions
from scheduler.cli.results.site import SitePreparation, renew
from scheduler.cli.validate import inspect_before_run
from scheduler.engine.loop import Executor, Finished, PreparedRun, carry_out
from scheduler.engine.manifest import left_out_sentences
from scheduler.engine.outages import StoreHealth
from scheduler.engine.plan import Manifest, left_out_facts
from scheduler.engine.prepare import prepare
from scheduler.engine.process_pool import LocalPool
from scheduler.engine.progress import Counts, FanOut
from scheduler.engine.publication import spec_yaml
from scheduler.engine.training_run import TrainingRun
from scheduler.runs.stored import headline_of, stored_runs
from scheduler.site.pages import INDEX

if TYPE_CHECKING:
    from scheduler.engine.scoring_run import ScoringRun
    from scheduler.queue.metrics import MetricsPage
    from scheduler.queue.multi_run import Ended
    from scheduler.queue.run import QueueConfig, QueueObserver

PROGRESS: Final = ("auto", "json", "none")


def run_command(options: RunOptions) -> int:
    """Run ``mlho run`` with one specification, or with several at once."""
    refuse_what_needs_a_queue(options)
    if len(options.spec) > 1:
        return _run_several(options)
    (path,) = options.spec
    spec, store = load_checked(path, parse_spec), usable_store(options)
    check_broker(options)
    document = prepare_with_warnings(spec, path, store)
    runs = document.of_document()
    for run in runs:
        name = run.spec.metadata.name
        try:
            finished = carry_out_one(run, name, options)
        except MlhoError:
            if len(runs) > 1:
                terminal.print_note(f"{name} ({run.run_id}): failed, and the later ones were not started:")
            raise
        if options.json:
            continue
        if len(runs) > 1:
            terminal.out.print(name, markup=False, style="bold")
        print_finished(run, finished, options.store)
    study = _publish_study(document, runs, options)
    renew(store, options.store)
    if options.json:
        print_json(store, [run.run_id for run in runs], options.store, study)
    return 0


def _publish_study(document: TrainingRun, runs: Sequence[TrainingRun], options: RunOptions) -> dict[str, str]:
    """Publish and print the study of finished variants or windows.

    Return its key by the id of the first run; an empty mapping if there is no study.
    """
    published = publish_study(document, options.store, runs)
    if published is None:
        return {}
    key, study = published
    if not options.json:
        print_study(study, f"{shown_address(options.store)}/{key}")
    return {runs[0].run_id: key}


def refuse_what_needs_a_queue(options: ExecutionOptions) -> None:
    """Refuse options that apply only to a run on a queue."""
    if options.metrics_port is not None and options.broker is None:
        raise SpecError(
            "--metrics-port: only a run on a queue serves metrics. Add --broker, or omit the option."
        )


def check_broker(options: ExecutionOptions) -> None:
    """Check that the queue of these options can be used, before the tables are inspected."""
    if options.broker is not None:
        from scheduler.queue.run import check_queue, settings_for  # importing Celery is slow

        check_queue(*settings_for(options.broker))


def usable_store(options: OutputOptions) -> Store:
    """Return the store after probing its capabilities. Print a note if it is used in compat mode."""
    store = open_store(options.store)
    probe_store(store)
    if CommitLog(store).is_adopted and options.log == "text":
        terminal.print_note(COMPAT_WORDS)
    return store


@overload
def prepare_with_warnings(spec: RunSpec, spec_path: Path, store: Store) -> TrainingRun: ...
@overload
def prepare_with_warnings(spec: ScoringRunSpec, spec_path: Path, store: Store) -> "ScoringRun": ...
def prepare_with_warnings(
    spec: RunSpec | ScoringRunSpec, spec_path: Path, store: Store
) -> "TrainingRun | ScoringRun":
    """Return a prepared run. Print warnings about its tables."""
    run = prepare(spec, spec_path, store, inspect=inspect_before_run)
    print_left_out(run.manifest)
    _warn_of_kept_metadata(run)
    return run


def _warn_of_kept_metadata(run: "TrainingRun | ScoringRun") -> None:
    """Warn if the store has the run with other metadata: these are not part of the id, and the first ones stay."""
    stored = get_if_present(run.store, run_key(run.run_id, "spec.yaml"))
    try:
        before = {} if stored is None else dict(yaml.safe_load(stored)["metadata"])
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        return  # mlho list shows it as damaged
    now = yaml.safe_load(spec_yaml(run.spec))["metadata"]
    other = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
    if before and other:
        terminal.print_warning(
            f"The store has this run already, under the name {before.get('name')}: its data and settings are the same. It keeps its metadata; "
            f"not taken over: {', '.join(other)}. To change them, delete the run first: mlho delete {run.run_id}"
        )


def print_left_out(manifest: Manifest) -> None:
    """Warn before the start about files that are not read. The result repeats the warning."""
    for sentence in left_out_sentences(left_out_facts(manifest.left_out)):
        terminal.print_warning(sentence)


def carry_out_one(run: PreparedRun, name: str, options: ExecutionOptions) -> Finished:
    """Carry out a run with the given options, and show its progress."""
    with stopping_on_sigterm(_report_forced_end), _display(options) as display:
        (track,) = display.tracks({run.run_id: name})
        state = "failed"
        try:
            finished = (_carry_out if options.broker is None else _carry_out_on_queue)(run, options, track)
            state = "finished"
        except BaseException as error:
            state = "stopped" if is_interrupt(error) else state
            raise
        finally:
            track.end(state)
        return finished


def _report_forced_end() -> None:
    terminal.err.show_cursor(True)  # the progress bars hide it
    terminal.print_note(
        f"Stopped without waiting for requests that were unanswered for {STOP_SECONDS:.0f} s. Committed results are "
        "kept: run the same command to "
        "continue."
    )


def _display(options: ExecutionOptions) -> terminal.Display:
    if options.progress == "json":
        return JsonProgress()
    is_shown = options.progress == "auto" and options.log == "text"
    if is_shown and not sys.stderr.isatty():
        return terminal.ProgressLines()
    return terminal.ProgressBars(enabled=is_shown)


def _carry_out(run: PreparedRun, options: ExecutionOptions, track: terminal.Track) -> Finished:
    n_workers = options.workers or usable_cpus()
    # With --log json, the log contains these sentences.
    notify = terminal.print_note if options.log == "text" else lambda _: None
    health = StoreHealth(patience=store_patience(), notify=notify)
    counts = Counts(slots=n_workers, health=health)
    track.follow(counts)
    with LocalPool(options.store, run.data, n_workers=n_workers) as pool:
        observer = FanOut([track, SitePreparation()])
        return carry_out(run, _Counting(pool, counts), observer, n_slots=n_workers, health=health)


@dataclass
class _Counting:
    """An executor wrapper that counts the tasks that are submitted again."""

    executor: Executor
    counts: Counts
    seen: set[str] = field(default_factory=set)

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Start tasks."""
        keys = [task.key for task in tasks]
        self.counts.retried += sum(key in self.seen for key in keys)
        self.seen.update(keys)
        return self.executor.submit_all(tasks)


def _carry_out_on_queue(run: PreparedRun, options: ExecutionOptions, track: terminal.Track) -> Finished:
    from scheduler.queue.run import carry_out_on_queue, settings_for  # importing Celery is slow

    broker, settings = settings_for(options.broker)
    with _metrics_page(options) as page:
        observers = _queue_observers(track, page)
        config = _queue_config(broker, options)
        return carry_out_on_queue(run, config, settings, observers, notify=terminal.print_note)


def _queue_observers(track: terminal.Track, page: "MetricsPage | None") -> "list[QueueObserver]":
    """Return the observers of a run on a queue: the display, and Prometheus if a port is given."""
    return [track] if page is None else [page.observer(track.run), track]


@contextmanager
def _metrics_page(options: ExecutionOptions) -> "Iterator[MetricsPage | None]":
    if options.metrics_port is None:
        yield None
        return
    from scheduler.queue.metrics import MetricsPage

    page = MetricsPage()
    page.serve(options.metrics_port, options.metrics_address)
    with closing(page):
        yield page


def _queue_config(broker: str, options: ExecutionOptions) -> "QueueConfig":
    from scheduler.queue.embedded_server import EMBEDDED
    from scheduler.queue.run import QueueConfig

    n_workers = options.workers
    if broker == EMBEDDED:
        n_workers = n_workers or usable_cpus()
    return QueueConfig(broker, options.store, n_workers or 0)


def _run_several(options: RunOptions) -> int:
    """Check all specifications, then carry out all runs. Return the highest exit code."""
    if options.broker is None:
        raise SpecError(
            f"mlho run: {plural(len(options.spec), 'specification')} share the workers of a queue, and none is given. Add "
            "--broker embedded, or the address of a Redis: --broker redis://HOST:PORT/0."
        )
    from scheduler.queue.multi_run import carry_out_several
    from scheduler.queue.run import settings_for

    broker, settings = settings_for(options.broker)
    store = usable_store(options)
    check_broker(options)
    runs, documents = _prepare_several(options.spec, store)
    names = {run: prepared_run.spec.metadata.name for run, prepared_run in runs.items()}
    with ExitStack() as stack:
        stack.enter_context(stopping_on_sigterm(_report_forced_end))
        page = stack.enter_context(_metrics_page(options))
        display = stack.enter_context(_display(options))
        tracks = {track.run: track for track in display.tracks(names)}

        def on_end(ended: "Ended") -> None:
            tracks[ended.run.run_id].end(_state_of(ended))
            if page is not None:
                page.remove(ended.run.run_id)

        watched = {name: (runs[name], _queue_observers(track, page)) for name, track in tracks.items()}
        config = _queue_config(broker, options)
        all_ended = carry_out_several(watched, config, settings, notify=terminal.print_note, on_end=on_end)
    renew(store, options.store)
    codes = [
        _print_ended(runs[ended.run.run_id], ended, options.store, is_quiet=options.json)
        for ended in all_ended
    ]
    finished = {ended.run.run_id for ended in all_ended if ended.finished is not None}
    studies = _publish_studies(documents, finished, options)
    if options.json:
        print_json(store, list(runs), options.store, studies)
    return max(codes)


def _publish_studies(
    documents: Sequence[TrainingRun], finished: Collection[str], options: RunOptions
) -> dict[str, str]:
    """Publish the studies of the documents whose runs have all finished. Return the key of each by its first run."""
    studies: dict[str, str] = {}
    for document in documents:
        parts = document.of_document()
        if all(part.run_id in finished for part in parts):
            studies |= _publish_study(document, parts, options)
    return studies


def _prepare_several(paths: Sequence[Path], store: Store) -> tuple[dict[str, TrainingRun], list[TrainingRun]]:
    """Return the runs by id, and the documents. Specifications that define the same run are merged."""
    runs: dict[str, TrainingRun] = {}
    documents: list[TrainingRun] = []
    paths_of: dict[str, Path] = {}
    for path in paths:
        try:
            documents.append(prepare_with_warnings(load_checked(path, parse_spec), path, store))
            prepared = documents[-1].of_document()
        except MlhoError:
            terminal.print_note(f"{path}: cannot be started, so none is started:")
            raise
        for run in prepared:
            name = run.run_id
            if name in runs:
                terminal.print_note(
                    f"{path}: specifies the same run as {paths_of[name]} ({name}). It is carried out once."
                )
                continue
            runs[name], paths_of[name] = run, path
    return runs, documents


def _state_of(ended: "Ended") -> str:
    from scheduler.queue.run import Stopped

    if ended.error is None:
        return "finished"
    return "stopped" if isinstance(ended.error, Stopped) else "failed"


def _print_ended(run: TrainingRun, ended: "Ended", store_address: str, *, is_quiet: bool) -> int:
    """Print the result of one of several runs. Return its exit code."""
    name = run.spec.metadata.name
    if ended.finished is None:
        error = ended.error
        words, code = f"{type(error).__name__}. Report this as a defect.", 1
        if isinstance(error, MlhoError):
            words, code = str(error), error.exit_code
        terminal.print_note(f"{name} ({run.run_id}): failed: {words}")
        return code
    if is_quiet:
        return 0
    terminal.out.print(f"{name}", markup=False, style="bold")
    for sentence in result_of(run.store, run.run_id)["summary"][:2]:
        terminal.print_line(f"  {sentence}")
    _print_places(run, ended.finished, store_address, indent="  ")
    return 0


def print_finished(run: TrainingRun, finished: Finished, store_address: str) -> None:
    """Print the results of a training run, and where they are."""
    result = result_of(run.store, finished.run_id)
    terminal.print_lines(terminal.result_sentences(result))
    terminal.print_tables(
        [terminal.attrition_table(result["cohort"]), terminal.ledger_table(result["ledger"])]
    )
    terminal.out.print()
    _print_places(run, finished, store_address)


def print_json(store: Store, ids: Sequence[str], store_address: str, studies: Mapping[str, str]) -> None:
    """Print facts about these runs, as ``mlho list --json`` does, and the locations of their files and their joint study."""
    stored = {run.run_id: run for run in stored_runs(store) if run.run_id in ids}
    root = shown_address(store_address)
    facts = [
        {
            **run_facts(stored[run], headline_of(store, stored[run])),
            "folder": f"{root}/{RUNS}/{run}",
            **({"study": f"{root}/{studies[run]}.json"} if run in studies else {}),
        }
        for run in ids
    ]
    terminal.print_json(facts)


def _print_places(run: TrainingRun, finished: Finished, store_address: str, *, indent: str = "") -> None:
    folder = f"{shown_address(store_address)}/{RUNS}/{run.run_id}"
    lines = {
        "run": f"{finished.run_id} ({done_words(finished)})",
        "cost": terminal.cost_words(finished.cost),
        "result": finished.report.facts["result_digest"],
        "bundle": f"{folder}/bundle",
        "report": f"{folder}/report.html",
        "site": f"{shown_address(store_address)}/{INDEX}",
    }
    for name, words in lines.items():
        terminal.print_line(f"{indent}{name:<8} {words}")


def done_words(finished: Finished) -> str:
    """Return the number of tasks of a run, and its duration."""
    return f"{plural(finished.n_tasks, 'task')}, {finished.n_new} of them new, {terminal.duration(finished.seconds)}"


def shown_address(store_address: str) -> str:
    """Return the address of a store without a trailing slash."""
    return store_address.rstrip("/") if "://" in store_address else str(Path(store_address))
