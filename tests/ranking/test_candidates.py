"""Candidates of both channels: each item once, each with both scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.index.lexical import FIELDS, LexicalIndex, Matches
from mmse.ranking.candidates import LEAST, depth, gather
from mmse.ranking.query_counts import KnownQueries

BOOSTS = dict.fromkeys(FIELDS, 1.0)
N = 3_000


def made(folder: Path) -> LexicalIndex:
    index = LexicalIndex.create(folder, {}, "none")
    writer = index.writer()
    writer.add(np.arange(N), pa.table({"title": [f"red item{row % 7}" for row in range(N)]}), [])
    writer.commit()
    writer.close()
    return LexicalIndex.open(folder)


def test_every_candidate_has_both_scores(tmp_path: Path) -> None:
    index = made(tmp_path)
    vectors = np.random.default_rng(0).random(N).astype(np.float32)
    near = np.argsort(-vectors)[:400]
    asked = index.ask("red item3", BOOSTS)
    matches = index.search(asked, 300)
    assert not matches.complete, "more match than were fetched, so the others are looked up"
    found = gather((near, vectors[near]), matches, asked, index, k=10, vector_scores=lambda rows: vectors[rows])
    assert len(set(found.rows.tolist())) == len(found.rows)
    assert set(found.rows.tolist()) == set(near[:LEAST].tolist()) | set(matches.rows[:LEAST].tolist())
    np.testing.assert_allclose(found.vector, vectors[found.rows])
    np.testing.assert_allclose(found.lexical, index.scores(asked, found.rows) / asked.most, rtol=1e-5)
    assert 0 < found.lexical.min() <= found.lexical.max() <= 1


def test_no_match_is_a_share_of_zero(tmp_path: Path) -> None:
    index = made(tmp_path)
    asked = index.ask("nonesuch", BOOSTS)
    nothing = Matches(np.empty(0, np.int64), np.empty(0, np.float32), True)
    near = np.arange(3), np.ones(3, np.float32)
    found = gather(near, nothing, asked, index, k=10, vector_scores=lambda rows: np.ones(len(rows), np.float32))
    assert found.rows.tolist() == [0, 1, 2]
    assert found.lexical.tolist() == [0, 0, 0]


def test_depth_grows_with_what_is_asked() -> None:
    assert depth(1) == depth(100) == LEAST
    assert depth(1_000) == 1_100


def test_known_queries_are_counted_in_any_spelling(small_run: Path, tmp_path: Path) -> None:
    known = KnownQueries.of(small_run / "dataset")
    known.save(tmp_path)
    opened = KnownQueries.open(tmp_path)
    table = pq.read_table(small_run / "dataset" / "queries.parquet").slice(0, 20).to_pylist()
    asked = [f"  {row['query'].upper()} " for row in table]
    assert opened.counts(asked).tolist() == [row["requests"] for row in table]
    assert opened.counts(["never asked", "🎧", ""]).tolist() == [0, 0, 0]
    nobody = KnownQueries(np.empty(0, np.uint64), np.empty(0, np.int64))
    assert nobody.counts(["tent"]).tolist() == [0]
