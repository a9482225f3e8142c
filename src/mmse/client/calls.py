"""The calls of the server, one function each; it checks a call against `mmse.schema` before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import msgspec

from mmse.core.errors import UsageError
from mmse.schema import http, http_admin, http_events
from mmse.schema.search import Channel

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One HTTP request and the type of its answer.

    `is_repeatable`: sending it twice has the effect of sending it once, so that it may be tried again.
    `answer_statuses` are the statuses that carry an answer, not an error.
    """

    method: str
    path: str
    answer_type: type[T]
    body: Any = None
    params: Mapping[str, str] | None = None
    is_repeatable: bool = True
    answer_statuses: frozenset[int] = frozenset({200, 201, 202})


class SearchFields(TypedDict, total=False):
    """The fields of `http.SearchRequest` besides `query` and `k`."""

    user_id: str | None
    history: Sequence[str] | None
    filter: Mapping[str, Any] | None
    channel: Channel
    min_probability: float
    target_precision: float | None
    caps: Mapping[str, int]
    boosts: Sequence[Mapping[str, Any] | http.FilterBoost]
    facets: Sequence[str]
    offset: int
    sort: str | None
    correct: bool
    all_variants: bool
    explain: bool
    version: str | None
    session_id: str | None
    shown: int | None
    timeout_ms: int | None


def search(query: str, k: int = 10, **fields: Unpack[SearchFields]) -> Call[http.SearchAnswer]:
    """The best `k` items for a query; `fields` are those of `http.SearchRequest`."""
    body = _convert({"query": query, "k": k, **fields}, http.SearchRequest)
    return Call(method="POST", path="v1/search", body=body, answer_type=http.SearchAnswer)


def batch(searches: Sequence[str | Mapping[str, Any] | http.SearchRequest]) -> Call[http.BatchAnswer]:
    """Several searches at once, each a query or all fields of one; one that fails leaves the others alone."""
    requests = [{"query": search} if isinstance(search, str) else search for search in searches]
    body = _convert({"searches": requests}, http.SearchBatch)
    return Call(method="POST", path="v1/search/batch", body=body, answer_type=http.BatchAnswer)


def embed(
    queries: Sequence[str],
    *,
    user_id: str | None = None,
    history: Sequence[str] | None = None,
    version: str | None = None,
) -> Call[http.EmbedAnswer]:
    """Fused vectors of queries, in their order."""
    fields = {"queries": queries, "user_id": user_id, "history": history, "version": version}
    return Call(method="POST", path="v1/embed", body=_convert(fields, http.EmbedRequest), answer_type=http.EmbedAnswer)


def edit_items(
    *,
    upsert: Sequence[Mapping[str, Any]] = (),
    change: Mapping[str, Mapping[str, Any]] | None = None,
    delete: Sequence[str] = (),
) -> Call[http_admin.EditAnswer]:
    """Edits, of which all are applied or none: whole items, columns by item id, ids to delete.

    They are on the disk when the call returns.
    """
    changes = [{"item_id": item_id, "values": values} for item_id, values in (change or {}).items()]
    body = _convert({"upsert": upsert, "change": changes, "delete": delete}, http_admin.ItemEdits)
    return Call(
        method="POST", path="v1/items", body=body, answer_type=http_admin.EditAnswer, is_repeatable=not body.delete
    )


def put_item(item_id: str, values: Mapping[str, Any]) -> Call[http_admin.EditAnswer]:
    """A whole item, new or replacing the one with its id; a column that is left out is empty."""
    body = _to_builtins(values)
    return Call(method="PUT", path=_item_path(item_id), body=body, answer_type=http_admin.EditAnswer)


def change_item(item_id: str, values: Mapping[str, Any]) -> Call[http_admin.EditAnswer]:
    """Some columns of an item; the others stay."""
    body = _to_builtins(values)
    return Call(method="PATCH", path=_item_path(item_id), body=body, answer_type=http_admin.EditAnswer)


def delete_item(item_id: str) -> Call[http_admin.EditAnswer]:
    """Removes an item. Never tried again automatically: the second time the item would not be found."""
    return Call(method="DELETE", path=_item_path(item_id), answer_type=http_admin.EditAnswer, is_repeatable=False)


def item(item_id: str) -> Call[http_admin.ItemAnswer]:
    """An item as it is in the live version."""
    return Call(method="GET", path=_item_path(item_id), answer_type=http_admin.ItemAnswer)


def send_events(
    events: Sequence[http_events.Exposure | http_events.Click | http_events.Cart | http_events.Order],
) -> Call[http_events.EventsAnswer]:
    """What shoppers saw and did; on the disk when the call returns. Never tried again: it would count twice."""
    body = _convert({"events": events}, http_events.EventBatch)
    return Call(method="POST", path="v1/events", body=body, answer_type=http_events.EventsAnswer, is_repeatable=False)


def versions() -> Call[http_admin.VersionsAnswer]:
    """The served versions and their arms."""
    return Call(method="GET", path="v1/versions", answer_type=http_admin.VersionsAnswer)


def set_live(version: str, *, arm: str = http.LIVE, note: str = "") -> Call[http_admin.VersionsAnswer]:
    """Makes an arm serve a version from now on; give a former version to roll back."""
    body = _convert({"version": version, "arm": arm, "note": note}, http_admin.SetLiveRequest)
    return Call(
        method="POST", path="v1/versions/live", body=body, answer_type=http_admin.VersionsAnswer, is_repeatable=False
    )


def experiments() -> Call[http_admin.ExperimentsAnswer]:
    """The running experiments and the settings of their arms."""
    return Call(method="GET", path="v1/experiments", answer_type=http_admin.ExperimentsAnswer)


def assignments(units: Sequence[Mapping[str, str] | http_admin.UnitIds]) -> Call[http_admin.AssignmentsAnswer]:
    """The arms of each unit, by experiment: `{"user_id": …}`, `{"session_id": …}`, `{"request_id": …}` or several."""
    body = _convert({"units": units}, http_admin.AssignmentsRequest)
    return Call(method="POST", path="v1/assignments", body=body, answer_type=http_admin.AssignmentsAnswer)


def suggest(typed: str, k: int = 8, *, version: str | None = None) -> Call[http.SuggestAnswer]:
    """At most `k` completions of what a shopper typed so far."""
    params = _params(q=typed, k=str(k), version=version)
    return Call(method="GET", path="v1/suggest", params=params, answer_type=http.SuggestAnswer)


def catalogue() -> Call[http.CatalogueAnswer]:
    """The columns that can be filtered and counted in the live version, its number of items, and queries to try."""
    return Call(method="GET", path="v1/catalogue", answer_type=http.CatalogueAnswer)


def item_map(*, version: str | None = None) -> Call[http.MapAnswer]:
    """The map of the catalogue in two dimensions."""
    return Call(method="GET", path="v1/map", params=_params(version=version), answer_type=http.MapAnswer)


def map_place(query: str, *, version: str | None = None) -> Call[http.MapPoint]:
    """The point of a query on that map."""
    return Call(method="GET", path="v1/map/place", params=_params(q=query, version=version), answer_type=http.MapPoint)


def health() -> Call[http.Health]:
    """Whether the server is ready; a server that is not ready answers as well."""
    return Call(
        method="GET",
        path="v1/health",
        answer_type=http.Health,
        answer_statuses=frozenset({200, 503}),
        is_repeatable=False,
    )


def _convert(fields: Mapping[str, object], kind: type[T]) -> T:
    """`fields` as the struct `kind`; raises `UsageError` where the server would refuse them."""
    try:
        return msgspec.convert(_to_builtins(fields), kind)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"The server would refuse this call: {error}.",
            f"The fields and their limits are in {kind.__module__}.{kind.__name__}.",
        ) from error


def _to_builtins(fields: Mapping[str, object]) -> dict[str, Any]:
    """`fields` as plain JSON values; raises `UsageError` where there is no such value."""
    try:
        values: dict[str, Any] = msgspec.to_builtins(fields)
    except TypeError as error:
        raise UsageError(f"JSON cannot carry this call: {error}.", "Send text, numbers, true or false.") from error
    return values


def _item_path(item_id: str) -> str:
    part = quote(item_id, safe="")
    return f"v1/items/{part.replace('.', '%2E') if part in ('.', '..') else part}"  # dots alone would be folders


def _params(**params: str | None) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}
