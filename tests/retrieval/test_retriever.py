"""The query path: hits best first, explained, for any query that someone may type."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmse import pipeline
from mmse.core.artifact import MANIFEST, read_manifest
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.run_folder import DATASET, INDEX, SERVING, VECTORS
from mmse.dataset.folder import DatasetFolder
from mmse.index import IndexConfig
from mmse.index.embedding import EmbedConfig
from mmse.model.views import VIEWS
from mmse.pipeline import Listener
from mmse.ranking.memory import memory_key
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Hit, Search
from mmse.shop import Shop
from mmse.text.normalise import words
from mmse.training.targets import read_logged_requests

N_ITEMS = 400
HOSTILE = [
    "🎧",
    "👨‍👩‍👧 🎧 tent",
    "zzqqx xxyyz",
    "…!?",
    "\u200b",
    "\x00",
    "\ud800 tent",
    "כיסא 椅子",
    "a\u0301" * 300,
    "t" * 10_000,
]


@pytest.fixture(scope="module")
def retriever(small_run: Path) -> Retriever:
    return Retriever.open(small_run)


@pytest.fixture(scope="module")
def logged_query(small_run: Path) -> tuple[str, str]:
    """A query of the test window, and a shopper who had taken something before."""
    requests = read_logged_requests(small_run / "dataset", "test", 50)
    index = next(i for i, user in enumerate(requests.users) if user and (requests.history[i] >= 0).any())
    user = requests.users[index]
    assert user
    return requests.queries[index], user


@pytest.fixture(scope="module")
def items(small_run: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(DatasetFolder(small_run / "dataset").items).to_pylist()
    return rows


@pytest.fixture
def copied_run(small_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_run, tmp_path / "run")
    return tmp_path / "run"


def test_hits_come_best_first_and_their_parts_add_up(retriever: Retriever, logged_query: tuple[str, str]) -> None:
    query, user = logged_query
    hits = retriever.search(query, 25, user)
    assert [hit.rank for hit in hits] == list(range(1, 26))
    free = [hit for hit in hits if not hit.moved_by]
    assert [hit.score for hit in free] == sorted((hit.score for hit in free), reverse=True)
    assert len({hit.item_id for hit in hits}) == 25
    snapshot, vector = retriever.snapshot(), retriever.query_vectors([query], [user])[0]
    words_of = snapshot.lexical.parse(query, retriever.ranking.boosts)
    fusion, memory = retriever.ranking.fusion, retriever.ranking.memory
    count = retriever.ranking.query_counts.counts([query])
    weight, p = fusion.weights(count)[0], fusion.popularity_weights(count)[0]
    recollection = memory.recall(memory_key(query, snapshot.lexical.stems))
    for hit in hits:
        row = snapshot.rows([hit.item_id])
        assert tuple(hit.parts) == (*retriever.encoder.views, "words", "memory")
        inner_product, share = (
            float(snapshot.vectors(row)[0] @ vector),
            float(snapshot.lexical.score_rows(words_of, row)[0] / words_of.max_score),
        )
        remembered = recollection.of(row)[0] * fusion.memory + memory.popularity_of(row)[0] * p
        assert hit.score == pytest.approx(inner_product + weight * share + remembered, rel=1e-4, abs=1e-5)
        assert hit.parts["memory"] == pytest.approx(remembered, rel=1e-4, abs=1e-6)
        assert hit.parts["words"] == pytest.approx(weight * share, rel=1e-4, abs=1e-6)


def test_a_hit_is_its_item(retriever: Retriever, logged_query: tuple[str, str], items: list[dict[str, object]]) -> None:
    rows = {item["item_id"]: item for item in items}
    for hit in retriever.search(logged_query[0], 20):
        row = rows[hit.item_id]
        assert hit.title == row["title"]
        assert hit.item == {name: value for name, value in row.items() if value is not None}
        table = retriever.snapshot().table(retriever.snapshot().rows([hit.item_id]))
        text = words(retriever.encoder.space.item_texts(table)[0])
        assert set(hit.matched) == set(words(logged_query[0])) & set(text)
        assert len(set(hit.matched)) == len(hit.matched)


def test_matched_words_are_the_querys(retriever: Retriever, items: list[dict[str, object]]) -> None:
    title = str(items[7]["title"])
    hits = retriever.search(f"  {title.upper()}!  nonesuch", 400)
    hit = next(hit for hit in hits if hit.item_id == items[7]["item_id"])
    assert set(hit.matched) >= set(words(title))
    assert "nonesuch" not in hit.matched


@pytest.mark.parametrize("k", [N_ITEMS, N_ITEMS + 1, 100_000])
def test_no_more_hits_than_items(retriever: Retriever, logged_query: tuple[str, str], k: int) -> None:
    hits = retriever.search(logged_query[0], k)
    assert len({hit.item_id for hit in hits}) == len(hits) == N_ITEMS


@pytest.mark.parametrize("k", [0, -3])
def test_no_hits_cannot_be_asked_for(retriever: Retriever, k: int) -> None:
    with pytest.raises(UsageError, match=f"k is {k}, expected at least 1"):
        retriever.search("tent", k)


@pytest.mark.parametrize("query", ["", "   ", "\t\n\u00a0\u3000"])
def test_an_empty_query(retriever: Retriever, query: str) -> None:
    with pytest.raises(UsageError, match="The query is empty"):
        retriever.search(query)


@pytest.mark.parametrize("query", HOSTILE)
def test_any_text_is_a_query(retriever: Retriever, query: str) -> None:
    hits = retriever.search(query, 5)
    assert len(hits) == 5
    assert np.isfinite([hit.score for hit in hits]).all()
    assert all(hit.reason for hit in hits)


def test_a_query_of_unknown_words_matches_none(retriever: Retriever) -> None:
    for hit in retriever.search("zzqqx xxyyz", 5):
        assert hit.matched == ()
        assert hit.reason.startswith(("no word in common; ", "nothing close"))


def test_queries_equal_but_for_case_and_space_are_one(retriever: Retriever) -> None:
    assert retriever.search("  Camping\tSTOVE ", 10) == retriever.search("camping stove", 10)


def test_an_unknown_shopper_is_nobody(retriever: Retriever, logged_query: tuple[str, str]) -> None:
    query, user = logged_query
    rows = {hit.item_id: hit.parts for hit in retriever.search(query, N_ITEMS)}
    for stranger in ("stranger", "", "\ud800"):
        hits = retriever.search(query, N_ITEMS, stranger)
        assert len(hits) == N_ITEMS
        assert np.isfinite([hit.score for hit in hits]).all()
    parts = {hit.item_id: hit.parts for hit in retriever.search(query, N_ITEMS, user)}
    assert parts != rows, "a known shopper's history counts"


def test_the_same_query_alone_and_in_a_batch(retriever: Retriever, logged_query: tuple[str, str]) -> None:
    batch = retriever.query_vectors(["tent", logged_query[0]], [None, logged_query[1]])
    assert batch.shape == (2, retriever.encoder.width)
    np.testing.assert_allclose(
        batch[1], retriever.query_vectors([logged_query[0]], [logged_query[1]])[0], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(batch[0], retriever.query_vectors(["tent"])[0], rtol=1e-5, atol=1e-6)


def test_an_exact_index_finds_the_same(small_shop: Shop, copied_run: Path, retriever: Retriever) -> None:
    pipeline.make(INDEX, replace(small_shop, index=IndexConfig(kind="exact")), copied_run, Listener())
    hits = Retriever.open(copied_run).search("camping stove", 10)
    assert [hit.item_id for hit in hits] == [hit.item_id for hit in retriever.search("camping stove", 10)]


def relabel(folder: Path, name: str, fingerprint: str) -> None:
    """Makes the manifest of `folder` say that its input `name` was another."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["inputs"][name] = fingerprint
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_an_index_of_another_model_is_refused(copied_run: Path) -> None:
    relabel(copied_run / "index", "model", "feedface")
    with pytest.raises(ArtifactError, match="was made from another model") as error_info:
        Retriever.open(copied_run)
    assert "feedface" in error_info.value.cause
    assert read_manifest(copied_run / "model", "model").fingerprint in error_info.value.cause
    assert "mmse index" in error_info.value.cure


def test_an_index_of_other_vectors_is_refused(small_shop: Shop, copied_run: Path) -> None:
    former = read_manifest(copied_run / "vectors", "vectors").fingerprint
    pipeline.make(VECTORS, replace(small_shop, embed=EmbedConfig(as_of="end")), copied_run, Listener())
    with pytest.raises(ArtifactError, match="was made from another vectors") as error_info:
        Retriever.open(copied_run)
    assert former in error_info.value.cause
    assert read_manifest(copied_run / "vectors", "vectors").fingerprint in error_info.value.cause
    assert "mmse index" in error_info.value.cure


def test_vectors_of_another_dataset_are_refused(small_shop: Shop, copied_run: Path) -> None:
    pipeline.make(DATASET, replace(small_shop, mine=replace(small_shop.mine, periods=2)), copied_run, Listener())
    pipeline.make(SERVING, small_shop, copied_run, Listener())
    with pytest.raises(ArtifactError, match="was made from another dataset"):
        Retriever.open(copied_run)


@pytest.mark.parametrize("kind", ["serving", "model", "vectors", "index", "ranking"])
@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: (folder / MANIFEST).write_text("{")])
def test_a_missing_or_damaged_folder_is_named(copied_run: Path, kind: str, damage: Callable[[Path], object]) -> None:
    damage(copied_run / kind)
    with pytest.raises(ArtifactError, match=kind):
        Retriever.open(copied_run)


@pytest.mark.parametrize(
    "file",
    ["serving/items.parquet", "model/towers.safetensors", "vectors/items.npy", "index/ids.npy", "ranking/ranking.json"],
)
def test_a_truncated_file_is_named(copied_run: Path, file: str) -> None:
    content = (copied_run / file).read_bytes()
    (copied_run / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=file.split("/")[1]):
        Retriever.open(copied_run)


@pytest.mark.parametrize(
    ("parts", "matched", "text"),
    [
        ({"text": 0.6, "identity": 0.2}, ("red", "tent"), "has red, tent; similar text 75%"),
        ({"text": 0.1, "identity": 0.3}, (), "no word in common; what this query leads to 75%"),
        ({"text": 0.1, "shopper": 0.3}, ("tent",), "has tent; this shopper's taste 75%"),
        ({"text": 0.1, "picture": 0.3}, ("tent",), "has tent; picture 75%"),
        ({"text": -0.1, "identity": -0.3}, (), "no word in common; nothing close"),
        ({"text": 0.0}, ("tent",), "has tent; nothing close"),
    ],
)
def test_the_reason_in_words(parts: dict[str, float], matched: tuple[str, ...], text: str) -> None:
    phrases = {name: view.phrase for name, view in VIEWS.items()}
    hit = Hit(1, "i1", "Red tent", sum(parts.values()), 0.5, parts, matched, (), {}, phrases)
    assert hit.reason == text
    assert replace(hit, moved_by=("at most 2 per brand",)).reason == f"{text}; at most 2 per brand"
    words, phrase = text.split("; ")
    named = replace(hit, named=("brand 'Acme'", "category 'Tents'"))
    assert named.reason == f"{words}; brand 'Acme' and category 'Tents' named; {phrase}"


def test_a_log_without_probabilities_gives_none_and_refuses_to_cut_by_them(small_run: Path) -> None:
    retriever = Retriever.open(small_run)
    ranking = retriever.ranking
    usual = [hit.item_id for hit in retriever.search("tent", 5)]
    unlearned = replace(ranking.calibration, is_learned=False)
    retriever = replace(retriever, ranking=replace(ranking, calibration=unlearned))
    hits = retriever.search("tent", 5)
    assert [hit.item_id for hit in hits] == usual
    assert {hit.probability for hit in hits} == {None}
    with pytest.raises(UsageError, match="gives no probabilities"):
        retriever.answer(Search("tent", 5, min_probability=0.1))
