"""`mmse init` on folders as shops have them, and `mmse doctor` on what it wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.called import Call
from mining import toy
from mmse.core.config import read_toml

CLICKS = [
    {
        "user": f"u{n % 9}",
        "sku": "abc"[n % 3],
        "query": f"shoe {n % 4}",
        "click_time": f"2026-03-{1 + n // 60:02} 10:{n % 60:02}:05",
    }
    | {"query_time": f"2026-03-{1 + n // 60:02} 10:{n % 60:02}:00"}
    for n in range(300)
]


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """A catalogue and a log of clicks with names of their own."""
    items = [{"sku": i["item_id"], "name": i["title"], "regularPrice": i["price"], "sales_rank": 1} for i in toy.ITEMS]
    toy.write_csv(tmp_path / "products.csv", items, ";")
    toy.write_csv(tmp_path / "clicks.csv", CLICKS)
    return tmp_path


def test_it_proposes_with_a_reason_and_a_sample(call: Call, exports: Path) -> None:
    done = call("init", exports)
    assert done.code == 0
    shop = read_toml(exports / "shop.toml")
    assert shop["items"]["source"] == "products.csv"
    assert shop["items"]["columns"] == {"item_id": "sku", "title": "name", "price": "regularPrice"}
    assert shop["events"]["columns"]["item_id"] == "sku"
    assert shop["events"]["columns"]["timestamp"] == "query_time"
    text = (exports / "shop.toml").read_text("utf-8")
    assert 'item_id = "sku"  # 100% of its values are ids of the items (sku). For example: "' in text
    assert "sales_rank was left out: it may be counted from the log" in text
    assert '# clicked = "…"  # needed, and not found' in text
    assert "--make-events" in done.out
    assert f"Next: mmse doctor {exports / 'shop.toml'}" in done.out


def test_it_overwrites_nothing(call: Call, exports: Path) -> None:
    (exports / "shop.toml").write_text("mine", "utf-8")
    done = call("init", exports)
    assert done.code == 2
    assert "exists and is not overwritten" in done.err
    assert (exports / "shop.toml").read_text("utf-8") == "mine"


def test_a_log_of_clicks_becomes_events_that_the_doctor_reads(call: Call, exports: Path) -> None:
    assert call("init", exports, "--make-events").code == 0
    done = call("doctor", exports / "shop.toml", "--json")
    assert done.code == 0
    checkup = json.loads(done.out)
    assert not checkup["blocked"]
    assert {"clicks_only", "no_orders", "too_few_clicks"} <= {finding["name"] for finding in checkup["findings"]}
    assert checkup["totals"]["n_clicked"] == 300
    assert checkup["lessons"][0].startswith("Learned: which items fit a query")


def test_lists_of_what_was_shown_become_positions(call: Call, tmp_path: Path) -> None:
    rows = [
        {
            "session_id": f"s{n}",
            "timestamp": 1_700_000_000 + n,
            "reference": "i2",
            "city": "Rome",
            "impressions": "i1|i2|i3",
        }
        for n in range(40)
    ]
    toy.write_csv(tmp_path / "log.csv", rows)
    assert call("init", tmp_path, "--make-events", "--column", "events.query=city").code == 0
    checkup = json.loads(call("doctor", tmp_path / "shop.toml", "--json").out)
    totals = checkup["totals"]
    assert (totals["n_requests"], totals["n_shown"], totals["n_clicked"], totals["n_positions"]) == (40, 120, 40, 3)


def test_the_doctor_leaves_with_1_where_something_blocks(call: Call, exports: Path) -> None:
    call("init", exports)
    done = call("doctor", exports / "shop.toml")
    assert done.code == 1
    assert "blocks" in done.out
    assert "request_id" in done.out
    assert "1 finding blocks" in done.out


def test_what_init_is_told_is_checked(call: Call, exports: Path, tmp_path: Path) -> None:
    assert "no column 'town'" in call("init", exports, "--column", "events.query=town").err
    assert "There is no column 'quary'" in call("init", exports, "--column", "events.quary=query").err
    assert "not understood" in call("init", exports, "--column", "query").err
    assert "no folder" in call("init", tmp_path / "none").err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no table that can be read" in call("init", empty).err


def test_how_values_are_written_is_proposed(call: Call, tmp_path: Path) -> None:
    items = "id,title\n" + "".join(f"SKU-{n},Садовый шланг {n}\n" for n in range(40))
    (tmp_path / "items.csv").write_bytes(items.encode("cp1251"))
    rows = [
        f"r{n},{n % 28 + 1}/03/2026 10:30,шланг {n % 7},SKU-{(n + p) % 40},{p},{3 * (p == n % 3)},{'x' * (p == 0)}"
        for n in range(200)
        for p in range(3)
    ]
    header = "request_id,timestamp,query,item_id,position,clicked,ordered"
    (tmp_path / "events.csv").write_text("\n".join([header, *rows]), "utf-8")
    assert call("init", tmp_path).code == 0
    text = (tmp_path / "shop.toml").read_text("utf-8")
    assert 'encoding = "windows-1251"' in text
    assert "Садовый шланг 1" in text
    assert "first_position = 0" in text
    assert "empty_means_no = true  # ordered is empty in some rows" in text
    assert 'clicked = {column = "clicked", above = 0}' in text
    assert call("doctor", tmp_path / "shop.toml").code == 0


def test_a_file_that_cannot_be_read_may_be_what_is_not_found(call: Call, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,title\n1,red shoe\n2,blue shoe\n", "utf-8")
    (tmp_path / "events.csv").write_text("request_id,query,query\nr1,shoe,1\n", "utf-8")
    assert "events.csv may be what is not found: mend what is said of it above" in call("init", tmp_path).out


@pytest.mark.parametrize("is_json", [True, False])
def test_a_row_for_each_request_becomes_events(call: Call, tmp_path: Path, *, is_json: bool) -> None:
    toy.write_csv(tmp_path / "items.csv", toy.ITEMS)
    pages = [
        {
            "request_id": f"r{n}",
            "timestamp": f"2026-03-{1 + n // 60:02} 10:{n % 60:02}:00",
            "query": f"shoe {n % 4}",
            "shown": ["a", "b", "c"],
            "clicked_ids": ["b", "c"] if n % 2 else [],
            "ordered": ["c"] if n % 4 == 1 else [],
        }
        for n in range(200)
    ]
    if is_json:
        (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(page) for page in pages), "utf-8")
    else:
        rows = [{name: "|".join(v) if isinstance(v, list) else v for name, v in page.items()} for page in pages]
        toy.write_csv(tmp_path / "log.csv", rows)
    assert "--make-events" in call("init", tmp_path).out
    (tmp_path / "shop.toml").unlink()
    assert call("init", tmp_path, "--make-events").code == 0
    events = pq.read_table(tmp_path / "events.parquet").to_pylist()
    assert len(events) == 600
    names = ("item_id", "position", "clicked", "ordered")
    assert [tuple(event[name] for name in names) for event in events if event["request_id"] == "r1"] == [
        ("a", 1, False, False),
        ("b", 2, True, False),
        ("c", 3, True, True),
    ]
    assert call("doctor", tmp_path / "shop.toml").code == 0


def test_columns_are_found_by_names_of_other_languages(call: Call, tmp_path: Path) -> None:
    items = "Artikelnummer;Bezeichnung;Marke;Preis;Verfügbar\n" + "".join(
        f"A{n};Gartenschlauch {n};Nordal;{n},50;ja\n" for n in range(40)
    )
    (tmp_path / "artikel.csv").write_text(items, "utf-8")
    header = "Zeitpunkt;Suchbegriff;Kunden-ID;Artikel;Rang;Geklickt;Bestellt\n"
    rows = [
        f"{n % 28 + 1}.3.2026 9:30;schlauch {n % 7};k{n % 9};A{(n + p) % 40};{p + 1};{('nein', 'ja')[p == n % 3]};nein"
        for n in range(200)
        for p in range(3)
    ]
    (tmp_path / "suchen.csv").write_text(header + "\n".join(rows), "utf-8")
    assert call("init", tmp_path).code == 0
    shop = read_toml(tmp_path / "shop.toml")
    assert shop["items"]["columns"] == {
        "item_id": "Artikelnummer",
        "title": "Bezeichnung",
        "brand": "Marke",
        "price": "Preis",
        "available": "Verfügbar",
    }
    assert set(shop["events"]["columns"]) >= {
        "timestamp",
        "query",
        "user_id",
        "item_id",
        "position",
        "clicked",
        "ordered",
    }


DAMAGED = Path(__file__).parents[1] / "sources" / "damaged" / "negative_size.parquet"
"""DuckDB meets it with an error of its own, after which the connection that read it is good for nothing."""


def test_a_damaged_file_spoils_no_other(call: Call, exports: Path) -> None:
    shutil.copy(DAMAGED, exports / "a_damaged.parquet")
    done = call("init", exports)
    assert done.code == 0
    assert "a_damaged.parquet: cannot be read" in done.out
    assert read_toml(exports / "shop.toml")["items"]["source"] == "products.csv"


def test_article_numbers_are_searched_links_are_shown_and_what_is_left_out_is_named(call: Call, tmp_path: Path) -> None:
    items = [
        {"sku": f"s{n}", "name": f"Good cup number {n}", "ean": f"400638133{n:04}", "Model Number": f"CX-{n}0"}
        | {"image_link": f"https://shop.example/{n}.jpg", "link": f"/p/{n}", "added": f"2026-01-{1 + n % 9:02}"}
        for n in range(40)
    ]
    toy.write_csv(tmp_path / "items.csv", items)
    assert call("init", tmp_path).code == 0
    text = (tmp_path / "shop.toml").read_text("utf-8")
    shop = read_toml(tmp_path / "shop.toml")["items"]
    assert shop["text"] == ["ean", "Model Number"]
    assert shop["display"] == ["image_url", "link"]
    assert shop["columns"]["image_url"] == "image_link"
    assert "categorical" not in shop
    assert "# Left out: added." in text
    assert call("doctor", tmp_path / "shop.toml").code == 0


def test_an_id_that_the_log_tells_is_not_named_as_left_out(call: Call, tmp_path: Path) -> None:
    items = [{"sku": f"s{n}", "id": f"{700 + n}", "name": f"Good cup number {n}"} for n in range(40)]
    toy.write_csv(tmp_path / "items.csv", items)
    log = [
        {"timestamp": f"2026-03-01 10:{n % 60:02}:00", "query": "cup", "id": f"{700 + n % 40}", "user": f"u{n % 7}"}
        for n in range(200)
    ]
    toy.write_csv(tmp_path / "log.csv", log)
    assert call("init", tmp_path).code == 0
    shop = read_toml(tmp_path / "shop.toml")["items"]
    assert (shop["columns"]["item_id"], shop["text"]) == ("id", ["sku"])
    assert "Left out" not in (tmp_path / "shop.toml").read_text("utf-8")
