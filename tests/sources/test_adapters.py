"""Logs in published formats, made to their schemas, are the table that they were made from."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.toy import Row, log, mine_shop, read, write_shop
from mmse.core.config import build
from mmse.sources.tables import EventsConfig


def requests(rows: list[Row]) -> dict[str, list[Row]]:
    pages: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["position"]):
        pages.setdefault(row["request_id"], []).append(row)
    return pages


def write_lines(path: Path, documents: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(document) for document in documents), "utf-8")


def config(*sources: dict[str, Any]) -> EventsConfig:
    return build(EventsConfig, {"sources": [*sources]}, "shop.toml [events]")


def test_opensearch_ubi(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = log(12)
    write_shop(tmp_path, rows)
    mine_shop(tmp_path)
    expected = read(tmp_path, "t*/**/*.parquet")
    queries = [
        {
            "application": "shop",
            "query_id": request,
            "client_id": page[0]["user_id"],
            "user_query": page[0]["query"],
            "timestamp": page[0]["timestamp"].isoformat() + "Z",
            "object_id_field": "item_id",
            "query_response_hit_ids": [row["item_id"] for row in page],
        }
        for request, page in requests(rows).items()
    ]
    events = [
        {
            "action_name": action,
            "query_id": row["request_id"],
            "client_id": row["user_id"],
            "timestamp": (row["timestamp"] + dt.timedelta(seconds=5)).isoformat() + "Z",
            "event_attributes": {
                "object": {"object_id": row["item_id"], "object_id_field": "item_id"},
                "position": {"ordinal": row["position"]},
            },
        }
        for row in rows
        for action, happened in (("click", row["clicked"]), ("purchase", row["ordered"]), ("product_hover", True))
        if happened
    ]
    write_lines(tmp_path / "queries.jsonl", [{"_index": "ubi_queries", "_source": query} for query in queries])
    write_lines(tmp_path / "ubi_events.jsonl", events)
    mine_shop(
        tmp_path,
        events=config(
            {"source": "queries.jsonl", "format": "ubi_queries"}, {"source": "ubi_events.jsonl", "format": "ubi_events"}
        ),
    )
    assert read(tmp_path, "t*/**/*.parquet") == expected
    assert f"{len(rows)} product_hover" in caplog.text


def ga4_event(name: str, row: Row, items: list[Row], seconds: int = 0, **parameters: str | int) -> dict[str, Any]:
    """An event as BigQuery exports it; numbers of 64 bits are text in JSON."""
    moment = row["timestamp"].replace(tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    values = {"ga_session_id": 1} | parameters
    return {
        "event_name": name,
        "event_timestamp": int(moment.timestamp() * 1e6),
        "user_pseudo_id": row["user_id"],
        "event_params": [
            {
                "key": key,
                "value": {
                    "string_value": value if isinstance(value, str) else None,
                    "int_value": None if isinstance(value, str) else value,
                },
            }
            for key, value in values.items()
        ],
        "items": [
            {"item_id": item["item_id"], "item_name": "x", "item_list_index": item["position"] - 1, "price": 9.5}
            for item in items
        ],
    }


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_google_analytics_4(tmp_path: Path, form: str) -> None:
    rows = log(12)
    write_shop(tmp_path, rows)
    mine_shop(tmp_path)
    columns = ("timestamp", "query", "user_id", "item_row", "position", "stage")
    expected = sorted([[row[name] for name in columns] for row in read(tmp_path, "t*/**/*.parquet")], key=str)
    events = []
    for page in requests(rows).values():
        events.append(ga4_event("view_item_list", page[0], page, -60, item_list_name="Home page"))
        events.append(ga4_event("view_search_results", page[0], [], -1, search_term=page[0]["query"]))
        events.append(ga4_event("view_item_list", page[0], page, item_list_id="search_results"))
        for row in page:
            events += [ga4_event("select_item", row, [row], 4)] if row["clicked"] else []
            events += [ga4_event("purchase", row, [row], 30)] if row["ordered"] else []
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(events), tmp_path / "ga4.parquet")
    else:
        texts = [event | {"event_timestamp": str(event["event_timestamp"])} for event in events]
        write_lines(tmp_path / "ga4.jsonl", texts)
    both = [{"source": f"ga4.{form}", "format": kind} for kind in ("ga4_lists", "ga4_actions")]
    counts = mine_shop(tmp_path, events=config(*both)).counts
    mined = sorted([[row[name] for name in columns] for row in read(tmp_path, "t*/**/*.parquet")], key=str)
    assert mined == expected
    assert list(counts["sources"]) == [f"ga4.{form}, number 1", f"ga4.{form}, number 2"]
