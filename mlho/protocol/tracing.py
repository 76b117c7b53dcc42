"""OpenTelemetry spans of an execution: the work done and its times, but never data or error messages.

Scheduler and workers share a trace without exchanging ids, because the ids of the trace and of parent spans are hashes of the
execution's id. Messages therefore stay small and strict. Without a collector's address, or without the packages of the extra
``tracing``, nothing is imported and no span is created.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, override

from mlho import __version__
from mlho.log import log

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
RUN: Final = "run"
FIELDS: Final = ("step", "task", "iteration", "fold", "block", "attempt", "outcome", "n_tasks")
_FLUSH_SECONDS: Final = 3.0  # maximum wait at the end for a collector that does not answer


@dataclass(frozen=True)
class Span:
    """A time interval and the work done in it."""

    name: str
    """One of a short fixed list."""
    began: int
    ended: int
    """Nanoseconds since 1970."""
    fields: Mapping[str, str | int]
    """Fields named in :data:`FIELDS`; others are dropped. Run and execution are added."""
    part: str = ""
    """Name under which child spans refer to this span; empty if it has none."""
    within: str = RUN
    """Part of the parent span; empty if it has none."""
    is_failure: bool = False


class Traces:
    """Receives the spans of an execution. This base class ignores them."""

    is_on = False
    """Whether spans are collected."""

    def add(self, span: Span) -> None:
        """Forward a span."""

    def close(self) -> None:
        """Send the remaining spans. Wait for a few seconds at most."""


OFF: Final = Traces()


def step_part(kind: str) -> str:
    """Return the part name of a step's span."""
    return f"step {kind}"


def open_traces(service: str, execution: str) -> Traces:
    """Return the receiver of an execution's spans: the collector that the environment names, or a receiver that ignores them."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return OFF
    try:
        return _Collected(_provider(service), execution)
    except ImportError:
        log.warning("tracing_not_installed")
        return OFF


class _Collected(Traces):
    is_on = True

    def __init__(self, provider: "TracerProvider", execution: str) -> None:
        self._provider = provider
        self._execution = execution
        self._tracer = provider.get_tracer("mlho", __version__)

    @override
    def add(self, span: Span) -> None:
        from opentelemetry.trace import StatusCode

        with _choosing(_trace_id(self._execution), self._span_id(span.part) if span.part else None):
            otel_span = self._tracer.start_span(
                span.name,
                self._context_of(span.within),
                attributes=self._attributes(span.fields),
                start_time=span.began,
            )
        if span.is_failure:
            otel_span.set_status(StatusCode.ERROR)
        otel_span.end(span.ended)

    @override
    def close(self) -> None:
        flushing = threading.Thread(target=self._provider.force_flush, name="traces", daemon=True)
        flushing.start()
        flushing.join(_FLUSH_SECONDS)
        if flushing.is_alive():
            log.warning("spans_not_sent")

    def _context_of(self, part: str) -> Any:
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        if not part:
            return None
        parent = SpanContext(
            _trace_id(self._execution),
            self._span_id(part),
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
        return set_span_in_context(NonRecordingSpan(parent))

    def _attributes(self, fields: Mapping[str, str | int]) -> dict[str, str | int]:
        attributes = {f"mlho.{name}": fields[name] for name in FIELDS if name in fields}
        run, _, _ = self._execution.rpartition("-")
        return {"mlho.run": run, "mlho.execution": self._execution, **attributes}

    def _span_id(self, part: str) -> int:
        return _hash(f"{self._execution} {part}", n_bytes=8)


def _trace_id(execution: str) -> int:
    return _hash(f"{execution} trace", n_bytes=16)


def _hash(text: str, *, n_bytes: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:n_bytes])


class _Chosen(threading.local):
    """Ids of the span that this thread is about to start."""

    trace: int | None = None
    span: int | None = None


_CHOSEN: Final = _Chosen()


@contextmanager
def _choosing(trace: int, span: int | None) -> Iterator[None]:
    _CHOSEN.trace, _CHOSEN.span = trace, span
    try:
        yield
    finally:
        _CHOSEN.trace = _CHOSEN.span = None


@cache
def _provider(service: str) -> "TracerProvider":
    """Return the provider that sends the spans of this process in batches from its own thread."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class _Ids(RandomIdGenerator):
        @override
        def generate_trace_id(self) -> int:
            return _CHOSEN.trace or super().generate_trace_id()

        @override
        def generate_span_id(self) -> int:
            return _CHOSEN.span or super().generate_span_id()

    class _Exporter(OTLPSpanExporter):
        @override
        def export(self, spans: Any) -> SpanExportResult:
            result = super().export(spans)
            if result is not SpanExportResult.SUCCESS:
                log.warning("spans_not_sent")
            return result

    # OpenTelemetry's log quotes responses. Our own log records that spans were not sent.
    logging.getLogger("opentelemetry").propagate = False
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    resource = Resource.create({"service.name": name, "service.version": __version__})
    provider = TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Exporter()))
    return provider
