"""A toy shop small enough to be mined by hand, and the slow obvious version of what mining should find."""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.artifact import Manifest
from mmse.mining.mine import MineConfig, mine_log
from mmse.schema.stages import Stage
from mmse.sources.tables import EventsConfig, ItemsConfig

Row = dict[str, Any]
DAY = dt.datetime(2025, 3, 1)

ITEMS: list[Row] = [
    {"item_id": "a", "title": "Red shoe 👟", "category": "shoes > red", "brand": "Acme", "price": 10.0},
    {"item_id": "b", "title": "Blue shoe", "category": "shoes > blue", "brand": "Acme", "price": 20.0},
    {"item_id": "c", "title": "靴", "category": "shoes", "brand": None, "price": None},
    {"item_id": "d", "title": "Never shown", "category": None, "brand": "Other", "price": 1.5},
]


def event(
    request: str, minute: float, item: str, position: int, stage: Stage = Stage.UNCLICKED, **values: object
) -> Row:
    """One row of the events table; an ordered item was clicked, too."""
    row: Row = {
        "request_id": request,
        "timestamp": DAY + dt.timedelta(minutes=minute),
        "query": "Red  Shoe ",
        "item_id": item,
        "position": position,
        "clicked": stage >= Stage.CLICKED,
        "ordered": stage >= Stage.ORDERED,
        "user_id": f"user of {request}",
        "explored": False,
    }
    return {**row, **values}


def log(requests: int = 10) -> list[Row]:
    """`requests` requests a minute apart: a (clicked at even minutes), b and, at every third, c (ordered)."""
    rows = []
    for minute in range(requests):
        rows.append(event(f"r{minute}", minute, "a", 1, Stage.CLICKED if minute % 2 == 0 else Stage.UNCLICKED))
        rows.append(event(f"r{minute}", minute, "b", 2))
        if minute % 3 == 0:
            rows.append(event(f"r{minute}", minute, "c", 3, Stage.ORDERED))
    return rows


def write_shop(folder: Path, events: list[Row], items: list[Row] | None = None) -> None:
    """Both tables as Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(items if items is not None else ITEMS), folder / "items.parquet")
    pq.write_table(pa.Table.from_pylist(events), folder / "events.parquet")


def write_csv(path: Path, rows: list[Row], delimiter: str = ",") -> None:
    """One table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def mine_shop(
    folder: Path,
    *,
    items: ItemsConfig | None = None,
    events: EventsConfig | None = None,
    config: MineConfig | None = None,
    target: Path | None = None,
) -> Manifest:
    """Mines the tables of `folder` into `folder/dataset`."""
    return mine_log(
        items or ItemsConfig(),
        events or EventsConfig("events.parquet"),
        config or MineConfig(periods=2, valid_share=0.2, test_share=0.2, shards=2, threads=2, memory_limit="500MB"),
        target or folder / "dataset",
        base=folder,
    )


def read(folder: Path, pattern: str) -> list[Row]:
    """The rows of a file or glob below `folder/dataset`."""
    path = str(folder / "dataset" / pattern)
    table = duckdb.read_parquet(path, hive_partitioning=False).to_arrow_table()
    rows: list[Row] = table.to_pylist()
    return rows


def mine_obviously(events: list[Row], items: list[Row]) -> dict[str, Row]:
    """Request id to its timestamp, query, user and `rows`: item_id to (stage, position), the slow obvious way."""
    item_ids = {item["item_id"] for item in items}
    requests: dict[str, Row] = {}
    rows = [row for row in events if row["item_id"] in item_ids]
    rows.sort(key=lambda row: (row["timestamp"], row["position"], row["query"], row["user_id"]))
    for row in rows:
        request = requests.setdefault(
            row["request_id"],
            {
                "timestamp": row["timestamp"],
                "query": " ".join(row["query"].lower().split()),
                "user_id": row["user_id"],
                "rows": {},
            },
        )
        stage = Stage.ORDERED if row["ordered"] else Stage.CLICKED if row["clicked"] else Stage.UNCLICKED
        former = request["rows"].get(row["item_id"], (Stage.RANDOM, 1_000_000))
        request["rows"][row["item_id"]] = (max(stage, former[0]), min(row["position"], former[1]))
    return requests
