"""`mmse init` on logs in several files and on published formats; the doctor reads what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.called import Call
from mining import toy
from mmse.core.config import read_toml

LOG = toy.log(60)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), "utf-8")


def totals(call: Call, folder: Path) -> dict[str, int]:
    """What the doctor counts in the log that init proposed."""
    done = call("doctor", folder / "shop.toml", "--json")
    result: dict[str, int] = json.loads(done.out)["totals"]
    return result


def counts_of(rows: list[toy.Row]) -> list[int]:
    return [len({row["request_id"] for row in rows}), len(rows), sum(row["clicked"] for row in rows)]


def test_impressions_clicks_and_orders_in_files_of_their_own(call: Call, tmp_path: Path) -> None:
    toy.write_csv(tmp_path / "products.csv", toy.ITEMS)
    shown = [
        {"search_id": row["request_id"], "ts": row["timestamp"], "search_term": row["query"], "sku": row["item_id"]}
        | {"rank": row["position"], "visitor_id": row["user_id"]}
        for row in LOG
    ]
    taken = [
        {"sku": row["item_id"], "visitor_id": row["user_id"], "time": row["timestamp"], "search_id": row["request_id"]}
        for row in LOG
        if row["clicked"]
    ]
    orders = [
        {"customer_id": row["user_id"], "created_at": row["timestamp"], "product_id": row["item_id"]}
        for row in LOG
        if row["ordered"]
    ]
    toy.write_csv(tmp_path / "impressions.csv", shown, ";")
    write_lines(tmp_path / "clicks.jsonl", taken)
    toy.write_csv(tmp_path / "orders.csv", orders)
    assert call("init", tmp_path).code == 0
    sources = read_toml(tmp_path / "shop.toml")["events"]["sources"]
    assert [source["source"] for source in sources] == ["impressions.csv", "clicks.jsonl", "orders.csv"]
    assert sources[1]["columns"]["clicked"] is True
    assert sources[2]["columns"] == {
        "timestamp": "created_at",
        "user_id": "customer_id",
        "item_id": "product_id",
        "ordered": True,
    }
    found = totals(call, tmp_path)
    assert [found[name] for name in ("n_requests", "n_shown", "n_clicked")] == counts_of(LOG)
    assert found["n_ordered"] == sum(row["ordered"] for row in LOG)


def test_a_column_that_says_what_each_row_is(call: Call, tmp_path: Path) -> None:
    toy.write_csv(tmp_path / "products.csv", toy.ITEMS)
    rows = []
    for row in LOG:
        kinds = [
            "impression",
            *(["product_click"] if row["clicked"] else []),
            *(["purchase"] if row["ordered"] else []),
        ]
        names = ("request_id", "timestamp", "query", "item_id", "position", "user_id")
        rows += [{name: row[name] for name in names} | {"event_type": kind} for kind in kinds]
    toy.write_csv(tmp_path / "log.csv", rows)
    assert call("init", tmp_path).code == 0
    columns = read_toml(tmp_path / "shop.toml")["events"]["columns"]
    assert columns["clicked"] == {"column": "event_type", "is": ["product_click"]}
    assert columns["ordered"] == {"column": "event_type", "is": ["purchase"]}
    found = totals(call, tmp_path)
    assert [found[name] for name in ("n_requests", "n_shown", "n_clicked")] == counts_of(LOG)


def test_published_formats_are_recognised(call: Call, tmp_path: Path) -> None:
    products = [
        {"Handle": item["item_id"], "Title": item["title"], "Vendor": item["brand"], "Option1 Name": "Title"}
        | {"Option1 Value": "Default Title", "Variant Price": item["price"], "Tags": "a, b", "Published": "TRUE"}
        for item in toy.ITEMS
    ]
    toy.write_csv(tmp_path / "products_export.csv", products)
    answers: dict[str, dict[str, Any]] = {}
    for row in LOG:
        answer = answers.setdefault(
            row["request_id"],
            {"queryID": row["request_id"], "query": row["query"], "timestamp": str(row["timestamp"]), "hits": []},
        )
        answer["hits"].append({"objectID": row["item_id"]})
    clicks = [
        {"eventType": "click", "objectIDs": [row["item_id"]], "queryID": row["request_id"], "userToken": row["user_id"]}
        | {"timestamp": str(row["timestamp"])}
        for row in LOG
        if row["clicked"]
    ]
    write_lines(tmp_path / "answers.jsonl", list(answers.values()))
    write_lines(tmp_path / "sent.jsonl", clicks)
    done = call("init", tmp_path)
    assert done.code == 0
    shop = read_toml(tmp_path / "shop.toml")
    assert (shop["items"]["format"], shop["items"]["text"]) == ("shopify_csv", ["description"])
    assert [source["format"] for source in shop["events"]["sources"]] == ["algolia_searches", "algolia_events"]
    found = totals(call, tmp_path)
    assert [found[name] for name in ("n_requests", "n_shown", "n_clicked")] == counts_of(LOG)


def test_files_that_cannot_be_read_are_named_with_their_cure(call: Call, tmp_path: Path) -> None:
    toy.write_csv(tmp_path / "products.csv", toy.ITEMS)
    (tmp_path / "old.csv").write_text("<!DOCTYPE html><html><body>Log in</body></html>", "utf-8")
    done = call("init", tmp_path)
    assert done.code == 0
    assert "old.csv: cannot be read: " in done.out
    assert "is a web page" in done.out


def test_a_log_in_days_months_or_parts_is_one_source(call: Call, tmp_path: Path) -> None:
    for name, place, source in (
        ("days", "events/date=2026-03-0{}/part-0.csv", "events"),
        ("dates", "log/2026/03/0{}/stream-1.csv", "log"),
        ("months", "searches_2026-0{}.csv", "searches*.csv"),
        ("mixed", "raw/searches_{}.csv", "raw/searches*.csv"),
    ):
        for number in range(3):
            file = tmp_path / name / place.format(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            toy.write_csv(file, [row for row in LOG if int(row["request_id"][1:]) % 3 == number])
        toy.write_csv(tmp_path / name / ("raw/items.csv" if name == "mixed" else "items.csv"), toy.ITEMS)
        toy.write_csv(tmp_path / name / "stock.csv", [{"warehouse": 1}])
        assert "Read by no table: stock.csv." in call("init", tmp_path / name).out
        assert read_toml(tmp_path / name / "shop.toml")["events"]["source"] == source
        found = totals(call, tmp_path / name)
        assert [found[key] for key in ("n_requests", "n_shown", "n_clicked")] == counts_of(LOG)


def test_catalogues_of_two_days_are_not_one(call: Call, tmp_path: Path) -> None:
    for day in (1, 2):
        toy.write_csv(tmp_path / f"items_2026-03-0{day}.csv", toy.ITEMS[: day + 2])
    assert "Read by no table: items_2026-03-01.csv." in call("init", tmp_path).out
    assert read_toml(tmp_path / "shop.toml")["items"]["source"] == "items_2026-03-02.csv"


def test_a_column_that_the_user_names_tells_the_file(call: Call, tmp_path: Path) -> None:
    toy.write_csv(tmp_path / "p.csv", [{"sku": i["item_id"], "name-en_US": i["title"]} for i in toy.ITEMS])
    toy.write_csv(tmp_path / "l.csv", [{"when": row["timestamp"], "typed": row["query"]} for row in LOG])
    assert "--column items.title=NAME" in call("init", tmp_path).out
    (tmp_path / "shop.toml").unlink()
    assert "have no column 'name-en'" in call("init", tmp_path, "--column", "items.title=name-en").err
    options = ("--column", "items.title=name-en_US", "--column", "events.query=typed")
    assert call("init", tmp_path, *options).code == 0
    shop = read_toml(tmp_path / "shop.toml")
    assert shop["items"]["columns"] == {"item_id": "sku", "title": "name-en_US"}
    assert shop["events"]["source"] == "l.csv"


def test_small_ids_are_no_positions_and_no_shoppers(call: Call, tmp_path: Path) -> None:
    ids = {item["item_id"]: str(number) for number, item in enumerate(toy.ITEMS, 1)} | {"c": "9001"}
    toy.write_csv(tmp_path / "items.csv", [item | {"item_id": ids[item["item_id"]]} for item in toy.ITEMS[:2]])
    rows = [row | {"item_id": ids[row["item_id"]], "user_id": number % 2 + 1} for number, row in enumerate(LOG)]
    toy.write_csv(tmp_path / "events.csv", rows)
    assert call("init", tmp_path).code == 0
    columns = read_toml(tmp_path / "shop.toml")["events"]["columns"]
    assert (columns["item_id"], columns["position"], columns["user_id"]) == ("item_id", "position", "user_id")
    (tmp_path / "shop.toml").unlink()
    toy.write_csv(tmp_path / "events.csv", [row | {"Query ": "x"} for row in rows])
    assert call("init", tmp_path).code == 0
    assert read_toml(tmp_path / "shop.toml")["events"]["columns"]["query"] == "query"


def test_the_id_of_the_items_is_the_one_that_the_log_has(call: Call, tmp_path: Path) -> None:
    items = [
        {"sku": f"S-{number}", "id": item["item_id"], "name": item["title"]} for number, item in enumerate(toy.ITEMS)
    ]
    toy.write_csv(tmp_path / "items.csv", items)
    toy.write_csv(tmp_path / "events.csv", [{"product": row.pop("item_id")} | row for row in toy.log(60)])
    assert call("init", tmp_path).code == 0
    shop = read_toml(tmp_path / "shop.toml")
    assert (shop["items"]["columns"]["item_id"], shop["events"]["columns"]["item_id"]) == ("id", "product")
    assert "100% of the values of product in events.csv are values of it" in (tmp_path / "shop.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("Product List Viewed", "Product Clicked", "Product Added", "Order Completed"), "clicked carted ordered"),
        (("impression", "product_view", "ATC", "purchase"), "clicked carted ordered"),
        (("shown", "click", "add_to_wishlist", "order_cancelled"), "clicked"),
        (("0", "1", "2", "3"), ""),
    ],
)
def test_words_of_vendors_for_what_each_row_is(call: Call, tmp_path: Path, words: tuple[str, ...], kinds: str) -> None:
    toy.write_csv(tmp_path / "products.csv", toy.ITEMS)
    rows = [
        {name: row[name] for name in ("request_id", "timestamp", "query", "item_id", "position")} | {"event": word}
        for row in LOG
        for word in words
    ]
    toy.write_csv(tmp_path / "log.csv", rows)
    assert "--make-events" not in call("init", tmp_path).out
    columns = read_toml(tmp_path / "shop.toml")["events"]["columns"]
    found = {kind: columns[kind]["is"] for kind in kinds.split()}
    assert found == {kind: [words[("clicked", "carted", "ordered").index(kind) + 1]] for kind in kinds.split()}
    assert columns.get("ordered", False) is False or "ordered" in kinds
    others = sorted({*words} - {word for values in found.values() for word in values})
    assert f"event = {', '.join(map(json.dumps, others))}: " in (tmp_path / "shop.toml").read_text("utf-8")


def test_a_position_of_what_was_clicked_is_kept(call: Call, tmp_path: Path) -> None:
    names = ("timestamp", "query", "user_id", "item_id", "position")
    toy.write_csv(tmp_path / "products.csv", toy.ITEMS)
    toy.write_csv(tmp_path / "clicks.csv", [{name: row[name] for name in names} for row in LOG if row["clicked"]])
    assert call("init", tmp_path, "--make-events").code == 0
    found = totals(call, tmp_path)
    assert (found["n_clicked"], found["n_positions"]) == (sum(row["clicked"] for row in LOG), 2)
