"""Vectors that the shop brings: an item with a picture and a poor title is found, before and after it is edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jaxtyping import Float32

from mmse.catalogue.edits import Change, Edit, Upsert
from mmse.core.errors import TableError, UsageError
from mmse.core.run_folder import DATASET
from mmse.dataset.folder import DatasetFolder, vector_lengths
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import STATISTICS
from mmse.pipeline import make, run
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search
from mmse.sources.profiles import profile_folder
from mmse.sources.proposals import propose_items

KINDS = ("tent", "drill", "lamp", "sofa", "kettle", "skates")
WIDTH, N_ITEMS, N_REQUESTS = 12, 180, 900
FIRST_NEW, FIRST_BARE = N_ITEMS - 4 * len(KINDS), N_ITEMS - 2 * len(KINDS)
TOML = """
[events]
source = "EVENTS"
[items]
source = "ITEMS"
max_rejected_share = LIMIT
vectors = ["image"]
[items.columns]
image = "picture"
[train]
dim = 16
epochs = 3
batch_requests = 32
learning_rate = 0.01
vocab_size = 300
catalogue_below = 0
query_buckets = 64
user_buckets = 16
[train.objective]
n_random = 64
[mine]
periods = 2
[index]
kind = "exact"
[baselines]
recipes = []
[evaluate]
requests = 100
filter_requests = 20
draws = 20
"""


def write_toml(folder: Path, items: str, events: Path, limit: float = 0.05) -> None:
    toml = TOML
    for word, value in {"EVENTS": f"{events}/events/*.parquet", "ITEMS": items, "LIMIT": str(limit)}.items():
        toml = toml.replace(word, value, 1)
    (folder / "shop.toml").write_text(toml, "utf-8")


def picture(kind: int, rng: np.random.Generator) -> Float32[np.ndarray, " width"]:
    """What a camera would see of an item of this kind."""
    sight: Float32[np.ndarray, " width"] = (3 * np.eye(WIDTH)[kind] + rng.normal(0, 0.5, WIDTH) + 2).astype(np.float32)
    return sight


def make_tables() -> tuple[pa.Table, pa.Table]:
    """Half of the items have a brand for a title; the last four of each kind are new, two without a picture."""
    rng = np.random.default_rng(0)
    kinds = np.arange(N_ITEMS) % len(KINDS)
    is_poor = (np.arange(N_ITEMS) // len(KINDS)) % 2 == 0
    is_new = np.arange(N_ITEMS) >= FIRST_NEW
    titles = ["Acme" if poor else f"Acme {KINDS[kind]}" for kind, poor in zip(kinds, is_poor, strict=True)]
    pictures = [picture(kind, rng).tolist() for kind in kinds.tolist()]
    ids = [f"i{row}" for row in range(N_ITEMS)]
    is_bare = np.arange(N_ITEMS) >= FIRST_BARE
    items = pa.table(
        {
            "item_id": ids,
            "title": titles,
            "brand": ["Acme"] * N_ITEMS,
            "picture": pa.array([None if bare else p for p, bare in zip(pictures, is_bare, strict=True)]),
        }
    )
    rows = []
    for request in range(N_REQUESTS):
        kind = int(rng.integers(len(KINDS)))
        shown = rng.permutation(np.flatnonzero(~is_new))[:8]
        own = rng.permutation(np.flatnonzero(~is_new & (kinds == kind)))[:2]
        for position, row in enumerate(dict.fromkeys([*own.tolist(), *shown.tolist()]), 1):
            clicked = kinds[row] == kind
            ordered = bool(clicked and rng.random() < 0.3)
            rows.append(
                (f"r{request}", 1_700_000_000 + request, KINDS[kind], ids[row], position, bool(clicked), ordered)
            )
    names = ("request_id", "timestamp", "query", "item_id", "position", "clicked", "ordered")
    return items, pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


@dataclass(frozen=True)
class PictureShop:
    toml: Path
    run: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> PictureShop:
    folder = tmp_path_factory.mktemp("pictures")
    items, events = make_tables()
    pq.write_table(items, folder / "items.parquet")
    (folder / "events").mkdir()
    pq.write_table(events, folder / "events" / "all.parquet")
    write_toml(folder, "items.parquet", folder)
    run(folder / "shop.toml", folder / "run")
    return PictureShop(folder / "shop.toml", folder / "run")


@pytest.fixture
def retriever(shop: PictureShop) -> Iterator[Retriever]:
    retriever = Retriever.open(shop.run, writable=True)
    yield retriever
    assert retriever.catalogue is not None
    retriever.catalogue.close()


def rank_new(retriever: Retriever, kind: int, *, is_poor: bool, is_bare: bool) -> int:
    """The rank, among all items by their vectors, of the new item of a kind with or without words and picture."""
    first = FIRST_BARE if is_bare else FIRST_NEW
    is_even = (first // len(KINDS)) % 2 == 0
    item_id = f"i{first + kind + (0 if is_even == is_poor else len(KINDS))}"
    hits = retriever.answer(Search(KINDS[kind], N_ITEMS, channel="vector")).hits
    return next(hit.rank for hit in hits if hit.item_id == item_id)


def test_a_picture_is_found_by_words_that_its_title_lacks(retriever: Retriever) -> None:
    for kind in range(len(KINDS)):
        assert rank_new(retriever, kind, is_poor=True, is_bare=False) <= 40, "30 of 180 items are of each kind"
        assert rank_new(retriever, kind, is_poor=True, is_bare=True) > 28, "nothing tells of it"
    hits = retriever.answer(Search("tent", 60, channel="vector")).hits
    hit = next(hit for hit in hits if hit.title == "Acme")
    assert max(hit.parts, key=lambda part: hit.parts[part]) == "image"
    assert "its image" in hit.reason
    assert "image" not in hit.item, "vectors are not shown"


def test_an_item_without_a_picture_answers_by_its_words(retriever: Retriever) -> None:
    ranks = [rank_new(retriever, kind, is_poor=False, is_bare=True) for kind in range(len(KINDS))]
    assert max(ranks) <= 32, "the words stand in for the picture"


def test_both_forms_of_the_towers_give_one_vector(shop: PictureShop) -> None:
    encoder = Encoder.open(shop.run / "model")
    assert encoder.widths.keys() == {"text", "identity", "shopper", "image", "conversion"}
    queries = (["tent", "acme drill", "zzz"], [None] * 3, np.zeros((3, 4), np.int32))
    np.testing.assert_allclose(encoder.embed_queries_compiled(*queries), encoder.embed_queries(*queries), atol=1e-5)
    items = pq.read_table(DatasetFolder(shop.run / DATASET).items)
    assert vector_lengths(items.schema) == {"image": WIDTH}
    zero = np.zeros((N_ITEMS, STATISTICS), np.float32)
    whole = encoder.embed_items(encoder.encode_items(items), zero)
    part = encoder.embed_items(encoder.encode_items(items.slice(170)), zero[170:])
    np.testing.assert_allclose(part, whole[170:], atol=1e-5)


def test_edits_bring_change_and_take_pictures(retriever: Retriever, shop: PictureShop) -> None:
    assert retriever.catalogue is not None
    rng = np.random.default_rng(5)
    sight = picture(KINDS.index("sofa"), rng).tolist()
    retriever.catalogue.apply([Upsert({"item_id": "new", "title": "Acme", "image": sight})])
    top = {hit.item_id for hit in retriever.answer(Search("sofa", 45, channel="vector")).hits}
    assert "new" in top
    retriever.catalogue.apply([Change("new", {"title": "Bcme"})])
    assert retriever.catalogue.compact() == "folded"
    reopened = Retriever.open(shop.run)
    top_hits = reopened.answer(Search("sofa", 45, channel="vector")).hits
    assert "new" in {hit.item_id for hit in top_hits}, "a change leaves the picture, also when it is folded"
    assert all("image" not in hit.item for hit in top_hits)
    retriever.catalogue.apply([Change("new", {"image": None})])
    (without_picture,) = retriever.snapshot().items(retriever.snapshot().rows(["new"]))
    assert without_picture["image"] is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, 2.0], "'image' takes a list of 12 finite numbers, found 2 of them"),
        ("[1, 2]", "'image' takes a list of 12 finite numbers, found '\\[1, 2\\]'"),
        ([float("nan")] * WIDTH, "found nan"),
        ([1e300] * WIDTH, "found 1e\\+300"),
        (["a"] * WIDTH, "found 'a'"),
        ([True] * WIDTH, "found True"),
    ],
)
def test_an_edit_with_another_vector_is_refused(retriever: Retriever, value: object, message: str) -> None:
    assert retriever.catalogue is not None
    edits: list[Edit] = [Upsert({"item_id": "x", "title": "X", "image": value})]
    with pytest.raises(UsageError, match=f"Item 'x': .*{message}"):
        retriever.catalogue.apply(edits)


def as_text(items: pa.Table, path: Path) -> None:
    lines = [json.dumps(row) for row in items.to_pylist()]
    path.write_text("\n".join(lines), "utf-8")


def as_csv(items: pa.Table, path: Path) -> None:
    cells = [
        [row["item_id"], row["title"], row["brand"], json.dumps(row["picture"] or "")] for row in items.to_pylist()
    ]
    lines = ["item_id,title,brand,picture", *(",".join([*c[:3], f'"{c[3]}"' if c[3] != '""' else ""]) for c in cells)]
    path.write_text("\n".join(lines), "utf-8")


@pytest.mark.parametrize(("name", "write"), [("items.jsonl", as_text), ("items.csv", as_csv)])
def test_vectors_may_be_text(
    shop: PictureShop, tmp_path: Path, name: str, write: Callable[[pa.Table, Path], None]
) -> None:
    items, _ = make_tables()
    write(items, tmp_path / name)
    write_toml(tmp_path, name, shop.toml.parent)
    make(DATASET, tmp_path / "shop.toml", tmp_path / "run")
    here, there = (pq.read_table(DatasetFolder(folder / DATASET).items) for folder in (tmp_path / "run", shop.run))
    assert here["image"].null_count == 2 * len(KINDS)
    for mine, other in zip(here["image"].to_pylist(), there["image"].to_pylist(), strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or mine == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([1.0, 2.0, 3.0], "image has 3 numbers, expected 12 as in most rows"),
        ([1.0, float("inf")], "image is not a list of finite numbers, such as [0.1, 0.2]"),
        ([1.0, None], "image is not a list of finite numbers, such as [0.1, 0.2]"),
        ([], "image is not a list of finite numbers, such as [0.1, 0.2]"),
    ],
)
def test_a_bad_vector_is_none_and_is_counted(
    shop: PictureShop, tmp_path: Path, bad: list[float | None], reason: str
) -> None:
    items, _ = make_tables()
    pictures = items["picture"].to_pylist()
    pictures[4] = bad
    pq.write_table(items.set_column(3, "picture", pa.array(pictures)), tmp_path / "items.parquet")
    write_toml(tmp_path, "items.parquet", shop.toml.parent)
    manifest = make(DATASET, tmp_path / "shop.toml", tmp_path / "run")
    assert manifest.counts["emptied"]["items"] == {reason: 1}
    kept = pq.read_table(DatasetFolder(tmp_path / "run" / DATASET).items)["image"].to_pylist()
    assert (kept[4], len(kept), len(kept[5])) == (None, N_ITEMS, WIDTH)


def test_a_column_of_bad_vectors_is_named(shop: PictureShop, tmp_path: Path) -> None:
    items, _ = make_tables()
    pictures = [[1.0, None] if row < 150 else [0.5, 2.0] for row in range(N_ITEMS)]
    pq.write_table(items.set_column(3, "picture", pa.array(pictures)), tmp_path / "items.parquet")
    write_toml(tmp_path, "items.parquet", shop.toml.parent)
    with pytest.raises(TableError) as error:
        make(DATASET, tmp_path / "shop.toml", tmp_path / "run")
    for part in (
        "150 of 180 values of 'picture' (image)",
        "items.parquet",
        "not a list of finite numbers",
        "row 1: [1.0",
    ):
        assert part in str(error.value)


def test_a_proposal_knows_vectors(tmp_path: Path) -> None:
    items, _ = make_tables()
    pq.write_table(items, tmp_path / "items.parquet")
    as_csv(items, tmp_path / "old.csv")
    proposals = [propose_items([file]) for file in profile_folder(tmp_path)]
    assert [proposal.vectors for proposal in proposals if proposal] == [("picture",), ("picture",)]
    assert [proposal.text for proposal in proposals if proposal] == [(), ()]
