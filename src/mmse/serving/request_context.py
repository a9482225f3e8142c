"""One request on its way through the server: its id, when it came in, how it was answered and what took how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litestar import Request

from mmse.serving.observability.tracing import Span

HttpRequest = Request[Any, Any, Any]
"""A request as routes get it from the framework."""


@dataclass(slots=True)
class RequestContext:
    """`start_s` is on the clock of `time.perf_counter`; the search handler adds to `spans` what it did.

    `status` and `n_bytes` are those of the response so far, 0 before it has begun.
    """

    request_id: str
    headers: Mapping[bytes, bytes]
    start_s: float
    spans: list[Span] = field(default_factory=list)
    status: int = 0
    n_bytes: int = 0


def context_of(scope: Mapping[str, Any]) -> RequestContext:
    """The context that the layer of request ids put into the ASGI scope of a request."""
    context: RequestContext = scope["state"]["context"]
    return context
