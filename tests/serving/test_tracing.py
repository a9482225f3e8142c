"""Spans of requests and of their parts, made afterwards with their own times."""

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mmse.core.errors import UsageError
from mmse.serving.observability.tracing import RequestRecord, Span, Tracing, open_tracing

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(memory: InMemorySpanExporter) -> Iterator[Tracing]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracing = Tracing(provider)
    yield tracing
    tracing.close()


def make_record(**changes: Any) -> RequestRecord:
    time_s = time.perf_counter()
    fields: dict[str, Any] = {
        "method": "POST",
        "route": "/v1/search",
        "status": 200,
        "request_id": "r1",
        "start_s": time_s - 0.010,
        "seconds": 0.009,
        "spans": [Span("encode", time_s - 0.009, 0.002), Span("vector", time_s - 0.007, 0.004)],
    }
    return RequestRecord(**(fields | changes))


def spans_by_name(memory: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in memory.get_finished_spans()}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_a_request_is_a_span_and_its_parts_lie_in_it(tracing: Tracing, memory: InMemorySpanExporter) -> None:
    start_s = time.time()
    tracing.record(make_record())
    spans = spans_by_name(memory)
    assert set(spans) == {"POST /v1/search", "encode", "vector"}
    whole = spans["POST /v1/search"]
    assert whole.kind is SpanKind.SERVER
    assert whole.parent is None
    assert dict(whole.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/search",
        "http.response.status_code": 200,
        "mmse.request_id": "r1",
    }
    assert seconds(whole) == pytest.approx(0.009, abs=1e-5)
    assert whole.start_time is not None
    assert whole.start_time / 1e9 == pytest.approx(start_s - 0.010, abs=0.1)
    for name, took, offset_s in (("encode", 0.002, 0.001), ("vector", 0.004, 0.003)):
        part = spans[name]
        assert part.parent is not None
        assert whole.context is not None
        assert part.parent.span_id == whole.context.span_id
        assert seconds(part) == pytest.approx(took, abs=1e-5)
        assert part.start_time is not None
        assert (part.start_time - whole.start_time) / 1e9 == pytest.approx(offset_s, abs=1e-5)


def test_the_callers_span_is_the_parent(tracing: Tracing, memory: InMemorySpanExporter) -> None:
    tracing.record(make_record(traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="shop=1"))
    for span in memory.get_finished_spans():
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
    whole = spans_by_name(memory)["POST /v1/search"]
    assert whole.parent is not None
    assert f"{whole.parent.span_id:016x}" == SPAN
    assert whole.parent.trace_state.get("shop") == "1"


def test_a_caller_that_was_not_sampled_is_obeyed(tracing: Tracing, memory: InMemorySpanExporter) -> None:
    tracing.record(make_record(traceparent=f"00-{TRACE}-{SPAN}-00"))
    assert memory.get_finished_spans() == ()


@pytest.mark.parametrize("nonsense", ["", "00-zz", f"00-{'0' * 32}-{SPAN}-01", "x" * 10_000, "\x00"])
def test_nonsense_for_a_parent_is_no_parent(tracing: Tracing, memory: InMemorySpanExporter, nonsense: str) -> None:
    tracing.record(make_record(traceparent=nonsense, tracestate=nonsense))
    assert spans_by_name(memory)["POST /v1/search"].parent is None


@pytest.mark.parametrize(
    ("status", "code"),
    [(200, StatusCode.UNSET), (404, StatusCode.UNSET), (500, StatusCode.ERROR), (503, StatusCode.ERROR)],
)
def test_our_failures_are_marked(tracing: Tracing, memory: InMemorySpanExporter, status: int, code: StatusCode) -> None:
    tracing.record(make_record(status=status))
    assert spans_by_name(memory)["POST /v1/search"].status.status_code is code


def test_what_is_not_sampled_makes_no_children(memory: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracing = Tracing(provider)
    tracing.record(make_record())
    tracing.close()
    assert memory.get_finished_spans() == ()


def test_off_without_an_endpoint_and_nothing_is_imported() -> None:
    assert open_tracing(None) is None
    code = (
        "import sys; from mmse.serving.observability.tracing import open_tracing; open_tracing(None); "
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UsageError) as error:
        open_tracing("http://127.0.0.1:4318")
    assert "pip install 'mmse[otel]'" in error.value.cure


def test_a_collector_that_is_away_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()

    class Away(TracerProvider):
        def shutdown(self) -> None:
            released.wait(30)

    start_s = time.perf_counter()
    Tracing(Away(shutdown_on_exit=False)).close(wait_s=0.01)
    released.set()
    assert time.perf_counter() - start_s < 5
    assert "not sent" in caplog.text


def test_spans_arrive_at_the_endpoint() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    requests: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        tracing = open_tracing(f"http://127.0.0.1:{server.server_port}/", service_name="shop-search")
        assert tracing is not None
        tracing.record(make_record())
        tracing.close()
        server.shutdown()
        thread.join()
    ((path, body),) = requests
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert {span.name for scope in resource.scope_spans for span in scope.spans} == {
        "POST /v1/search",
        "encode",
        "vector",
    }
    assert "shop-search" in {a.value.string_value for a in resource.resource.attributes}
