"""Refuses what is too much, too large, of the wrong type or too slow, before any routing, while that costs little."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import final

from mmse.serving.failures import RequestError, overload_error
from mmse.serving.middleware.addresses import ClientAddresses
from mmse.serving.middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from mmse.serving.middleware.rates import RequestRates
from mmse.serving.observability import metrics
from mmse.serving.request_context import context_of

SEARCH_PATHS = ("/v1/search", "/v1/embed")
WRITE_PATHS = ("/v1/items", "/v1/events")
"""The routes that may take a large body; they ask for the token before they read it."""
EXEMPT_PATHS = ("/v1/health", "/metrics")
"""Answered whatever the load and the rate."""


@final
class RateLimit:
    """Refuses a client address that sends more than `per_s` requests a second, as `rates` has it."""

    def __init__(self, app: ASGIApp, per_s: int, rates: RequestRates, addresses: ClientAddresses) -> None:
        self._app, self._per_s, self._rates, self._addresses = app, per_s, rates, addresses

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request."""
        if not scope["path"].startswith(EXEMPT_PATHS) and not self._rates.allow(self._find_address(scope)):
            metrics.refusals.labels("rate").inc()
            raise RequestError("rate_limited", f"More than {self._per_s} requests a second.", "Send them more slowly.")
        return self._app(scope, receive, send)

    def _find_address(self, scope: Scope) -> str:
        peer = scope["client"][0] if scope["client"] else ""
        return self._addresses.find(peer, context_of(scope).headers)


@final
class LoadShedding:
    """Refuses searches, and nothing else, while `is_full`."""

    def __init__(self, app: ASGIApp, is_full: Callable[[], bool]) -> None:
        self._app, self._is_full = app, is_full

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request."""
        if scope["path"].startswith(SEARCH_PATHS) and self._is_full():
            metrics.refusals.labels("overloaded").inc()
            raise overload_error()
        return self._app(scope, receive, send)


@final
class BodyLimits:
    """Refuses bodies that are no JSON, too large or broken off.

    Edits and events may send `write_bytes`, every other route `search_bytes`.
    """

    def __init__(self, app: ASGIApp, *, search_bytes: int, write_bytes: int) -> None:
        self._app, self._search_bytes, self._write_bytes = app, search_bytes, write_bytes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request."""
        if scope["method"] in ("POST", "PUT", "PATCH"):
            max_bytes = self._write_bytes if scope["path"].startswith(WRITE_PATHS) else self._search_bytes
            _check_headers(context_of(scope).headers, max_bytes)
            receive = _limit(receive, max_bytes)
        return self._app(scope, receive, send)


@final
class TimeLimit:
    """Refuses a request that is not over after `timeout_s`; what was answered in part is cut off."""

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app, self._timeout_s = app, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._app(scope, receive, send)
        except TimeoutError:
            if not context_of(scope).status:
                cause = f"The request was not over after {self._timeout_s:g} s."
                raise RequestError("deadline_exceeded", cause, "Send less at once, or faster.") from None


def _check_headers(headers: Mapping[bytes, bytes], max_bytes: int) -> None:
    content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise RequestError(
            "unsupported_media_type",
            f"The body is of type '{content_type.decode('latin-1')[:60] or 'none'}', expected application/json.",
            "Send JSON, with Content-Type: application/json.",
        )
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > max_bytes:
        raise _size_error(max_bytes)


def _limit(receive: Receive, max_bytes: int) -> Receive:
    """`receive`, which refuses a body that turns out larger than its headers say, or that never ends."""
    remaining_bytes, is_complete = max_bytes, False

    async def receive_limited() -> Message:
        nonlocal remaining_bytes, is_complete
        message = await receive()
        if message["type"] == "http.request":
            remaining_bytes -= len(message["body"])
            is_complete = not message.get("more_body", False)
            if remaining_bytes < 0:
                raise _size_error(max_bytes)
        elif not is_complete:
            raise RequestError("bad_request", "The body broke off, or its chunks are malformed.", "Send it whole.")
        return message

    return receive_limited


def _size_error(max_bytes: int) -> RequestError:
    return RequestError("too_large", f"The body is larger than {max_bytes:,} bytes.", "Send less at once.")
