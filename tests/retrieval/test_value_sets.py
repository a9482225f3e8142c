"""A shop whose items have several colours and categories, from its files to its hits, edits and folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mining.toy import event, write_shop
from mmse.catalogue import Change, LiveCatalogue, Upsert
from mmse.core.errors import UsageError
from mmse.dataset.contract import check_dataset
from mmse.model.encoder import Encoder
from mmse.model.features import FeatureSpace
from mmse.pipeline import run
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import parse_filter
from mmse.schema.search import Answer, Search
from mmse.schema.stages import Stage
from mmse.shop import read_shop

COLOURS = ("red", "blue", "green", "white")
KINDS = {"mug": "Kitchen/Mugs", "lamp": "Home/Lamps", "pan": "Kitchen/Pans", "chair": "Home/Chairs"}
TOML = """
[items]
source = "items.jsonl"
categorical = ["colour"]
display = ["link"]
[events]
source = "events.parquet"
[train]
dim = 16
epochs = 1
batch_requests = 32
vocab_size = 300
checkpoint_steps = 100
catalogue_below = 0
[train.objective]
n_random = 16
[baselines]
recipes = []
[evaluate]
requests = 20
filter_requests = 10
draws = 20
"""
ITEMS: list[dict[str, Any]] = [
    {
        "item_id": f"i{i}",
        "title": f"{COLOURS[i % 4]} {kind} number {i}",
        "category": [path, "Sale"] if i % 3 == 0 else [path],
        "colour": [COLOURS[i % 4], "white"] if i % 4 == 1 else [COLOURS[i % 4]],
        "brand": "Acme",
        "price": float(i),
        "link": f"https://shop.example/p?id={i}&from=quibble",
    }
    for i, (kind, path) in enumerate((kind, path) for _ in range(20) for kind, path in KINDS.items())
]


@pytest.fixture(scope="module")
def shop_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run of the shop."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(1)
    events = []
    for number in range(240):
        kind = list(KINDS)[number % 4]
        for position, item in enumerate(rng.choice(len(ITEMS), 5, replace=False).tolist(), 1):
            stage = Stage.ORDERED if kind in ITEMS[item]["title"] else Stage.UNCLICKED
            events.append(event(f"r{number}", number, f"i{item}", position, stage, query=kind))
    write_shop(folder, events, [])
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)), "utf-8")
    (folder / "shop.toml").write_text(TOML, "utf-8")
    run(read_shop(folder / "shop.toml"), folder / "run")
    return folder / "run"


def search(retriever: Retriever, filter_json: dict[str, Any], **options: Any) -> Answer:
    condition = parse_filter(filter_json, retriever.kinds)
    return retriever.answer(Search("mug", k=100, filter=condition, **options))


def ids(answer: Answer) -> set[str]:
    return {hit.item_id for hit in answer.hits}


def test_the_dataset_keeps_lists_and_its_contract(shop_run: Path) -> None:
    assert check_dataset(shop_run / "dataset") == []
    items = pq.read_table(shop_run / "dataset" / "items.parquet").to_pylist()
    assert items[0]["category"] == ["Kitchen > Mugs", "Sale"]
    assert items[1]["colour"] == ["blue", "white"]


@pytest.mark.parametrize("channel", ["vector", "hybrid"])
@pytest.mark.parametrize(
    ("filter_json", "column", "value"),
    [
        ({"colour": "White"}, "colour", "white"),
        ({"colour": "blue"}, "colour", "blue"),
        ({"category": "sale"}, "category", "Sale"),
        ({"category": "Kitchen > Mugs"}, "category", "Kitchen/Mugs"),
    ],
)
def test_an_item_is_found_by_each_of_its_values(
    shop_run: Path, channel: Any, filter_json: dict[str, Any], column: str, value: str
) -> None:
    answer = search(Retriever.open(shop_run), filter_json, channel=channel)
    assert ids(answer) == {item["item_id"] for item in ITEMS if value in item[column]}


def test_words_find_under_a_filter_of_sets_what_has_them(shop_run: Path) -> None:
    answer = search(Retriever.open(shop_run), {"colour": "white"}, channel="lexical")
    assert ids(answer) == {i["item_id"] for i in ITEMS if "white" in i["colour"] and "mug" in i["title"]}


def test_hits_show_lists_and_facets_count_values(shop_run: Path) -> None:
    answer = search(Retriever.open(shop_run), {}, facets=("colour", "category"), caps={"colour": 1})
    shown = {hit.item_id: hit.item["colour"] for hit in answer.hits}
    assert shown == {item["item_id"]: item["colour"] for item in ITEMS}
    assert answer.facets["colour"].counts == {c: sum(c in i["colour"] for i in ITEMS) for c in ("white", *COLOURS[:3])}
    assert answer.facets["category"].counts["Kitchen"] == 40
    assert answer.facets["category"].counts["Sale"] == 27
    first = [colour for hit in answer.hits[:2] for colour in hit.item["colour"]]  # type: ignore[attr-defined]
    assert len(first) == len(set(first)), "the cap holds for each value"


def test_live_edits_bring_lists_and_paths_in_the_form_of_the_shop(shop_run: Path) -> None:
    item = {"item_id": "new", "title": "teal mug", "colour": ["teal", "white"], "category": ["Bar/Mugs", "Sale"]}
    item |= {"link": "https://shop.example/new"}
    with LiveCatalogue.open(shop_run, writable=True) as catalogue:
        catalogue.apply([Upsert(item), Change("i0", {"colour": "teal"})])
        for _ in range(2):
            snapshot = catalogue.snapshot()
            rows = snapshot.rows(["new", "i0"])
            assert snapshot.display_items(rows)[0]["link"] == item["link"]
            for filter_json in ({"colour": "teal"}, {"category": "sale", "colour": "teal"}):
                mask = snapshot.mask(parse_filter(filter_json, snapshot.kinds))
                assert mask is not None
                assert np.flatnonzero(mask).tolist() == sorted(rows.tolist())
            assert snapshot.display_items(rows)[0]["category"] == ["Bar > Mugs", "Sale"]
            assert snapshot.counts("colour")["teal"] == 2
            words = snapshot.lexical.parse("teal", {"title": 1.0, "attributes": 1.0})
            assert set(snapshot.lexical.search(words, 9).rows.tolist()) == set(rows.tolist())
            catalogue.compact()
        with pytest.raises(UsageError, match="'brand' has 2 values"):
            catalogue.apply([Change("i1", {"brand": ["Acme", "Bolt"]})])


def test_each_value_is_a_feature_and_a_word(shop_run: Path) -> None:
    space = FeatureSpace.open(shop_run / "model")
    assert set(space.vocabulary["identity:colour"]) == set(COLOURS)
    assert set(space.vocabulary["identity:category1"]) == {"kitchen", "home", "sale"}
    items = pq.read_table(shop_run / "dataset" / "items.parquet")
    assert space.item_texts(items.slice(1, 1)) == ["blue lamp number 1 Acme Home > Lamps blue white"]
    features = space.encode(items, Encoder.open(shop_run / "model").tokenizer).tables["identity"]
    colours = set(space.vocabulary["identity:colour"].values())
    assert [len(colours & set(row)) for row in features[:4].tolist()] == [1, 2, 1, 1]


def test_a_column_of_display_is_in_hits_and_edits_and_nowhere_else(shop_run: Path) -> None:
    retriever = Retriever.open(shop_run)
    answer = retriever.answer(Search("red mug", 3))
    assert [hit.item["link"] for hit in answer.hits] == [
        f"https://shop.example/p?id={hit.item_id[1:]}&from=quibble" for hit in answer.hits
    ]
    assert retriever.answer(Search("quibble", 3)).notes, "no item has this word"
    assert "link" not in retriever.kinds
    assert not any("link" in columns for columns in retriever.encoder.space.shop_columns.values())
