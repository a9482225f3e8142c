"""One row for each item of a request: the SQL, the obvious way and mining's integers agree."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.toy import DAY
from mmse.mining.requests import ShardRows, furthest_stages, merge_duplicates
from mmse.schema.stages import Stage
from mmse.sources.casting import CARTED, CLICKED, EXPLORED, NO_POSITION, ORDERED, SHOWN
from mmse.sources.merging import merge_rows

Row = dict[str, Any]
COLUMNS = (
    "request_id",
    "item_id",
    "timestamp",
    "position",
    "clicked",
    "carted",
    "ordered",
    "explored",
    "price",
    "user_id",
)
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.timestamp("us")),
        ("position", pa.int32()),
        ("clicked", pa.bool_()),
        ("carted", pa.bool_()),
        ("ordered", pa.bool_()),
        ("explored", pa.bool_()),
        ("price", pa.float64()),
        ("user_id", pa.string()),
    ]
)
flags = st.booleans()
events = st.lists(
    st.fixed_dictionaries(
        {
            "request_id": st.sampled_from(["r0", "r1"]),
            "item_id": st.sampled_from(["0", "1", "2"]),
            "position": st.one_of(st.none(), st.integers(1, 5)),
            "clicked": flags,
            "carted": st.one_of(st.none(), flags),
            "ordered": flags,
            "explored": st.one_of(st.none(), flags),
            "price": st.one_of(st.none(), st.floats(0, 9)),
            "user_id": st.one_of(st.none(), st.sampled_from(["u0", "u1"])),
        }
    ),
    max_size=12,
)


def merge_in_sql(rows: list[Row]) -> dict[tuple[str, str], Row]:
    connection = duckdb.connect()
    connection.register("events", pa.Table.from_pylist(rows, SCHEMA))
    merged = connection.sql(merge_rows("events", COLUMNS)).to_arrow_table().to_pylist()
    by_key = {(row["request_id"], row["item_id"]): row for row in merged}
    assert len(by_key) == len(merged)
    return by_key


def merge_slowly(rows: list[Row]) -> dict[tuple[str, str], Row]:
    by_key: dict[tuple[str, str], Row] = {}
    for key in {(row["request_id"], row["item_id"]) for row in rows}:
        group = [row for row in rows if (row["request_id"], row["item_id"]) == key]
        shown_rows = sorted((r for r in group if r["position"]), key=lambda r: (r["timestamp"], r["position"]))
        if not shown_rows:
            continue
        prices = [row["price"] for row in group if row["price"] is not None]
        users = [row["user_id"] for row in shown_rows if row["user_id"] is not None]
        by_key[key] = {
            "request_id": key[0],
            "item_id": key[1],
            "timestamp": shown_rows[0]["timestamp"],
            "position": min(row["position"] for row in shown_rows),
            "clicked": any(row["clicked"] or row["carted"] or row["ordered"] for row in group),
            "carted": any(row["carted"] for row in group),
            "ordered": any(row["ordered"] for row in group),
            "explored": any(row["explored"] for row in group),
            "price": max(prices) if prices else None,
            "user_id": users[0] if users else None,
        }
    return by_key


def merge_in_integers(rows: list[Row]) -> dict[tuple[str, str], tuple[Stage, int, bool]]:
    """The furthest stage, the position and whether it was explored, as mining finds them."""
    bits = {"clicked": CLICKED, "carted": CARTED, "ordered": ORDERED, "explored": EXPLORED}
    table = [
        (
            int(row["request_id"][1]),
            row["position"] or NO_POSITION,
            int(row["item_id"]),
            sum(bit for name, bit in bits.items() if row[name]) + (SHOWN if row["position"] else 0),
        )
        for row in rows
    ]
    request, position, item, flag = np.array(sorted(table), np.int64).reshape(-1, 4).T
    shard = ShardRows(request.astype(np.int32), item.astype(np.int32), position.astype(np.int32), flag.astype(np.int8))
    merged = merge_duplicates(shard)
    stages = furthest_stages(merged.flags)
    return {
        (f"r{merged.request_no[i]}", str(merged.item_row[i])): (
            Stage(int(stages[i])),
            int(merged.position[i]),
            bool(merged.flags[i] & EXPLORED),
        )
        for i in range(len(stages))
        if merged.flags[i] & SHOWN
    }


@settings(deadline=None)
@given(events)
def test_sql_and_integers_merge_as_the_obvious_way_does(rows: list[Row]) -> None:
    rows = [{**row, "timestamp": DAY + dt.timedelta(minutes=(7 * i) % 5, seconds=i)} for i, row in enumerate(rows)]
    merged = merge_in_sql(rows)
    assert merged == merge_slowly(rows)
    stages = {}
    for key, row in merged.items():
        names = [name for name in ("clicked", "carted", "ordered") if row[name]]
        stage = Stage[names[-1].upper()] if names else Stage.UNCLICKED
        stages[key] = (stage, row["position"], row["explored"])
    assert stages == merge_in_integers(rows)
