"""The types of the ASGI standard, and the layer that keeps the others to HTTP.

A layer, or its `send`, that has nothing to do afterwards returns the awaitable of what it calls: that is cheaper than a
coroutine of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@final
class HttpOnly:
    """Sends HTTP requests through the layers, and the server's start and stop straight to the application."""

    def __init__(self, layers: ASGIApp, app: ASGIApp) -> None:
        self._layers, self._app = layers, app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request, or the server's start and stop."""
        return (self._layers if scope["type"] == "http" else self._app)(scope, receive, send)
