from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.toy import ITEMS, Row, log, mine_shop, read, write_csv, write_shop
from mmse.core.errors import TableError
from mmse.sources.tables import ItemsConfig

MORE = [{"item_id": f"m{i}", "title": f"More {i}", "price": f"{i}.50", "available": "true"} for i in range(9)]


def shop(folder: Path, items: list[Row]) -> None:
    write_shop(folder, log())
    names = list(dict.fromkeys(name for item in items for name in item))
    write_csv(folder / "items.csv", [{name: item.get(name, "") for name in names} for item in items])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("price", "on request", "price is not a number"),
        ("price", "1.800,5.3", "price is not a number"),
        ("rating", "n/a", "rating is not a number"),
        ("available", "ask us", "available is not true or false"),
    ],
)
def test_a_bad_optional_value_empties_itself_and_not_the_row(
    tmp_path: Path, name: str, value: str, reason: str
) -> None:
    good = [{**item, "rating": "4.5", "available": "yes"} for item in (*ITEMS, *MORE)]
    shop(tmp_path, [*good, {"item_id": "e", "title": "Odd", name: value}])
    counts = mine_shop(tmp_path, items=ItemsConfig("items.csv", max_rejected_share=0.0)).counts
    assert (counts["rejected"]["items"], counts["emptied"]["items"], counts["items"]) == ({}, {reason: 1}, 14)
    rows = {item["item_id"]: item for item in read(tmp_path, "items.parquet")}
    assert (rows["e"][name], rows["a"]["price"], rows["a"]["rating"], rows["a"]["available"]) == (None, 10, 4.5, True)


def test_texts_that_programs_write_for_no_text_are_none(tmp_path: Path) -> None:
    brands = {"n1": "NULL", "n2": "nan", "n3": "#N/A", "n4": "(not set)", "b1": "NAN", "b2": "None", "b3": "Null"}
    shop(tmp_path, [*ITEMS, *({"item_id": key, "title": "Mug", "brand": brand} for key, brand in brands.items())])
    mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    found = {item["item_id"]: item["brand"] for item in read(tmp_path, "items.parquet")}
    assert {key: found[key] for key in brands} == brands | dict.fromkeys(("n1", "n2", "n3", "n4"))


def test_a_column_of_which_most_is_bad_stops_with_its_cure(tmp_path: Path) -> None:
    shop(tmp_path, [{**item, "rating": "good"} for item in ITEMS])
    with pytest.raises(TableError, match="4 of 4 values of 'rating'") as caught:
        mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    assert 'ignore = ["rating"]' in caught.value.cure
    mine_shop(tmp_path, items=ItemsConfig("items.csv", ignore=("rating",)))
    assert read(tmp_path, "items.parquet")[0]["rating"] is None


def test_prices_that_may_be_two_numbers_ask_for_the_mark(tmp_path: Path) -> None:
    shop(tmp_path, [{**item, "price": "1,800"} for item in ITEMS])
    with pytest.raises(TableError, match=r"may be two numbers.*'1,800'") as caught:
        mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    assert "decimal_mark" in caught.value.cure
    mine_shop(tmp_path, items=ItemsConfig("items.csv", decimal_mark="."))
    assert read(tmp_path, "items.parquet")[0]["price"] == 1800


def test_points_that_may_part_thousands_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shop(tmp_path, [{**item, "price": "1.800"} for item in ITEMS])
    mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    assert read(tmp_path, "items.parquet")[0]["price"] == 1.8
    assert "4 values of price, such as '1.800', may be thousands" in caplog.text
    caplog.clear()
    for marks in (".", ","):
        mine_shop(tmp_path, items=ItemsConfig("items.csv", decimal_mark=marks))
    shop(tmp_path, [{**item, "price": price} for item, price in zip(ITEMS, ("1.800", "2.5", "", "7"), strict=True)])
    mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    assert "thousands" not in caplog.text


def test_a_number_of_json_has_a_point_and_a_text_of_json_may_have_a_comma(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    prices = {"a": 1.125, "b": 1e3, "c": "2,50 €", "d": 7}
    lines = [json.dumps({**item, "price": prices[item["item_id"]]}) for item in ITEMS]
    (tmp_path / "items.jsonl").write_text("\n".join(lines), "utf-8")
    mine_shop(tmp_path, items=ItemsConfig("items.jsonl"))
    assert [item["price"] for item in read(tmp_path, "items.parquet")] == [1.125, 1000, 2.5, 7]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("in_stock", True), ("In Stock", True), ("preorder", True), ("onbackorder", True), ("17", True), ("1", True),
        ("out of stock", False), ("sold-out", False), ("0", False), ("https://schema.org/InStock", True), ("N", False),
    ],
)  # fmt: skip
def test_words_of_feeds_for_available(tmp_path: Path, word: str, expected: bool) -> None:
    shop(tmp_path, [{**item, "available": word} for item in ITEMS])
    mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    assert {item["available"] for item in read(tmp_path, "items.parquet")} == {expected}


def test_html_becomes_text(tmp_path: Path) -> None:
    titles = {
        "a": "<b>NEW</b> Salt &amp; pepper<br/>",
        "b": "Men&#39;s H<sub>2</sub>O &lt;3 caf&eacute;",
        "c": "AT&T 5 < 6 > 4 &unknown; <M> R&amp;amp;D",
        "d": "<p class='x'>one</p><p>two</p><script>evil()</script>",
        "e": "<br>",
    }
    items = [{"item_id": name, "title": title, "category": "Home &amp; Garden"} for name, title in titles.items()]
    shop(tmp_path, items)
    counts = mine_shop(tmp_path, items=ItemsConfig("items.csv", max_rejected_share=0.2)).counts
    assert [item["title"] for item in read(tmp_path, "items.parquet")] == [
        "NEW Salt & pepper",
        "Men's H2O <3 café",
        "AT&T 5 < 6 > 4 &unknown; <M> R&amp;D",
        "one two",
    ]
    assert read(tmp_path, "items.parquet")[0]["category"] == "Home & Garden"
    assert counts["rejected"]["items"] == {"title is empty": 1}
    assert counts["marked_up"]["items"] == {"title": 5, "category": 5}


def test_ids_that_became_floats_beside_a_missing_value(tmp_path: Path) -> None:
    ids = {item["item_id"]: float(100 + i) for i, item in enumerate(ITEMS)}
    write_shop(tmp_path, log(), [{**item, "item_id": str(int(ids[item["item_id"]]))} for item in ITEMS])
    events = pa.Table.from_pylist([{**row, "item_id": ids[row["item_id"]]} for row in log()])
    pq.write_table(events, tmp_path / "events.parquet")
    assert mine_shop(tmp_path).counts["rejected"]["events"] == {}
