from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from mining.toy import ITEMS, log, mine_shop, read, write_shop
from mmse.core.config import build
from mmse.core.errors import TableError, UsageError
from mmse.sources.encodings import guess_encoding
from mmse.sources.tables import ItemsConfig

TITLES = ["Grüner Schuh", "café", "plain", "ÄÖÜ"]


def items_csv(encoding: str, delimiter: str = ",") -> bytes:
    lines = [f"{item['item_id']}{delimiter}{title}" for item, title in zip(ITEMS, TITLES, strict=True)]
    return "\r\n".join([f"item_id{delimiter}title", *lines, ""]).encode(encoding)


@pytest.mark.parametrize(
    ("name", "encoding", "said"),
    [
        ("items.csv", "utf-16", "the mark of UTF-16"),
        ("items.tsv", "utf-16", "the mark of UTF-16"),
        ("items.csv", "utf-16-le", "looks like utf-16-le"),
        ("items.csv", "utf-16-be", "looks like utf-16-be"),
        ("items.csv", "cp1252", "line 2 has the byte 0xfc: 'a,Grüner Schuh'; it looks like windows-1252"),
        ("items.csv.gz", "cp1252", "looks like windows-1252"),
    ],
)
def test_another_encoding_is_named_and_read_once_declared(tmp_path: Path, name: str, encoding: str, said: str) -> None:
    write_shop(tmp_path, log())
    content = items_csv(encoding, "\t" if name.endswith("tsv") else ",")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(TableError) as caught:
        mine_shop(tmp_path, items=ItemsConfig(name))
    assert said in caught.value.cause
    assert "encoding = " in caught.value.cure
    mine_shop(tmp_path, items=ItemsConfig(name, encoding=encoding))
    assert [item["title"] for item in read(tmp_path, "items.parquet")] == TITLES


@pytest.mark.parametrize(
    ("title", "encoding", "name"),
    [
        ("Chaussures légères très élégantes – 27,99 €", "cp1252", "windows-1252"),
        ("Wąż ogrodowy żółty, śruba zaciskowa", "cp1250", "windows-1250"),
        ("Садовый шланг жёлтый", "cp1251", "windows-1251"),
        ("Садовый шланг жёлтый", "koi8_r", "koi8_r"),
        ("Λάστιχο κήπου κίτρινο", "cp1253", "windows-1253"),
        ("散水ホース 黄色", "shift_jis", "shift_jis"),
        ("花园水管 黄色", "gbk", "gb18030"),
        ("정원 호스 노란색", "euc_kr", "euc_kr"),
    ],
)
def test_an_encoding_is_guessed_by_what_it_shows(title: str, encoding: str, name: str) -> None:
    lines = [f"SKU-{number},{title if number % 3 else 'Garden Hose'},{number}.99" for number in range(60)]
    assert guess_encoding("\n".join(lines).encode(encoding)) == name


def test_a_few_lines_far_into_a_file_are_not_dropped_for_their_encoding(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    head = items_csv("utf-8") + b"".join(b"n%d,plain title\r\n" % i for i in range(9000))
    (tmp_path / "items.csv").write_bytes(head + "z,Grün\r\n".encode("cp1252"))
    with pytest.raises(TableError, match=r"line 9006 has the byte 0xfc"):
        mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    counts = mine_shop(tmp_path, items=ItemsConfig("items.csv", encoding="utf-8")).counts
    assert counts["rejected"]["items"] == {"the line is not valid CSV: invalid encoding": 1}


def test_an_encoding_that_nobody_knows() -> None:
    with pytest.raises(UsageError, match="windows-1252"):
        build(ItemsConfig, {"encoding": "ansi?"}, "shop.toml [items]")


@pytest.mark.parametrize("name", ["items.json", "items.jsonl"])
@pytest.mark.parametrize("indent", [None, 1])
def test_one_json_array_is_read(tmp_path: Path, name: str, indent: int | None) -> None:
    write_shop(tmp_path, log())
    (tmp_path / name).write_text(json.dumps([*ITEMS, 3], indent=indent), "utf-8")
    counts = mine_shop(tmp_path, items=ItemsConfig(name, max_rejected_share=0.2)).counts
    assert counts["rejected"]["items"] == {"the line is not a JSON object": 1}
    assert [item["title"] for item in read(tmp_path, "items.parquet")] == [item["title"] for item in ITEMS]


def test_a_column_that_only_the_last_line_has_is_found(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    lines = [json.dumps({"item_id": f"n{i}", "title": "x"}) for i in range(11_000)]
    lines += [json.dumps({**item, "rating": 4.5}) for item in ITEMS]
    (tmp_path / "items.jsonl").write_text("\n".join(lines), "utf-8")
    mine_shop(tmp_path, items=ItemsConfig("items.jsonl"))
    assert read(tmp_path, "items.parquet")[-1]["rating"] == 4.5
