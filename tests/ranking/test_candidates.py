"""Candidates of both channels: each item once, each with both scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.dataset.folder import DatasetFolder
from mmse.index.base import NO_MATCHES, Matches
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.ranking.candidates import MIN_DEPTH, depth, find_rows, gather
from mmse.ranking.query_counts import QueryCounts

BOOSTS = dict.fromkeys(FIELDS, 1.0)
N = 3_000


def build_index(folder: Path) -> LexicalIndex:
    index = LexicalIndex.create(folder, {}, "none")
    writer = index.writer()
    writer.add(np.arange(N), pa.table({"title": [f"red item{row % 7}" for row in range(N)]}), [])
    writer.commit()
    writer.close()
    return LexicalIndex.open(folder)


def test_every_candidate_has_both_scores(tmp_path: Path) -> None:
    index = build_index(tmp_path)
    vectors = np.random.default_rng(0).random(N).astype(np.float32)
    neighbours = np.argsort(-vectors)[:400]
    query = index.parse("red item3", BOOSTS)
    matches = index.search(query, 300)
    assert not matches.is_complete, "more match than were fetched, so the others are looked up"
    nearest = Matches(neighbours, vectors[neighbours], is_complete=False)
    candidates = gather(nearest, matches, query, index, k=10, vector_scores=lambda rows: vectors[rows])
    assert len(set(candidates.rows.tolist())) == len(candidates.rows)
    assert set(candidates.rows.tolist()) == set(neighbours[:MIN_DEPTH].tolist()) | set(
        matches.rows[:MIN_DEPTH].tolist()
    )
    np.testing.assert_allclose(candidates.vector, vectors[candidates.rows])
    np.testing.assert_allclose(
        candidates.lexical, index.score_rows(query, candidates.rows) / query.max_score, rtol=1e-5
    )
    assert 0 < candidates.lexical.min() <= candidates.lexical.max() <= 1


def test_no_match_is_a_share_of_zero(tmp_path: Path) -> None:
    index = build_index(tmp_path)
    query = index.parse("nonesuch", BOOSTS)
    neighbours = Matches(np.arange(3), np.ones(3, np.float32), is_complete=True)
    candidates = gather(
        neighbours, NO_MATCHES, query, index, k=10, vector_scores=lambda rows: np.ones(len(rows), np.float32)
    )
    assert candidates.rows.tolist() == [0, 1, 2]
    assert candidates.lexical.tolist() == [0, 0, 0]


def test_depth_grows_with_what_is_asked() -> None:
    assert depth(1) == depth(100) == MIN_DEPTH
    assert depth(1_000) == 1_100


def test_known_queries_are_counted_in_any_spelling(small_run: Path, tmp_path: Path) -> None:
    query_counts = QueryCounts.of_dataset(small_run / "dataset")
    query_counts.save(tmp_path)
    reopened = QueryCounts.open(tmp_path)
    table = pq.read_table(DatasetFolder(small_run / "dataset").queries).slice(0, 20).to_pylist()
    spellings = [f"  {row['query'].upper()} " for row in table]
    assert reopened.counts(spellings).tolist() == [row["requests"] for row in table]
    assert reopened.counts(["never asked", "🎧", ""]).tolist() == [0, 0, 0]
    no_counts = QueryCounts(np.empty(0, np.uint64), np.empty(0, np.int64))
    assert no_counts.counts(["tent"]).tolist() == [0]


def test_rows_are_found_by_index() -> None:
    indices, is_match = find_rows(np.array([7, 3, 9]), np.array([9, 4, 7, 100, 3]))
    assert indices.tolist() == [2, 0, 0, 0, 1]
    assert is_match.tolist() == [True, False, True, False, True]
    assert find_rows(np.empty(0, np.int64), np.array([1]))[1].tolist() == [False]
