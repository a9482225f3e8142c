"""What answers carry and how refusals are written: the headers of every response, and the JSON of an error."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import final

from mmse.schema.http import Problem
from mmse.serving.failures import STATUS, RequestError, encode_problem, error_headers, to_problem
from mmse.serving.middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from mmse.serving.request_context import context_of

_API_PATHS = ("/v1/", "/metrics")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NOT_KEPT = (b"cache-control", b"private, no-store")
"""Answers of the API are a shopper's, or of this moment: no cache may keep them. The page's files may be kept."""
_POLICY = "default-src 'self'; img-src 'self' data:{}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


@final
class ResponseHeaders:
    """Adds the security headers and the request's id to every response; pictures may come from `image_hosts`."""

    def __init__(self, app: ASGIApp, image_hosts: Sequence[str]) -> None:
        self._app = app
        policy = _POLICY.format("".join(f" {host}" for host in image_hosts))
        self._headers = (*_HEADERS, (b"content-security-policy", policy.encode()))
        self._api_headers = (*self._headers, _NOT_KEPT)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request."""
        request_id = context_of(scope).request_id
        own_headers = self._api_headers if scope["path"].startswith(_API_PATHS) else self._headers

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *own_headers, (b"x-request-id", request_id.encode())]
            return send(message)

        return self._app(scope, receive, send_with_headers)


@final
class ErrorResponses:
    """Answers the requests that the layers below refuse."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            await self._app(scope, receive, send)
        except RequestError as error:
            await _send_problem(to_problem(error, context_of(scope).request_id), send)


async def _send_problem(problem: Problem, send: Send) -> None:
    body = encode_problem(problem)
    fields = {"content-type": "application/json"} | error_headers(problem) | {"content-length": str(len(body))}
    headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": STATUS[problem.code], "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
