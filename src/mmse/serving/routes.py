"""The HTTP routes that read: searches, items, versions, experiments, the map, health, metrics; a list of all routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypeVar

from litestar import MediaType, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, FromQuery, JSONBody, QueryParameter

from mmse.experiment.assignment import assign
from mmse.retrieval.suggester import MAX_SUGGESTIONS
from mmse.schema import http
from mmse.schema.filters import parse_terms
from mmse.schema.http import (
    BatchAnswer,
    CatalogueAnswer,
    EmbedAnswer,
    EmbedRequest,
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
from mmse.schema.http_admin import AssignmentsAnswer, AssignmentsRequest, ExperimentsAnswer, ItemAnswer, VersionsAnswer
from mmse.schema.search import Channel
from mmse.serving import map_view
from mmse.serving.failures import RequestError
from mmse.serving.guards import read_access, server_of
from mmse.serving.observability import metrics
from mmse.serving.openapi import build_document, error_responses
from mmse.serving.request_context import HttpRequest, context_of
from mmse.serving.write_routes import (
    ItemId,
    change_item,
    delete_item,
    edit_items,
    parse_id,
    put_item,
    set_live,
    take_events,
)

_METRICS_THREAD = ThreadPoolExecutor(1, "mmse-metrics")
_MAP_THREAD = ThreadPoolExecutor(1, "mmse-map")
"""Threads of their own, so that many who ask for the map hold up no metrics, edits or events."""
_Result = TypeVar("_Result")
_CHANNEL = QueryParameter(description="How hits are found.")


_EXAMPLE = Example(
    summary="A search with a filter",
    value={"query": "cordless drill", "k": 24, "filter": {"price": {"to": 150}}, "facets": ["brand"]},
)


@post("/v1/search", status_code=200, **read_access(404, 413, 415, 422, 503), tags=["search"], operation_id="search")
async def search(
    data: Annotated[SearchRequest, BodyKwarg(examples=[_EXAMPLE])], request: HttpRequest
) -> Response[SearchAnswer]:
    """Searches the catalogue: hits best first, each with its probability of a click."""
    server = server_of(request)
    return _json_response(await server.handler.search(server.hash_ids(data), context_of(request.scope)))


@get("/v1/search", **read_access(404, 422, 503), tags=["search"], operation_id="search_plainly")
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
    server = server_of(request)
    with server.models.lease(version) as loaded_version:
        condition = parse_terms(filter or [], loaded_version.retriever.kinds)
    hashed_request = server.hash_ids(search_request)
    return _json_response(await server.handler.search(hashed_request, context_of(request.scope), condition))


@post(
    "/v1/search/batch", status_code=200, **read_access(404, 413, 415, 503), tags=["search"], operation_id="search_batch"
)
async def search_batch(data: JSONBody[SearchBatch], request: HttpRequest) -> Response[BatchAnswer]:
    """Several searches at once; one that does not fit the catalogue does not spoil the others."""
    server = server_of(request)
    batch = SearchBatch(searches=[server.hash_ids(search) for search in data.searches])
    return _json_response(await server.handler.search_batch(batch, context_of(request.scope)))


@post("/v1/embed", status_code=200, **read_access(404, 413, 415, 503), tags=["search"], operation_id="embed")
async def embed(data: JSONBody[EmbedRequest], request: HttpRequest) -> EmbedAnswer:
    """The fused vectors of queries: their inner product with an item's vector is its score by the vector channel."""
    server = server_of(request)
    return await server.handler.embed(server.hash_ids(data), context_of(request.scope))


@get("/v1/items/{item_id:str}", tags=["items"], **read_access(404, scopes=("search", "items")), operation_id="item")
async def get_item(item_id: ItemId, request: HttpRequest) -> ItemAnswer:
    """An item as it is in the live version."""
    with server_of(request).models.lease(None) as version:
        snapshot = version.retriever.snapshot()
        rows = snapshot.rows([parse_id(item_id)])
        if rows[0] < 0:
            raise RequestError("not_found", f"There is no item '{parse_id(item_id)}'.", "Check the item_id.")
        return ItemAnswer(version=version.name, catalogue=snapshot.version, item=snapshot.items(rows)[0])


@get("/v1/versions", **read_access(scopes=("search", "admin")), tags=["versions"], operation_id="versions")
async def list_versions(request: HttpRequest) -> VersionsAnswer:
    """The versions that are served, by arm."""
    return server_of(request).describe_versions()


@get("/v1/experiments", **read_access(scopes=("search", "admin")), tags=["experiments"], operation_id="experiments")
async def list_experiments(request: HttpRequest) -> ExperimentsAnswer:
    """The experiments that run, and what their arms are served."""
    return server_of(request).describe_experiments()


@post("/v1/assignments", status_code=200, **read_access(413, 415), tags=["experiments"], operation_id="assignments")
async def assign_units(data: JSONBody[AssignmentsRequest], request: HttpRequest) -> AssignmentsAnswer:
    """The arms of shoppers, visits or requests: what a search of theirs would be served under."""
    server = server_of(request)
    state = server.experiments.state()
    assignments = [
        assign(state, user_id=unit.user_id, session_id=unit.session_id, request_id=unit.request_id)
        for unit in map(server.hash_ids, data.units)
    ]
    return AssignmentsAnswer(
        request_id=context_of(request.scope).request_id,
        assignments=[dict(assignment.arms) for assignment in assignments],
    )


@get("/v1/suggest", **read_access(404), tags=["search"], operation_id="suggest")
async def suggest(
    request: HttpRequest,
    q: Annotated[str, QueryParameter(description="What the shopper typed so far.", max_length=2_000)],
    k: Annotated[int, QueryParameter(ge=1, le=MAX_SUGGESTIONS)] = 8,
    version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None,
) -> SuggestAnswer:
    """Completions: queries that enough different shoppers asked, brands and categories; a slip is forgiven."""
    with server_of(request).models.lease(version) as leased:
        texts = [SuggestedText(text=s.text, source=s.source) for s in leased.suggester.suggest(q, k)]
        return SuggestAnswer(version=leased.name, suggestions=texts)


@get("/v1/catalogue", **read_access(), tags=["search"], operation_id="catalogue")
async def describe_catalogue(request: HttpRequest) -> CatalogueAnswer:
    """What can be asked: columns to filter by, how many items there are, and queries of the log as examples."""
    with server_of(request).models.lease(None) as version:
        columns = [FilterColumn(name=name, kind=kind.value) for name, kind in version.retriever.kinds.items()]
        return CatalogueAnswer(
            version=version.name,
            items=len(version.retriever.snapshot()),
            columns=columns,
            examples=list(version.examples),
        )


@get("/v1/map", **read_access(404), tags=["map"], operation_id="show_map")
async def show_map(
    request: HttpRequest, version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None
) -> MapAnswer:
    """The map of the catalogue's embeddings: near one another on it is near one another to the model."""
    with server_of(request).models.lease(version) as loaded_version:
        return await _run_in(_MAP_THREAD, partial(map_view.draw_map, loaded_version))


@get("/v1/map/place", **read_access(404, 422), tags=["map"], operation_id="place")
async def locate_query(
    request: HttpRequest,
    q: Annotated[str, QueryParameter(description="A query.", min_length=1, max_length=2_000)],
    version: Annotated[str | None, QueryParameter(min_length=1, max_length=64)] = None,
) -> MapPoint:
    """Where a query belongs on the map."""
    with server_of(request).models.lease(version) as loaded_version:
        return await _run_in(_MAP_THREAD, partial(map_view.locate_query, loaded_version, q))


@get("/v1/health", responses=error_responses(), tags=["operations"], operation_id="health")
async def show_health(request: HttpRequest) -> Health:
    """The state of the server; a worker that answers has its versions loaded."""
    server = server_of(request)
    return Health(live=True, ready=True, version=server.models.arms[http.LIVE].name, problems=server.list_problems())


@get("/v1/health/ready", responses=error_responses(), tags=["operations"], operation_id="ready")
async def show_readiness(request: HttpRequest) -> Health:
    """Whether searches are answered."""
    return Health(live=True, ready=True, version=server_of(request).models.arms[http.LIVE].name, problems=[])


@get("/v1/health/live", responses=error_responses(), tags=["operations"], operation_id="live")
async def show_liveness() -> Health:
    """Whether the process lives."""
    return Health(live=True, ready=True, version=None, problems=[])


@get(
    "/metrics", media_type=MediaType.TEXT, responses=error_responses(), tags=["operations"], operation_id="show_metrics"
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
