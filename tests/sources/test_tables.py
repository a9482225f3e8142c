from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.core.config import build
from mmse.core.errors import TableError, UsageError
from mmse.sources.duckdb_session import open_session
from mmse.sources.file_locations import files_in
from mmse.sources.tables import EventsConfig, ItemsConfig, identifier, literal, open_events, open_items


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def items(folder: Path, name: str = "items.csv", header: str = "item_id,title") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"{header}\n1,shoe\n"
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_and_any_text_pass_through_sql(text: str) -> None:
    row = duckdb.connect().execute(f"SELECT {literal(text)} AS {identifier(text)}")
    assert row.description is not None
    assert (row.description[0][0], row.fetchall()) == (text, [(text,)])


@pytest.mark.parametrize("source", ["items.csv", "folder", "folder/*.csv", "**/items.csv", "zipped.csv.gz"])
def test_a_file_a_folder_and_a_glob(tmp_path: Path, connection: duckdb.DuckDBPyConnection, source: str) -> None:
    items(tmp_path, "folder/items.csv")
    items(tmp_path, "folder/_temporary/items.csv")
    items(tmp_path, "items.csv")
    items(tmp_path, "zipped.csv.gz")
    (tmp_path / "folder" / "_SUCCESS").touch()
    table = open_items(connection, ItemsConfig(source), tmp_path)
    assert connection.execute(f"SELECT DISTINCT title FROM {table.scan}").fetchall() == [("shoe",)]
    assert len(table.files) == (3 if "**" in source else 1)


def test_a_missing_column_names_file_columns_nearest_and_cure(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    items(tmp_path, header="item_id,titel")
    with pytest.raises(TableError) as caught:
        open_items(connection, ItemsConfig("items.csv"), tmp_path)
    assert str(tmp_path / "items.csv") in caught.value.cause
    assert "no column 'title'; it has: item_id, titel. The nearest is 'titel'." in caught.value.cause
    assert '[items.columns] title = "titel"' in caught.value.cure


def test_a_column_that_was_mapped_or_declared_must_exist(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    items(tmp_path)
    for config in (ItemsConfig("items.csv", columns={"brand": "marke"}), ItemsConfig("items.csv", text=("marke",))):
        with pytest.raises(TableError, match="no column 'marke'"):
            open_items(connection, config, tmp_path)


def test_no_file(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(TableError, match=r"nothing matches .*events/\*\.parquet"):
        open_events(connection, EventsConfig(), tmp_path)


@pytest.mark.parametrize("name", ["items.csv", "items.parquet", "items.jsonl"])
def test_an_empty_file(tmp_path: Path, connection: duckdb.DuckDBPyConnection, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(TableError, match=rf"{name} of the items table is empty"):
        open_items(connection, ItemsConfig(name), tmp_path)


def test_a_truncated_parquet_among_good_ones_is_named(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    sql = "COPY (SELECT range::VARCHAR AS item_id, 'x' AS title FROM range(10000)) TO {}"
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        connection.execute(sql.format(literal(str(tmp_path / name))))
    (tmp_path / "b.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:5000])
    with pytest.raises(TableError, match=r"cannot be read from .*b\.parquet"):
        open_items(connection, ItemsConfig("*.parquet"), tmp_path)


@pytest.mark.parametrize("damage", [b"\x00\x00", b"\xff\xff", b"\x15\x80"])
def test_a_damaged_page_among_good_ones_is_named(tmp_path: Path, damage: bytes) -> None:
    """What DuckDB says of such a page names no file, and comes when the rows are read."""
    table = pa.table({"item_id": [f"{n}" for n in range(500)], "title": [f"Mug {n * 7919 % 500}" for n in range(500)]})
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        pq.write_table(table, tmp_path / name, use_dictionary=False, compression="none")
    content = bytearray((tmp_path / "b.parquet").read_bytes())
    content[4 : 4 + len(damage)] = damage
    (tmp_path / "b.parquet").write_bytes(content)
    with open_session(memory_limit="500MB", threads=1) as session:
        opened = open_items(session.connection, ItemsConfig("*.parquet"), tmp_path)
        with pytest.raises(TableError, match=r"cannot be read from .*b\.parquet: "):
            session.run(f"SELECT bit_xor(hash(shop_row)) FROM {opened.scan} AS shop_row", reading=opened)


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "items.parquet").write_text("item_id,title\n1,x\n")
    with pytest.raises(TableError, match=r"cannot be read from .*items\.parquet"):
        open_items(connection, ItemsConfig(), tmp_path)


def test_formats_are_not_mixed(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    items(tmp_path, "in/a.csv")
    items(tmp_path, "in/b.tsv.gz")
    (tmp_path / "in/c.jsonl").write_text('{"item_id": "1", "title": "x"}\n')
    with pytest.raises(TableError, match="csv, json together"):
        open_items(connection, ItemsConfig("in"), tmp_path)


def test_the_fingerprint_follows_the_files(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    items(tmp_path)
    fingerprint = open_items(connection, ItemsConfig("items.csv"), tmp_path).fingerprint()
    assert open_items(connection, ItemsConfig("items.csv"), tmp_path).fingerprint() == fingerprint
    (tmp_path / "items.csv").write_text("item_id,title\n1,shoe\n2,boot\n")
    assert open_items(connection, ItemsConfig("items.csv"), tmp_path).fingerprint() != fingerprint


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sorce": "x"}, "Did you mean 'source'"),
        ({"max_rejected_share": 2.0}, "expected a share between 0 and 1"),
        ({"columns": {"titel": "x"}}, "nearest: title"),
        ({"text": ["item_row"]}, "mine makes item_row itself"),
        ({"text": ["size"], "numeric": ["size"]}, "not also text or categorical"),
        ({"source": " "}, "a file, a folder, a glob or a URL"),
    ],
)
def test_config_mistakes_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(ItemsConfig, values, "shop.toml [items]")


@pytest.mark.parametrize("source", ["items.csv", "*.csv", "folder", "folder/*.csv", "**/*s.csv"])
@pytest.mark.parametrize("name", ["shop [2026]", "what?", "a*b"])
def test_a_base_with_a_name_like_a_pattern(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection, source: str, name: str
) -> None:
    items(tmp_path / name, "items.csv")
    items(tmp_path / name, "folder/items.csv")
    table = open_items(connection, ItemsConfig(source), tmp_path / name)
    assert connection.execute(f"SELECT DISTINCT title FROM {table.scan}").fetchall() == [("shoe",)]
    row = connection.execute(f"SELECT count(*) FROM read_csv({files_in(tmp_path / name, '*.csv')})").fetchone()
    assert row == (1,)


@pytest.mark.parametrize(
    "text",
    [
        ",item_id,title\n0,1,shoe\n",
        "item_id,title,\n1,shoe,\n",
        "\ufeffsep=;\nitem_id;title\n1;shoe\n",
        "Item_ID, Title \n1,shoe\n",
        'item_id,title,"colour\nname"\n1,shoe,red\n',
        "item_id,title\n\n1,shoe\n\n\n",
    ],
)
def test_csv_as_spreadsheets_and_pandas_write_it(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection, text: str
) -> None:
    (tmp_path / "items.csv").write_text(text, "utf-8")
    table = open_items(connection, ItemsConfig("items.csv"), tmp_path)
    values = f"SELECT {table.column('item_id')}, {table.column('title')} FROM {table.scan}"
    assert connection.execute(values).fetchall() == [("1", "shoe")]


def test_a_line_above_the_header_is_named(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "items.csv").write_text("Export of March\nitem_id,title\n1,shoe\n")
    with pytest.raises(TableError, match=r"has one column, 'Export of March', .*'item_id,title'"):
        open_items(connection, ItemsConfig("items.csv"), tmp_path)


def test_a_newer_file_has_one_more_column(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    items(tmp_path, "in/1.csv")
    (tmp_path / "in" / "2.csv").write_text("item_id;title;brand\n2;cap;Acme\n3;hat;Acme;x\n")
    table = open_items(connection, ItemsConfig("in"), tmp_path)
    rows = connection.execute(f"SELECT item_id, title, brand FROM {table.scan}").fetchall()
    assert rows == [("1", "shoe", None), ("2", "cap", "Acme")]
    assert connection.execute(f"SELECT count(*) FROM {table.bad_lines}").fetchall() == [(1,)]


def test_an_archive_is_to_be_unpacked(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "items.zip").write_bytes(b"PK")
    with pytest.raises(TableError, match=r"items.zip is none of these \(unpack it\)"):
        open_items(connection, ItemsConfig("items.zip"), tmp_path)
