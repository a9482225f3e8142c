"""Files as programs write them, whatever their dialect: read to the same rows, or named for what they are."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mining.toy import ITEMS, log, mine_shop, read, write_shop
from mmse.core.config import build
from mmse.core.errors import TableError, UsageError
from mmse.sources.tables import ItemsConfig

ROWS = [
    {"item_id": "a", "title": 'Pipe 3/4" brass', "brand": "Acme", "price": "10.5"},
    {"item_id": "b", "title": 'Screen 24"', "brand": "", "price": "20"},
    {"item_id": "c", "title": 'Bolts, "red", 5 mm', "brand": "Copal", "price": ""},
    {"item_id": "d", "title": "Plain cup", "brand": "Acme", "price": "1.5"},
]
TITLES = [row["title"] for row in ROWS]


def titles(folder: Path, content: str | bytes, name: str = "items.csv", **values: Any) -> list[str]:
    """The titles of the items that mining makes of a file."""
    write_shop(folder, log())
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    mine_shop(folder, items=build(ItemsConfig, {"source": name} | values, "shop.toml [items]"))
    return [item["title"] for item in read(folder, "items.parquet")]


def refusal(folder: Path, content: str | bytes, name: str = "items.csv", **values: Any) -> TableError:
    with pytest.raises(TableError) as caught:
        titles(folder, content, name, **values)
    return caught.value


def table(separator: str = ",", end: str = "\n", **form: Any) -> str:
    """`ROWS` as CSV of a dialect."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=separator, lineterminator=end, **form)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"quoting": csv.QUOTE_ALL},
        {"doublequote": False, "escapechar": "\\"},
        {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL},
        {"quotechar": "'", "quoting": csv.QUOTE_ALL},
        {"separator": ";"},
        {"separator": "|", "end": "\r\n"},
        {"separator": "^"},
        {"separator": "\x01", "quoting": csv.QUOTE_NONE, "quotechar": None},
        {"separator": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None},
        {"separator": "\t", "end": "\r", "quoting": csv.QUOTE_NONE, "quotechar": None},
    ],
)
def test_dialects_of_csv(tmp_path: Path, form: dict[str, Any]) -> None:
    assert titles(tmp_path, table(**form)) == TITLES


def test_mysql_writes_backslashes_and_nulls(tmp_path: Path) -> None:
    """`SELECT … INTO OUTFILE`: no quotes, a backslash before tabs and new lines, and `\\N` for no value."""
    text = (
        "item_id\ttitle\tbrand\tprice\na\tTab\\\there\t\\N\t1.5\nb\tLine\\\nfeed\tAcme\t\\N\nc\tBack\\\\slash\t\\N\t2\n"
    )
    assert titles(tmp_path, text, "items.tsv") == ["Tab here", "Line feed", "Back\\slash"]
    items = read(tmp_path, "items.parquet")
    assert [(item["brand"], item["price"]) for item in items] == [(None, 1.5), ("Acme", None), (None, 2.0)]


def test_a_form_that_is_declared(tmp_path: Path) -> None:
    text = "Export of March\n-- shop 5\na||Cup||NULL\nb||Mug||Acme\nc||Pot||NULL\n"
    form = {"separator": "||", "skip": 2, "names": ["item_id", "title", "brand"], "nulls": ["NULL"]}
    assert titles(tmp_path, text, csv=form) == ["Cup", "Mug", "Pot"]
    assert [item["brand"] for item in read(tmp_path, "items.parquet")] == [None, "Acme", None]
    with pytest.raises(UsageError, match="expected one to four bytes"):
        build(ItemsConfig, {"csv": {"separator": ""}}, "shop.toml [items]")
    with pytest.raises(UsageError, match="no key 'seperator'"):
        build(ItemsConfig, {"csv": {"seperator": ","}}, "shop.toml [items]")


def test_lines_that_end_in_several_ways(tmp_path: Path) -> None:
    head, *lines = table(end="\r\n").splitlines()
    assert titles(tmp_path, "\r\n".join([head, *lines[:2]]) + "\r\n" + "\n".join(lines[2:]) + "\n") == TITLES
    assert titles(tmp_path, "\r\r\n".join([head, *lines])) == TITLES


def test_an_open_quote_loses_no_line_uncounted(tmp_path: Path) -> None:
    """DuckDB keeps the begin of what an open quote swallows; each line of it is set aside."""
    lines = ["item_id,title", *(f'x{i},"Cup, number {i}"' for i in range(50_000)), 'bad,"Mug']
    lines += [f"y{i},Pot" for i in range(3000)]
    write_shop(tmp_path, log())
    (tmp_path / "items.csv").write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(
        TableError, match=r"3001 of 53001 rows .*\n  3000 × .*inside a quote that an earlier line opens"
    ):
        mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    write_shop(tmp_path, [row | {"item_id": "x1"} for row in log()])
    counts = mine_shop(tmp_path, items=ItemsConfig("items.csv", max_rejected_share=0.1)).counts
    assert counts["read"]["items"] == 53_001 == counts["items"] + sum(counts["rejected"]["items"].values())


def test_a_header_that_comes_again_is_no_item(tmp_path: Path) -> None:
    text = table()
    assert titles(tmp_path, text + text.replace("a,", "e,"), max_rejected_share=0.5) == [*TITLES, TITLES[0]]
    reasons = [row["reason"] for row in read(tmp_path, "rejected.parquet")]
    assert "the line names the columns once more" in reasons


def test_a_file_without_names_of_columns_is_told_what_to_write(tmp_path: Path) -> None:
    assert "csv = {names = […]}" in refusal(tmp_path, "1,Cup\n2,Mug\n").cure


WORKBOOK = io.BytesIO()
with zipfile.ZipFile(WORKBOOK, "w") as archive:
    archive.writestr("[Content_Types].xml", "<Types/>")
    archive.writestr("xl/workbook.xml", "<workbook/>")


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [
        ("items.csv", WORKBOOK.getvalue(), "is an Excel workbook"),
        ("items.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "is an Excel workbook (.xls)"),
        ("items.csv", b"PAR1\x15\x04\xff", "is Parquet"),
        ("items.csv", '{"item_id": "a"}\n', "is JSON"),
        ("items.csv", "<!DOCTYPE html>\n<html><body>Log in</body></html>", "is a web page"),
        ("items.csv", '<?xml version="1.0"?><rss></rss>', "is XML"),
        ("items.csv", "item_id,title\na,Cup\n" + "\0" * 4096, "was not written to its end"),
        ("items.csv", "item_id,title\na,Cup\n".encode("utf-32"), "the mark of UTF-32"),
        ("items.jsonl", "item_id,title\na,Cup\n", "is no JSON"),
        ("items.jsonl", "{'item_id': 'a', 'title': 'Cup'}\n", "what Python prints of a dict"),
        ("items.json", "[]", "has no rows"),
        ("items.xlsx", WORKBOOK.getvalue(), "a spreadsheet: save it as CSV UTF-8"),
        ("items.csv.zst", b"\x28\xb5\x2f\xfd", "unpack it"),
    ],
)
def test_a_file_is_named_for_what_it_is(tmp_path: Path, name: str, content: str | bytes, finding: str) -> None:
    assert finding in refusal(tmp_path, content, name).cause


def test_gzip_is_told_from_the_content(tmp_path: Path) -> None:
    assert titles(tmp_path, gzip.compress(table().encode())) == TITLES
    assert titles(tmp_path, table(), "items.csv.gz") == TITLES
    assert titles(tmp_path, gzip.compress("\n".join(map(json.dumps, ROWS)).encode()), "items.jsonl") == TITLES


def test_a_format_that_the_name_does_not_tell(tmp_path: Path) -> None:
    assert 'format = "csv"' in refusal(tmp_path, table("\t"), "items.txt").cure
    assert titles(tmp_path, table("\t"), "items.txt", format="csv") == TITLES


LINES = [json.dumps(row) for row in ROWS]


@pytest.mark.parametrize(
    "text",
    [
        ",\n".join(LINES),
        "[" + ",\n".join(LINES) + ",]",
        "[\n" + "\n,".join(LINES) + "\n]\n",
        "\n".join(f"[{line}, {other}]" for line, other in zip(LINES[::2], LINES[1::2], strict=True)),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "".join(LINES),
        "".join(f"\x1e{line}\n" for line in LINES),
        "\ufeff" + "\r\n".join(LINES),
        json.dumps({"count": 4, "products": ROWS}),
        json.dumps({"took": 3, "hits": {"total": 4, "hits": [{"_id": "x", "_source": row} for row in ROWS]}}, indent=1),
        "\n".join(json.dumps({"_index": "items", "_id": row["item_id"], "_source": row}) for row in ROWS),
        "\n".join(LINES).replace("Plain cup", "Plain\ncup"),
        "".join('{"index": {"_index": "items", "_id": "x"}}\n' + line + "\n" for line in LINES),
    ],
)
def test_json_of_any_form(tmp_path: Path, text: str) -> None:
    assert [" ".join(title.split()) for title in titles(tmp_path, text, "items.json")] == TITLES


def engine_id(row: Mapping[str, object]) -> dict[str, object]:
    return {"_id": row["item_id"]}


def engine_document(row: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in row.items() if key != "item_id"}


@pytest.mark.parametrize(
    "lines",
    [
        [{"_index": "p"} | engine_id(row) | {"_source": engine_document(row)} for row in ROWS],
        [line for row in ROWS for line in ({"create": engine_id(row)}, engine_document(row))],
        [line for row in ROWS for line in ({"update": engine_id(row)}, {"doc": engine_document(row)})],
        [
            {"delete": {"_id": "gone"}},
            *(line for row in ROWS for line in ({"index": engine_id(row) | {"_index": "p"}}, engine_document(row))),
        ],
    ],
)
def test_the_id_of_a_search_engine_s_document_is_a_column(tmp_path: Path, lines: list[dict[str, object]]) -> None:
    text = "\n".join(map(json.dumps, lines))
    assert titles(tmp_path, text, "items.jsonl", columns={"item_id": "_id"}) == TITLES
    assert [item["item_id"] for item in read(tmp_path, "items.parquet")] == [row["item_id"] for row in ROWS]


def test_an_action_without_its_document_and_a_document_without_its_action_are_counted(tmp_path: Path) -> None:
    action = '{"index": {"_index": "items"}}'
    text = "\n".join([action, *LINES[:2], action, action, LINES[2], "oops", LINES[3], action])
    assert titles(tmp_path, text, "items.json", max_rejected_share=0.5) == TITLES
    counts = json.loads((tmp_path / "dataset" / "manifest.json").read_text("utf-8"))["counts"]
    assert counts["rejected"]["items"] == {"the line is not a JSON object": 3}


def test_a_document_may_have_a_member_doc(tmp_path: Path) -> None:
    """Only below an `update` is it the document."""
    text = "\n".join('{"index": {}}\n' + json.dumps(row | {"doc": {"title": "other"}}) for row in ROWS)
    assert titles(tmp_path, text, "items.jsonl") == TITLES


def test_values_with_their_type_beside_them_are_plain(tmp_path: Path) -> None:
    prices = [{"$numberDecimal": "27.99"}, {"$numberInt": "5"}, 3.5, {"$numberDouble": "2.0"}]
    rows = [
        engine_document(row) | {"_id": {"$oid": row["item_id"]}, "price": price, "brand": {"$unknown": 1}}
        for row, price in zip(ROWS, prices, strict=True)
    ]
    text = "\n".join(map(json.dumps, rows))
    assert titles(tmp_path, text, "items.jsonl", columns={"item_id": "_id"}) == TITLES
    items = read(tmp_path, "items.parquet")
    assert [item["price"] for item in items] == [27.99, 5.0, 3.5, 2.0]
    assert {item["brand"] for item in items} == {'{"$unknown":1}'}


def test_what_is_cut_off_or_no_object_is_counted(tmp_path: Path) -> None:
    text = "[" + ",\n".join([*LINES, "oops", LINES[0].replace('"a"', '"e"')[:-9]])
    assert titles(tmp_path, text, "items.json", max_rejected_share=0.5) == TITLES
    counts = json.loads((tmp_path / "dataset" / "manifest.json").read_text("utf-8"))["counts"]
    assert counts["rejected"]["items"] == {"the line is not a JSON object": 2}


def test_two_products_run_together_are_set_aside_and_not_one(tmp_path: Path) -> None:
    merged = '{"item_id": "e", "title": "Red cap", "item_id": "f", "title": "Blue cap"}'
    text = f'{{"products": [{", ".join([*LINES[:2], merged, *LINES[2:]])}]}}'
    assert titles(tmp_path, text, "items.json", max_rejected_share=0.5) == TITLES
    counts = json.loads((tmp_path / "dataset" / "manifest.json").read_text("utf-8"))["counts"]
    assert counts["rejected"]["items"] == {"the line is not a JSON object": 1}


def test_words_for_no_number_stop_nothing(tmp_path: Path) -> None:
    text = "item_id,title,price,available\na,Cup,NULL,None\nb,Mug,nan,\nc,Pot,3,yes\n"
    assert titles(tmp_path, text) == ["Cup", "Mug", "Pot"]
    assert [item["price"] for item in read(tmp_path, "items.parquet")] == [None, None, 3.0]


def test_text_that_parquet_holds_as_bytes(tmp_path: Path) -> None:
    items = [item | {"title": str(item["title"]).encode(), "item_id": item["item_id"].encode()} for item in ITEMS]
    write_shop(tmp_path, [row | {"timestamp": str(row["timestamp"]).encode()} for row in log()], items)
    mine_shop(tmp_path, items=ItemsConfig("items.parquet"))
    assert [item["title"] for item in read(tmp_path, "items.parquet")] == [item["title"] for item in ITEMS]
