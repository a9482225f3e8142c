"""Traces by OpenTelemetry: a span for each request and one for each stage in it, written after the answer is out.

The query path notes when its stages began and how long they took, which it does for /metrics anyway; spans are made
from these notes with their own times. Where tracing is off nothing of this is imported.
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
_OUR_FAULT = 500


class Stage(NamedTuple):
    """A stage of a request; `started` is in seconds on the clock of `time.perf_counter`."""

    name: str
    started: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request that was answered; `started` as in `Stage`, `traceparent` and `tracestate` as the caller sent them."""

    method: str
    route: str
    status: int
    request_id: str
    started: float
    seconds: float
    stages: Sequence[Stage] = ()
    traceparent: str | None = None
    tracestate: str | None = None


def tracer_of(endpoint: str | None, *, service_name: str = "mmse") -> Tracing | None:
    """Traces sent to an OTLP endpoint by HTTP, such as `http://localhost:4318`; None, for no tracing, without one.

    A process makes its own, after it was forked. Sampling, headers and the like are OpenTelemetry's own variables.
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
            f"Traces are asked for (to {endpoint}), but OpenTelemetry is not installed: {error}.",
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
    """Makes spans of requests; `close` sends those that are still here."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("mmse", __version__)

    def record(self, request: Request) -> None:
        """The spans of a request: its own, below the caller's where it came with one, and those of its stages."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        epoch_s = time.time() - time.perf_counter()
        span = self._tracer.start_span(
            f"{request.method} {request.route}",
            context=_caller(request),
            kind=SpanKind.SERVER,
            start_time=_ns(epoch_s + request.started),
            attributes={
                "http.request.method": request.method,
                "http.route": request.route,
                "http.response.status_code": request.status,
                "mmse.request_id": request.request_id,
            },
        )
        if request.status >= _OUR_FAULT:
            span.set_status(StatusCode.ERROR)
        inside = set_span_in_context(span)
        for stage in request.stages if span.is_recording() else ():
            child = self._tracer.start_span(stage.name, context=inside, start_time=_ns(epoch_s + stage.started))
            child.end(_ns(epoch_s + stage.started + stage.seconds))
        span.end(_ns(epoch_s + request.started + request.seconds))

    def close(self, wait_s: float = 3.0) -> None:
        """Sends what is left; gives up after `wait_s`, since a collector that is away must not hold up the server."""
        ending = threading.Thread(target=self._provider.shutdown, name="mmse-traces", daemon=True)
        ending.start()
        ending.join(wait_s)
        if ending.is_alive():
            log.warning("some traces were not sent within %s s", wait_s)


def _caller(request: Request) -> Context:
    """The caller's span; empty where its headers name none, or nonsense."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = {"traceparent": request.traceparent, "tracestate": request.tracestate}
    carried = {name: value for name, value in headers.items() if value is not None}
    return TraceContextTextMapPropagator().extract(carried, context=Context())


def _ns(seconds: float) -> int:
    return int(seconds * _NS)
