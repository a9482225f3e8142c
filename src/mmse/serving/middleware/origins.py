"""Which pages of other origins may read answers in a browser (CORS): the layer that tells browsers so."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import final

from mmse.serving.middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from mmse.serving.request_context import context_of

ANY_ORIGIN = "*"
_VARY = (b"vary", b"Origin")
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", b"Content-Type, X-Request-Id, traceparent, tracestate"),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
)
"""Searches are open to pages, writes are not: a page has no place to hide the token."""
_EXPOSED = (b"access-control-expose-headers", b"X-Request-Id, Retry-After")


@final
class CrossOrigin:
    """Lets pages of `origins` read answers (`*`: of any origin), and answers browsers that ask beforehand."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._any, self._origins = ANY_ORIGIN in origins, frozenset(origin.encode() for origin in origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request."""
        headers = context_of(scope).headers
        origin = headers.get(b"origin")
        own_headers = [_VARY]
        if origin is not None and (self._any or origin in self._origins):
            own_headers.append((b"access-control-allow-origin", b"*" if self._any else origin))
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                return _answer_preflight([*own_headers, *_PREFLIGHT], send)
            own_headers.append(_EXPOSED)

        def send_with_origin(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *own_headers]
            return send(message)

        return self._app(scope, receive, send_with_origin)


async def _answer_preflight(headers: list[tuple[bytes, bytes]], send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
