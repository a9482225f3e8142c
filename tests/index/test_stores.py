"""The contract of vector stores: what each of them finds, and that a published state never changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from index.milvus_process import start_milvus
from index.store_process import STORE, StoreProcess, start_store
from mmse.core.errors import ArtifactError, StoreError, UsageError
from mmse.index.base import IndexConfig, Neighbours
from mmse.index.columns import FilterColumns
from mmse.index.local_store import LocalStore
from mmse.index.store import NO_ROWS, VectorStore, open_store, search_around, store_class, write_store_name
from mmse.schema.filters import Filter, Kind, parse_filter

N, WIDTH = 3_000, 12
KINDS = {"brand": Kind.NAME, "category": Kind.PATH, "price": Kind.NUMBER, "available": Kind.FLAG}
FILTERS: list[dict[str, Any]] = [
    {"available": True},
    {"brand": ["acme ", "Bolt"], "price": {"to": 20}},
    {"category": "tools > Drills"},
    {"not": {"category": "Tools"}},
    {"or": [{"price": {"from": 49}}, {"brand": "cog"}], "not": {"available": False}},
    {"and": []},
]
NOTHING = {"brand": "nobody"}


@dataclass(frozen=True)
class Rows:
    """What a catalogue has by row: the truth that a store is held to."""

    vectors: np.ndarray
    items: pa.Table
    alive: np.ndarray

    @property
    def columns(self) -> FilterColumns:
        return FilterColumns.from_table(self.items, KINDS)

    def check(
        self,
        store: VectorStore,
        queries: np.ndarray,
        k: int,
        filter: Filter | None = None,
        stale_rows: np.ndarray = NO_ROWS,
        recall: float = 1.0,
    ) -> None:
        """Compares a search of `store` with the comparison of all vectors."""
        mask = self.alive & (np.ones(len(self.alive), bool) if filter is None else self.columns.mask(filter))
        mask[stale_rows] = False
        found, n_hits = store.search(queries, k, filter, stale_rows), min(k, int(mask.sum()))
        products = queries @ self.vectors.T
        shared = 0
        for ids, scores, truth in zip(found.ids, found.scores, np.where(mask, products, -np.inf), strict=True):
            assert (ids[:n_hits] >= 0).all(), "never fewer than exist"
            assert (ids[n_hits:] == -1).all()
            assert (scores[n_hits:] == -np.inf).all()
            assert len(set(ids[:n_hits].tolist())) == n_hits
            assert mask[ids[:n_hits]].all()
            np.testing.assert_allclose(scores[:n_hits], truth[ids[:n_hits]], atol=1e-5)
            assert (np.diff(scores[:n_hits]) <= 1e-6).all()
            shared += int((scores[:n_hits] >= np.sort(truth)[::-1][:n_hits][-1:] - 1e-5).sum())
        assert shared >= recall * n_hits * len(queries)


def draw_rows(n: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((30, WIDTH))
    vectors = centres[rng.integers(0, 30, n)] + 0.6 * rng.standard_normal((n, WIDTH))
    items = {
        "item_id": [f"i{row}" for row in range(n)],
        "brand": rng.choice(["Acme", " bolt", "Cog", "", None], n).tolist(),  # type: ignore[arg-type]
        "category": rng.choice(["Tools", "Tools > Drills", "Tools>drills > Big", "Toolshed", None], n).tolist(),  # type: ignore[arg-type]
        "price": [None if price < 1 else float(price) for price in rng.integers(0, 50, n)],
        "available": rng.choice([True, False, None], n).tolist(),  # type: ignore[arg-type]
    }
    schema = {"brand": pa.string(), "category": pa.string(), "price": pa.float64(), "available": pa.bool_()}
    table = pa.table({name: pa.array(values, schema.get(name)) for name, values in items.items()})
    return Rows(vectors.astype(np.float32), table, np.ones(n, bool))


ROWS = draw_rows(N, seed=1)
QUERIES = draw_rows(6, seed=2).vectors


@pytest.fixture(scope="module")
def process() -> Iterator[StoreProcess]:
    with start_store() as process:
        yield process


@pytest.fixture(scope="module")
def milvus_uri() -> Iterator[str]:
    """`MMSE_MILVUS` names a server of another kind, such as a cluster, that this contract is to be run on."""
    if uri := os.environ.get("MMSE_MILVUS"):
        yield uri
        return
    pytest.importorskip("pymilvus", reason="needs mmse[milvus]")
    pytest.importorskip("milvus_lite", reason="needs Milvus Lite: pip install milvus-lite")
    with start_milvus() as server:
        yield server.uri


@pytest.fixture(scope="module", params=["exact", "ivf", "duckdb", "milvus"])
def config(request: pytest.FixtureRequest, process: StoreProcess) -> IndexConfig:
    if request.param == "duckdb":
        return IndexConfig(store=STORE, options={"address": process.address})
    if request.param == "milvus":
        options = {"uri": request.getfixturevalue("milvus_uri"), "collection": "contract", "nprobe": 65_536}
        return IndexConfig(store="milvus", options=options)
    return IndexConfig(kind=request.param, target_recall=1.0, recall_k=50)


@pytest.fixture(scope="module")
def recall(config: IndexConfig) -> float:
    """The least share of the truth that a store of many rows must find."""
    return 0.97 if (config.store, config.kind) == ("local", "ivf") else 1.0


def build_store(config: IndexConfig, rows: Rows, folder: Path) -> VectorStore:
    folder.mkdir()
    writer = store_class(config.store).create(config, WIDTH, KINDS, QUERIES)
    if len(rows.items):
        writer.upsert(np.arange(len(rows.items)), rows.vectors, rows.items)
    writer.publish(folder)
    write_store_name(folder, config.store)
    return open_store(folder, rows.vectors, rows.columns, len(rows.items))


def advance(store: VectorStore, former: Rows, target: Rows, rows: np.ndarray, folder: Path) -> VectorStore:
    """The state after `store`, in which `rows` are as in `target`, and the others as in `former`."""
    folder.mkdir()
    writer, alive = store.writer(), target.alive[rows]
    writer.delete(rows[~alive])
    writer.upsert(rows[alive], target.vectors[rows[alive]], target.items.take(pa.array(rows[alive])))
    writer.publish(folder)
    return type(store).open(folder, target.vectors, target.columns)


def change_rows(rows: Rows, changed: np.ndarray, n_new: int, deleted: np.ndarray, seed: int) -> Rows:
    """`rows` with other vectors and items at `changed`, `n_new` rows more, and without `deleted`."""
    fresh = draw_rows(len(rows.items) + n_new, seed)
    order = np.arange(len(rows.items) + n_new)
    order[: len(rows.items)] += len(fresh.items)
    order[changed] -= len(fresh.items)
    vectors = np.concatenate([fresh.vectors, rows.vectors])[order]
    alive = np.append(rows.alive, np.ones(n_new, bool))
    alive[changed] = True
    alive[deleted] = False
    return Rows(vectors, pa.concat_tables([fresh.items, rows.items]).take(pa.array(order)).combine_chunks(), alive)


@pytest.fixture(scope="module")
def store(config: IndexConfig, tmp_path_factory: pytest.TempPathFactory) -> VectorStore:
    return build_store(config, ROWS, tmp_path_factory.mktemp("store") / "index")


@pytest.mark.parametrize("filter", [None, *FILTERS, NOTHING])
def test_a_search_finds_what_comparing_all_finds(store: VectorStore, filter: Any, recall: float) -> None:
    parsed_filter = parse_filter(filter, KINDS) if filter is not None else None
    assert len(store) == N
    ROWS.check(store, QUERIES, 20, parsed_filter, recall=recall)
    ROWS.check(store, QUERIES[:1], N + 7, parsed_filter)


@pytest.mark.parametrize("n_stale", [3, 200, 2_000])
def test_stale_rows_are_left_out(store: VectorStore, n_stale: int, recall: float) -> None:
    nearest_rows = np.sort(np.argsort(-(ROWS.vectors @ QUERIES[0]))[:n_stale])
    for filter in (None, parse_filter(FILTERS[0], KINDS), parse_filter(NOTHING, KINDS)):
        ROWS.check(store, QUERIES, 20, filter, nearest_rows, recall)
    ROWS.check(store, QUERIES[:1], N, None, nearest_rows)


def test_one_query_as_in_a_batch_and_none(store: VectorStore) -> None:
    batch, alone = store.search(QUERIES, 5), store.search(QUERIES[:1], 5)
    np.testing.assert_array_equal(batch.ids[:1], alone.ids)
    assert len(store.search(QUERIES[:0], 5).ids) == 0


def test_a_published_state_never_changes(
    store: VectorStore, config: IndexConfig, tmp_path: Path, recall: float
) -> None:
    changed, deleted = np.arange(0, 600, 3), np.array([1, 2, 2_000])
    following = change_rows(ROWS, changed, 5, deleted, seed=3)
    rows = np.concatenate([changed, deleted, np.arange(N, N + 5)])
    second = advance(store, ROWS, following, rows, tmp_path / "second")
    last = change_rows(following, np.array([1, 4]), 0, np.array([0, N + 1]), seed=4)  # row 1 comes back
    third = advance(second, following, last, np.array([0, 1, 4, N + 1]), tmp_path / "third")
    other = change_rows(ROWS, np.array([7]), 1, np.array([0]), seed=5)
    branch = advance(store, ROWS, other, np.array([0, 7, N]), tmp_path / "branch")
    states = ((store, ROWS), (second, following), (third, last), (branch, other))
    for state, truth in states:
        assert len(state) == truth.alive.sum()
        for filter in (None, parse_filter(FILTERS[2], KINDS)):
            truth.check(state, QUERIES, 20, filter, recall=recall)
        truth.check(state, truth.vectors[[0, 3]], N + 9)
        truth.check(state, QUERIES, 20, None, np.flatnonzero(truth.alive)[:40], recall)


def test_what_is_not_published_is_not_found(store: VectorStore) -> None:
    writer = store.writer()
    writer.upsert(np.array([0, N]), 9 * QUERIES[:2], ROWS.items.slice(0, 2))
    writer.delete(np.arange(1, 500))
    writer.delete(np.array([N + 4]))
    ROWS.check(store, QUERIES[:2], N)


def test_an_empty_store_fills(config: IndexConfig, tmp_path: Path) -> None:
    nothing = draw_rows(0, seed=6)
    empty = build_store(config, nothing, tmp_path / "empty")
    assert len(empty) == 0
    for filter in (None, parse_filter(FILTERS[0], KINDS)):
        nothing.check(empty, QUERIES, 3, filter)
    some = draw_rows(4, seed=7)
    filled = advance(empty, nothing, some, np.arange(4), tmp_path / "some")
    some.check(filled, QUERIES, 9)
    cleared = replace(some, alive=np.zeros(4, bool))
    cleared.check(advance(filled, some, cleared, np.arange(4), tmp_path / "cleared"), QUERIES, 9)
    some.check(filled, QUERIES, 2)


def test_a_query_that_does_not_fit_is_refused(store: VectorStore) -> None:
    with pytest.raises(UsageError, match=f"have 5 dimensions, the index has {WIDTH}"):
        store.search(QUERIES[:, :5], 3)
    with pytest.raises(UsageError, match="not finite"):
        store.search(np.full((1, WIDTH), np.nan, np.float32), 3, parse_filter(FILTERS[0], KINDS))


def test_many_threads_search_at_a_time(store: VectorStore) -> None:
    filter = parse_filter(FILTERS[1], KINDS)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: store.search(QUERIES, 10, filter).ids.tolist(), range(12)))
    assert all(ids == answers[0] for ids in answers)


def test_a_folder_without_a_state(store: VectorStore, config: IndexConfig, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="Build"):
        type(store).open(tmp_path, ROWS.vectors, ROWS.columns)
    rows = draw_rows(3, seed=8)
    build_store(config, rows, tmp_path / "index")
    with pytest.raises(ArtifactError, match="has 3 items, expected 4"):
        open_store(tmp_path / "index", rows.vectors, rows.columns, 4)


def test_a_process_that_has_gone_is_an_error_and_comes_back(tmp_path: Path) -> None:
    with start_store() as process:
        config = IndexConfig(store=STORE, options={"address": process.address})
        store = build_store(config, ROWS, tmp_path / "index")
        process.kill()
        for _ in range(2):
            with pytest.raises(StoreError, match=f"{process.address} does not answer"):
                store.search(QUERIES, 3)
        process.start()
        ROWS.check(store, QUERIES, 20)


def test_stores_are_known_by_name() -> None:
    assert store_class("local") is LocalStore
    with pytest.raises(ValueError, match=r"'store' is 'milwus', expected local, milvus, or your own as 'module:Class'"):
        IndexConfig(store="milwus")
    with pytest.raises(ValueError, match=r"'options' is .*, expected none for the local store"):
        IndexConfig(options={"address": "x"})
    with pytest.raises(UsageError, match=r"\[index\] store is 'other', and there is no such store") as error_info:
        store_class("other")
    assert "local" in error_info.value.cure
    with pytest.raises(UsageError, match=r"'index\.store_process' has no 'Nobody'"):
        store_class("index.store_process:Nobody")
    with pytest.raises(UsageError, match=r"is no vector store: it has no create, open, search, writer"):
        store_class("index.store_process:StoreProcess")


def test_stale_rows_at_the_top_of_every_list() -> None:
    ids = np.arange(40)

    def search(queries: np.ndarray, k: int) -> Neighbours:
        n = min(k, len(ids))
        return Neighbours(np.tile(ids[:n], (len(queries), 1)), np.tile(-ids[:n].astype(np.float32), (len(queries), 1)))

    for n_stale in (0, 1, 25, 38, 40):
        found = search_around(np.arange(n_stale), search, QUERIES, 5, len(ids))
        expected = ids[n_stale : n_stale + 5].tolist()
        assert all(row[row >= 0].tolist() == expected for row in found.ids)
