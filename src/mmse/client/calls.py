"""What can be called: functions that make a `Call`, checked against `mmse.schema.http` before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import msgspec

from mmse.core.errors import UsageError
from mmse.schema import http as api
from mmse.schema.search import Channel

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One call: what is sent where, and what is answered.

    `repeatable`: sent twice it does what it does once, so that it may be tried again. `answered_by` are statuses that
    carry an answer and no failure.
    """

    method: str
    path: str
    answer: type[T]
    body: Any = None
    params: Mapping[str, str] | None = None
    repeatable: bool = True
    answered_by: frozenset[int] = frozenset({200, 201, 202})


class SearchFields(TypedDict, total=False):
    """The fields of `api.SearchRequest` beside `query` and `k`."""

    user_id: str | None
    history: Sequence[str] | None
    filter: Mapping[str, Any] | None
    channel: Channel
    min_probability: float
    target_precision: float | None
    caps: Mapping[str, int]
    boosts: Sequence[Mapping[str, Any] | api.Boost]
    facets: Sequence[str]
    explain: bool
    version: str | None
    session_id: str | None
    shown: int | None
    timeout_ms: int | None


def search(query: str, k: int = 10, **fields: Unpack[SearchFields]) -> Call[api.SearchAnswer]:
    """The best `k` items for a query; `fields` are those of `api.SearchRequest`."""
    body = _checked({"query": query, "k": k, **fields}, api.SearchRequest)
    return Call(method="POST", path="v1/search", body=body, answer=api.SearchAnswer)


def batch(searches: Sequence[str | Mapping[str, Any] | api.SearchRequest]) -> Call[api.BatchAnswer]:
    """Several searches at once, each a query or all fields of one; one that fails leaves the others alone."""
    asked = [{"query": one} if isinstance(one, str) else one for one in searches]
    body = _checked({"searches": asked}, api.SearchBatch)
    return Call(method="POST", path="v1/search/batch", body=body, answer=api.BatchAnswer)


def embed(
    queries: Sequence[str],
    *,
    user_id: str | None = None,
    history: Sequence[str] | None = None,
    version: str | None = None,
) -> Call[api.Vectors]:
    """Fused vectors of queries, in their order."""
    fields = {"queries": queries, "user_id": user_id, "history": history, "version": version}
    return Call(method="POST", path="v1/embed", body=_checked(fields, api.EmbedRequest), answer=api.Vectors)


def edit_items(
    *,
    upsert: Sequence[Mapping[str, Any]] = (),
    change: Mapping[str, Mapping[str, Any]] | None = None,
    delete: Sequence[str] = (),
) -> Call[api.Edited]:
    """Edits, taken in all or none: whole items, columns by item id, ids to delete.

    They are on the disk when it returns.
    """
    changes = [{"item_id": item_id, "values": values} for item_id, values in (change or {}).items()]
    body = _checked({"upsert": upsert, "change": changes, "delete": delete}, api.ItemEdits)
    return Call(method="POST", path="v1/items", body=body, answer=api.Edited, repeatable=not body.delete)


def put_item(item_id: str, values: Mapping[str, Any]) -> Call[api.Edited]:
    """A whole item, new or in place of the one with its id; a column that is left out is empty."""
    body = _plain(values)
    return Call(method="PUT", path=_item_path(item_id), body=body, answer=api.Edited)


def change_item(item_id: str, values: Mapping[str, Any]) -> Call[api.Edited]:
    """Some columns of an item; the others stay."""
    body = _plain(values)
    return Call(method="PATCH", path=_item_path(item_id), body=body, answer=api.Edited)


def delete_item(item_id: str) -> Call[api.Edited]:
    """An item taken out. Never tried again by itself: a second time it would not be found."""
    return Call(method="DELETE", path=_item_path(item_id), answer=api.Edited, repeatable=False)


def item(item_id: str) -> Call[api.Item]:
    """An item as it is in the live version."""
    return Call(method="GET", path=_item_path(item_id), answer=api.Item)


def send_events(events: Sequence[api.Exposure | api.Click | api.Cart | api.Order]) -> Call[api.Accepted]:
    """What shoppers saw and did, on the disk when it returns. Never tried again by itself: it would count twice."""
    body = _checked({"events": events}, api.Events)
    return Call(method="POST", path="v1/events", body=body, answer=api.Accepted, repeatable=False)


def versions() -> Call[api.Versions]:
    """The versions that are served and by which arms."""
    return Call(method="GET", path="v1/versions", answer=api.Versions)


def set_live(version: str, *, arm: str = api.LIVE, note: str = "") -> Call[api.Versions]:
    """Lets an arm serve a version from now on; a former version rolls back."""
    body = _checked({"version": version, "arm": arm, "note": note}, api.LiveVersion)
    return Call(method="POST", path="v1/versions/live", body=body, answer=api.Versions, repeatable=False)


def experiments() -> Call[api.ExperimentsAnswer]:
    """The experiments that run, and what their arms are served."""
    return Call(method="GET", path="v1/experiments", answer=api.ExperimentsAnswer)


def assignments(units: Sequence[Mapping[str, str] | api.Units]) -> Call[api.AssignmentsAnswer]:
    """The arms of each unit, by experiment: `{"user_id": …}`, `{"session_id": …}`, `{"request_id": …}` or several."""
    body = _checked({"units": units}, api.AssignmentsRequest)
    return Call(method="POST", path="v1/assignments", body=body, answer=api.AssignmentsAnswer)


def catalogue() -> Call[api.CatalogueAnswer]:
    """What can be filtered and counted in the live version, how many items it has, queries to try."""
    return Call(method="GET", path="v1/catalogue", answer=api.CatalogueAnswer)


def item_map(*, version: str | None = None) -> Call[api.MapAnswer]:
    """The catalogue drawn in two dimensions."""
    return Call(method="GET", path="v1/map", params=_given(version=version), answer=api.MapAnswer)


def map_place(query: str, *, version: str | None = None) -> Call[api.MapPlace]:
    """Where on that map a query belongs."""
    return Call(method="GET", path="v1/map/place", params=_given(q=query, version=version), answer=api.MapPlace)


def health() -> Call[api.Health]:
    """Whether the server is ready; an answer where it is not, too."""
    return Call(method="GET", path="v1/health", answer=api.Health, answered_by=frozenset({200, 503}), repeatable=False)


def _checked(fields: Mapping[str, object], kind: type[T]) -> T:
    """`fields` as what the server takes; raises `UsageError` before anything is sent."""
    try:
        return msgspec.convert(_plain(fields), kind)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"The server would refuse this call: {error}.",
            f"The fields and their limits are in mmse.schema.http.{kind.__name__}.",
        ) from error


def _plain(fields: Mapping[str, object]) -> dict[str, Any]:
    """`fields` as JSON has them; raises `UsageError` for what it has not."""
    try:
        plain: dict[str, Any] = msgspec.to_builtins(fields)
    except TypeError as error:
        raise UsageError(f"JSON cannot carry this call: {error}.", "Send text, numbers, true or false.") from error
    return plain


def _item_path(item_id: str) -> str:
    return f"v1/items/{quote(item_id, safe='')}"


def _given(**params: str | None) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}
