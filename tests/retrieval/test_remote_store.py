"""A run whose vectors are in another process, by some lines of shop.toml: searched, filtered, edited, folded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from index.milvus_process import MilvusProcess, start_milvus
from index.store_process import StoreProcess, start_store
from mmse import pipeline
from mmse.catalogue import Change, Delete, Edit, LiveCatalogue, Upsert
from mmse.core.errors import StoreError
from mmse.core.run_folder import INDEX
from mmse.index.base import IndexConfig
from mmse.pipeline import Listener
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import Filter, parse_filter
from mmse.schema.search import Search
from mmse.shop import Shop, read_shop

QUERIES = ("camping stove", "tent", "headphones", "zzqqx")


@pytest.fixture(scope="module", params=["duckdb", "milvus"])
def process(request: pytest.FixtureRequest) -> Iterator[StoreProcess | MilvusProcess]:
    if request.param == "milvus":
        pytest.importorskip("pymilvus", reason="needs mmse[milvus]")
        pytest.importorskip("milvus_lite", reason="needs Milvus Lite: pip install milvus-lite")
        with start_milvus() as server:
            yield server
    else:
        with start_store() as process:
            yield process


@pytest.fixture(scope="module")
def run(
    small_shop: Shop, small_run: Path, process: StoreProcess | MilvusProcess, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The small run with its index in the process, of which a shop.toml says so."""
    folder = tmp_path_factory.mktemp("remote")
    shop_file = small_shop.path.with_name("remote.toml")
    shop_file.write_text(small_shop.path.read_text("utf-8").replace("[index]\n", process.section), "utf-8")
    shutil.copytree(small_run, folder / "run")
    manifest = pipeline.make(INDEX, read_shop(shop_file), folder / "run", Listener())
    assert str(manifest.counts.get("table", manifest.counts.get("collection"))).startswith(("state_", "mmse_"))
    return folder / "run"


@pytest.fixture(scope="module")
def exact_run(
    small_shop: Shop, small_run: Path, process: StoreProcess | MilvusProcess, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same with vectors of its own; another one for each `process`, since both are edited alike."""
    folder = tmp_path_factory.mktemp("exact") / "run"
    shutil.copytree(small_run, folder)
    pipeline.make(INDEX, replace(small_shop, index=IndexConfig(kind="exact")), folder, Listener())
    return folder


def filters(retriever: Retriever) -> list[Filter | None]:
    values = ({"price": {"to": 40}}, {"not": {"available": False}, "brand": "acme"}, {"available": True})
    return [None, *(parse_filter(value, retriever.kinds) for value in values)]


def find(retriever: Retriever, query: str, filter: Filter | None) -> list[tuple[str, float]]:
    hits = retriever.answer(Search(query, 15, filter=filter)).hits
    return [(hit.item_id, round(hit.score, 4)) for hit in hits]


def check_same(run: Path, exact_run: Path) -> None:
    """Compares what both runs find, as they are opened now."""
    with_process, exact = Retriever.open(run), Retriever.open(exact_run)
    for filter in filters(exact):
        for query in QUERIES:
            assert find(with_process, query, filter) == find(exact, query, filter), (query, filter)


def test_a_store_in_another_process_is_searched_as_a_local_one(run: Path, exact_run: Path) -> None:
    check_same(run, exact_run)


def test_edits_show_at_once_and_are_folded_into_the_store(run: Path, exact_run: Path) -> None:
    best = Retriever.open(run).search("tent", 2)
    edits: list[Edit] = [
        Upsert({"item_id": "n1", "title": "Zorbak lantern", "price": 12.0, "available": True}),
        Change(best[0].item_id, {"price": 13.0, "available": True}),
        Delete(best[1].item_id),
    ]
    retriever = Retriever.open(run, writable=True)
    former = retriever.snapshot()
    assert retriever.catalogue
    retriever.catalogue.apply(edits)
    with LiveCatalogue.open(exact_run, writable=True) as catalogue:
        catalogue.apply(edits)
    cheap = parse_filter({"price": {"from": 12, "to": 13}, "available": True}, retriever.kinds)
    assert find(retriever, "zorbak lantern", cheap)[0][0] == "n1"
    assert best[1].item_id not in [item_id for item_id, _ in find(retriever, "tent", None)]
    check_same(run, exact_run)
    vectors, rows = former.vectors(former.rows([best[1].item_id])), former.rows([best[1].item_id])
    assert retriever.catalogue.compact() == "folded"
    assert retriever.snapshot().n_changed == 0
    check_same(run, exact_run)
    assert former.search_vectors(vectors, 400).ids[0].tolist().count(rows[0]) == 1, "a former snapshot still has it"
    retriever.catalogue.apply([Upsert({"item_id": best[1].item_id, "title": "Tent"})])
    assert find(retriever, "tent", None) == find(Retriever.open(run), "tent", None)
    retriever.catalogue.close()


def test_a_search_without_the_process_fails_and_with_it_works_again(
    run: Path, process: StoreProcess | MilvusProcess
) -> None:
    retriever = Retriever.open(run)
    before = find(retriever, "tent", None)
    process.kill()
    try:
        with pytest.raises(StoreError, match="does not answer"):
            retriever.search("tent")
        assert retriever.answer(Search("tent", channel="lexical")).hits, "words need no vectors"
        with pytest.raises(StoreError, match="does not answer"):
            Retriever.open(run)
    finally:
        process.start()
    assert find(retriever, "tent", None) == before
