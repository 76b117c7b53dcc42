"""A run's trace as a real collector receives it over HTTP from a real scheduler and real workers."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from mlho.store.local import LocalStore
from tests.builders import make_tables, write_spec, write_tables
from tests.limits import GUARD_SECONDS, SLOWER
from tests.ports import free_port
from tests.services.queue_commands import Commands, ending, published
from tests.services.queue_home import Home, result
from tests.services.queue_steps import noted_starts, task
from tests.services.redis_servers import Server
from tests.services.trace_collector import Collector

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
CHANGES: Final = {
    "validation.iterations": 3,
    "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [20]}}],
}
FIELDS: Final = {"run", "execution", "step", "task", "iteration", "block", "attempt", "outcome", "n_tasks"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@contextmanager
def commands_in(folder: Path) -> Iterator[Commands]:
    write_tables(folder, make_tables(300, seed=3), partitions=3)
    spec = write_spec(folder, CHANGES)
    with (
        Server(folder / "server") as server,
        ending(Commands(spec, folder, str(folder / "store"), server.url)) as commands,
    ):
        yield commands


def carry_out(commands: Commands, endpoint: str) -> float:
    """Carry out the run with two workers and a collector, and return the scheduler's duration in seconds."""
    commands.environment = {ENDPOINT: endpoint}
    began = time.monotonic()
    scheduler = commands.run("--broker", commands.broker)
    workers = [commands.worker(commands.run_id(LocalStore(Path(commands.address)))) for _ in range(2)]
    assert scheduler.wait(4 * GUARD_SECONDS) == 0, commands.log()
    took = time.monotonic() - began
    assert [worker.wait(GUARD_SECONDS) for worker in workers] == [0, 0]
    return took


@dataclass(frozen=True)
class Traced:
    """A run that sent its spans to a collector."""

    collector: Collector
    store: LocalStore
    seconds: float


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with Collector() as collector, commands_in(tmp_path_factory.mktemp("traced")) as commands:
        seconds = carry_out(commands, collector.url)
        yield Traced(collector, LocalStore(Path(commands.address)), seconds)


def test_a_run_is_one_trace_of_its_steps_and_attempts(traced: Traced) -> None:
    """A run has one span, which contains a span for each kind of step, which contains a span for each attempt, with its place in the run."""
    collector, store = traced.collector, traced.store
    commits = [json.loads(store.get(key)) for key in store.keys("commits/")]
    (run,) = collector.of("run")
    steps, attempts = collector.of("step "), collector.of("task ")

    assert collector.paths == {"/v1/traces"}
    assert len({span.trace for span in collector.spans}) == 1
    assert (run.parent, run.service, run.is_failure) == ("", "mlho-scheduler", False)
    assert run.fields["mlho.outcome"] == "finished"
    assert run.fields["mlho.execution"] == f"{run.fields['mlho.run']}-1"
    assert {span.parent for span in steps} == {run.id}
    assert sorted(str(span.fields["mlho.step"]) for span in steps) == sorted(
        {commit["kind"] for commit in commits}
    )
    by_step = {span.id: span for span in steps}
    assert {span.service for span in attempts} == {"mlho-worker"}
    assert all(by_step[span.parent].fields["mlho.step"] == span.fields["mlho.step"] for span in attempts)
    assert sorted(span.fields["mlho.task"] for span in attempts) == sorted(
        commit["task"][:12] for commit in commits
    )
    assert {(span.fields["mlho.attempt"], span.fields["mlho.outcome"]) for span in attempts} == {
        (1, "committed")
    }
    iterations = [span.fields["mlho.iteration"] for span in attempts if "iteration" in span.name]
    assert sorted(iterations) == [1, 2, 3]
    assert all(run.began <= span.began <= span.ended <= run.ended for span in steps)
    assert {name.removeprefix("mlho.") for span in collector.spans for name in span.fields} <= FIELDS
    assert len(collector.spans) == 1 + len(steps) + len(commits)


def test_an_attempt_that_fails_is_a_span_of_its_own(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crashed attempt, the attempt after it, and a failure that is not retried each have a span with the failure class and
    without the message.
    """
    monkeypatch.setenv(ENDPOINT, collector.url)
    with Home(tmp_path) as home:
        worker = home.start_worker()
        with home.executor() as executor:
            result(executor.submit(task("test_crash_once", "Zebulon", home.starts)))
            bad = executor.submit(task("test_bad_input", "bad", home.starts))
            assert "no column" in str(bad.exception(GUARD_SECONDS))
        assert noted_starts(home.starts) == ["Zebulon", "Zebulon", "bad"]
        worker.terminate()
        assert worker.wait(GUARD_SECONDS) == 0

    told = [
        (span.fields["mlho.step"], span.fields["mlho.attempt"], span.fields["mlho.outcome"], span.is_failure)
        for span in collector.spans
    ]
    assert told == [
        ("test_crash_once", 1, "poison", True),
        ("test_crash_once", 2, "committed", False),
        ("test_bad_input", 1, "input", True),
    ]
    assert not any(word in body for body in collector.bodies for word in (b"Zebulon", b"column"))


def test_a_missing_collector_stops_nothing(traced: Traced, tmp_path: Path) -> None:
    """Without a reachable collector, the run gives the same bytes, takes at most a few seconds more, and logs that spans were not sent."""
    with commands_in(tmp_path) as commands:
        took = carry_out(commands, f"http://127.0.0.1:{free_port()}")

    assert "spans_not_sent" in commands.log()
    assert published(LocalStore(Path(commands.address))) == published(traced.store)
    assert took < SLOWER * (traced.seconds + 10)
