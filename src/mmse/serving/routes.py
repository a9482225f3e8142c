"""The HTTP routes: searches, items, events, versions, the map, and how the server is."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

from litestar import MediaType, Request, Response, delete, get, patch, post, put
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromQuery, JSONBody, PathParameter, QueryParameter

from mmse.catalogue.edits import Change, Delete, Edit, Upsert
from mmse.core.errors import UsageError
from mmse.experiment.assignment import assign
from mmse.schema import http as api
from mmse.schema.filters import parse_terms
from mmse.schema.http import (
    Accepted,
    AssignmentsAnswer,
    AssignmentsRequest,
    BatchAnswer,
    CatalogueAnswer,
    Column,
    Edited,
    EmbedRequest,
    Events,
    ExperimentsAnswer,
    Failure,
    Health,
    Item,
    ItemEdits,
    LiveVersion,
    MapAnswer,
    MapPlace,
    SearchAnswer,
    SearchBatch,
    SearchRequest,
    Vectors,
    Versions,
)
from mmse.schema.search import Channel
from mmse.serving import map_view as mapped
from mmse.serving.failures import STATUS, Refused
from mmse.serving.observability import metrics
from mmse.serving.openapi import described
from mmse.serving.request_context import Call
from mmse.serving.state import House

_WHY = {
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
_CHANNELS = QueryParameter(description="How hits are found.")


def _refusals(*statuses: int) -> dict[int, ResponseSpec]:
    """How a route may refuse, for the API's description."""
    return {
        status: ResponseSpec(Failure, description=_WHY[status], generate_examples=False)
        for status in sorted({*statuses, 400, 429, 500, 504})
    }


def _house(request: Request[Any, Any, Any]) -> House:
    return cast(House, request.app.state.house)


def _call(request: Request[Any, Any, Any]) -> Call:
    return cast(Call, request.scope["state"]["call"])


def needs_token(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Lets those through who have the token; raises `Refused` for others, and where the server takes no writes."""
    token = cast(House, connection.app.state.house).config.token
    if token is None:
        raise Refused(
            "read_only",
            "This server takes no writes: it was started without a token.",
            "Start it with --token-file, and send `Authorization: Bearer …`.",
        )
    given = connection.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Refused("unauthorised", "The token is missing or wrong.", "Send `Authorization: Bearer …`.")


ItemId = Annotated[Path, PathParameter(description="The item_id, percent-encoded.")]

_EXAMPLE = Example(
    summary="A search with a filter",
    value={"query": "cordless drill", "k": 24, "filter": {"price": {"to": 150}}, "facets": ["brand"]},
)


@post(
    "/v1/search", status_code=200, responses=_refusals(404, 413, 415, 422, 503), tags=["search"], operation_id="search"
)
async def search(
    data: Annotated[SearchRequest, BodyKwarg(examples=[_EXAMPLE])], request: Request[Any, Any, Any]
) -> Response[SearchAnswer]:
    """Searches the catalogue: hits best first, each with its probability of a click."""
    return _ready(await _house(request).desk.search(data, _call(request)))


@get("/v1/search", responses=_refusals(404, 422, 503), tags=["search"], operation_id="search_plainly")
async def search_plainly(
    request: Request[Any, Any, Any],
    q: Annotated[str, QueryParameter(description="What the shopper typed.", min_length=1, max_length=2_000)],
    k: Annotated[int, QueryParameter(ge=1, le=api.MAX_K)] = 10,
    user_id: Annotated[str | None, QueryParameter(min_length=1, max_length=1_000)] = None,
    filter: Annotated[
        list[str] | None, QueryParameter(description="brand=Bosch, price=10..20, or JSON; all must hold.")
    ] = None,
    channel: Annotated[Channel, _CHANNELS] = "hybrid",
    min_probability: Annotated[float, QueryParameter(ge=0, le=1)] = 0.0,
    facets: Annotated[
        list[str] | None, QueryParameter(description="Columns to count.", max_items=api.MAX_FACETS)
    ] = None,
    explain: FromQuery[bool] = False,
    version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None,
    session_id: Annotated[str | None, QueryParameter(min_length=1, max_length=1_000)] = None,
    shown: Annotated[int, QueryParameter(ge=0, le=api.MAX_K)] = api.MAX_K,
) -> Response[SearchAnswer]:
    """The same for people and curl."""
    asked = SearchRequest(
        query=q,
        k=k,
        user_id=user_id,
        channel=channel,
        min_probability=min_probability,
        facets=facets or [],
        explain=explain,
        version=version,
        session_id=session_id,
        shown=shown,
    )
    house = _house(request)
    with house.fleet.using(version) as served:
        condition = parse_terms(filter or [], served.retriever.kinds)
    return _ready(await house.desk.search(asked, _call(request), only=condition))


@post(
    "/v1/search/batch",
    status_code=200,
    responses=_refusals(404, 413, 415, 503),
    tags=["search"],
    operation_id="search_batch",
)
async def search_batch(data: JSONBody[SearchBatch], request: Request[Any, Any, Any]) -> Response[BatchAnswer]:
    """Several searches at once; one that does not fit the catalogue does not spoil the others."""
    return _ready(await _house(request).desk.batch(data, _call(request)))


@post("/v1/embed", status_code=200, responses=_refusals(404, 413, 415, 503), tags=["search"], operation_id="embed")
async def embed(data: JSONBody[EmbedRequest], request: Request[Any, Any, Any]) -> Vectors:
    """The fused vectors of queries: their inner product with an item's vector is its score by the vector channel."""
    return await _house(request).desk.embed(data, _call(request))


_TOKEN: list[dict[str, list[str]]] = [{"token": []}]
_WRITES: dict[str, Any] = {"guards": [needs_token], "security": _TOKEN, "tags": ["items"]}


@post(
    "/v1/items",
    status_code=200,
    responses=_refusals(401, 409, 413, 415, 422, 507),
    **_WRITES,
    operation_id="edit_items",
)
async def edit_items(data: JSONBody[ItemEdits], request: Request[Any, Any, Any]) -> Edited:
    """Edits items, all or none; they are on the disk, and found by every search of this worker, when it answers."""
    edits: list[Edit] = [Upsert(item) for item in data.upsert]
    edits += [Change(one.item_id, one.values) for one in data.change]
    edits += [Delete(item_id) for item_id in data.delete]
    return await _edited(request, edits)


@put(
    "/v1/items/{item_id:path}",
    status_code=200,
    responses=_refusals(401, 409, 413, 415, 422, 507),
    **_WRITES,
    operation_id="put_item",
)
async def put_item(item_id: ItemId, data: JSONBody[dict[str, Any]], request: Request[Any, Any, Any]) -> Edited:
    """Puts a whole item, new or in place of the one that is there; columns that it leaves out are empty."""
    if data.get("item_id", _id(item_id)) != _id(item_id):
        raise UsageError(
            f"The path names item '{_id(item_id)}', its values item '{data['item_id']}'.",
            "Leave item_id out of the body.",
        )
    return await _edited(request, [Upsert(data | {"item_id": _id(item_id)})])


@patch(
    "/v1/items/{item_id:path}",
    status_code=200,
    responses=_refusals(401, 409, 413, 415, 422, 507),
    **_WRITES,
    operation_id="change_item",
)
async def change_item(item_id: ItemId, data: JSONBody[dict[str, Any]], request: Request[Any, Any, Any]) -> Edited:
    """Changes some columns of an item, such as its price; the others stay."""
    return await _edited(request, [Change(_id(item_id), data)])


@delete(
    "/v1/items/{item_id:path}",
    status_code=200,
    responses=_refusals(401, 409, 422, 507),
    **_WRITES,
    operation_id="delete_item",
)
async def delete_item(item_id: ItemId, request: Request[Any, Any, Any]) -> Edited:
    """Takes an item out of the catalogue."""
    return await _edited(request, [Delete(_id(item_id))])


@get("/v1/items/{item_id:path}", responses=_refusals(404), tags=["items"], operation_id="item")
async def item(item_id: ItemId, request: Request[Any, Any, Any]) -> Item:
    """An item as it is in the live version."""
    with _house(request).fleet.using(None) as served:
        now = served.retriever.snapshot()
        rows = now.rows([_id(item_id)])
        if rows[0] < 0:
            raise Refused("not_found", f"There is no item '{_id(item_id)}'.", "Check the item_id.")
        return Item(version=served.name, catalogue=now.version, item=now.items(rows)[0])


@post(
    "/v1/events",
    status_code=202,
    guards=[needs_token],
    security=_TOKEN,
    tags=["events"],
    responses=_refusals(401, 409, 413, 415, 422, 507),
    operation_id="take_events",
)
async def take_events(data: JSONBody[Events], request: Request[Any, Any, Any]) -> Accepted:
    """Takes in what shoppers saw, clicked and ordered, for the next training; it is on the disk when it answers."""
    await asyncio.to_thread(_house(request).events.append, data.events)
    for event in data.events:
        metrics.events.labels(type(event).__name__.lower()).inc()
    return Accepted(request_id=_call(request).request_id, accepted=len(data.events))


@get("/v1/versions", responses=_refusals(), tags=["versions"], operation_id="versions")
async def versions(request: Request[Any, Any, Any]) -> Versions:
    """The versions that are served, by arm."""
    return _house(request).versions()


@post(
    "/v1/versions/live",
    status_code=200,
    guards=[needs_token],
    security=_TOKEN,
    tags=["versions"],
    responses=_refusals(401, 404, 409, 413, 415, 422, 507),
    operation_id="set_live",
)
async def set_live(data: JSONBody[LiveVersion], request: Request[Any, Any, Any]) -> Versions:
    """Puts a published version into service for an arm: to roll back, or to begin an experiment."""
    house = _house(request)
    await asyncio.to_thread(house.serve, data.arm, data.version, data.note)
    return house.versions()


@get("/v1/experiments", responses=_refusals(), tags=["experiments"], operation_id="experiments")
async def experiments(request: Request[Any, Any, Any]) -> ExperimentsAnswer:
    """The experiments that run, and what their arms are served."""
    return _house(request).running()


@post(
    "/v1/assignments", status_code=200, responses=_refusals(413, 415), tags=["experiments"], operation_id="assignments"
)
async def assignments(data: JSONBody[AssignmentsRequest], request: Request[Any, Any, Any]) -> AssignmentsAnswer:
    """The arms of shoppers, visits or requests: what a search of theirs would be served under."""
    running = _house(request).experiments.running()
    found = [
        assign(running, user_id=one.user_id, session_id=one.session_id, request_id=one.request_id) for one in data.units
    ]
    return AssignmentsAnswer(request_id=_call(request).request_id, assignments=[dict(one.arms) for one in found])


@get("/v1/catalogue", responses=_refusals(), tags=["search"], operation_id="catalogue")
async def catalogue(request: Request[Any, Any, Any]) -> CatalogueAnswer:
    """What can be asked: columns to filter by, how many items there are, and queries of the log as examples."""
    with _house(request).fleet.using(None) as served:
        columns = [Column(name=name, kind=kind.value) for name, kind in served.retriever.kinds.items()]
        return CatalogueAnswer(
            version=served.name, items=len(served.retriever.snapshot()), columns=columns, examples=list(served.examples)
        )


@get("/v1/map", responses=_refusals(404), tags=["map"], operation_id="show_map")
async def show_map(
    request: Request[Any, Any, Any], version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None
) -> MapAnswer:
    """The map of the catalogue's embeddings: near one another on it is near one another to the model."""
    with _house(request).fleet.using(version) as served:
        return await asyncio.to_thread(mapped.drawn, served)


@get("/v1/map/place", responses=_refusals(404, 422), tags=["map"], operation_id="place")
async def place(
    request: Request[Any, Any, Any],
    q: Annotated[str, QueryParameter(description="A query.", min_length=1, max_length=2_000)],
    version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None,
) -> MapPlace:
    """Where a query belongs on the map."""
    with _house(request).fleet.using(version) as served:
        return await asyncio.to_thread(mapped.place, served, q)


@get("/v1/health", responses=_refusals(), tags=["operations"], operation_id="health")
async def health(request: Request[Any, Any, Any]) -> Health:
    """How the server is; a worker that answers at all has its versions open."""
    house = _house(request)
    return Health(live=True, ready=True, version=house.fleet.arms[api.LIVE].name, problems=house.problems())


@get("/v1/health/ready", responses=_refusals(), tags=["operations"], operation_id="ready")
async def ready(request: Request[Any, Any, Any]) -> Health:
    """Whether searches are answered."""
    return Health(live=True, ready=True, version=_house(request).fleet.arms[api.LIVE].name, problems=[])


@get("/v1/health/live", responses=_refusals(), tags=["operations"], operation_id="live")
async def live() -> Health:
    """Whether the process lives."""
    return Health(live=True, ready=True, version=None, problems=[])


@get("/metrics", media_type=MediaType.TEXT, responses=_refusals(), tags=["operations"], operation_id="show_metrics")
async def show_metrics() -> Response[bytes]:
    """Counts and times of all workers, for Prometheus."""
    return Response(await asyncio.to_thread(metrics.exposition), media_type="text/plain; version=0.0.4; charset=utf-8")


@get("/openapi.json", include_in_schema=False)
async def description(request: Request[Any, Any, Any]) -> Response[bytes]:
    """This API, as OpenAPI 3.1."""
    return Response(described(request.app), media_type="application/json")


ROUTES: Sequence[HTTPRouteHandler] = (
    search,
    search_plainly,
    search_batch,
    embed,
    edit_items,
    put_item,
    change_item,
    delete_item,
    item,
    take_events,
    versions,
    set_live,
    experiments,
    assignments,
    catalogue,
    show_map,
    place,
    health,
    ready,
    live,
    show_metrics,
    description,
)


def _ready(body: bytes) -> Response[Any]:
    """An answer that is written already."""
    return Response(body, media_type="application/json")


def _id(path: Path) -> str:
    """The item id in a route: it may hold slashes, so the framework takes it for a path."""
    return str(path).removeprefix("/")


async def _edited(request: Request[Any, Any, Any], edits: list[Edit]) -> Edited:
    if not edits:
        raise UsageError("There is no edit in the request.", "Give `upsert`, `change` or `delete`.")
    version, state = await asyncio.to_thread(_house(request).edit, edits)
    return Edited(request_id=_call(request).request_id, applied=len(edits), version=version, catalogue=state)


assert set(_WHY) <= set(STATUS.values())
