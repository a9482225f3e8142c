"""Filtered search: exact scores, never short, and close to exact search however the filter lies to the query."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse import index as indexes
from mmse.core.errors import UsageError
from mmse.index import Index, IndexConfig, IvfIndex, Neighbours
from mmse.index.filtered_search import CostRule, search_filtered

N, DIM, CLUSTERS = 6000, 16, 60
LISTS_ONLY = CostRule(max_scan_rows=0)
"""Even a filter of one row goes through the lists."""
LISTS_SAMPLED = CostRule(max_scan_rows=0, count_share=0.0)
RULES = [CostRule(), CostRule(max_scan_rows=100), LISTS_ONLY, LISTS_SAMPLED]


def clustered(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors and the cluster of each."""
    centres = np.random.default_rng(99).standard_normal((CLUSTERS, DIM))
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, CLUSTERS, n)
    points = centres[cluster] + 0.6 * rng.standard_normal((n, DIM))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=np.float32), cluster


ITEMS, CLUSTER = clustered(N, seed=1)
QUERIES, QUERY_CLUSTER = clustered(20, seed=2)
CENTRES = np.stack([ITEMS[cluster == CLUSTER].mean(axis=0) for cluster in range(CLUSTERS)])


@pytest.fixture(scope="module")
def ivf() -> Index:
    return indexes.build(IndexConfig(), ITEMS, np.arange(N), probes=clustered(200, seed=3)[0])


@pytest.fixture(scope="module")
def exact() -> Index:
    return indexes.build(IndexConfig(kind="exact"), ITEMS, np.arange(N))


@pytest.fixture(params=["exact", "ivf"])
def index(request: pytest.FixtureRequest) -> Index:
    vector_index: Index = request.getfixturevalue(request.param)
    return vector_index


def best(mask: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    rows = np.flatnonzero(mask)
    return [int(row) for row in rows[np.argsort(-(ITEMS[rows] @ query), kind="stable")[:k]]]


def recall(neighbours: Neighbours, mask: np.ndarray, queries: np.ndarray, k: int) -> float:
    exact_hits = [best(mask, query, k) for query in queries]
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(neighbours.ids.tolist(), exact_hits, strict=True)])
    )


def lawful(neighbours: Neighbours, mask: np.ndarray, queries: np.ndarray, k: int) -> None:
    """min(k, m) distinct rows of the mask, best first, with their exact scores; the rest is padding."""
    exist = min(k, int(mask.sum()))
    assert neighbours.ids.shape == neighbours.scores.shape == (len(queries), k)
    assert (neighbours.ids[:, exist:] == -1).all()
    assert np.isneginf(neighbours.scores[:, exist:]).all()
    assert (np.diff(neighbours.scores[:, :exist], axis=1) <= 0).all()
    for ids, scores, query in zip(neighbours.ids[:, :exist], neighbours.scores, queries, strict=True):
        assert len(set(ids.tolist())) == exist
        assert mask[ids].all()
        np.testing.assert_allclose(scores[:exist], ITEMS[ids] @ query, rtol=1e-5, atol=1e-6)


def mask_of(sort: str, share: float, query: int) -> np.ndarray:
    if sort == "random":
        return np.random.default_rng(query).random(N) < share
    order = np.argsort(-(CENTRES @ CENTRES[QUERY_CLUSTER[query]]))
    return np.isin(CLUSTER, order[:: 1 if sort == "near" else -1][: max(1, round(share * CLUSTERS))])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("sort", ["random", "near", "far"])
def test_close_to_exact_search_whatever_the_filter(index: Index, rule: CostRule, sort: str, share: float) -> None:
    recalls = []
    for i in range(len(QUERIES)):
        mask, query = mask_of(sort, share, i), QUERIES[i : i + 1]
        neighbours = search_filtered(index, ITEMS, query, 50, mask, rule)
        lawful(neighbours, mask, query, 50)
        if mask.any():
            recalls.append(recall(neighbours, mask, query, 50))
    if recalls:
        exactly = not isinstance(index, IvfIndex) or rule == CostRule()
        assert np.mean(recalls) >= (1.0 if exactly else 0.98)


def test_without_a_filter(index: Index) -> None:
    neighbours = search_filtered(index, ITEMS, QUERIES, 50)
    every = np.ones(N, dtype=bool)
    lawful(neighbours, every, QUERIES, 50)
    assert recall(neighbours, every, QUERIES, 50) >= 0.98


def test_scoring_again_mends_what_rounding_cost(ivf: Index) -> None:
    every = np.ones(N, dtype=bool)
    assert isinstance(ivf, IvfIndex)
    nprobe, ivf.nprobe = ivf.nprobe, ivf.nlist
    rescored_recall = recall(search_filtered(ivf, ITEMS, QUERIES, 50), every, QUERIES, 50)
    code_recall = recall(ivf.search(QUERIES, 50), every, QUERIES, 50)
    ivf.nprobe = nprobe
    assert rescored_recall == 1.0
    assert code_recall < 1.0


@pytest.mark.parametrize("rule", RULES)
def test_nothing_and_little_to_find(index: Index, rule: CostRule) -> None:
    mask = np.zeros(N, dtype=bool)
    lawful(search_filtered(index, ITEMS, QUERIES, 5, mask, rule), mask, QUERIES, 5)
    mask[[7, 4000, N - 1]] = True
    neighbours = search_filtered(index, ITEMS, QUERIES, 5, mask, rule)
    lawful(neighbours, mask, QUERIES, 5)
    assert neighbours.ids[:, :3].tolist() == [best(mask, query, 3) for query in QUERIES]
    assert search_filtered(index, ITEMS, QUERIES[:0], 5, mask, rule).ids.shape == (0, 5)


def test_more_wanted_than_there_are(index: Index) -> None:
    mask = np.arange(N) % 2 == 0
    for rule in RULES:
        lawful(search_filtered(index, ITEMS, QUERIES[:3], 4000, mask, rule), mask, QUERIES[:3], 4000)
    lawful(search_filtered(index, ITEMS, QUERIES[:3], N + 9), np.ones(N, dtype=bool), QUERIES[:3], N + 9)


@pytest.mark.parametrize("kind", ["exact", "ivf"])
@pytest.mark.parametrize("rule", RULES)
def test_removed_items_are_never_found_and_never_missed(kind: str, rule: CostRule) -> None:
    index = indexes.build(IndexConfig(kind=kind), ITEMS[:2000], np.arange(2000))
    search_filtered(index, ITEMS[:2000], QUERIES, 5, np.ones(2000, dtype=bool), rule)
    index.remove(np.arange(0, 2000, 3))
    mask = np.arange(2000) < 600
    remaining_mask = mask & (np.arange(2000) % 3 > 0)
    lawful(search_filtered(index, ITEMS[:2000], QUERIES, 450, mask, rule), remaining_mask, QUERIES, 450)
    index.add(np.array([0]), ITEMS[:1])
    remaining_mask[0] = True
    lawful(search_filtered(index, ITEMS[:2000], QUERIES, 450, mask, rule), remaining_mask, QUERIES, 450)


def test_an_opened_index_finds_the_same(ivf: Index, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("index")
    ivf.save(folder)
    np.save(folder / "items.npy", ITEMS)
    mask = np.arange(N) % 5 < 3
    original = search_filtered(ivf, ITEMS, QUERIES, 30, mask, LISTS_ONLY)
    items = np.load(folder / "items.npy", mmap_mode="r")
    reloaded_neighbours = search_filtered(indexes.open_index(folder), items, QUERIES, 30, mask, LISTS_ONLY)
    np.testing.assert_array_equal(original.ids, reloaded_neighbours.ids)


def test_an_empty_index() -> None:
    for kind in ("exact", "ivf"):
        index = indexes.build(IndexConfig(kind=kind), ITEMS[:0], np.arange(0))
        for mask in (None, np.zeros(0, dtype=bool)):
            assert (search_filtered(index, ITEMS[:0], QUERIES, 3, mask, LISTS_ONLY).ids == -1).all()


def test_bad_queries_are_refused(index: Index) -> None:
    with pytest.raises(UsageError, match="dimensions"):
        search_filtered(index, ITEMS[:, :3], QUERIES[:, :3], 5)
    with pytest.raises(UsageError, match="not finite"):
        search_filtered(index, ITEMS, np.full((1, DIM), np.inf, dtype=np.float32), 5)


@pytest.mark.parametrize(
    "wrong",
    [{"max_scan_rows": -1}, {"max_thin_rows": 0}, {"safety": 0.5}, {"count_share": 2.0}, {"rescore_factor": 0.9}],
)
def test_the_rule_is_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(CostRule(), **wrong)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 300), k=st.integers(1, 320), seed=st.integers(0, 99), share=st.floats(0, 1), data=st.data())
def test_never_short(n: int, k: int, seed: int, share: float, data: st.DataObject) -> None:
    index = indexes.build(IndexConfig(kind=data.draw(st.sampled_from(["exact", "ivf"]))), ITEMS[:n], np.arange(n))
    if isinstance(index, IvfIndex) and n:
        index.nprobe = 1
    mask = np.random.default_rng(seed).random(n) < share
    neighbours = search_filtered(index, ITEMS[:n], QUERIES[:3], k, mask, data.draw(st.sampled_from(RULES)))
    lawful(neighbours, mask, QUERIES[:3], k)
