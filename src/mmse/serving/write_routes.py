"""The HTTP routes that write: edits of items, events, and the version in service. Each needs a token with its scope."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import unquote

from litestar import delete, patch, post, put
from litestar.params import JSONBody, PathParameter

from mmse.catalogue.edits import Change, Delete, Edit, Upsert
from mmse.core.errors import UsageError
from mmse.schema.http_admin import EditAnswer, ItemEdits, SetLiveRequest, VersionsAnswer
from mmse.schema.http_events import EventBatch, EventsAnswer
from mmse.serving.guards import server_of, write_access
from mmse.serving.observability import metrics
from mmse.serving.request_context import HttpRequest, context_of

ItemId = Annotated[str, PathParameter(description="The item_id, percent-encoded.")]


@post(
    "/v1/items", status_code=200, tags=["items"], **write_access("items", 413, 415, 422, 507), operation_id="edit_items"
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
    tags=["items"],
    **write_access("items", 413, 415, 422, 507),
    operation_id="put_item",
)
async def put_item(item_id: ItemId, data: JSONBody[dict[str, Any]], request: HttpRequest) -> EditAnswer:
    """Puts a whole item, new or in place of the one that is there; columns that it leaves out are empty."""
    if data.get("item_id", parse_id(item_id)) != parse_id(item_id):
        raise UsageError(
            f"The path names item '{parse_id(item_id)}', its values item '{data['item_id']}'.",
            "Leave item_id out of the body.",
        )
    return await _apply_edits(request, [Upsert(data | {"item_id": parse_id(item_id)})])


@patch(
    "/v1/items/{item_id:str}",
    status_code=200,
    tags=["items"],
    **write_access("items", 413, 415, 422, 507),
    operation_id="change_item",
)
async def change_item(item_id: ItemId, data: JSONBody[dict[str, Any]], request: HttpRequest) -> EditAnswer:
    """Changes some columns of an item, such as its price; the others stay."""
    return await _apply_edits(request, [Change(parse_id(item_id), data)])


@delete(
    "/v1/items/{item_id:str}",
    status_code=200,
    tags=["items"],
    **write_access("items", 422, 507),
    operation_id="delete_item",
)
async def delete_item(item_id: ItemId, request: HttpRequest) -> EditAnswer:
    """Takes an item out of the catalogue."""
    return await _apply_edits(request, [Delete(parse_id(item_id))])


@post(
    "/v1/events",
    status_code=202,
    tags=["events"],
    **write_access("events", 413, 415, 422, 507),
    operation_id="take_events",
)
async def take_events(data: JSONBody[EventBatch], request: HttpRequest) -> EventsAnswer:
    """Takes in what shoppers saw, clicked and ordered, for the next training; it is on the disk when it answers."""
    server = server_of(request)
    await asyncio.to_thread(server.events.append, [server.hash_ids(event) for event in data.events])
    for event in data.events:
        metrics.events.labels(type(event).__name__.lower()).inc()
    return EventsAnswer(request_id=context_of(request.scope).request_id, accepted=len(data.events))


@post(
    "/v1/versions/live",
    status_code=200,
    tags=["versions"],
    **write_access("admin", 404, 413, 415, 422, 507),
    operation_id="set_live",
)
async def set_live(data: JSONBody[SetLiveRequest], request: HttpRequest) -> VersionsAnswer:
    """Puts a published version into service for an arm: to roll back, or to begin an experiment."""
    server = server_of(request)
    await asyncio.to_thread(server.serve_version, data.arm, data.version, data.note)
    return server.describe_versions()


async def _apply_edits(request: HttpRequest, edits: list[Edit]) -> EditAnswer:
    if not edits:
        raise UsageError("There is no edit in the request.", "Give `upsert`, `change` or `delete`.")
    version, catalogue_state = await asyncio.to_thread(server_of(request).edit, edits)
    return EditAnswer(
        request_id=context_of(request.scope).request_id, applied=len(edits), version=version, catalogue=catalogue_state
    )


def parse_id(encoded: str) -> str:
    """The item id in a route, which `RequestTargets` hands on encoded."""
    return unquote(encoded)
