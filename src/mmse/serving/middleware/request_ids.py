"""Gives each request an id and the context that carries it: the outermost layer."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import final

from mmse.serving.middleware.asgi import ASGIApp, Receive, Scope, Send
from mmse.serving.observability import logs
from mmse.serving.request_context import RequestContext

_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


@final
class RequestIds:
    """Puts a `RequestContext` into the scope, and its id into the lines that are logged for the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; a coroutine, so that the id is set in the context of this request alone."""
        start_s = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = _choose_id(headers)
        scope.setdefault("state", {})["context"] = RequestContext(request_id, headers, start_s)
        logs.request_id.set(request_id)
        await self._app(scope, receive, send)


def _choose_id(headers: Mapping[bytes, bytes]) -> str:
    """The caller's own id where it is a valid one, else a new one."""
    request_id = headers.get(b"x-request-id", b"").decode("latin-1")
    return request_id if _ID.fullmatch(request_id) else secrets.token_hex(8)
