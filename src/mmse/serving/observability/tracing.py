"""Traces by OpenTelemetry: a span for each request with children for its parts, written after the answer is sent.

The search handler measures the start and length of each part for /metrics anyway; spans are made from these times
afterwards. Where tracing is off, OpenTelemetry is not imported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

from mmse import __version__
from mmse.core.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

_NS = 1_000_000_000
_SERVER_ERROR = 500


class Span(NamedTuple):
    """A part of a request whose time was measured; `start_s` is on the clock of `time.perf_counter`."""

    name: str
    start_s: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRecord:
    """An answered request; `start_s` as in `Span`, `traceparent` and `tracestate` as the caller sent them."""

    method: str
    route: str
    status: int
    request_id: str
    start_s: float
    seconds: float
    spans: Sequence[Span] = ()
    traceparent: str | None = None
    tracestate: str | None = None


def open_tracing(endpoint: str | None, *, service_name: str = "mmse") -> Tracing | None:
    """Sends traces to an OTLP endpoint by HTTP, such as `http://localhost:4318`; None, no tracing, without an endpoint.

    Call it in each process, after the fork. Sampling, headers and the like are set by OpenTelemetry's own variables.
    Raises `UsageError` where the packages are missing.
    """
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UsageError(
            f"Traces go to {endpoint}, but OpenTelemetry is not installed: {error}.",
            "Run `pip install 'mmse[otel]'`, or unset OTEL_EXPORTER_OTLP_ENDPOINT.",
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": service_name, "service.version": __version__}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


@final
class Tracing:
    """Makes OpenTelemetry spans of requests; `close` sends those that are not sent yet."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("mmse", __version__)

    def record(self, request: RequestRecord) -> None:
        """Makes the spans of a request: its own, below the caller's span if there is one, and its children."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        epoch_s = time.time() - time.perf_counter()
        span = self._tracer.start_span(
            f"{request.method} {request.route}",
            context=_caller(request),
            kind=SpanKind.SERVER,
            start_time=_ns(epoch_s + request.start_s),
            attributes={
                "http.request.method": request.method,
                "http.route": request.route,
                "http.response.status_code": request.status,
                "mmse.request_id": request.request_id,
            },
        )
        if request.status >= _SERVER_ERROR:
            span.set_status(StatusCode.ERROR)
        parent = set_span_in_context(span)
        for part in request.spans if span.is_recording() else ():
            child = self._tracer.start_span(part.name, context=parent, start_time=_ns(epoch_s + part.start_s))
            child.end(_ns(epoch_s + part.start_s + part.seconds))
        span.end(_ns(epoch_s + request.start_s + request.seconds))

    def close(self, wait_s: float = 3.0) -> None:
        """Sends the remaining spans; gives up after `wait_s`, since a dead collector must not hold up the server."""
        thread = threading.Thread(target=self._provider.shutdown, name="mmse-traces", daemon=True)
        thread.start()
        thread.join(wait_s)
        if thread.is_alive():
            log.warning("some traces were not sent within %s s", wait_s)


def _caller(request: RequestRecord) -> Context:
    """The caller's span; empty where the headers name none or are invalid."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = {"traceparent": request.traceparent, "tracestate": request.tracestate}
    present = {name: value for name, value in headers.items() if value is not None}
    return TraceContextTextMapPropagator().extract(present, context=Context())


def _ns(seconds: float) -> int:
    return int(seconds * _NS)
