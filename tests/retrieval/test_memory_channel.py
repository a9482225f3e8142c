"""The memory as a third channel: its items join the candidates, under the rules that hold for all of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmse.catalogue import Delete
from mmse.ranking.memory import QueryMemory, memory_key
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import Not, parse_filter
from mmse.schema.search import Search
from mmse.text.hashing import digests

QUERY = "blue tent"


def remember(retriever: Retriever, row: int, *, memory: float = 10.0, popularity: float = 0.0) -> Retriever:
    """`retriever` with a memory of one pair, the query and the item at `row`."""
    key = memory_key(QUERY, retriever.snapshot().lexical.stems)
    n_items = len(retriever.indexed_snapshot.base)
    one = np.ones(1, np.float32)
    popular = np.zeros(n_items, np.float32)
    popular[row] = 1.0
    pairs = (np.array([row], np.int32), one, np.zeros(1, np.float32))
    query_memory = QueryMemory(digests([key]), np.array([0, 1]), *pairs, popular, smoothing=0.1)
    ranking = retriever.ranking
    fusion = replace(ranking.fusion, memory=memory, popularity=popularity, new_popularity=popularity)
    return replace(retriever, ranking=replace(ranking, memory=query_memory, fusion=fusion))


@pytest.fixture(scope="module")
def plain(small_run: Path) -> Retriever:
    retriever = Retriever.open(small_run)
    fusion = replace(retriever.ranking.fusion, memory=0.0, popularity=0.0, new_popularity=0.0)
    return replace(retriever, ranking=replace(retriever.ranking, fusion=fusion))


@pytest.fixture(scope="module")
def far_row(plain: Retriever) -> int:
    """The row of an item with a brand that neither channel finds among the first hundred."""
    ids = [hit.item_id for hit in plain.answer(Search(QUERY, 100, explain=False)).hits]
    table = plain.snapshot().table(np.arange(len(plain.indexed_snapshot.base)))
    rows = zip(table["item_id"].to_pylist(), table["brand"].to_pylist(), strict=True)
    return next(row for row, (item_id, brand) in enumerate(rows) if item_id not in ids and brand)


def item_id(retriever: Retriever, row: int) -> str:
    return str(retriever.snapshot().items(np.array([row]))[0]["item_id"])


def test_what_was_taken_is_found_and_says_why(plain: Retriever, far_row: int) -> None:
    retriever = remember(plain, far_row)
    for query in (QUERY, "Blue  TENTS"):
        first = retriever.answer(Search(query, 5)).hits[0]
        assert first.item_id == item_id(plain, far_row)
        assert first.parts["memory"] == pytest.approx(10 * np.log(11), rel=1e-5)
        assert sum(first.parts.values()) == pytest.approx(first.score, rel=1e-4)
        assert "often taken" in first.reason
    assert retriever.answer(Search("camping stove", 5)).hits[0].parts["memory"] == 0


def test_other_channels_remember_nothing(plain: Retriever, far_row: int) -> None:
    retriever = remember(plain, far_row, popularity=1.0)
    for channel in ("vector", "lexical", "rrf"):
        search = Search(QUERY, 30, channel=channel)
        hits, others = retriever.answer(search).hits, plain.answer(search).hits
        assert [(hit.item_id, hit.score) for hit in hits] == [(hit.item_id, hit.score) for hit in others]
        assert "memory" not in hits[0].parts


def test_a_filter_holds_for_it(plain: Retriever, far_row: int) -> None:
    retriever = remember(plain, far_row)
    condition = parse_filter({"brand": plain.snapshot().values("brand", np.array([far_row]))[0]}, plain.kinds)
    hits = retriever.answer(Search(QUERY, 400, filter=Not(condition), explain=False)).hits
    assert hits
    assert item_id(plain, far_row) not in [hit.item_id for hit in hits]
    hits = retriever.answer(Search(QUERY, 5, filter=condition)).hits
    assert hits[0].item_id == item_id(plain, far_row)


def test_a_deleted_item_is_forgotten(small_run: Path, plain: Retriever, far_row: int, tmp_path: Path) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    retriever = remember(Retriever.open(tmp_path / "run", writable=True), far_row)
    assert retriever.catalogue is not None
    deleted_id = item_id(plain, far_row)
    retriever.catalogue.apply([Delete(deleted_id)])
    assert deleted_id not in [hit.item_id for hit in retriever.answer(Search(QUERY, 400, explain=False)).hits]
    retriever.catalogue.close()


def test_pages_agree(plain: Retriever, far_row: int) -> None:
    retriever = remember(plain, far_row, memory=0.01, popularity=0.1)
    whole = [hit.item_id for hit in retriever.answer(Search(QUERY, 150, explain=False)).hits]
    pages = [retriever.answer(Search(QUERY, 50, offset=start, explain=False)).hits for start in (0, 50, 100)]
    assert [hit.item_id for hits in pages for hit in hits] == whole


def test_a_code_that_led_somewhere_is_no_unknown_code(plain: Retriever, far_row: int) -> None:
    code = "zq9x88"
    assert plain.answer(Search(code, 5)).hits == []
    retriever = remember(plain, far_row)
    memory = replace(retriever.ranking.memory, keys=digests([memory_key(code, plain.snapshot().lexical.stems)]))
    retriever = replace(retriever, ranking=replace(retriever.ranking, memory=memory))
    answer = retriever.answer(Search(code, 5))
    assert answer.hits[0].item_id == item_id(plain, far_row)
    assert answer.notes == ()
