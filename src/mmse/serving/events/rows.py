"""What was shown and what shoppers did, as rows of the events table.

One row for each item shown. A click, a cart or an order that comes later is a row of its own, with neither query nor
position, which mining joins to the row that shows the item.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mmse.core.errors import UsageError
from mmse.schema.columns import EVENT_COLUMNS, ColumnType
from mmse.schema.http_events import Cart, Click, Exposure, Order

_ARROW_TYPES = {
    ColumnType.TEXT: pa.string(),
    ColumnType.NUMBER: pa.float64(),
    ColumnType.WHOLE: pa.int32(),
    ColumnType.FLAG: pa.bool_(),
    ColumnType.TIME: pa.timestamp("us"),
    ColumnType.TEXTS: pa.map_(pa.string(), pa.string()),
}
SCHEMA = pa.schema(
    [(column.name, _ARROW_TYPES[column.type]) for column in EVENT_COLUMNS if column.name != "retrieved_only"]
)
"""The columns of the events table; a server logs only what it shows."""

Event = Exposure | Click | Cart | Order


@dataclass(frozen=True)
class ExposureRecord:
    """The items that a request was shown, in the order of the page; lists are by item, None where they do not apply.

    `timestamp` is in seconds since 1970. `propensities` are the chances that an item stood at its position, before that
    was drawn. `teams`, `ranks_a` and `ranks_b` are of two interleaved lists.
    """

    request_id: str
    timestamp: float
    query: str
    item_ids: Sequence[str]
    first_position: int = 1
    user_id: str | None = None
    session_id: str | None = None
    version: str | None = None
    arm: str | None = None
    assignments: Mapping[str, str] = field(default_factory=dict)
    explored: Sequence[bool] | None = None
    propensities: Sequence[float | None] | None = None
    teams: Sequence[str | None] | None = None
    ranks_a: Sequence[int | None] | None = None
    ranks_b: Sequence[int | None] | None = None


def check_events(events: Sequence[Event]) -> None:
    """Raises `UsageError` for an exposure whose lists do not fit its items."""
    for number, event in enumerate(events):
        if not isinstance(event, Exposure):
            continue
        for name in ("propensities", "teams", "ranks_a", "ranks_b"):
            values = getattr(event, name)
            if values is not None and len(values) != len(event.items):
                raise UsageError(
                    f"events[{number}]: '{name}' has {len(values)} entries, 'items' has {len(event.items)}.",
                    "Give one for each item, null where there is none.",
                )
        if event.explored and max(event.explored) >= len(event.items):
            raise UsageError(
                f"events[{number}]: 'explored' names place {max(event.explored)}, 'items' has {len(event.items)}.",
                "Count places from 0.",
            )


def build_batch(events: Sequence[Event | ExposureRecord]) -> pa.RecordBatch:
    """The rows of `events`, with the columns of `SCHEMA`; an event without a timestamp happens at this moment."""
    received_at = time.time()
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for event in events:
        if isinstance(event, (ExposureRecord, Exposure)):
            exposure = event if isinstance(event, ExposureRecord) else _exposure_record(event, received_at)
            request_values, item_values, n = _exposure_columns(exposure)
        else:
            request_values, item_values, n = _action_values(event, received_at), {}, 1
        for name, column in columns.items():  # column by column: a page of ten costs as much as two single rows
            column += item_values[name] if name in item_values else [request_values.get(name)] * n
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def _exposure_columns(exposure: ExposureRecord) -> tuple[dict[str, Any], dict[str, Sequence[Any]], int]:
    """The values that all rows share, the columns with a value for each item, and the number of items."""
    n = len(exposure.item_ids)
    request_values = {
        "request_id": exposure.request_id,
        "timestamp": _microseconds(exposure.timestamp),
        "query": exposure.query,
        "clicked": False,
        "carted": False,
        "ordered": False,
        "explored": False,
        "user_id": exposure.user_id,
        "session_id": exposure.session_id,
        "version": exposure.version,
        "arm": exposure.arm,
        "assignments": list(exposure.assignments.items()) or None,
    }
    lists = {
        "explored": exposure.explored,
        "propensity": exposure.propensities,
        "team": exposure.teams,
        "rank_a": exposure.ranks_a,
        "rank_b": exposure.ranks_b,
    }
    item_values: dict[str, Sequence[Any]] = {name: values for name, values in lists.items() if values is not None}
    positions = range(exposure.first_position, exposure.first_position + n)
    return request_values, item_values | {"item_id": exposure.item_ids, "position": positions}, n


def _action_values(event: Click | Cart | Order, received_at: float) -> dict[str, Any]:
    return {
        "request_id": event.request_id,
        "item_id": event.item_id,
        "clicked": True,
        "carted": isinstance(event, Cart),
        "ordered": isinstance(event, Order),
        "price": event.price if isinstance(event, Order) else None,
        "timestamp": _microseconds(received_at if event.timestamp is None else event.timestamp),
        "explored": False,
    }


def _exposure_record(event: Exposure, received_at: float) -> ExposureRecord:
    explored = set(event.explored)
    return ExposureRecord(
        request_id=event.request_id,
        timestamp=received_at if event.timestamp is None else event.timestamp,
        query=event.query,
        item_ids=event.items,
        first_position=event.first_position,
        user_id=event.user_id,
        session_id=event.session_id,
        version=event.version,
        arm=event.arm,
        assignments=event.assignments,
        explored=[index in explored for index in range(len(event.items))] if explored else None,
        propensities=event.propensities,
        teams=event.teams,
        ranks_a=event.ranks_a,
        ranks_b=event.ranks_b,
    )


def _microseconds(timestamp: float) -> int:
    return round(timestamp * 1e6)
