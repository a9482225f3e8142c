from __future__ import annotations

import datetime as dt
import gzip
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mining.toy import DAY, ITEMS, Row, event, log, mine_shop, read, write_csv, write_shop
from mmse.core.errors import TableError
from mmse.sources.tables import EventsConfig, ItemsConfig

BAD_EVENTS: list[tuple[Row, str]] = [
    ({"request_id": ""}, "request_id is empty"),
    ({"timestamp": "yesterday"}, "timestamp is not a time"),
    ({"timestamp": "infinity"}, "timestamp is not a time"),
    ({"timestamp": ""}, "timestamp is missing"),
    ({"timestamp": "1.77236E+12"}, "timestamp has lost its last digits in a spreadsheet"),
    ({"query": " \t"}, "query is empty"),
    ({"query": "\u3000\u00a0"}, "query is empty"),
    ({"query": "(not set)"}, "query is empty"),
    ({"query": "undefined"}, "query is empty"),
    ({"query": "*:*"}, "query is empty"),
    ({"item_id": ""}, "item_id is empty"),
    ({"item_id": "nope'; DROP TABLE items; --"}, "item_id is not in the items table"),
    ({"position": "2.5"}, "position is not a whole number"),
    ({"position": "first"}, "position is not a whole number"),
    ({"position": "99999999999"}, "position is not a whole number"),
    ({"position": "nan"}, "position is not a whole number"),
    ({"position": "0"}, "position is below 1"),
    ({"position": ""}, "position is missing"),
    ({"clicked": "maybe"}, "clicked is not true or false"),
    ({"ordered": ""}, "ordered is missing"),
    ({"explored": "2"}, "explored is not true or false"),
]


@pytest.mark.parametrize(("change", "reason"), BAD_EVENTS)
def test_a_bad_event_is_kept_aside_with_its_reason(tmp_path: Path, change: Row, reason: str) -> None:
    write_shop(tmp_path, log())
    write_csv(tmp_path / "events.csv", [*log(), event("r0", 0, "d", 4) | change])
    counts = mine_shop(tmp_path, events=EventsConfig("events.csv")).counts
    assert counts["rejected"]["events"] == {reason: 1}
    assert sum(counts["rows"].values()) == 24
    (row,) = read(tmp_path, "rejected.parquet")
    assert (row["table"], row["reason"]) == ("events", reason)
    key, value = next(iter(change.items()))
    assert json.loads(row["row"])[key] == (value or None)


UNSHOWN = {"retrieved_only": "1", "position": "", "clicked": "", "ordered": ""}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"carted": "2"}, "carted is not true or false"),
        ({"retrieved_only": "maybe"}, "retrieved_only is not true or false"),
        ({"position": ""}, "position is missing"),
        (UNSHOWN | {"position": "below"}, "position is not a whole number"),
        (UNSHOWN | {"position": "0"}, "position is below 1"),
        (UNSHOWN | {"clicked": "maybe"}, "clicked is not true or false"),
        (UNSHOWN | {"clicked": "yes"}, "retrieved_only, and yet clicked, carted or ordered"),
        (UNSHOWN | {"ordered": "1"}, "retrieved_only, and yet clicked, carted or ordered"),
        (UNSHOWN | {"carted": "t"}, "retrieved_only, and yet clicked, carted or ordered"),
        (UNSHOWN | {"item_id": "x"}, "item_id is not in the items table"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_bad_carts_and_bad_rows_of_what_was_not_shown(tmp_path: Path, form: str, change: Row, reason: str) -> None:
    rows = [{**row, "retrieved_only": "", "carted": ""} for row in log()]
    good, bad = [event("r0", 0, "d", 4) | {"retrieved_only": "", "carted": ""} | c for c in (UNSHOWN, change)]
    write_shop(tmp_path, log())
    if form == "csv":
        write_csv(tmp_path / "events.csv", [*rows, good, bad])
    else:
        lines = [json.dumps({**row, "timestamp": str(row["timestamp"])}) for row in (*rows, good, bad)]
        (tmp_path / "events.jsonl").write_text("\n".join(lines), "utf-8")
    counts = mine_shop(tmp_path, events=EventsConfig(f"events.{form}")).counts
    assert counts["rejected"]["events"] == {reason: 1}
    assert counts["stages"]["train"]["retrieved"] == 1
    assert sum(counts["rows"].values()) == 24 + 1


def test_a_log_of_which_nothing_was_shown(tmp_path: Path) -> None:
    write_shop(tmp_path, [event(f"r{i}", i, "a", 1, retrieved_only=True) for i in range(9)])
    with pytest.raises(TableError, match="No row of the events table"):
        mine_shop(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"item_id": None}, "item_id is empty"),
        ({"title": "  "}, "title is empty"),
        ({"item_id": "a"}, "item_id is a duplicate of an earlier row"),
    ],
)
def test_a_bad_item_is_kept_aside_with_its_reason(tmp_path: Path, change: Row, reason: str) -> None:
    items = [{**item, "price": None if item["price"] is None else str(item["price"])} for item in ITEMS]
    write_shop(tmp_path, log(), [*items, {**items[3], "item_id": "e"} | change])
    counts = mine_shop(tmp_path, items=ItemsConfig(max_rejected_share=0.2)).counts
    assert counts["rejected"]["items"] == {reason: 1}
    assert [item["title"] for item in read(tmp_path, "items.parquet")] == [item["title"] for item in ITEMS]


def test_past_the_limit_mining_stops_and_shows_each_reason(tmp_path: Path) -> None:
    bad = [event("x", 1, "zzz", 1), event("x", 1, "a", -3), event("x", 1, "zzz", 2)]
    write_shop(tmp_path, [*log(), *bad])
    with pytest.raises(TableError) as caught:
        mine_shop(tmp_path)
    assert "3 of 27 rows" in caught.value.cause
    assert "2 × item_id is not in the items table" in caught.value.cause
    assert "1 × position is below 1" in caught.value.cause
    assert '"position":-3' in caught.value.cause
    assert "max_rejected_share" in caught.value.cure
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.parquet", "items.parquet"]


def test_timestamps_in_every_form_are_the_same_moment(tmp_path: Path) -> None:
    """ISO text with and without a zone, and seconds, ms and µs since 1970."""
    stamp = int(DAY.replace(tzinfo=dt.UTC).timestamp())
    forms = ["2025-03-01T00:00:00Z", "2025-03-01 02:00:00+02:00", "2025-03-01 00:00:00"]
    forms += [str(stamp), f"{stamp}000", f"{stamp}000000", f"{stamp}.0"]
    write_shop(tmp_path, log())
    rows = [event(f"q{i}", 0, "a", 1, timestamp=form) for i, form in enumerate(forms)]
    write_csv(tmp_path / "events.csv", [event("first", -1, "a", 1), *rows])
    mine_shop(tmp_path, events=EventsConfig("events.csv"))
    timestamps = [row["timestamp"] for row in read(tmp_path, "t*/**/*.parquet") if row["request_id"] != "first"]
    assert timestamps == [DAY] * len(forms)


def test_positions_from_zero_once_that_is_said(tmp_path: Path) -> None:
    write_shop(tmp_path, [{**row, "position": row["position"] - 1} for row in log()])
    with pytest.raises(TableError, match="position is below 1") as caught:
        mine_shop(tmp_path)
    assert "first_position = 0" in str(caught.value.cure)
    mine_shop(tmp_path, events=EventsConfig("events.parquet", first_position=0))
    assert {row["position"] for row in read(tmp_path, "[tv]*/**/*.parquet")} == {1, 2, 3}


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("red%20shoe", "red shoe"),
        ("red+shoe+42", "red shoe 42"),
        ("gr%C3%BCn", "grün"),
        ("c++", "c++"),
        ("100%", "100%"),
        ("50%25 off", "50%25 off"),
        ("%ff%fe", "%ff%fe"),
    ],
)
def test_a_query_as_in_a_url_is_read(tmp_path: Path, written: str, read_as: str) -> None:
    write_shop(tmp_path, [{**row, "query": written} for row in log()])
    mine_shop(tmp_path)
    assert {row["query"] for row in read(tmp_path, "queries.parquet")} == {read_as}


@pytest.mark.parametrize(
    "words", [("1", "0"), ("true", "False"), ("YES", "no"), ("t", "f"), ("ja", "nein"), ("X", "0.0")]
)
def test_words_for_true_and_false(tmp_path: Path, words: tuple[str, str]) -> None:
    write_shop(tmp_path, log())
    rows = [{**row, "clicked": words[0] if row["clicked"] else words[1]} for row in log()]
    write_csv(tmp_path / "events.csv", rows)
    assert mine_shop(tmp_path, events=EventsConfig("events.csv")).counts["stages"]["train"]["clicked"] == 3


def test_csv_json_and_parquet_give_the_same_dataset(tmp_path: Path) -> None:
    """Emoji, other scripts, line feeds and quotes come through every format."""
    rows = [{**row, "query": 'Größe "42"\n靴 👟'} for row in log()]
    write_shop(tmp_path, rows)
    write_csv(tmp_path / "events.csv", rows)
    write_csv(tmp_path / "semicolons.csv", rows, ";")
    write_csv(tmp_path / "events.tsv", rows, "\t")
    lines = [json.dumps({**row, "timestamp": row["timestamp"].isoformat()}, ensure_ascii=False) for row in rows]
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    mine_shop(tmp_path)
    expected = read(tmp_path, "t*/**/*.parquet")
    assert expected[0]["query"] == 'größe "42" 靴 👟'
    crlf = (tmp_path / "events.csv").read_bytes()
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + crlf)
    (tmp_path / "zipped.csv.gz").write_bytes(gzip.compress(crlf))
    for name in ("events.csv", "bom.csv", "zipped.csv.gz", "semicolons.csv", "events.tsv", "events.jsonl"):
        mine_shop(tmp_path, events=EventsConfig(name))
        assert read(tmp_path, "t*/**/*.parquet") == expected, name


def test_lines_that_are_no_rows_are_rejected_too(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    write_csv(tmp_path / "events.csv", log())
    with (tmp_path / "events.csv").open("ab") as handle:
        handle.write(b"one,column,too,many,for,this,table,by,far,and,more\r\n")
    counts = mine_shop(tmp_path, events=EventsConfig("events.csv")).counts
    (reason,) = counts["rejected"]["events"]
    assert re.match("the line is not valid CSV", reason)
    lines = [json.dumps({**row, "timestamp": row["timestamp"].isoformat()}) for row in log()]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, "{not json"]), "utf-8")
    counts = mine_shop(tmp_path, events=EventsConfig("events.jsonl")).counts
    assert counts["rejected"]["events"] == {"the line is not a JSON object": 1}


def test_a_shop_with_its_own_names_and_further_columns(tmp_path: Path) -> None:
    odd = "Farbe (n'eu)"
    items = [{"SKU": i["item_id"], "title": i["title"], odd: "rot", "weight": 3} for i in ITEMS]
    write_shop(tmp_path, [{("Rank #" if k == "position" else k): v for k, v in row.items()} for row in log()], items)
    mine_shop(
        tmp_path,
        items=ItemsConfig(columns={"item_id": "SKU"}, categorical=(odd,), numeric=("weight",)),
        events=EventsConfig("events.parquet", columns={"position": "Rank #"}),
    )
    item = read(tmp_path, "items.parquet")[0]
    assert (item[odd], item["weight"], item["brand"]) == ("rot", 3.0, None)


def test_requests_of_one_moment_cannot_be_split(tmp_path: Path) -> None:
    write_shop(tmp_path, [event(f"r{i}", 0, "a", 1) for i in range(9)])
    with pytest.raises(TableError, match="cannot be split by time"):
        mine_shop(tmp_path)


@pytest.mark.parametrize("table", ["items", "events"])
def test_an_empty_table(tmp_path: Path, table: str) -> None:
    write_shop(tmp_path, log())
    file = tmp_path / f"{table}.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    with pytest.raises(TableError, match=f"The {table} table has no rows"):
        mine_shop(tmp_path)
