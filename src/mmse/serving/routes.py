"""The HTTP routes: searches, items, events, versions, experiments, the map, health and metrics."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import unquote

from litestar import MediaType, Response, delete, get, patch, post, put
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromQuery, JSONBody, PathParameter, QueryParameter

from mmse.catalogue.edits import Change, Delete, Edit, Upsert
from mmse.core.errors import UsageError
from mmse.experiment.assignment import assign
from mmse.retrieval.suggester import MAX_SUGGESTIONS
from mmse.schema import http
from mmse.schema.filters import parse_terms
from mmse.schema.http import (
    BatchAnswer,
    CatalogueAnswer,
    EmbedAnswer,
    EmbedRequest,
    Failure,
    FilterColumn,
    Health,
    MapAnswer,
    MapPoint,
    SearchAnswer,
    SearchBatch,
    SearchRequest,
    SuggestAnswer,
    SuggestedText,
)
from mmse.schema.http_admin import (
    AssignmentsAnswer,
    AssignmentsRequest,
    EditAnswer,
    ExperimentsAnswer,
    ItemAnswer,
    ItemEdits,
    SetLiveRequest,
    VersionsAnswer,
)
from mmse.schema.http_events import EventBatch, EventsAnswer
from mmse.schema.search import Channel
from mmse.serving import map_view
from mmse.serving.failures import STATUS, RequestError
from mmse.serving.observability import metrics
from mmse.serving.openapi import build_document
from mmse.serving.request_context import HttpRequest, context_of
from mmse.serving.state import ServerState

_STATUS_TEXTS = {
    400: "The request is malformed",
    401: "The token is missing or wrong",
    404: "There is no such thing",
    409: "The server does not take this",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "What is asked does not fit the catalogue",
    429: "Too many requests",
    500: "A fault of the server",
    503: "Too busy",
    504: "Not answered in time",
    507: "The disk refuses to take it",
}
_METRICS_THREAD = ThreadPoolExecutor(1, "mmse-metrics")
_MAP_THREAD = ThreadPoolExecutor(1, "mmse-map")
"""Threads of their own, so that many who ask for the map hold up no metrics, edits or events."""
_Result = TypeVar("_Result")
_CHANNEL = QueryParameter(description="How hits are found.")


def _error_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """The error responses of a route, for the description of the API."""
    return {
        status: ResponseSpec(Failure, description=_STATUS_TEXTS[status], generate_examples=False)
        for status in sorted({*statuses, 400, 429, 500, 504})
    }


def _server(connection: ASGIConnection[Any, Any, Any, Any]) -> ServerState:
    return cast(ServerState, connection.app.state.server)


def require_token(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Raises `RequestError` where the request lacks the token, or the server takes no writes."""
    token = _server(connection).config.token
    if token is None:
        raise RequestError(
            "read_only",
            "This server takes no writes: it was started without a token.",
            "Start it with --token-file, and send `Authorization: Bearer …`.",
        )
    header = connection.headers.get("authorization", "")
    if not hmac.compare_digest(header.encode(), f"Bearer {token}".encode()):
        raise RequestError("unauthorised", "The token is missing or wrong.", "Send `Authorization: Bearer …`.")


ItemId = Annotated[str, PathParameter(description="The item_id, percent-encoded.")]

_EXAMPLE = Example(
    summary="A search with a filter",
    value={"query": "cordless drill", "k": 24, "filter": {"price": {"to": 150}}, "facets": ["brand"]},
)


@post(
    "/v1/search",
    status_code=200,
    responses=_error_responses(404, 413, 415, 422, 503),
    tags=["search"],
    operation_id="search",
)
async def search(
    data: Annotated[SearchRequest, BodyKwarg(examples=[_EXAMPLE])], request: HttpRequest
) -> Response[SearchAnswer]:
    """Searches the catalogue: hits best first, each with its probability of a click."""
    return _json_response(await _server(request).handler.search(data, context_of(request.scope)))


@get("/v1/search", responses=_error_responses(404, 422, 503), tags=["search"], operation_id="search_plainly")
async def search_by_url(
    request: HttpRequest,
    q: Annotated[str, QueryParameter(description="What the shopper typed.", min_length=1, max_length=2_000)],
    k: Annotated[int, QueryParameter(ge=1, le=http.MAX_K)] = 10,
    user_id: Annotated[str | None, QueryParameter(min_length=1, max_length=1_000)] = None,
    filter: Annotated[
        list[str] | None, QueryParameter(description="brand=Bosch, price=10..20, or JSON; all must hold.")
    ] = None,
    channel: Annotated[Channel, _CHANNEL] = "hybrid",
    min_probability: Annotated[float, QueryParameter(ge=0, le=1)] = 0.0,
    facets: Annotated[
        list[str] | None, QueryParameter(description="Columns to count.", max_items=http.MAX_FACETS)
    ] = None,
    offset: Annotated[int, QueryParameter(ge=0, le=http.MAX_OFFSET, description="So many hits are skipped.")] = 0,
    sort: Annotated[
        str | None, QueryParameter(description="price, or -rating from high to low.", min_length=1, max_length=1_000)
    ] = None,
    correct: Annotated[bool, QueryParameter(description="Corrects misspelt words.")] = True,
    explain: FromQuery[bool] = False,
    version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None,
    session_id: Annotated[str | None, QueryParameter(min_length=1, max_length=1_000)] = None,
    shown: Annotated[int, QueryParameter(ge=0, le=http.MAX_K)] = http.MAX_K,
) -> Response[SearchAnswer]:
    """The same search by GET, for people and curl."""
    search_request = SearchRequest(
        query=q,
        k=k,
        user_id=user_id,
        channel=channel,
        min_probability=min_probability,
        facets=facets or [],
        offset=offset,
        sort=sort,
        correct=correct,
        explain=explain,
        version=version,
        session_id=session_id,
        shown=shown,
    )
    server = _server(request)
    with server.models.lease(version) as loaded_version:
        condition = parse_terms(filter or [], loaded_version.retriever.kinds)
    return _json_response(await server.handler.search(search_request, context_of(request.scope), condition))


@post(
    "/v1/search/batch",
    status_code=200,
    responses=_error_responses(404, 413, 415, 503),
    tags=["search"],
    operation_id="search_batch",
)
async def search_batch(data: JSONBody[SearchBatch], request: HttpRequest) -> Response[BatchAnswer]:
    """Several searches at once; one that does not fit the catalogue does not spoil the others."""
    return _json_response(await _server(request).handler.search_batch(data, context_of(request.scope)))


@post(
    "/v1/embed", status_code=200, responses=_error_responses(404, 413, 415, 503), tags=["search"], operation_id="embed"
)
async def embed(data: JSONBody[EmbedRequest], request: HttpRequest) -> EmbedAnswer:
    """The fused vectors of queries: their inner product with an item's vector is its score by the vector channel."""
    return await _server(request).handler.embed(data, context_of(request.scope))


_TOKEN: list[dict[str, list[str]]] = [{"token": []}]
_WRITES: dict[str, Any] = {"guards": [require_token], "security": _TOKEN, "tags": ["items"]}


@post(
    "/v1/items",
    status_code=200,
    responses=_error_responses(401, 409, 413, 415, 422, 507),
    **_WRITES,
    operation_id="edit_items",
)
async def edit_items(data: JSONBody[ItemEdits], request: HttpRequest) -> EditAnswer:
    """Edits items, all or none; they are on the disk, and found by every search of this worker, when it answers."""
    edits: list[Edit] = [Upsert(item) for item in data.upsert]
    edits += [Change(change.item_id, change.values) for change in data.change]
    edits += [Delete(item_id) for item_id in data.delete]
    return await _apply_edits(request, edits)


@put(
    "/v1/items/{item_id:str}",
    status_code=200,
    responses=_error_responses(401, 409, 413, 415, 422, 507),
    **_WRITES,
    operation_id="put_item",
)
async def put_item(item_id: ItemId, data: JSONBody[dict[str, Any]], request: HttpRequest) -> EditAnswer:
    """Puts a whole item, new or in place of the one that is there; columns that it leaves out are empty."""
    if data.get("item_id", _parse_id(item_id)) != _parse_id(item_id):
        raise UsageError(
            f"The path names item '{_parse_id(item_id)}', its values item '{data['item_id']}'.",
            "Leave item_id out of the body.",
        )
    return await _apply_edits(request, [Upsert(data | {"item_id": _parse_id(item_id)})])


@patch(
    "/v1/items/{item_id:str}",
    status_code=200,
    responses=_error_responses(401, 409, 413, 415, 422, 507),
    **_WRITES,
    operation_id="change_item",
)
async def change_item(item_id: ItemId, data: JSONBody[dict[str, Any]], request: HttpRequest) -> EditAnswer:
    """Changes some columns of an item, such as its price; the others stay."""
    return await _apply_edits(request, [Change(_parse_id(item_id), data)])


@delete(
    "/v1/items/{item_id:str}",
    status_code=200,
    responses=_error_responses(401, 409, 422, 507),
    **_WRITES,
    operation_id="delete_item",
)
async def delete_item(item_id: ItemId, request: HttpRequest) -> EditAnswer:
    """Takes an item out of the catalogue."""
    return await _apply_edits(request, [Delete(_parse_id(item_id))])


@get("/v1/items/{item_id:str}", responses=_error_responses(404), tags=["items"], operation_id="item")
async def get_item(item_id: ItemId, request: HttpRequest) -> ItemAnswer:
    """An item as it is in the live version."""
    with _server(request).models.lease(None) as version:
        snapshot = version.retriever.snapshot()
        rows = snapshot.rows([_parse_id(item_id)])
        if rows[0] < 0:
            raise RequestError("not_found", f"There is no item '{_parse_id(item_id)}'.", "Check the item_id.")
        return ItemAnswer(version=version.name, catalogue=snapshot.version, item=snapshot.items(rows)[0])


@post(
    "/v1/events",
    status_code=202,
    guards=[require_token],
    security=_TOKEN,
    tags=["events"],
    responses=_error_responses(401, 409, 413, 415, 422, 507),
    operation_id="take_events",
)
async def take_events(data: JSONBody[EventBatch], request: HttpRequest) -> EventsAnswer:
    """Takes in what shoppers saw, clicked and ordered, for the next training; it is on the disk when it answers."""
    await asyncio.to_thread(_server(request).events.append, data.events)
    for event in data.events:
        metrics.events.labels(type(event).__name__.lower()).inc()
    return EventsAnswer(request_id=context_of(request.scope).request_id, accepted=len(data.events))


@get("/v1/versions", responses=_error_responses(), tags=["versions"], operation_id="versions")
async def list_versions(request: HttpRequest) -> VersionsAnswer:
    """The versions that are served, by arm."""
    return _server(request).describe_versions()


@post(
    "/v1/versions/live",
    status_code=200,
    guards=[require_token],
    security=_TOKEN,
    tags=["versions"],
    responses=_error_responses(401, 404, 409, 413, 415, 422, 507),
    operation_id="set_live",
)
async def set_live(data: JSONBody[SetLiveRequest], request: HttpRequest) -> VersionsAnswer:
    """Puts a published version into service for an arm: to roll back, or to begin an experiment."""
    server = _server(request)
    await asyncio.to_thread(server.serve_version, data.arm, data.version, data.note)
    return server.describe_versions()


@get("/v1/experiments", responses=_error_responses(), tags=["experiments"], operation_id="experiments")
async def list_experiments(request: HttpRequest) -> ExperimentsAnswer:
    """The experiments that run, and what their arms are served."""
    return _server(request).describe_experiments()


@post(
    "/v1/assignments",
    status_code=200,
    responses=_error_responses(413, 415),
    tags=["experiments"],
    operation_id="assignments",
)
async def assign_units(data: JSONBody[AssignmentsRequest], request: HttpRequest) -> AssignmentsAnswer:
    """The arms of shoppers, visits or requests: what a search of theirs would be served under."""
    state = _server(request).experiments.state()
    assignments = [
        assign(state, user_id=unit.user_id, session_id=unit.session_id, request_id=unit.request_id)
        for unit in data.units
    ]
    return AssignmentsAnswer(
        request_id=context_of(request.scope).request_id,
        assignments=[dict(assignment.arms) for assignment in assignments],
    )


@get("/v1/suggest", responses=_error_responses(404), tags=["search"], operation_id="suggest")
async def suggest(
    request: HttpRequest,
    q: Annotated[str, QueryParameter(description="What the shopper typed so far.", max_length=2_000)],
    k: Annotated[int, QueryParameter(ge=1, le=MAX_SUGGESTIONS)] = 8,
    version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None,
) -> SuggestAnswer:
    """Completions: queries that enough different shoppers asked, brands and categories; a slip is forgiven."""
    with _server(request).models.lease(version) as leased:
        texts = [SuggestedText(text=s.text, source=s.source) for s in leased.suggester.suggest(q, k)]
        return SuggestAnswer(version=leased.name, suggestions=texts)


@get("/v1/catalogue", responses=_error_responses(), tags=["search"], operation_id="catalogue")
async def describe_catalogue(request: HttpRequest) -> CatalogueAnswer:
    """What can be asked: columns to filter by, how many items there are, and queries of the log as examples."""
    with _server(request).models.lease(None) as version:
        columns = [FilterColumn(name=name, kind=kind.value) for name, kind in version.retriever.kinds.items()]
        return CatalogueAnswer(
            version=version.name,
            items=len(version.retriever.snapshot()),
            columns=columns,
            examples=list(version.examples),
        )


@get("/v1/map", responses=_error_responses(404), tags=["map"], operation_id="show_map")
async def show_map(
    request: HttpRequest, version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None
) -> MapAnswer:
    """The map of the catalogue's embeddings: near one another on it is near one another to the model."""
    with _server(request).models.lease(version) as loaded_version:
        return await _run_in(_MAP_THREAD, partial(map_view.draw_map, loaded_version))


@get("/v1/map/place", responses=_error_responses(404, 422), tags=["map"], operation_id="place")
async def locate_query(
    request: HttpRequest,
    q: Annotated[str, QueryParameter(description="A query.", min_length=1, max_length=2_000)],
    version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None,
) -> MapPoint:
    """Where a query belongs on the map."""
    with _server(request).models.lease(version) as loaded_version:
        return await _run_in(_MAP_THREAD, partial(map_view.locate_query, loaded_version, q))


@get("/v1/health", responses=_error_responses(), tags=["operations"], operation_id="health")
async def show_health(request: HttpRequest) -> Health:
    """The state of the server; a worker that answers has its versions loaded."""
    server = _server(request)
    return Health(live=True, ready=True, version=server.models.arms[http.LIVE].name, problems=server.list_problems())


@get("/v1/health/ready", responses=_error_responses(), tags=["operations"], operation_id="ready")
async def show_readiness(request: HttpRequest) -> Health:
    """Whether searches are answered."""
    return Health(live=True, ready=True, version=_server(request).models.arms[http.LIVE].name, problems=[])


@get("/v1/health/live", responses=_error_responses(), tags=["operations"], operation_id="live")
async def show_liveness() -> Health:
    """Whether the process lives."""
    return Health(live=True, ready=True, version=None, problems=[])


@get(
    "/metrics",
    media_type=MediaType.TEXT,
    responses=_error_responses(),
    tags=["operations"],
    operation_id="show_metrics",
)
async def show_metrics() -> Response[bytes]:
    """Counts and times of all workers, for Prometheus."""
    body = await _run_in(_METRICS_THREAD, metrics.exposition)
    return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")


@get("/openapi.json", include_in_schema=False)
async def show_description(request: HttpRequest) -> Response[bytes]:
    """This API, as OpenAPI 3.1."""
    return Response(build_document(request.app), media_type="application/json")


ROUTES: Sequence[HTTPRouteHandler] = (
    search,
    search_by_url,
    search_batch,
    embed,
    edit_items,
    put_item,
    change_item,
    delete_item,
    get_item,
    take_events,
    list_versions,
    set_live,
    list_experiments,
    assign_units,
    suggest,
    describe_catalogue,
    show_map,
    locate_query,
    show_health,
    show_readiness,
    show_liveness,
    show_metrics,
    show_description,
)


async def _run_in(thread: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
    """The result of `work` in `thread`."""
    return await asyncio.get_running_loop().run_in_executor(thread, work)


def _json_response(body: bytes) -> Response[Any]:
    """A response whose JSON is encoded already."""
    return Response(body, media_type="application/json")


def _parse_id(encoded: str) -> str:
    """The item id in a route, which `RequestTargets` hands on encoded."""
    return unquote(encoded)


async def _apply_edits(request: HttpRequest, edits: list[Edit]) -> EditAnswer:
    if not edits:
        raise UsageError("There is no edit in the request.", "Give `upsert`, `change` or `delete`.")
    version, catalogue_state = await asyncio.to_thread(_server(request).edit, edits)
    return EditAnswer(
        request_id=context_of(request.scope).request_id, applied=len(edits), version=version, catalogue=catalogue_state
    )


assert set(_STATUS_TEXTS) <= set(STATUS.values())
