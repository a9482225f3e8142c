"""Where an engine other than the usual one finds its candidates: best sellers, best sellers and words, vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32

from mmse.lab.simulator.engine import CandidateSource, TitleCandidates
from mmse.text.bm25 import Bm25Hits

GUESS_HITS = 10
"""The category of a query is guessed from this many best BM25 hits."""


@dataclass(frozen=True)
class PopularCandidates:
    """The best sellers of the category that the query's best BM25 hits belong to, whatever else the query says.

    `best` are the items of each category, the most popular first, -1 padded.
    """

    titles: TitleCandidates
    category: Int32[np.ndarray, " n_items"]
    best: Int32[np.ndarray, "n_categories width"]

    @classmethod
    def of(
        cls,
        titles: TitleCandidates,
        category: Int32[np.ndarray, " n_items"],
        popularity: Float32[np.ndarray, " n_items"],
    ) -> PopularCandidates:
        """The best sellers of each category by `popularity`."""
        order = np.lexsort((-popularity, category))
        size = np.bincount(category)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
        best = np.full((len(size), titles.n_candidates), -1, np.int32)
        fits = rank < titles.n_candidates
        best[category[order[fits]], rank[fits]] = order[fits]
        return cls(titles, category, best)

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Bm25Hits:
        """The candidates of each query; none where no title has a word of it."""
        hits = self.titles.candidates(texts)
        rows, scores = hits.rows[:, :GUESS_HITS], np.maximum(hits.scores[:, :GUESS_HITS], 0)
        votes = np.zeros((len(texts), len(self.best)), np.float32)
        np.add.at(votes, (np.arange(len(texts))[:, None], self.category[rows]), np.where(rows >= 0, scores, 0))
        has_hit = np.any(rows >= 0, axis=1, keepdims=True)
        return hits_by_rank(np.where(has_hit, self.best[votes.argmax(axis=1)], -1))


@dataclass(frozen=True)
class MixedCandidates:
    """The candidates of two sources in turn, each item once."""

    sources: tuple[CandidateSource, CandidateSource]

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Bm25Hits:
        """The candidates of each query."""
        a, b = (source.candidates(texts).rows for source in self.sources)
        width = min(a.shape[1], b.shape[1])
        rows = np.stack([a[:, :width], b[:, :width]], axis=2).reshape(len(a), 2 * width)
        order = np.argsort(rows, axis=1, kind="stable")
        in_order = np.take_along_axis(rows, order, axis=1)
        is_repeat = np.zeros(rows.shape, bool)
        np.put_along_axis(is_repeat, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
        return hits_by_rank(np.where(is_repeat, -1, rows))


@dataclass(frozen=True)
class VectorCandidates:
    """The items whose vectors are nearest to the query's; the vectors are those of a trained model."""

    queries: Float32[np.ndarray, "n_texts dim"]
    items: Float32[np.ndarray, "n_items dim"]
    n_candidates: int = 150

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Bm25Hits:
        """The candidates of each query."""
        parts = [self._nearest(part) for part in np.array_split(texts, -(-len(texts) // 1_024))]
        return hits_by_rank(np.vstack(parts))

    def _nearest(self, texts: Int[np.ndarray, " n"]) -> Int32[np.ndarray, "n width"]:
        scores = self.queries[texts] @ self.items.T
        n = min(self.n_candidates, scores.shape[1])
        rows = np.argpartition(-scores, n - 1, axis=1)[:, :n]
        order = np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1, kind="stable")
        return np.take_along_axis(rows, order, axis=1).astype(np.int32)


def hits_by_rank(rows: Int32[np.ndarray, "n width"]) -> Bm25Hits:
    """The items in their order, those that exist first, with scores that fall evenly from 1."""
    order = np.argsort(rows < 0, axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    scores = np.broadcast_to(1 - np.arange(rows.shape[1]) / rows.shape[1], rows.shape).astype(np.float32)
    return Bm25Hits(rows, np.where(rows < 0, 0, scores))
