"""Who may use a route: guards that ask for a token, and what the description of the API says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from mmse.serving.failures import RequestError
from mmse.serving.openapi import error_responses
from mmse.serving.state import ServerState
from mmse.serving.tokens import Scope, TokenTable

_CURE = "Send `Authorization: Bearer …`."
_Connection = ASGIConnection[Any, Any, Any, Any]


def server_of(connection: _Connection) -> ServerState:
    """What the worker holds that answers `connection`."""
    return cast(ServerState, connection.app.state.server)


def write_access(scope: Scope, *statuses: int) -> dict[str, Any]:
    """The options of a route that writes: it needs a token with `scope`, and may answer with `statuses` too."""

    def require_scope(connection: _Connection, _: BaseRouteHandler) -> None:
        table = server_of(connection).tokens.table()
        if table is None:
            raise RequestError(
                "read_only",
                "This server takes no writes: it was started without a token.",
                f"Start it with --token-file, and send it. {_CURE}",
            )
        _require(connection, table, (scope,))

    responses = error_responses(401, 403, 409, *statuses)
    return {"guards": [require_scope], "security": [{"token": [scope]}], "responses": responses}


def read_access(*statuses: int, scopes: Sequence[Scope] = ("search",)) -> dict[str, Any]:
    """The options of a route that reads, which may answer with `statuses` too.

    It is open, unless some token has the scope `search`: then it needs a token with one of `scopes`.
    """

    def require_scope(connection: _Connection, _: BaseRouteHandler) -> None:
        table = server_of(connection).tokens.table()
        if table is not None and table.guards_search:
            _require(connection, table, scopes)

    security = [{}, *({"token": [scope]} for scope in scopes)]
    return {"guards": [require_scope], "security": security, "responses": error_responses(401, 403, *statuses)}


def _require(connection: _Connection, table: TokenTable, scopes: Sequence[Scope]) -> None:
    """Raises `RequestError` unless the request has a token with one of `scopes`."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    token_scopes = table.scopes_of(token.strip().encode("latin-1")) if kind.lower() == "bearer" else None
    if token_scopes is None:
        cause = "The token is missing or wrong."
        if "search" in scopes:
            cause = "This server answers searches only with a token, and it is missing or wrong."
        raise RequestError("unauthorised", cause, _CURE)
    if token_scopes.isdisjoint(scopes):
        raise RequestError(
            "forbidden",
            f"This token is for {', '.join(sorted(token_scopes))}; the route needs one for {' or '.join(scopes)}.",
            "Send a token with that scope; whoever runs the server writes it into the file of --token-file.",
        )
