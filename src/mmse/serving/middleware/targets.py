"""What a request asks for: path and query in UTF-8, item ids with any characters, HEAD as GET without a body."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import final
from urllib.parse import quote, unquote_to_bytes

from mmse.serving.failures import RequestError
from mmse.serving.middleware.asgi import ASGIApp, Message, Receive, Scope, Send

_ITEMS = "/v1/items/"


@final
class RequestTargets:
    """Refuses paths and queries that are no text, and hands the id in `/v1/items/ID` on as one encoded part.

    The framework decodes a path before it splits it, and drops empty parts and a slash at the end, so that `u%2F` would
    name the item `u`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request."""
        query: bytes = scope["query_string"]
        if b"%" in query or not query.isascii():
            _decode(query, "query string")
        path: str = scope["path"]
        if "/items/" in path or "\0" in path or not path.isascii():
            scope["path"] = _check_path(scope)
        if scope["method"] == "HEAD":
            return self._answer_head(scope, receive, send)
        return self._app(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"


def _check_path(scope: Scope) -> str:
    """The path to go on with; raises `RequestError` where it is no text, or its id cannot be told."""
    raw_path = _raw_path(scope)
    path = _decode(raw_path, "path")
    if "\0" in path:
        raise RequestError("bad_request", "The path has a NUL character.", "Leave it out: no file or id has one.")
    return _encode_item_path(raw_path) if "/items/" in path else path


def _raw_path(scope: Scope) -> bytes:
    """The path as it was sent, without the query that some servers leave at it."""
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw_path.partition(b"?")[0]


def _decode(encoded: bytes, name: str) -> str:
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        cause, cure = f"The {name} is not UTF-8.", "Percent-encode the UTF-8 bytes of the text."
        raise RequestError("bad_request", cause, cure) from None


def _encode_item_path(raw_path: bytes) -> str:
    """The path of an item with its whole id as one part; raises where the id cannot be told from the rest."""
    item_id = _decode(raw_path, "path").removeprefix(_ITEMS)
    if not raw_path.startswith(_ITEMS.encode()):
        raise RequestError("not_found", "There is no such route.", f"Write {_ITEMS}ID, with a percent-encoded item_id.")
    return _ITEMS + quote(item_id, safe="")
