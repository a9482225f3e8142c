"""Large files of JSON lines: their columns are those of parts of them, and no value of another is lost in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mining.toy import mine_shop, read
from mmse.core.errors import TableError
from mmse.sources import json_samples
from mmse.sources.casting import RARE_COLUMN
from mmse.sources.tables import EventsConfig, ItemsConfig, open_events, open_items

N_REQUESTS = 400


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of any size are large, and 16 parts of a few lines are looked at."""
    monkeypatch.setattr(json_samples, "WHOLE_BYTES", 0)
    monkeypatch.setattr(json_samples, "PARTS", 16)
    monkeypatch.setattr(json_samples, "PART_BYTES", 400)


def event(request: int, **more: object) -> dict[str, Any]:
    row = {"request_id": f"r{request}", "timestamp": 1_770_000_000 + 60 * request, "query": "mug", "item_id": "i1"}
    return row | {"position": 1, "clicked": request % 2 == 0, "ordered": False} | more


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_shop(folder: Path, rare: dict[int, dict[str, Any]]) -> None:
    """A log in which some rows have more members."""
    write(folder, "items.jsonl", [{"item_id": "i1", "title": "A mug"}, {"item_id": "i2", "title": "A cup"}])
    write(folder, "events.jsonl", [event(request, **rare.get(request, {})) for request in range(N_REQUESTS)])


def counts_of(folder: Path, events: EventsConfig) -> dict[str, Any]:
    return dict(mine_shop(folder, items=ItemsConfig("items.jsonl"), events=events).counts)


def test_columns_that_the_parts_have_are_read_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shop(tmp_path, {request: {"user_id": f"u{request % 7}", "carted": True} for request in range(N_REQUESTS)})
    sampled = counts_of(tmp_path, EventsConfig("events.jsonl"))
    assert open_events(duckdb.connect(), EventsConfig("events.jsonl"), tmp_path).rare_columns.keys() >= {"session_id"}
    monkeypatch.setattr(json_samples, "WHOLE_BYTES", 1 << 30)
    assert not open_events(duckdb.connect(), EventsConfig("events.jsonl"), tmp_path).rare_columns
    assert counts_of(tmp_path, EventsConfig("events.jsonl")) == sampled
    assert not sampled["rejected"]["events"]


@pytest.mark.parametrize("request_number", [0, N_REQUESTS - 1])
def test_beginning_and_end_are_among_the_parts(tmp_path: Path, request_number: int) -> None:
    write_shop(tmp_path, {request_number: {"carted": True}})
    table = open_events(duckdb.connect(), EventsConfig("events.jsonl"), tmp_path)
    assert "carted" in table.columns
    assert "carted" not in table.rare_columns


@pytest.fixture
def rare_request(tmp_path: Path) -> int:
    """A request that no part has; its row alone says `carted`."""
    for request in range(3, N_REQUESTS, 17):
        write_shop(tmp_path, {request: {"carted": True}})
        if "carted" in open_events(duckdb.connect(), EventsConfig("events.jsonl"), tmp_path).rare_columns:
            return request
    raise AssertionError("the parts have every row")


def test_a_row_with_a_rare_column_is_set_aside_and_a_name_reads_it(tmp_path: Path, rare_request: int) -> None:
    counts = counts_of(tmp_path, EventsConfig("events.jsonl"))
    assert counts["rejected"]["events"] == {f"carted{RARE_COLUMN}": 1}
    (row,) = read(tmp_path, "rejected.parquet")
    assert json.loads(row["row"])["request_id"] == f"r{rare_request}"
    shutil.rmtree(tmp_path / "dataset")
    counts = counts_of(tmp_path, EventsConfig("events.jsonl", columns={"carted": "carted"}))
    assert not counts["rejected"]["events"]


def test_many_such_rows_stop_with_the_cure(tmp_path: Path, rare_request: int) -> None:
    with pytest.raises(TableError, match=f"carted{RARE_COLUMN}") as caught:
        counts_of(tmp_path, EventsConfig("events.jsonl", max_rejected_share=0.0))
    assert 'carted = "carted" in [events.columns]' in caught.value.cure


def test_a_named_column_that_no_part_has_is_looked_for_in_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_samples, "PARTS", 2)
    more = {200: {"shade": "red", "price": 2.0}}
    write(tmp_path, "items.jsonl", [{"item_id": f"i{n}", "title": "A mug"} | more.get(n, {}) for n in range(400)])
    table = open_items(duckdb.connect(), ItemsConfig("items.jsonl", categorical=("shade",)), tmp_path)
    assert "shade" in table.columns
    assert "price" in table.rare_columns, "which nobody named"
    with pytest.raises(TableError, match="'colour'"):
        open_items(duckdb.connect(), ItemsConfig("items.jsonl", categorical=("colour",)), tmp_path)


def test_documents_of_a_search_engine(tmp_path: Path) -> None:
    rows = [{"_index": "p", "_id": str(n), "_source": {"item_id": f"i{n}", "title": f"Mug {n}"}} for n in range(300)]
    write(tmp_path, "items.jsonl", rows)
    table = open_items(duckdb.connect(), ItemsConfig("items.jsonl"), tmp_path)
    assert set(table.columns) == {"item_id", "title"}
