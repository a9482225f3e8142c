"""Counts, times, logs and traces each request when it has been answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from typing import final

from mmse.serving.middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from mmse.serving.observability import metrics
from mmse.serving.observability.tracing import RequestRecord, Tracing
from mmse.serving.request_context import RequestContext, context_of

_TRACE_HEADERS = (b"traceparent", b"tracestate")

access = logging.getLogger("mmse.access")


@final
class Telemetry:
    """Writes down what was answered: metrics always, a line of the access log and a trace where they are wanted.

    With `log_queries` the line has the query string, which is personal data.
    """

    def __init__(self, app: ASGIApp, *, access_log: bool, log_queries: bool, tracing: Tracing | None) -> None:
        self._app, self._tracing = app, tracing
        self._access_log, self._log_queries = access_log, log_queries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        context = context_of(scope)

        def observe(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                context.status = message["status"]
            elif message["type"] == "http.response.body":
                context.n_bytes += len(message["body"])
            return send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            self._record(scope, context)

    def _record(self, scope: Scope, context: RequestContext) -> None:
        seconds, route = time.perf_counter() - context.start_s, str(scope.get("path_template") or "other")
        metrics.requests.labels(route, context.status).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        if self._access_log and access.isEnabledFor(logging.INFO):
            self._log(scope, context, seconds)
        if self._tracing is not None:
            self._trace(self._tracing, scope, context, route, seconds)

    def _log(self, scope: Scope, context: RequestContext, seconds: float) -> None:
        fields: dict[str, object] = {
            "request_id": context.request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": context.status,
            "bytes": context.n_bytes,
            "ms": round(seconds * 1000, 2),
        }
        if self._log_queries:
            fields["query"] = scope["query_string"].decode("latin-1")
        access.info("request", extra=fields)

    def _trace(self, tracing: Tracing, scope: Scope, context: RequestContext, route: str, seconds: float) -> None:
        parent, state = (context.headers.get(name, b"").decode("latin-1") or None for name in _TRACE_HEADERS)
        tracing.record(
            RequestRecord(
                method=scope["method"],
                route=route,
                status=context.status,
                request_id=context.request_id,
                start_s=context.start_s,
                seconds=seconds,
                spans=context.spans,
                traceparent=parent,
                tracestate=state,
            )
        )
