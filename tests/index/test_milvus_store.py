"""The store in a Milvus server: columns and texts of any kind, the alias, what goes out of memory, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from index.milvus_process import start_milvus
from mmse.core.errors import ArtifactError, MmseError, StoreError, UsageError
from mmse.index.base import IndexConfig
from mmse.index.columns import FilterColumns
from mmse.index.milvus.fields import MAX_VALUES, Field, choose_fields, write_expression
from mmse.index.store import VectorStore, open_store, store_class, write_store_name
from mmse.schema.filters import Kind, parse_filter

pytest.importorskip("pymilvus", reason="needs mmse[milvus]")
pytest.importorskip("milvus_lite", reason="needs Milvus Lite: pip install milvus-lite")

TEXTS = [
    '12" pan',
    "it's",
    "back\\slash",
    "a\nb",
    "tab\tbed",
    "ünïcode ß",
    "😀",
    "中文",
    "%like_",
    '\\"',
    "{x}",
    "é" * 3_000,
]
KINDS = {"brand": Kind.NAME, "Größe": Kind.NAME, "in": Kind.PATH, "price": Kind.NUMBER, "new": Kind.FLAG}
WIDTH = 8
ITEMS = pa.table(
    {
        "brand": [*TEXTS, "", None] * 4,
        "Größe": pa.array([["XL", text] if text else [] for text in [*TEXTS, "", ""]] * 4, pa.list_(pa.string())),
        "in": [f"{text} > part" for text in [*TEXTS, "", ""]] * 4,
        "price": pa.array([1e-7, -5.5, 1e22, float("inf"), float("-inf"), None, 3.0] * 8, pa.float64()),
        "new": [True, False, None, None] * 14,
    }
)
VECTORS = np.random.default_rng(0).standard_normal((len(ITEMS), WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with start_milvus() as server:
        yield server.uri


@pytest.fixture
def config(uri: str, tmp_path: Path) -> IndexConfig:
    """A config whose collections no other test has."""
    name = f"t{abs(hash(str(tmp_path)))}"
    return IndexConfig(store="milvus", options={"uri": uri, "collection": name, "timeout_s": 20.0})


def publish(config: IndexConfig, folder: Path, vectors: np.ndarray = VECTORS, items: pa.Table = ITEMS) -> Any:
    folder.mkdir()
    writer = store_class(config.store).create(config, WIDTH, KINDS, vectors[:5])
    writer.upsert(np.arange(len(vectors)), vectors, items)
    counts = writer.publish(folder)
    write_store_name(folder, config.store)
    return counts


def open_it(folder: Path, vectors: np.ndarray = VECTORS, items: pa.Table = ITEMS) -> VectorStore:
    return open_store(folder, vectors, FilterColumns.from_table(items, KINDS), len(vectors))


def test_filters_by_odd_columns_and_texts(config: IndexConfig, tmp_path: Path) -> None:
    counts = publish(config, tmp_path / "index")
    assert counts["recall"] >= config.target_recall
    store, columns = open_it(tmp_path / "index"), FilterColumns.from_table(ITEMS, KINDS)
    filters: list[dict[str, Any]] = [{column: text} for text in TEXTS[:-1] for column in ("brand", "Größe", "in")]
    filters += [{"in": f"{text} > part"} for text in TEXTS[:-1]] + [{"brand": ""}, {"brand": ["", "IT'S"]}]
    filters += [{"price": price} for price in (1e-7, -5.5, 1e22, 3)]
    filters += [
        {"price": {"to": 5}},
        {"price": {"from": 5}},
        {"not": {"price": {"from": -1e308}}},
        {"new": [True, False]},
    ]
    filters += [{"or": []}, {"not": {"or": [{"new": True}, {"brand": "it's"}]}}]
    for value in filters:
        parsed_filter = parse_filter(value, KINDS)
        expected = np.flatnonzero(columns.mask(parsed_filter)).tolist()
        ids = store.search(VECTORS[:1], len(ITEMS), parsed_filter).ids[0]
        assert sorted(ids[ids >= 0].tolist()) == expected, value


def test_fields_are_named_as_milvus_takes_them() -> None:
    names = ["brand", "row", "Größe", "json_x", "column_7", "x y", "like"]
    columns = FilterColumns.from_table(pa.table({"brand": ["a"]}), dict.fromkeys(names, Kind.NAME))
    fields = choose_fields(columns.kinds, [columns])
    assert [field.name for field in fields.values()] == ["brand", *(f"column_{number}" for number in range(1, 7))]


def test_an_expression_is_true_where_the_filter_is() -> None:
    fields = {"b": Field("b", Kind.NAME, False), "p": Field("p", Kind.NUMBER, False), "c": Field("c", Kind.PATH, True)}
    kinds = {column: field.kind for column, field in fields.items()}
    value = {"b": ['A "x"', "B"], "p": {"from": 2}, "not": {"c": "T > d"}}
    expression = write_expression(parse_filter(value, kinds), fields)
    assert expression == r'((b in ["a \"x\"", "b"]) and (p >= 2.0) and (not array_contains_any(c, ["t > d"])))'


def test_an_item_with_more_values_than_milvus_takes(config: IndexConfig, tmp_path: Path) -> None:
    many = pa.array([[f"v{number}" for number in range(MAX_VALUES + 1)]], pa.list_(pa.string()))
    items = ITEMS.slice(0, 1).set_column(1, "Größe", many)
    with pytest.raises(UsageError, match=r"row 0 of the items table has 4,097 values in 'Größe', Milvus takes 4,096"):
        publish(config, tmp_path / "index", VECTORS[:1], items)
    assert not own_collections(config)


def test_the_alias_names_the_newest_whole_state(
    config: IndexConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alias = str(config.options["collection"])
    names = [publish(config, tmp_path / name)["collection"] for name in ("first", "second")]
    assert client(config).describe_alias(alias)["collection_name"] == names[1]
    with monkeypatch.context() as patch:
        patch.setattr("mmse.index.milvus.server.MilvusServer.count_rows", lambda self, collection: 3)
        with pytest.raises(StoreError, match=f"has 3 rows, {len(VECTORS)} were uploaded"):
            publish(config, tmp_path / "third")
    assert client(config).describe_alias(alias)["collection_name"] == names[1]
    assert own_collections(config) == names, "what was not published is gone"


def test_a_former_state_goes_out_of_memory_and_is_loaded_again(config: IndexConfig, tmp_path: Path) -> None:
    config = IndexConfig(store="milvus", options={**config.options, "loaded": 1})
    first = publish(config, tmp_path / "first")["collection"]
    store = open_it(tmp_path / "first")
    before = store.search(VECTORS[:2], 5).ids.tolist()
    publish(config, tmp_path / "second", 2 * VECTORS)
    assert client(config).get_load_state(first)["state"].name == "NotLoad"
    assert store.search(VECTORS[:2], 5).ids.tolist() == before
    publish(config, tmp_path / "third", 3 * VECTORS)
    assert open_it(tmp_path / "first").search(VECTORS[:2], 5).ids.tolist() == before


def test_a_collection_that_is_not_the_one_of_the_run(config: IndexConfig, tmp_path: Path) -> None:
    collection = publish(config, tmp_path / "index")["collection"]
    store = open_it(tmp_path / "index")
    with pytest.raises(ArtifactError, match="the run's 56 vectors of 8 are not those"):
        open_it(tmp_path / "index", -VECTORS)
    with pytest.raises(ArtifactError, match="the run's 56 vectors of 5 are not those"):
        open_it(tmp_path / "index", np.ascontiguousarray(VECTORS[:, :5]))
    client(config).drop_collection(client(config).describe_alias(str(config.options["collection"]))["collection_name"])
    with pytest.raises(StoreError, match=f"has no collection {collection} any more") as error_info:
        store.search(VECTORS[:1], 3)
    assert "Build the index again" in error_info.value.cure
    with pytest.raises(ArtifactError, match=rf"names the collection {collection}, and the Milvus server .* has none"):
        open_it(tmp_path / "index")
    client(config).create_collection(collection, dimension=3)
    with pytest.raises(ArtifactError, match=r"has vectors of 3 numbers, .* was made for 8"):
        open_it(tmp_path / "index")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"uri": "http://127.0.0.1:1", "timeout_s": 1.0},
            r"at http://127.0.0.1:1 does not answer: .*\nStart it, or mend",
        ),
        ({"uri": "./milvus.db"}, r"expected http://HOST:PORT .*milvus-lite server --data-dir"),
        ({"url": "x"}, r"there is no key 'url'.\nDid you mean 'uri'"),
        ({"index": "IVF"}, "'index' is 'IVF', expected one of FLAT, HNSW"),
        ({"collection": "my shop"}, "'collection' is 'my shop', expected letters"),
        ({"token_file": "nowhere/token"}, "token_file 'nowhere/token' cannot be read"),
    ],
)
def test_options_that_lead_nowhere(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MmseError, match=message):
        store_class("milvus").create(IndexConfig(store="milvus", options=options), WIDTH, KINDS, VECTORS[:0])


def client(config: IndexConfig) -> Any:
    from pymilvus import MilvusClient

    return MilvusClient(uri=str(config.options["uri"]), timeout=20)


def own_collections(config: IndexConfig) -> list[str]:
    prefix = f"{config.options['collection']}_"
    return sorted(name for name in client(config).list_collections() if name.startswith(prefix))


def test_a_wrong_token_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Milvus Lite has no users, so that its client stands in here for what Milvus says."""
    from pymilvus.exceptions import MilvusException

    def refuse(**options: object) -> None:
        assert options["token"] == "root:wrong"
        raise MilvusException(65535, "auth check failure, please check api key is correct")

    (tmp_path / "token").write_text("root:wrong\n", "utf-8")
    monkeypatch.setattr("pymilvus.MilvusClient", refuse)
    config = IndexConfig(store="milvus", options={"token_file": str(tmp_path / "token")})
    with pytest.raises(StoreError, match=r"refuses the token \('.*token'\): auth check failure") as error_info:
        store_class("milvus").create(config, WIDTH, KINDS, VECTORS[:0])
    assert "name it as token_file" in error_info.value.cure
