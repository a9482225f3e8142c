"""Impressions, clicks and orders in files of different shapes are the one table that they were taken from."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.toy import Row, event, log, mine_shop, read, write_csv, write_shop
from mmse.core.config import build, plain_values
from mmse.core.errors import TableError, UsageError
from mmse.schema.stages import Stage
from mmse.sources.tables import EventsConfig

SHOWN = {"request_id": "search", "query": "typed", "position": "rank"}
IMPRESSIONS: dict[str, Any] = {"source": "impressions/*.csv", "columns": SHOWN}
CLICKS: dict[str, Any] = {
    "source": "clicks.jsonl",
    "columns": {"request_id": "search.id", "item_id": "sku", "timestamp": "at", "clicked": True},
}
ORDERS: dict[str, Any] = {
    "source": "orders.parquet",
    "columns": {"user_id": "customer.id", "timestamp": "placed", "ordered": {"column": "quantity", "above": 0}},
}


def shopping_log() -> list[Row]:
    """The toy log, with carts of one item and an item that two requests show to one shopper."""
    rows = [row | {"user_id": f"u{int(row['request_id'][1:]) % 4}"} for row in log(12)]
    return [*rows, event("late", 11.5, "d", 1, Stage.ORDERED, user_id="u1"), event("late", 11.5, "a", 2, user_id="u1")]


def write_sources(folder: Path, rows: list[Row]) -> None:
    """The rows as three files: a CSV of what was shown, JSON Lines of clicks, Parquet of orders without requests."""
    write_shop(folder, rows)
    (folder / "impressions").mkdir()
    shown = [
        {"search": r["request_id"], "timestamp": r["timestamp"], "typed": r["query"], "item_id": r["item_id"]}
        | {"rank": r["position"], "user_id": r["user_id"]}
        for r in rows
    ]
    half = len(shown) // 2
    write_csv(folder / "impressions" / "1.csv", shown[:half])
    write_csv(folder / "impressions" / "2.csv", shown[half:])
    clicks = [
        {"search": {"id": r["request_id"]}, "sku": r["item_id"], "at": str(r["timestamp"] + dt.timedelta(seconds=9))}
        for r in rows
        if r["clicked"]
    ]
    (folder / "clicks.jsonl").write_text("\n".join(json.dumps(click) for click in clicks), "utf-8")
    orders = [
        {"customer": {"id": r["user_id"]}, "item_id": r["item_id"], "quantity": 2}
        | {"placed": r["timestamp"] + dt.timedelta(seconds=50)}
        for r in rows
        if r["ordered"]
    ]
    pq.write_table(pa.Table.from_pylist(orders), folder / "orders.parquet")


def config(*sources: dict[str, Any], **values: Any) -> EventsConfig:
    return build(EventsConfig, {"sources": [*sources], **values}, "shop.toml [events]")


def test_three_files_are_the_one_table(tmp_path: Path) -> None:
    rows = shopping_log()
    write_sources(tmp_path, rows)
    expected_counts = mine_shop(tmp_path).counts
    expected = {name: read(tmp_path, name) for name in ("t*/**/*.parquet", "interactions.parquet", "queries.parquet")}
    counts = mine_shop(tmp_path, events=config(ORDERS, CLICKS, IMPRESSIONS)).counts
    for name, expected_rows in expected.items():
        assert read(tmp_path, name) == expected_rows, name
    assert counts["stages"] == expected_counts["stages"]
    assert counts["stages"]["train"]["ordered"] > 0
    assert {source: part["read"] for source, part in counts["sources"].items()} == {
        "impressions/*.csv": len(rows),
        "clicks.jsonl": sum(row["clicked"] for row in rows),
        "orders.parquet": sum(row["ordered"] for row in rows),
    }


def test_losses_are_counted_by_source(tmp_path: Path) -> None:
    write_sources(tmp_path, shopping_log())
    with (tmp_path / "clicks.jsonl").open("a") as file:
        file.write('\n{"search": {"id": "r1"}, "sku": "nope", "at": "2025-03-01"}\n')
    with pytest.raises(TableError, match=r"1 of 1\d rows of the events table \(clicks.jsonl\) are bad"):
        mine_shop(tmp_path, events=config(IMPRESSIONS, CLICKS, ORDERS))
    lenient = CLICKS | {"max_rejected_share": 0.5}
    counts = mine_shop(tmp_path, events=config(IMPRESSIONS, lenient, ORDERS)).counts
    assert counts["sources"]["clicks.jsonl"]["rejected"] == {"item_id is not in the items table": 1}
    assert counts["sources"]["orders.parquet"]["rejected"] == {}
    assert [row["source"] for row in read(tmp_path, "rejected.parquet")] == ["clicks.jsonl"]


def test_orders_that_no_page_precedes_are_set_aside(tmp_path: Path) -> None:
    write_sources(tmp_path, shopping_log())
    orders = pq.read_table(tmp_path / "orders.parquet").to_pylist()
    late = [order | {"placed": order["placed"] + dt.timedelta(hours=2)} for order in orders[:1]]
    pq.write_table(pa.Table.from_pylist([*orders[1:], *late]), tmp_path / "orders.parquet")
    sources = (IMPRESSIONS, CLICKS, ORDERS | {"max_rejected_share": 0.5})
    counts = mine_shop(tmp_path, events=config(*sources, attribution_hours=1.5, max_rejected_share=0.9)).counts
    (reason,) = counts["sources"]["orders.parquet"]["rejected"]
    assert reason == "no request showed the item to this shopper shortly before"


def test_a_visit_joins_where_shoppers_have_no_id(tmp_path: Path) -> None:
    rows = shopping_log()
    write_sources(tmp_path, rows)
    mine_shop(tmp_path)
    expected = [row["stage"] for row in read(tmp_path, "t*/**/*.parquet")]
    orders = pq.read_table(tmp_path / "orders.parquet").to_pylist()
    orders = [order | {"customer": {"visit": order["customer"]["id"]}} for order in orders]
    pq.write_table(pa.Table.from_pylist(orders), tmp_path / "orders.parquet")
    by_visit = ORDERS | {"columns": ORDERS["columns"] | {"session_id": "customer.visit"}}
    del by_visit["columns"]["user_id"]
    mine_shop(tmp_path, events=config(IMPRESSIONS, CLICKS, by_visit, columns={"session_id": "user_id"}))
    assert [row["stage"] for row in read(tmp_path, "t*/**/*.parquet")] == expected


def test_pages_without_an_id_are_one_request_of_shopper_query_and_time(tmp_path: Path) -> None:
    write_sources(tmp_path, shopping_log())
    mine_shop(tmp_path)
    expected = sorted((row["timestamp"], row["stage"]) for row in read(tmp_path, "t*/**/*.parquet"))
    shown = IMPRESSIONS | {"columns": {"query": "typed", "position": "rank"}}
    clicks = CLICKS | {"source": "clicks.parquet", "columns": {"clicked": True}}
    rows = [row for row in shopping_log() if row["clicked"]]
    columns = ("timestamp", "item_id", "user_id")
    pq.write_table(
        pa.Table.from_pylist([{name: row[name] for name in columns} for row in rows]), tmp_path / "clicks.parquet"
    )
    mine_shop(tmp_path, events=config(shown, clicks, ORDERS))
    assert sorted((row["timestamp"], row["stage"]) for row in read(tmp_path, "t*/**/*.parquet")) == expected


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"source": "clicks.jsonl", "columns": {"item_id": "sku", "clicked": True}}, "has no request_id"),
        ({"source": "clicks.jsonl", "columns": {"item_id": "sku", "request_id": "search.id"}}, "neither shows items"),
        ({"source": "clicks.jsonl", "columns": {"clicked": True}}, "no column 'item_id'"),
        (CLICKS | {"columns": CLICKS["columns"] | {"query": "search.text"}}, "no column 'search.text'"),
        ({"source": "events.parquet", "columns": {"query": "nope"}}, "no column 'nope'"),
    ],
)
def test_what_a_source_lacks_is_named(tmp_path: Path, source: dict[str, Any], said: str) -> None:
    write_sources(tmp_path, shopping_log())
    with pytest.raises(TableError, match=said) as caught:
        mine_shop(tmp_path, events=config(IMPRESSIONS, source))
    assert source["source"] in caught.value.cause


def test_a_log_that_shows_nothing_needs_a_position(tmp_path: Path) -> None:
    write_sources(tmp_path, shopping_log())
    with pytest.raises(TableError, match="No source of the events table shows items"):
        mine_shop(tmp_path, events=config(CLICKS))


def test_actions_in_one_column(tmp_path: Path) -> None:
    """A table with a row for each view, click and order, told apart by a word; a comparison for each of ours."""
    rows = shopping_log()
    write_shop(tmp_path, rows)
    mine_shop(tmp_path)
    expected = read(tmp_path, "t*/**/*.parquet")
    words = [
        {**{k: v for k, v in row.items() if k not in ("clicked", "ordered", "query")}, "action": word}
        | {"details": json.dumps({"query": {"text": row["query"]}})}
        for row in rows
        for word, happened in (("view", True), ("click", row["clicked"]), ("buy", row["ordered"]), ("zoom", True))
        if happened
    ]
    write_csv(tmp_path / "events.csv", words)
    columns: dict[str, Any] = {
        "query": "details.query.text",
        "clicked": {"column": "action", "is": ["click", "buy"]},
        "ordered": {"column": "action", "is": "buy"},
    }
    only: dict[str, Any] = {"column": "action", "is": ["view", "click", "buy"]}
    mine_shop(tmp_path, events=EventsConfig("events.csv", columns, only=only))
    assert read(tmp_path, "t*/**/*.parquet") == expected
    with pytest.raises(TableError, match=r"No row of events\.csv .* has action is shown; found: buy, click"):
        mine_shop(tmp_path, events=EventsConfig("events.csv", columns, only={"column": "action", "is": "shown"}))


def test_a_word_that_no_row_has_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{**row, "action": "buy" if row["ordered"] else "view"} for row in shopping_log()]
    write_shop(tmp_path, rows)
    mine_shop(tmp_path, events=EventsConfig("events.parquet", {"ordered": {"column": "action", "is": "bought"}}))
    assert (
        "No row of events.parquet has action is bought, so that ordered is always false; found: buy, view"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"columns": {"clicked": {"column": "action"}}}, "columns.clicked"),
        ({"columns": {"query": {"column": "action", "is": "x"}}}, "columns.query"),
        ({"columns": {"query": True}}, "columns.query"),
        ({"columns": {"clicked": {"column": "n", "above": "x"}}}, "a number in above"),
        ({"only": {"is": "x"}}, "'only'"),
        ({"format": "xlsx"}, "'format'"),
        ({"sources": [{"source": "a.csv", "colums": {}}]}, "colums"),
        ({"sources": [{"source": "a.csv"}], "source": "b.csv"}, "left out where"),
    ],
)
def test_a_mapping_that_says_nothing_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(EventsConfig, values, "shop.toml [events]")


def test_the_config_stands_in_the_manifest_as_it_was_given() -> None:
    values = plain_values(config(IMPRESSIONS, CLICKS, ORDERS))
    assert values["sources"][1]["columns"] == CLICKS["columns"]
