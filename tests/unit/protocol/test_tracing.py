"""Traces: without a collector they cost nothing, and spans have only listed fields."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mlho.protocol import tracing
from mlho.protocol.tracing import ENDPOINTS, OFF, RUN, Span, open_traces, step_part

EXECUTION = "0123456789abcdef-1"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Keep the spans that a collector would receive."""
    kept = InMemorySpanExporter()
    real = tracing._provider
    real_provider = real("test")
    provider = TracerProvider(id_generator=real_provider.id_generator, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(tracing, "_provider", lambda _service: provider)
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:9")
    yield kept
    real_provider.shutdown()
    real.cache_clear()


def told(exporter: InMemorySpanExporter, span: Span) -> ReadableSpan:
    """Return a span as it is sent."""
    exporter.clear()
    open_traces("test", EXECUTION).add(span)
    (found,) = exporter.get_finished_spans()
    return found


def test_without_a_collector_nothing_is_imported():
    """Without a collector, neither program imports OpenTelemetry, and spans are discarded."""
    program = (
        "import sys\n"
        "import scheduler.queue.run, worker.service\n"
        "from mlho.protocol.tracing import OFF, open_traces\n"
        "assert open_traces('mlho-worker', '0123456789abcdef-1') is OFF\n"
        "assert not OFF.is_on\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry', 'google'))]\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_collector_without_the_packages_is_no_error(monkeypatch):
    """If a collector is configured but the packages are missing, traces are off without an error, because a cluster may
    configure one for every pod.
    """
    tracing._provider.cache_clear()
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setenv(ENDPOINTS[1], "http://127.0.0.1:9")

    assert open_traces("mlho-worker", EXECUTION) is OFF


def test_a_span_has_only_known_fields(exporter):
    """A span has only known fields, and the run and the execution are added."""
    found = told(exporter, Span("task", 1, 2, {"step": "run_fold", "fold": 3, "patient": "Zebulon"}))

    assert dict(found.attributes or {}) == {
        "mlho.run": "0123456789abcdef",
        "mlho.execution": EXECUTION,
        "mlho.step": "run_fold",
        "mlho.fold": 3,
    }
    assert (found.start_time, found.end_time) == (1, 2)


def test_a_span_has_a_parent_of_another_process(exporter):
    """A span's parent may be in another process, because the ids of the run and of a step are derived from their names."""
    run = told(exporter, Span(RUN, 1, 9, {}, part=RUN, within=""))
    step = told(exporter, Span("step run_fold", 2, 8, {}, part=step_part("run_fold")))
    tasks = [told(exporter, Span("task run_fold", 3, 4, {}, within=step_part("run_fold"))) for _ in range(2)]

    assert run.parent is None
    assert step.parent is not None
    assert step.parent.span_id == run.context.span_id
    assert {task.parent.span_id for task in tasks if task.parent} == {step.context.span_id}
    assert len({span.context.trace_id for span in (run, step, *tasks)}) == 1
    assert len({span.context.span_id for span in (run, step, *tasks)}) == 4
