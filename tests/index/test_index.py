"""One contract for every kind of index; exact search is the truth."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse import index as indexes
from mmse.core.errors import ArtifactError, UsageError
from mmse.index import Index, IndexConfig, IvfIndex, Neighbours
from mmse.index.base import CODE_BITS, check_ids
from mmse.index.filtered_search import CostRule, search_filtered

DIM = 16
Vectors = np.ndarray


def clustered(n: int, seed: int) -> Vectors:
    """Unit vectors around a few dozen centres, as a catalogue has categories."""
    centres = np.random.default_rng(99).standard_normal((40, DIM))
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, 40, n)] + 0.6 * rng.standard_normal((n, DIM))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=np.float32)


ITEMS = clustered(3000, seed=1)
IDS = np.random.default_rng(5).permutation(9000)[:3000].astype(np.int64)
QUERIES = clustered(40, seed=2)


def truth(items: Vectors, ids: Vectors, queries: Vectors, k: int) -> list[list[int]]:
    return [[int(ids[i]) for i in np.argsort(-(items @ query), kind="stable")[:k]] for query in queries]


def recall(neighbours: Neighbours, exact_rows: list[list[int]]) -> float:
    hits = [
        len(set(row) & set(right)) / len(right) for row, right in zip(neighbours.ids.tolist(), exact_rows, strict=True)
    ]
    return float(np.mean(hits))


@pytest.fixture(params=["exact", "ivf"])
def config(request: pytest.FixtureRequest) -> IndexConfig:
    return IndexConfig(kind=request.param)


@pytest.fixture
def index(config: IndexConfig) -> Index:
    return indexes.build(config, ITEMS, IDS, probes=clustered(200, seed=3))


def test_search_agrees_with_exact_search(index: Index) -> None:
    neighbours = index.search(QUERIES, 50)
    floor = 0.95 if isinstance(index, IvfIndex) else 1.0
    assert recall(neighbours, truth(ITEMS, IDS, QUERIES, 50)) >= floor
    assert (np.diff(neighbours.scores, axis=1) <= 0).all()
    row_of = {int(i): row for row, i in enumerate(IDS)}
    rows = [[row_of[i] for i in row] for row in neighbours.ids.tolist()]
    products = np.einsum("nkd,nd->nk", ITEMS[rows], QUERIES)
    np.testing.assert_allclose(neighbours.scores, products, atol=0.02 if isinstance(index, IvfIndex) else 1e-5)


def test_holds_what_it_was_given(index: Index) -> None:
    assert (len(index), index.dim) == (3000, DIM)


def test_more_wanted_than_exist_is_padded(config: IndexConfig) -> None:
    index = indexes.build(config, ITEMS[:7], IDS[:7])
    neighbours = index.search(QUERIES, 10)
    assert {tuple(sorted(row)) for row in neighbours.ids[:, :7].tolist()} == {tuple(sorted(IDS[:7].tolist()))}
    assert (neighbours.ids[:, 7:] == -1).all()
    assert np.isneginf(neighbours.scores[:, 7:]).all()
    assert np.isfinite(neighbours.scores[:, :7]).all()


def test_all_are_found_when_all_are_wanted(index: Index) -> None:
    neighbours = index.search(QUERIES[:3], 3000)
    assert [sorted(row) for row in neighbours.ids.tolist()] == [sorted(IDS.tolist())] * 3


@pytest.mark.parametrize("n", [1, 2, 9, 50])
def test_tiny_catalogues(config: IndexConfig, n: int, capfd: pytest.CaptureFixture[str]) -> None:
    index = indexes.build(config, ITEMS[:n], IDS[:n])
    assert recall(index.search(QUERIES, n), truth(ITEMS[:n], IDS[:n], QUERIES, n)) == 1
    assert capfd.readouterr() == ("", "")


def test_identical_vectors(config: IndexConfig) -> None:
    index = indexes.build(config, np.repeat(ITEMS[:1], 200, axis=0), np.arange(200))
    assert set(index.search(QUERIES[:1], 200).ids[0].tolist()) == set(range(200))


def test_empty_index(config: IndexConfig, tmp_path: Path) -> None:
    index = indexes.build(config, ITEMS[:0], IDS[:0])
    assert (len(index), index.dim) == (0, DIM)
    assert (index.search(QUERIES, 3).ids == -1).all()
    index.save(tmp_path)
    reopened_index = indexes.open_index(tmp_path)
    assert (reopened_index.search(QUERIES, 3, id_filter=np.array([4])).ids == -1).all()
    reopened_index.add(IDS[:20], ITEMS[:20])
    assert recall(reopened_index.search(QUERIES, 5), truth(ITEMS[:20], IDS[:20], QUERIES, 5)) > 0.9


def test_no_queries(index: Index) -> None:
    neighbours = index.search(QUERIES[:0], 4)
    assert neighbours.ids.shape == neighbours.scores.shape == (0, 4)


def test_add_then_remove(index: Index) -> None:
    new = np.array([100_000, 100_001], dtype=np.int64)
    index.add(new, QUERIES[:2])
    assert index.search(QUERIES[:2], 1).ids[:, 0].tolist() == new.tolist()
    assert index.remove(np.array([100_000, 100_001, 7_777_777])) == 2
    assert len(index) == 3000
    assert not np.isin(index.search(QUERIES[:2], 100).ids, new).any()
    assert index.remove(new) == 0


def test_an_emptied_index_can_be_filled_again(index: Index) -> None:
    assert index.remove(IDS) == 3000
    assert (index.search(QUERIES, 3).ids == -1).all()
    index.add(IDS, ITEMS)
    assert recall(index.search(QUERIES, 10), truth(ITEMS, IDS, QUERIES, 10)) > 0.95


@pytest.mark.parametrize("share", [0.9, 0.3, 0.01, 0.001])
@pytest.mark.parametrize("as_mask", [False, True])
def test_filter(index: Index, share: float, as_mask: bool) -> None:
    row_mask = np.random.default_rng(8).random(3000) < share
    id_filter = np.isin(np.arange(9000), IDS[row_mask]) if as_mask else np.append(IDS[row_mask], [8_999_999, 8_999_999])
    neighbours = index.search(QUERIES, 20, id_filter=id_filter)
    exist = min(20, int(row_mask.sum()))
    assert ((neighbours.ids >= 0).sum(axis=1) == exist).all()
    assert np.isin(neighbours.ids[neighbours.ids >= 0], IDS[row_mask]).all()
    if exist:
        assert recall(neighbours, truth(ITEMS[row_mask], IDS[row_mask], QUERIES, exist)) >= 0.94


def test_filter_that_allows_nothing(index: Index) -> None:
    for id_filter in (np.empty(0, dtype=np.int64), np.zeros(9000, dtype=bool), np.empty(0, dtype=bool)):
        assert (index.search(QUERIES, 5, id_filter=id_filter).ids == -1).all()


@pytest.mark.parametrize("dim", [1, 12, 16, 33])
def test_any_width_is_held_at_one_that_faiss_is_fast_at(dim: int, tmp_path: Path) -> None:
    vectors = np.random.default_rng(dim).standard_normal((400, dim)).astype(np.float32)
    queries, ids = vectors[:7] + np.float32(0.1), np.arange(400, dtype=np.int64)
    new_index = indexes.build(IndexConfig(codes="fp16", target_recall=1.0), vectors, ids, probes=queries)
    new_index.remove(ids[50:60])
    new_index.add(ids[50:60], vectors[50:60])
    new_index.save(tmp_path)
    index = indexes.open_index(tmp_path)
    assert isinstance(index, IvfIndex)
    assert (index.dim, index._lists.d % 16, index.layout().centroids.shape[1]) == (dim, 0, dim)
    index.nprobe = index.nlist
    neighbours = index.search(queries, 5)
    np.testing.assert_allclose(neighbours.scores, -np.sort(-(queries @ vectors.T), axis=1)[:, :5], atol=2e-2)
    mask = ids % 3 == 0
    filtered_hits = search_filtered(index, vectors, queries, 5, mask, CostRule(max_scan_rows=0))
    np.testing.assert_allclose(filtered_hits.scores, -np.sort(-(queries @ vectors[mask].T), axis=1)[:, :5], rtol=1e-4)


def test_ids_far_apart(config: IndexConfig) -> None:
    ids = np.arange(500, dtype=np.int64) * 10**13
    index = indexes.build(config, ITEMS[:500], ids)
    neighbours = index.search(QUERIES, 5, id_filter=ids[::50])
    assert recall(neighbours, truth(ITEMS[:500:50], ids[::50], QUERIES, 5)) >= 0.95


def test_save_and_open(index: Index, tmp_path: Path) -> None:
    original = index.search(QUERIES, 30)
    index.save(tmp_path)
    reopened_index = indexes.open_index(tmp_path)
    assert type(reopened_index) is type(index)
    reloaded_neighbours = reopened_index.search(QUERIES, 30)
    np.testing.assert_array_equal(original.ids, reloaded_neighbours.ids)
    np.testing.assert_array_equal(original.scores, reloaded_neighbours.scores)


def test_an_opened_index_can_be_changed_and_saved_elsewhere(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    index.save(tmp_path / "a")
    reopened_index = indexes.open_index(tmp_path / "a")
    reopened_index.add(np.array([50_000]), QUERIES[:1])
    assert reopened_index.remove(IDS[:1000]) == 1000
    reopened_index.save(tmp_path / "b")
    second_copy = indexes.open_index(tmp_path / "b")
    assert len(second_copy) == 2001
    assert second_copy.search(QUERIES[:1], 1).ids[0, 0] == 50_000
    assert len(indexes.open_index(tmp_path / "a")) == 3000


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda ids, vectors: (ids, vectors[:, :-1]), "dimensions"),
        (lambda ids, vectors: (ids, np.where(np.arange(5)[:, None] == 3, np.float32(np.nan), vectors)), "Row 3"),
        (lambda ids, vectors: (ids, np.where(np.arange(5)[:, None] == 2, np.float32(np.inf), vectors)), "Row 2"),
        (lambda ids, vectors: (np.append(ids[:-1], ids[0]), vectors), "occurs twice"),
        (lambda ids, vectors: (np.append(ids[:-1], IDS[17]), vectors), "in the index already"),
        (lambda ids, vectors: (np.append(ids[:-1], -4), vectors), "negative"),
    ],
)
def test_bad_additions_are_refused_whole(
    index: Index, spoil: Callable[[Vectors, Vectors], tuple[Vectors, Vectors]], words: str
) -> None:
    ids, vectors = spoil(np.arange(20_000, 20_005), ITEMS[:5])
    with pytest.raises(UsageError, match=words):
        index.add(ids, vectors)
    assert len(index) == 3000
    assert not np.isin(index.search(QUERIES, 3000).ids, np.arange(20_000, 20_005)).any()


def test_one_id_for_each_vector() -> None:
    with pytest.raises(UsageError, match="4 ids came with 5"):
        check_ids(np.arange(4), ITEMS[:5], np.empty(0, dtype=np.int64))


def test_bad_queries_are_refused(index: Index) -> None:
    with pytest.raises(UsageError, match="dimensions"):
        index.search(QUERIES[:, :3], 5)
    with pytest.raises(UsageError, match="not finite"):
        index.search(np.full((1, DIM), np.nan, dtype=np.float32), 5)


def test_progress_is_told(config: IndexConfig) -> None:
    reports: list[tuple[str, int, int]] = []
    indexes.build(config, ITEMS[:500], IDS[:500], progress=lambda *step: reports.append(step))
    assert reports[-1] == ("vectors indexed", 500, 500)


def test_missing_or_damaged_folders(index: Index, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no index"):
        indexes.open_index(tmp_path)
    index.save(tmp_path)
    content = sorted(tmp_path.glob("*.npy"))[-1] if not isinstance(index, IvfIndex) else tmp_path / "ivf.faiss"
    content.write_bytes(content.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="is damaged"):
        indexes.open_index(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"kind": "tree", "dim": 3}))
    with pytest.raises(ArtifactError, match="kind 'tree'"):
        indexes.open_index(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(ArtifactError, match="is damaged"):
        indexes.open_index(tmp_path)


def test_probes_are_calibrated_to_the_target() -> None:
    probes = clustered(300, seed=3)
    recalls = {}
    nlist = 0
    for target in (0.7, 0.95):
        index = indexes.build(IndexConfig(target_recall=target), ITEMS, IDS, probes=probes)
        assert isinstance(index, IvfIndex)
        assert index.measured_recall is not None
        assert index.measured_recall >= target
        nlist = index.nlist
        recalls[target] = (index.nprobe, recall(index.search(QUERIES, 100), truth(ITEMS, IDS, QUERIES, 100)))
    assert recalls[0.7][0] < recalls[0.95][0] < nlist
    assert recalls[0.95][1] > 0.92


def test_more_hits_than_were_calibrated_for_visit_more_lists() -> None:
    index = indexes.build(IndexConfig(recall_k=20), ITEMS, IDS, probes=clustered(300, seed=3))
    assert isinstance(index, IvfIndex)
    assert recall(index.search(QUERIES, 400), truth(ITEMS, IDS, QUERIES, 400)) > 0.95


def test_a_target_out_of_reach_is_said(caplog: pytest.LogCaptureFixture) -> None:
    alike = np.random.default_rng(5).normal(0, 1e-4, ITEMS.shape).astype(np.float32)
    alike[:2] = [[1], [-1]]  # so wide a range that the codes cannot tell the others apart
    with caplog.at_level(logging.WARNING):
        index = indexes.build(IndexConfig(target_recall=1.0, recall_k=20), alike, IDS, probes=alike[100:200])
    assert "below the target of 1.000" in caplog.text
    assert isinstance(index, IvfIndex)
    assert index.nprobe <= index.nlist


@pytest.mark.parametrize("codes", CODE_BITS)
def test_codes_of_any_size_reach_the_target_by_scoring_more_hits_again(codes: str, tmp_path: Path) -> None:
    ids = np.arange(len(ITEMS), dtype=np.int64)
    config = IndexConfig(codes=codes, target_recall=0.97, recall_k=50)
    index = indexes.build(config, ITEMS, ids, probes=clustered(100, seed=3))
    assert isinstance(index, IvfIndex)
    assert (index.codes, index.n_bytes) == (codes, 3000 * (DIM * CODE_BITS[codes] // 8 + 8))
    assert index.rescore_factor == max(trial.rescore_factor for trial in index.trials)
    assert index.measured_recall is not None
    assert index.measured_recall >= 0.97
    index.save(tmp_path)
    reopened = indexes.open_index(tmp_path)
    assert isinstance(reopened, IvfIndex)
    assert (reopened.codes, reopened.rescore_factor) == (codes, index.rescore_factor)
    exact = truth(ITEMS, ids, QUERIES, 50)
    assert recall(search_filtered(reopened, ITEMS, QUERIES, 50), exact) > 0.95
    mask = np.random.default_rng(0).random(len(ITEMS)) < 0.5
    rule = CostRule(max_scan_rows=0)
    exact = truth(ITEMS[mask], ids[mask], QUERIES, 50)
    assert recall(search_filtered(reopened, ITEMS, QUERIES, 50, mask, rule), exact) > 0.95


def test_coarser_codes_score_more_hits_again() -> None:
    factors = {}
    for codes in ("sq8", "tq1"):
        index = indexes.build(IndexConfig(codes=codes, recall_k=50), ITEMS, IDS, probes=clustered(100, seed=3))
        assert isinstance(index, IvfIndex)
        factors[codes] = index.rescore_factor
    assert factors["sq8"] < factors["tq1"]


@pytest.mark.parametrize(
    ("memory", "codes"), [("", "sq8"), ("1GB", "sq8"), ("72KB", "sq8"), ("71.9 kb", "sq4"), ("36KB", "tq2")]
)
def test_the_finest_codes_that_fit_are_taken(memory: str, codes: str) -> None:
    index = indexes.build(IndexConfig(memory=memory), ITEMS, IDS, probes=QUERIES)
    assert isinstance(index, IvfIndex)
    assert index.codes == codes
    assert not memory or index.n_bytes <= IndexConfig(memory=memory).memory_bytes


def test_memory_that_no_codes_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"memory is 1KB, and the lists of 3,000 vectors .* coarsest codes \(tq1\)"):
        indexes.build(IndexConfig(memory="1KB"), ITEMS, IDS)


def test_the_same_seed_gives_the_same_index() -> None:
    index, twin = (indexes.build(IndexConfig(), ITEMS, IDS) for _ in range(2))
    np.testing.assert_array_equal(index.search(QUERIES, 20).ids, twin.search(QUERIES, 20).ids)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "hnsw"},
        {"codes": "pq"},
        {"target_recall": 0.0},
        {"most_lists": 0},
        {"probes": 0},
        {"seed": -1},
        {"memory": "much"},
        {"memory": "0GB"},
    ],
)
def test_config_is_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IndexConfig(**wrong)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 60),
    k=st.integers(1, 70),
    kind=st.sampled_from(["exact", "ivf"]),
    filter_ids=st.none() | st.lists(st.integers(0, 70), max_size=70),
)
def test_always_min_of_k_and_what_exists(n: int, k: int, kind: str, filter_ids: list[int] | None) -> None:
    index = indexes.build(IndexConfig(kind=kind), ITEMS[:n], np.arange(n))
    id_filter = None if filter_ids is None else np.array(filter_ids, dtype=np.int64)
    neighbours = index.search(QUERIES[:4], k, id_filter=id_filter)
    exist = n if filter_ids is None else len({i for i in filter_ids if i < n})
    assert ((neighbours.ids >= 0).sum(axis=1) == min(k, exist)).all()
    assert all(len(set(row[row >= 0])) == min(k, exist) for row in neighbours.ids)
