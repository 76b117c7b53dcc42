"""The thread that carries out a run, and its retries after temporary errors."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from mlho.errors import MlhoError, SpecError, StoreAccessDenied
from mlho.settings import Settings
from mlho.spec.scoring import parse_scoring_spec
from mlho.spec.training import parse_spec
from scheduler.api.status import ConditionType, Cost
from scheduler.controller import run_thread
from scheduler.engine.outages import StoreHealth
from scheduler.engine.plan import Manifest
from scheduler.engine.scoring_run import PinnedBundle, ScoringRun
from scheduler.queue.executions import RunCancelled
from scheduler.queue.executor_state import QueueCounters
from scheduler.queue.leadership import AnotherScheduler
from scheduler.runs.record import RunCost
from tests.builders import make_tables, write_spec, write_tables
from tests.limits import GUARD_SECONDS
from tests.unit.scheduler.runs.planted import plant_run, promoted
from tests.unit.scoring.conftest import make_score_document


def test_the_retry_of_a_takeover_has_a_constant_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The pauses between attempts to take over leadership do not grow, because the former leader's lease expires soon. Those
    for an unavailable store do.
    """
    answers: Iterator[MlhoError] = iter([*[AnotherScheduler("not yet")] * 4, RunCancelled("enough")])

    def carry_out(*_: Any, **__: Any) -> None:
        raise next(answers)

    monkeypatch.setattr(run_thread, "carry_out_on_queue", carry_out)
    monkeypatch.setattr(run_thread, "_RETRY_SECONDS", (0.01, 600.0))
    backend = run_thread.Backend(
        str(tmp_path), Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32)
    )
    thread = run_thread.RunThread(backend, SimpleNamespace(run_id="0123456789abcdef"), lambda: None)  # type: ignore[arg-type]

    thread.start()

    assert thread.join(GUARD_SECONDS)
    assert thread.snapshot().end is ConditionType.CANCELLED


def test_a_store_that_refuses_access_is_trouble_and_in_the_end_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While the store denies access, the run is retried and shows the reason, its start and the remedy. After the store's
    patience it fails with the same reason.
    """
    shown: list[tuple[str, str] | None] = []

    def carry_out(*_: Any, **__: Any) -> None:
        shown.append(thread.snapshot().trouble)
        if len(shown) == 3:
            thread._health._clock = lambda: time.monotonic() + 2 * GUARD_SECONDS
        raise StoreAccessDenied("s3://b: access denied. Grant it.")

    monkeypatch.setattr(run_thread, "carry_out_on_queue", carry_out)
    monkeypatch.setattr(run_thread, "_RETRY_SECONDS", (0.05,))
    settings = Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32, store_patience=GUARD_SECONDS)
    backend = run_thread.Backend(str(tmp_path), settings)
    thread = run_thread.RunThread(backend, SimpleNamespace(run_id="0123456789abcdef"), lambda: None)  # type: ignore[arg-type]

    thread.start()

    assert thread.join(GUARD_SECONDS)
    assert (shown[0], len(shown)) == (None, 3)
    reason, message = shown[-1] or ("", "")
    assert reason == "StoreAccessDenied"
    assert "Store refuses access since" in message
    assert "Grant it" in message
    snapshot = thread.snapshot()
    assert (snapshot.end, snapshot.end_reason) == (ConditionType.FAILED, "StoreAccessDenied")
    assert "same command continues" in snapshot.end_message


def test_a_run_that_is_cancelled_before_it_has_an_execution_ends_as_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that is cancelled while it waits for its execution ends as cancelled at its first update, and not as stopped: its
    execution is then closed, and does not stay open for ever.
    """
    ended_by: list[type[BaseException]] = []

    def carry_out(_run: Any, _place: Any, _settings: Any, observers: Any, **_: Any) -> Any:
        thread.cancel()  # the store has no execution that a flag could cancel
        try:
            observers[0].update((), 0)
        except Exception as error:
            ended_by.append(type(error))
            raise

    monkeypatch.setattr(run_thread, "carry_out_on_queue", carry_out)
    backend = run_thread.Backend(
        str(tmp_path), Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32)
    )
    thread = run_thread.RunThread(backend, SimpleNamespace(run_id="0123456789abcdef"), lambda: None)  # type: ignore[arg-type]

    thread.start()

    assert thread.join(GUARD_SECONDS)
    assert ended_by == [RunCancelled]
    assert thread.snapshot().end is ConditionType.CANCELLED


@pytest.mark.parametrize(("is_new", "message"), [(True, "10 tasks, 4 of them new."), (False, "10 tasks.")])
def test_a_leader_that_took_over_does_not_count_new_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool, message: str
):
    """After a takeover, the number of new tasks is unknown: the new leader has not seen earlier commits, which may be new as well."""

    def carry_out(_run: Any, _place: Any, _settings: Any, observers: Any, **_: Any) -> Any:
        executor = SimpleNamespace(is_new=is_new, counters=QueueCounters(health=StoreHealth()))
        observers[0].started(SimpleNamespace(id="0123456789abcdef-1"), executor)
        cost = RunCost(cpu_seconds=1512.0, read_bytes=10, stored_bytes=20)
        return SimpleNamespace(n_tasks=10, n_new=4, report=SimpleNamespace(facts={}), cost=cost)

    monkeypatch.setattr(run_thread, "carry_out_on_queue", carry_out)
    monkeypatch.setattr(run_thread, "outcome_of", lambda *_: {})
    backend = run_thread.Backend(
        str(tmp_path), Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32)
    )
    thread = run_thread.RunThread(backend, SimpleNamespace(run_id="0123456789abcdef"), lambda: None)  # type: ignore[arg-type]

    thread.start()

    assert thread.join(GUARD_SECONDS)
    assert (thread.snapshot().end, thread.snapshot().end_message) == (ConditionType.SUCCEEDED, message)
    assert thread.snapshot().cost == Cost(cpu_hours="0.42", read_bytes=10, stored_bytes=20)


def test_the_check_of_a_run_names_the_files_that_it_does_not_read(tmp_path: Path):
    """The check of a run names the ignored files before the run starts."""
    folder = write_tables(tmp_path / "data", make_tables(60, seed=1))
    (folder / "events" / "notes.txt").write_text("not events")
    spec = parse_spec(write_spec(folder, {"data.uri": str(folder)}).read_text())
    backend = run_thread.Backend(
        str(tmp_path / "store"), Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32)
    )

    check, prepared = run_thread.check_run(backend, spec)

    assert prepared is not None
    assert check.is_accepted
    assert check.warning == "Not read in the folder of events: 1 file (events/notes.txt)."


@pytest.mark.parametrize(
    ("gates", "shown"),
    [
        (None, None),
        ([{"words": "AUROC at least 0.5", "passed": True, "detail": "0.8"}], "passed"),
        ([{"words": "AUROC at least 0.9", "passed": False, "detail": "0.8"}], "1 of 1 failed"),
    ],
)
def test_the_status_says_whether_a_model_may_be_promoted(memory_store, gates, shown):
    """The column GATES of ``kubectl get`` says whether the model may be promoted. It is empty for a run without gates."""
    result = {"headline": {"auroc": {"mean": 0.8}}, "warnings": []} | ({"gates": gates} if gates else {})
    memory_store.put_if_absent("runs/ab/result.json", json.dumps(result).encode())
    backend = SimpleNamespace(uri=lambda *parts: "/".join(parts))
    run = SimpleNamespace(store=memory_store, run_id="ab")

    assert run_thread.outcome_of(backend, run, {})["gates"] == shown  # type: ignore[arg-type]


def test_the_operator_resolves_a_channel_and_names_a_damaged_one(tmp_path, monkeypatch):
    """A scoring run is prepared with the channel's entry and digest. Later entries do not change an accepted run. A damaged
    channel is named as the reason.
    """
    backend = run_thread.Backend(
        str(tmp_path), Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32)
    )
    store, bundles = backend.store(), []
    plant_run(store, "a" * 16)
    entry = promoted(store, "a" * 16).entry
    monkeypatch.setattr(backend, "prepare", lambda spec: bundles.append(spec.spec.bundle) or fail())
    spec = parse_scoring_spec(yaml.safe_dump(make_score_document({"bundle": {"uri": "channel:production"}})))

    assert run_thread.check_run(backend, spec)[0].reason == "InvalidSpec"
    assert (bundles[0].uri, bundles[0].digest) == ("channel:production/1", entry.bundle)
    assert run_thread.check_run(backend, spec, allowed=["s3://ehr/"])[0].reason == "ForeignAddress"
    store.delete("channels/production/000001")
    store.put_if_absent("channels/production/000001", b"{}")
    assert run_thread.check_run(backend, spec)[0].reason == "ChannelDamaged"


def test_the_status_of_a_scoring_run_names_the_entry(memory_store):
    """The status of a scoring run has the channel's entry, so that ``kubectl get srun`` shows which model scored a night."""
    spec = parse_scoring_spec(
        yaml.safe_dump(make_score_document({"bundle": {"uri": "channel:production/3", "digest": "ab" * 32}}))
    )
    run = ScoringRun(spec, PinnedBundle({}, digest="ab" * 32), Manifest({}), "s3://ehr/", memory_store)
    manifest = json.dumps({"scores": {"samples": 7}}).encode()
    memory_store.put_if_absent(run.key("manifest.json"), manifest)
    backend = SimpleNamespace(uri=lambda *parts: "/".join(parts))

    assert run_thread.outcome_of(backend, run, {})["model"] == "channel:production/3"  # type: ignore[arg-type]


def fail():
    raise SpecError("far enough")
