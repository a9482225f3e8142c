from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from mining.toy import ITEMS, event, log, mine_shop, write_csv, write_shop
from mmse.core.errors import TableError
from mmse.schema.stages import Stage
from mmse.sources.tables import EventsConfig, ItemsConfig


def test_all_orders_are_more_than_their_share_of_rows(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    shown = [{**event(f"r{i}", i, "a", 1), "timestamp": str(event("r", i, "a", 1)["timestamp"])} for i in range(99)]
    orders = [{**row, "timestamp": "02/03/2026 10:00", "clicked": False, "ordered": True} for row in shown[:2]]
    write_csv(tmp_path / "events.csv", [*shown, *orders])
    with pytest.raises(TableError) as caught:
        mine_shop(tmp_path, events=EventsConfig("events.csv"))
    assert "All 2 rows of the events table (events.csv) that tell of orders are bad" in caught.value.cause
    assert "2 × timestamp is not a time" in caught.value.cause
    assert "02/03/2026 10:00" in caught.value.cause


def test_a_large_part_of_the_clicks(tmp_path: Path) -> None:
    rows = [event(f"r{i}", i, "a", 1, Stage.CLICKED if i % 5 == 0 else Stage.UNCLICKED) for i in range(200)]
    write_shop(tmp_path, [row | ({"position": 0} if row["clicked"] and i < 40 else {}) for i, row in enumerate(rows)])
    with pytest.raises(TableError, match=r"8 of the 40 rows .* that tell of clicks are bad"):
        mine_shop(tmp_path)


@pytest.mark.parametrize(
    ("in_items", "in_events", "said"),
    [
        ("100{}", "100{}.0", "'.0' at the end"),
        ("00{}7", "{}7", "zeros at the front"),
        ("SKU-{}", "sku-{}", "upper and lower case"),
        ("{}", "shop_{}", "a prefix or suffix that is no digit"),
        ("e\u0301{}", "\u00e9{}", "accents, which Unicode writes in two ways"),
        ("A-{}/1", "A{}1", "marks such as hyphens"),
    ],
)
def test_ids_that_are_written_in_two_ways_are_named(tmp_path: Path, in_items: str, in_events: str, said: str) -> None:
    numbers = {item["item_id"]: str(i + 1) for i, item in enumerate(ITEMS)}
    items = [{**item, "item_id": in_items.format(numbers[item["item_id"]])} for item in ITEMS]
    write_shop(tmp_path, [{**row, "item_id": in_events.format(numbers[row["item_id"]])} for row in log()], items)
    with pytest.raises(TableError) as caught:
        mine_shop(tmp_path)
    assert said in caught.value.cure


def test_ids_that_a_spreadsheet_made_short_are_no_variants(tmp_path: Path) -> None:
    write_shop(tmp_path, log(), [{**item, "item_id": "4.00638E+12", "title": "Red shoe"} for item in ITEMS])
    with pytest.raises(TableError, match="4 × item_id has lost its last digits in a spreadsheet") as refusal:
        mine_shop(tmp_path)
    assert "export that column as text" in refusal.value.cure


@pytest.mark.parametrize(
    ("stamp", "reason"),
    [
        ("1772445", "timestamp is before 1995"),
        ("2026030", "timestamp is before 1995"),
        ("2612-01-01", "timestamp is in the future"),
        (str(dt.date.today() + dt.timedelta(days=9)), "timestamp is in the future"),
    ],
)
def test_a_time_that_no_log_has_is_refused(tmp_path: Path, stamp: str, reason: str) -> None:
    write_shop(tmp_path, log())
    write_csv(tmp_path / "events.csv", [*log(), event("r0", 0, "d", 4) | {"timestamp": stamp}])
    counts = mine_shop(tmp_path, events=EventsConfig("events.csv")).counts
    assert counts["rejected"]["events"] == {reason: 1}


def test_empty_flags_mean_no_if_the_shop_says_so(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    rows = [{**row, "clicked": row["clicked"] or "", "ordered": row["ordered"] or ""} for row in log()]
    write_csv(tmp_path / "events.csv", rows)
    with pytest.raises(TableError) as caught:
        mine_shop(tmp_path, events=EventsConfig("events.csv"))
    assert "empty_means_no = true" in caught.value.cure
    counts = mine_shop(tmp_path, events=EventsConfig("events.csv", empty_means_no=True)).counts
    assert counts["rejected"]["events"] == {}
    assert counts["stages"]["train"] == {"retrieved": 0, "unclicked": 9, "clicked": 3, "carted": 0, "ordered": 2}


def test_rows_in_are_rows_kept_and_rows_aside(tmp_path: Path) -> None:
    items = [*ITEMS, ITEMS[0], {**ITEMS[0], "item_id": "x", "title": ""}]
    write_shop(tmp_path, log(), items)
    counts = mine_shop(tmp_path, items=ItemsConfig(max_rejected_share=0.5)).counts
    assert counts["read"]["items"] == counts["items"] + sum(counts["rejected"]["items"].values())


def test_items_that_events_miss_because_their_own_rows_are_bad(tmp_path: Path) -> None:
    lines = ["item_id,title", *(f'item-{i},"Plain {i}"' for i in range(90)), *(f"bad-50{i},Pipe,3/4" for i in range(4))]
    write_shop(tmp_path, [event(f"r{i}", i, f"bad-50{i // 8 % 4}" if i % 8 == 0 else "item-1", 1) for i in range(80)])
    (tmp_path / "items.csv").write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(TableError, match="10 of 80 rows") as caught:
        mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    assert "10 rows name 4 items whose own rows in the items table were rejected" in caught.value.cure
