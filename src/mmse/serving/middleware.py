"""The outermost layer: every request passes it, before any routing, and every answer on its way out.

It gives each request an id, refuses what is too much, too large or of the wrong type while that costs next to
nothing, and counts, times and logs what was answered.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, final

from mmse.schema.http import Problem
from mmse.serving.config import ServeConfig
from mmse.serving.failures import STATUS, Refused, body_of, headers_of, overloaded, problem_of
from mmse.serving.observability import logs, metrics
from mmse.serving.observability.tracing import Request, Tracing
from mmse.serving.request_context import Call

SEARCHES = ("/v1/search", "/v1/embed")
OPEN = ("/v1/health", "/metrics")
"""Answered whatever the load and the rate."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_POLICY = "default-src 'self'; img-src 'self' data:{}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_ADDRESSES = 10_000

_TRACE_HEADERS = (b"traceparent", b"tracestate")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An application as the ASGI standard has it."""

access = logging.getLogger("mmse.access")


@final
class Rates:
    """A bucket of tokens for each address: `per_s` requests a second, twice as many at once."""

    def __init__(self, per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, address: str) -> bool:
        """Whether one more request of `address` is within the rate; if so it is counted."""
        if self._per_s == 0:
            return True
        now = self._clock()
        tokens, since = self._buckets.pop(address, (2.0 * self._per_s, now))
        tokens = min(tokens + (now - since) * self._per_s, 2.0 * self._per_s)
        self._buckets[address] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self._buckets) > _ADDRESSES:
            self._buckets.popitem(last=False)
        return tokens >= 1


@dataclass
class _Sent:
    """What was answered so far."""

    status: int = 0
    size: int = 0


@final
class Gate:
    """The application behind its gate."""

    def __init__(
        self, app: ASGIApp, config: ServeConfig, full: Callable[[], bool], tracing: Tracing | None = None
    ) -> None:
        self._app, self._config, self._full, self._tracing = app, config, full, tracing
        self._rates = Rates(config.requests_per_s)
        policy = _POLICY.format("".join(f" {host}" for host in config.image_hosts))
        self._headers = (*_HEADERS, (b"content-security-policy", policy.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's start and stop."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        call = Call(request_id, began)
        scope.setdefault("state", {})["call"] = call
        logs.request_id.set(request_id)
        sent = _Sent()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.status = message["status"]
                message["headers"] = [*message["headers"], *self._headers, (b"x-request-id", request_id.encode())]
            elif message["type"] == "http.response.body":
                sent.size += len(message["body"])
            await send(message)

        try:
            await self._pass(scope, receive, answer, headers)
        except Refused as error:
            await _refuse(problem_of(error, request_id), answer)
        except TimeoutError:
            if not sent.status:
                said = f"The request was not over after {self._config.request_timeout_s:g} s."
                late = Refused("deadline_exceeded", said, "Send less at once, or faster.")
                await _refuse(problem_of(late, request_id), answer)
        finally:
            self._note(scope, sent, call, headers)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        path = scope["path"]
        if not path.startswith(OPEN):
            client = scope["client"]
            if not self._rates.allow(client[0] if client else ""):
                metrics.refused.labels("rate").inc()
                most = self._config.requests_per_s
                raise Refused("rate_limited", f"More than {most} requests a second.", "Send them more slowly.")
            if path.startswith(SEARCHES) and self._full():
                metrics.refused.labels("overloaded").inc()
                raise overloaded()
        if scope["method"] in ("POST", "PUT", "PATCH"):
            _check_head(headers, self._most_bytes(path))
            receive = _bounded(receive, self._most_bytes(path))
        async with asyncio.timeout(self._config.request_timeout_s):
            await self._app(scope, receive, send)

    def _most_bytes(self, path: str) -> int:
        return self._config.search_bytes if path.startswith(SEARCHES) else self._config.write_bytes

    def _note(self, scope: Scope, sent: _Sent, call: Call, headers: Mapping[bytes, bytes]) -> None:
        seconds, route = time.perf_counter() - call.began, str(scope.get("path_template") or "other")
        metrics.requests.labels(route, sent.status).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        if self._config.access_log and access.isEnabledFor(logging.INFO):
            said: dict[str, object] = {
                "request_id": call.request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": sent.status,
                "bytes": sent.size,
                "ms": round(seconds * 1000, 2),
            }
            if self._config.log_queries:
                said["query"] = scope["query_string"].decode("latin-1")
            access.info("request", extra=said)
        if self._tracing is not None:
            parent, state = (headers.get(name, b"").decode("latin-1") or None for name in _TRACE_HEADERS)
            self._tracing.record(
                Request(
                    method=scope["method"],
                    route=route,
                    status=sent.status,
                    request_id=call.request_id,
                    started=call.began,
                    seconds=seconds,
                    stages=call.stages,
                    traceparent=parent,
                    tracestate=state,
                )
            )


def _request_id(headers: dict[bytes, bytes]) -> str:
    """The caller's own id where it is one, else a new one."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


def _check_head(headers: dict[bytes, bytes], most_bytes: int) -> None:
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        found = kind.decode("latin-1")[:60] or "none"
        raise Refused(
            "unsupported_media_type",
            f"The body is of type '{found}', expected application/json.",
            "Send JSON, with Content-Type: application/json.",
        )
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > most_bytes:
        raise _too_large(most_bytes)


def _bounded(receive: Receive, most_bytes: int) -> Receive:
    """`receive`, which refuses a body that turns out larger than it said."""
    left = most_bytes

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message["body"])
            if left < 0:
                raise _too_large(most_bytes)
        return message

    return bounded


def _too_large(most_bytes: int) -> Refused:
    return Refused("too_large", f"The body is larger than {most_bytes:,} bytes.", "Send less at once.")


async def _refuse(problem: Problem, send: Send) -> None:
    headers = {"content-type": "application/json"} | headers_of(problem)
    said = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    body = body_of(problem)
    said.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": STATUS[problem.code], "headers": said})
    await send({"type": "http.response.body", "body": body, "more_body": False})
