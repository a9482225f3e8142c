"""Days of a small shop, good ones and poisoned ones, as tables that a cycle takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmse.shop import Shop

Tables = tuple[pa.Table, pa.Table]


def write_shop(folder: Path, shop: Shop, change: Callable[[pa.Table, pa.Table], Tables]) -> Path:
    """The shop with other tables: items and events as `change` makes them."""
    items = pq.read_table(shop.base / "items.parquet")
    events = pq.read_table(shop.base / "events")
    items, events = change(items, events)
    (folder / "events").mkdir(parents=True)
    pq.write_table(items, folder / "items.parquet")
    pq.write_table(events, folder / "events" / "log.parquet")
    (folder / "shop.toml").write_text(shop.path.read_text("utf-8"), "utf-8")
    shutil.copytree(shop.base / "truth", folder / "truth")
    return folder / "shop.toml"


def newest_day(events: pa.Table, n: int, days: float) -> pa.Table:
    """`events`, and their last `n` requests once more, all within the hours before a moment `days` after the end."""
    times = events.group_by("request_id").aggregate([("timestamp", "min")]).sort_by("timestamp_min")
    rows = events.filter(pc.is_in(events["request_id"], times["request_id"].slice(len(times) - n)))
    end, kind = pc.max(events["timestamp"]).as_py() + timedelta(days=days), rows.schema.field("timestamp").type
    minutes = pc.index_in(rows["request_id"], times["request_id"].slice(len(times) - n)).to_pylist()
    moments = pa.array([end - timedelta(minutes=minute) for minute in minutes]).cast(kind)
    ids = pc.binary_join_element_wise(rows["request_id"], "again", "-")
    for name, values in {"timestamp": moments, "request_id": ids}.items():
        rows = rows.set_column(rows.column_names.index(name), name, values.cast(rows.schema.field(name).type))
    return pa.concat_tables([events, rows])


def clicks_on_one(items: pa.Table, events: pa.Table) -> Tables:
    """A day on which every click is on one item."""
    grown = newest_day(events, 400, 1)
    newest = pc.ends_with(grown["request_id"], "-again")
    clicked = pc.and_(newest, grown["clicked"])
    item_ids = pc.if_else(clicked, "i00000007", grown["item_id"])
    return items, grown.set_column(grown.column_names.index("item_id"), "item_id", item_ids)


POISONS: dict[str, tuple[Callable[[pa.Table, pa.Table], Tables], str]] = {
    "one_item": (clicks_on_one, "of the clicks are on item 'i00000007'"),
    "items_gone": (lambda items, events: (items.slice(0, 200), events), "of 400 served items (50%) are gone"),
    "prices": (
        lambda items, events: (
            items.set_column(items.column_names.index("price"), "price", pc.multiply(items["price"], 100.0)),
            events,
        ),
        "the median price is 100 times the former",
    ),
    "late_requests": (
        lambda items, events: (items, newest_day(events, 300, -40)),
        "300 of 300 requests that came since the last version are dated before the end of its log",
    ),
    "rejected_rows": (
        lambda items, events: (items, newest_day(events, 60, 4000)),
        "rows since the last version (100%) are bad and set aside",
    ),
}
