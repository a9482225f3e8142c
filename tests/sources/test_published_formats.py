"""Each published format, made to its schema: the rows that its reader gives, and what mining makes of them."""

from __future__ import annotations

import csv
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from mining.toy import Row, log, mine_shop, read, write_shop
from mmse.core.config import build
from mmse.core.errors import TableError
from mmse.sources.published_formats import FORMATS
from mmse.sources.readers import READERS
from mmse.sources.tables import EventsConfig, ItemsConfig

SUMMARY = ("timestamp", "query", "user_id", "item_row", "position", "stage")


def milliseconds(row: Row, seconds: float = 0.0) -> int:
    return int((row["timestamp"].replace(tzinfo=dt.UTC).timestamp() + seconds) * 1000)


def pages(rows: list[Row]) -> list[list[Row]]:
    by_request: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["position"]):
        by_request.setdefault(row["request_id"], []).append(row)
    return list(by_request.values())


def write_lines(path: Path, documents: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, documents)), "utf-8")


def mined(folder: Path) -> list[list[object]]:
    return sorted(([row[name] for name in SUMMARY] for row in read(folder, "t*/**/*.parquet")), key=str)


def events_of(*sources: dict[str, Any]) -> EventsConfig:
    return build(EventsConfig, {"sources": list(sources)}, "shop.toml [events]")


def items_of(folder: Path, format_: str, name: str, **values: Any) -> list[Row]:
    """The items that mining makes of a file in a published format."""
    mine_shop(folder, items=build(ItemsConfig, {"source": name, "format": format_} | values, "shop.toml [items]"))
    return read(folder, "items.parquet")


def test_algolia(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = log(12)
    write_shop(tmp_path, rows)
    mine_shop(tmp_path)
    expected = mined(tmp_path)
    answers: list[dict[str, Any]] = [
        {
            "queryID": page[0]["request_id"],
            "query": page[0]["query"],
            "timestamp": milliseconds(page[0]),
            "userToken": page[0]["user_id"],
            "page": page[0]["position"] - 1,
            "hitsPerPage": 1,
            "hits": [{"objectID": row["item_id"], "_highlightResult": {}} for row in page],
        }
        for whole in pages(rows)
        for page in (whole[:1], whole[1:])
        if page
    ]
    events: list[dict[str, Any]] = []
    for row in rows:
        event = {
            "index": "shop",
            "userToken": row["user_id"],
            "queryID": row["request_id"],
            "objectIDs": [row["item_id"]],
            "timestamp": milliseconds(row, 5),
        }
        if row["clicked"]:
            click = {"eventType": "click", "eventName": "Clicked", "positions": [row["position"]]}
            events.append(event | click)
        if row["ordered"]:
            data = {"objectData": [{"price": "19.99", "quantity": 1}], "currency": "EUR"}
            events.append(event | {"eventType": "conversion", "eventSubtype": "purchase", "eventName": "Bought"} | data)
        events.append({**event, "eventType": "view", "eventName": "Viewed"})
    events.append({"eventType": "click", "eventName": "Home", "userToken": "u", "objectIDs": ["a"], "timestamp": 1})
    write_lines(tmp_path / "answers.jsonl", answers)
    (tmp_path / "sent.json").write_text(json.dumps({"events": events}), "utf-8")
    both = [
        {"source": "answers.jsonl", "format": "algolia_searches"},
        {"source": "sent.json", "format": "algolia_events"},
    ]
    mine_shop(tmp_path, events=events_of(*both))
    assert mined(tmp_path) == expected
    assert "1 clicks and conversions without a queryID" in caplog.text


def test_metarank(tmp_path: Path) -> None:
    """All kinds of events in one file, as Metarank reads them."""
    rows = log(12)
    write_shop(tmp_path, rows)
    mine_shop(tmp_path)
    expected = mined(tmp_path)
    documents: list[dict[str, Any]] = []
    for number, (item, price) in enumerate((("a", 3), ("b", 20), ("c", 5), ("d", 1), ("a", 10))):
        fields = [{"name": "title", "value": f"Title {item}"}, {"name": "price", "value": price}]
        fields += [{"name": "color", "value": ["red", "white"]}]
        documents.append(
            {"event": "item", "id": f"e{number}", "timestamp": str(1000 + number), "item": item, "fields": fields}
        )
    documents.append({"event": "user", "id": "u", "timestamp": "1000", "user": "u", "fields": []})
    for page in pages(rows):
        about = {"user": page[0]["user_id"], "session": "s", "timestamp": str(milliseconds(page[0]))}
        shown = [{"id": row["item_id"], "relevancy": 1.0} for row in page]
        query = [{"name": "query", "value": page[0]["query"]}, {"name": "source", "value": "search"}]
        documents.append({"event": "ranking", "id": page[0]["request_id"], "items": shown, "fields": query} | about)
        for row in page:
            interaction = {"event": "interaction", "id": "i", "ranking": row["request_id"], "item": row["item_id"]}
            interaction |= about | {"timestamp": str(milliseconds(row, 9))}
            documents += [interaction | {"type": "click"}] if row["clicked"] else []
            documents += [interaction | {"type": "purchase"}] if row["ordered"] else []
    write_lines(tmp_path / "events.jsonl", documents)
    both = [{"source": "events.jsonl", "format": f"metarank_{kind}"} for kind in ("rankings", "interactions")]
    mine_shop(
        tmp_path,
        items=ItemsConfig(
            "events.jsonl", format="metarank_items", categorical=("colour",), columns={"colour": "fields.color"}
        ),
        events=events_of(*both),
    )
    items = {item["item_id"]: item for item in read(tmp_path, "items.parquet")}
    assert [items["a"][name] for name in ("title", "price", "colour")] == ["Title a", 10.0, ["red", "white"]]
    rows_of = {item["item_row"]: item["item_id"] for item in items.values()}
    assert len(mined(tmp_path)) == len(expected)
    assert {rows_of[row["item_row"]] for row in read(tmp_path, "t*/**/*.parquet")} == {"a", "b", "c"}
    assert sorted(str(row[-1]) for row in mined(tmp_path)) == sorted(str(row[-1]) for row in expected)


def write_table(path: Path, rows: list[Row], delimiter: str = ",") -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, names, delimiter=delimiter, restval="")
        writer.writeheader()
        writer.writerows(rows)


def rename(items: list[Row], ids: dict[str, str]) -> list[Row]:
    return [{**item, "item_id": ids[item["item_id"]]} for item in items]


def test_shopify_csv(tmp_path: Path) -> None:
    """A product is rows of one handle: its first row has what all share; a row of a picture is no variant."""
    rows = [
        {
            "Handle": "a",
            "Title": "Linen shirt",
            "Body (HTML)": "<p>Soft &amp; light</p>",
            "Vendor": "Acme",
            "Product Category": "Apparel & Accessories > Clothing > Shirts",
            "Type": "Shirt",
            "Tags": "summer, sale",
            "Published": "TRUE",
            "Option1 Name": "Size",
            "Option1 Value": "S",
            "Variant SKU": "LS-S",
            "Variant Inventory Tracker": "shopify",
            "Variant Inventory Qty": "0",
            "Variant Inventory Policy": "deny",
            "Variant Price": "29.90",
            "Image Src": "https://x/1.jpg",
            "Status": "active",
        },
        {
            "Handle": "a",
            "Option1 Value": "M",
            "Variant SKU": "LS-M",
            "Variant Inventory Tracker": "shopify",
            "Variant Inventory Qty": "3",
            "Variant Inventory Policy": "deny",
            "Variant Price": "24.90",
        },
        {"Handle": "a", "Image Src": "https://x/2.jpg"},
        {
            "Handle": "b",
            "Title": "Gift card",
            "Vendor": "Acme",
            "Type": "Card",
            "Published": "TRUE",
            "Option1 Name": "Title",
            "Option1 Value": "Default Title",
            "Variant Price": "10.00",
            "Status": "draft",
        },
        {"Handle": "c", "Title": "Mug", "Vendor": "Orlo", "Type": "Mugs", "Published": "TRUE", "Variant Price": "5.00"},
    ]
    write_shop(tmp_path, log())
    write_table(tmp_path / "products_export.csv", rows)
    extra = {"text": ["description"], "categorical": ["tags", "option1"]}
    shirt, card, mug = items_of(tmp_path, "shopify_csv", "products_export.csv", **extra)
    assert (shirt["item_id"], shirt["title"], shirt["brand"]) == ("a", "Linen shirt", "Acme")
    assert (shirt["price"], shirt["available"], shirt["option1"]) == (24.9, True, ["S", "M"])
    assert (shirt["category"], shirt["tags"]) == ("Apparel & Accessories > Clothing > Shirts", ["summer", "sale"])
    assert shirt["description"] == "Soft & light"
    assert (card["available"], card["option1"], card["category"]) == (False, None, "Card")
    assert mug["available"] is True


def test_shopify_json(tmp_path: Path) -> None:
    variants = [
        {"id": 1, "title": "S", "option1": "S", "sku": "x-s", "price": "29.90", "inventory_management": "shopify"}
        | {"inventory_policy": "deny", "inventory_quantity": quantity}
        for quantity in (0, 2)
    ]
    product = {"id": 632910392, "title": "Linen shirt", "handle": "linen-shirt", "vendor": "Acme", "status": "active"}
    product |= {"product_type": "Shirts", "tags": "summer, sale", "body_html": "<p>Soft</p>", "variants": variants}
    listed = product | {
        "id": 7,
        "tags": ["new"],
        "variants": [{"option1": "Default Title", "price": "5", "available": False}],
    }
    write_shop(tmp_path, [row | {"item_id": "7"} for row in log()])
    (tmp_path / "products.json").write_text(json.dumps({"products": [product, listed]}), "utf-8")
    shirt, other = items_of(tmp_path, "shopify_json", "products.json", categorical=["tags"])
    assert (shirt["item_id"], shirt["price"], shirt["available"]) == ("632910392", 29.9, True)
    assert (shirt["tags"], other["tags"], other["available"]) == (["summer", "sale"], ["new"], False)


def test_woocommerce_csv(tmp_path: Path) -> None:
    """Variations name their parent by its SKU or by `id:` and its number."""
    about = {"Published": "1", "In stock?": "1", "Categories": "Clothing > Shirts, Sale"}
    names = ("ID", "Type", "SKU", "Name", "Parent", "Regular price", "Sale price", "Attribute 1 value(s)")
    table = [
        ("10", "variable", "shirt", "Linen shirt", "", "", "", "S, M"),
        ("11", "variation", "shirt-s", "Linen shirt - S", "shirt", "29.90", "", "S"),
        ("12", "variation", "shirt-m", "Linen shirt - M", "id:10", "29.90", "19.90", "M"),
        ("20", "simple", "mug", "Mug", "", "5", "", ""),
        ("21", "simple", "hat", "Hat", "", "9", "", ""),
    ]
    rows = [{**about, **dict(zip(names, values, strict=True))} for values in table]
    rows[3]["Published"] = "-1"
    rows[4] |= {"In stock?": "backorder", "Categories": "Hats, Sale"}
    write_shop(tmp_path, [row | {"item_id": "10"} for row in log()])
    write_table(tmp_path / "wc-product-export.csv", rows)
    shirt, mug, hat = items_of(tmp_path, "woocommerce_csv", "wc-product-export.csv")
    assert (shirt["item_id"], shirt["title"], shirt["price"], shirt["available"]) == ("10", "Linen shirt", 19.9, True)
    assert (shirt["category"], hat["category"]) == (["Clothing > Shirts", "Sale"], ["Hats", "Sale"])
    assert (mug["available"], hat["available"]) == (False, True)


FEED = [
    {
        "id": "a",
        "title": "Linen shirt",
        "description": "Soft &amp; light",
        "link": "https://x/a",
        "condition": "new",
        "availability": "in_stock",
        "price": "29.90 EUR",
        "sale_price": "19.90 EUR",
        "brand": "Acme",
        "google_product_category": "212",
        "product_type": "Clothing > Shirts",
        "item_group_id": "shirts",
        "color": "white",
    },
    {"id": "b", "title": "Mug", "availability": "out_of_stock", "price": "5.00 EUR", "brand": "Orlo"}
    | {"google_product_category": "Home & Garden > Kitchen", "link": "https://x/b", "condition": "new"},
    {"id": "c", "title": "Hat", "availability": "preorder", "price": "9.00 EUR", "link": "https://x/c"}
    | {"condition": "used", "google_product_category": "173"},
]


@pytest.mark.parametrize("form", ["txt", "rss", "atom"])
def test_google_merchant_feed(tmp_path: Path, form: str) -> None:
    write_shop(tmp_path, log())
    if form == "txt":
        write_table(tmp_path / "feed.txt", FEED, "\t")
    else:
        row, root = ("item", "rss") if form == "rss" else ("entry", "feed")
        space = 'xmlns:g="http://base.google.com/ns/1.0"'
        rows = [
            f"<{row}>"
            + "".join(
                f"<g:{name}>{value.replace('>', '&gt;').replace('& G', '&amp; G')}</g:{name}>"
                for name, value in item.items()
            )
            + f"</{row}>"
            for item in FEED
        ]
        text = f'<?xml version="1.0"?>\n<{root} {space}><channel><title>Shop</title>{"".join(rows)}</channel></{root}>'
        (tmp_path / "feed.xml").write_text(text, "utf-8")
    name = "feed.txt" if form == "txt" else "feed.xml"
    shirt, mug, hat = items_of(tmp_path, "merchant_feed", name, text=["description"], categorical=["colour"])
    assert (shirt["price"], shirt["available"], shirt["category"]) == (19.9, True, "Clothing > Shirts")
    assert (shirt["description"], shirt["colour"], shirt["brand"]) == ("Soft & light", "white", "Acme")
    assert (shirt["item_group"], mug["item_group"]) == ("shirts", None)
    assert (mug["category"], mug["available"]) == ("Home & Garden > Kitchen", False)
    assert (hat["category"], hat["available"], hat["price"]) == (None, True, 9.0)


def test_a_feed_that_is_cut_off_is_named(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    (tmp_path / "feed.xml").write_text("<rss><channel><item><id>a</id>", "utf-8")
    with pytest.raises(TableError, match=r"feed.xml of the items table is not well-formed XML: .*line 1"):
        items_of(tmp_path, "merchant_feed", "feed.xml")
    (tmp_path / "feed.xml").write_text("<rss><channel></channel></rss>", "utf-8")
    with pytest.raises(TableError, match="has no element item"):
        items_of(tmp_path, "merchant_feed", "feed.xml")


def test_every_format_has_a_reader_a_source_and_a_test() -> None:
    tests = Path(__file__).read_text("utf-8")
    for name, published in FORMATS.items():
        assert name in READERS
        assert published.source
        assert published.signs
        assert {"item_id"} <= published.columns.keys()
        assert name in tests or name.removesuffix("_rankings").removesuffix("_interactions") in tests
