"""The simulated shop's production engine: BM25 candidates, pre-ranking, ranking, and a page with explored slots.

Like a real engine it is good, with systematic errors: it matches words, prefers popular items, underrates new items,
and its click estimate has an error that is the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from mmse.lab.simulator.preferences import Preferences
from mmse.text.bm25 import Bm25, Bm25Hits

PRE_RANKED: Final = 60
COLD_DAYS: Final = 14.0
"""Days after its listing until an item's popularity counts in full."""
POOL_SHARES: Final = (0.6, 0.25, 0.15)
"""Shares of explored items drawn from the group of one of the best BM25 hits, its department, the whole catalogue."""
SEED_HITS: Final = 10
"""Explored items are drawn from the categories of this many best BM25 hits."""


@runtime_checkable
class CandidateSource(Protocol):
    """Finds the candidates of queries."""

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Bm25Hits:
        """The candidates of each query (a row of the shop's query texts), best first, -1 padded."""
        ...


@dataclass(frozen=True)
class TitleCandidates:
    """The best `n_candidates` items by BM25 over titles."""

    index: Bm25
    texts: Sequence[str]
    n_candidates: int = 150

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Bm25Hits:
        """The candidates of each query."""
        return self.index.search([self.texts[text] for text in texts], self.n_candidates)


@dataclass(frozen=True)
class Pool:
    """Items by category: `rows` sorted by `category`, category `c` at `starts[c] : starts[c] + size[c]`."""

    category: Int32[np.ndarray, " n_items"]
    rows: Int[np.ndarray, " n_items"]
    starts: Int[np.ndarray, " n_categories"]
    size: Int[np.ndarray, " n_categories"]

    @classmethod
    def of(cls, category: Int32[np.ndarray, " n_items"]) -> Pool:
        """The pool of a category per item."""
        size = np.bincount(category)
        return cls(category, np.argsort(category, kind="stable"), np.cumsum(size) - size, size)

    def draw(self, items: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
        """For each item a random item of its category, drawn uniformly (it may be the same)."""
        category = self.category[items]
        offset = (rng.random(len(items)) * self.size[category]).astype(np.int64)
        return np.asarray(self.rows[self.starts[category] + offset])


@dataclass(frozen=True)
class Pages:
    """The shown items by slot (-1: the page ends before), and which slots were filled at random.

    `next_best` are the items that the engine ranked next and did not show (-1: there are no more).
    """

    items: Int32[np.ndarray, "n page"]
    explored: Bool[np.ndarray, "n page"]
    next_best: Int32[np.ndarray, "n next_best"]


@dataclass(frozen=True)
class Engine:
    """`popularity` is the engine's noisy estimate of sales; `estimate_weight` 0 ranks by words and noise alone.

    A page reports `n_next_best` items that were ranked but not shown. `listed_day` and `delisted_day` are days since
    the log's start.
    """

    candidate_source: CandidateSource
    preferences: Preferences
    popularity: Float32[np.ndarray, " n_items"]
    listed_day: Float32[np.ndarray, " n_items"]
    delisted_day: Float32[np.ndarray, " n_items"]
    pools: tuple[Pool, Pool, Pool]
    page_size: int
    exploration: float
    estimate_weight: float = 0.5
    n_next_best: int = 0

    def make_pages(
        self,
        candidates: Bm25Hits,
        intents: Int32[np.ndarray, " n"],
        shoppers: Int32[np.ndarray, " n"],
        time: Float64[np.ndarray, " n"],
        rng: np.random.Generator,
    ) -> Pages:
        """The page of each request; `time` is in days."""
        ranking = self._rank(candidates, intents, shoppers, time)
        best = ranking[:, : self.page_size]
        explored = self._explore(candidates, best, time, rng)
        is_explored = explored >= 0
        rank = np.cumsum(~is_explored, axis=1) - 1
        ranked_item = np.take_along_axis(best, np.maximum(rank, 0), axis=1)
        items = np.where(is_explored, explored, ranked_item)
        # A page ends with the engine's last result: an explored slot behind it would stand alone.
        on_page = rank < (best >= 0).sum(axis=1, keepdims=True)
        items = np.where(on_page, items, -1).astype(np.int32)
        return Pages(items, is_explored & on_page, self._next_best(ranking, items))

    def on_sale(self, items: Int[np.ndarray, "..."], time: Float64[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Whether each item is on sale at each moment."""
        return np.asarray((self.listed_day[items] <= time) & (time < self.delisted_day[items]))

    def _rank(
        self,
        candidates: Bm25Hits,
        intents: Int32[np.ndarray, " n"],
        shoppers: Int32[np.ndarray, " n"],
        time: Float64[np.ndarray, " n"],
    ) -> Int32[np.ndarray, "n depth"]:
        """The best `page_size + n_next_best` candidates on sale, best first, -1 padded."""
        depth = self.page_size + self.n_next_best
        rows, day = candidates.rows, time[:, None]
        exists = (rows >= 0) & self.on_sale(rows, day)
        age_factor = np.clip((day - self.listed_day[rows]) / COLD_DAYS, 0, 1).astype(np.float32)
        words = 3 * candidates.scores / np.maximum(candidates.scores[:, :1], 1e-6)
        pre_score = np.where(exists, words + self.popularity[rows] * age_factor, -np.inf)
        n = min(PRE_RANKED, rows.shape[1])
        best = np.argpartition(-pre_score, n - 1, axis=1)[:, :n]
        pre_score, rows = np.take_along_axis(pre_score, best, axis=1), np.take_along_axis(rows, best, axis=1)
        estimate = self._estimate(intents[:, None], shoppers[:, None], rows)
        score = np.where(np.isneginf(pre_score), -np.inf, 0.5 * pre_score + estimate)
        order = np.argsort(-score, axis=1, kind="stable")[:, :depth]
        ranking = np.take_along_axis(np.where(np.isneginf(score), -1, rows), order, axis=1)
        n_padding = max(depth - ranking.shape[1], 0)
        return np.pad(ranking, ((0, 0), (0, n_padding)), constant_values=-1)

    def _next_best(
        self, ranking: Int32[np.ndarray, "n depth"], items: Int32[np.ndarray, "n page"]
    ) -> Int32[np.ndarray, "n next_best"]:
        """The first `n_next_best` items of the `ranking` that are not on the page."""
        if self.n_next_best == 0:
            return np.empty((len(items), 0), np.int32)
        hidden_items = np.where((ranking[:, :, None] == items[:, None, :]).any(axis=2), -1, ranking)
        order = np.argsort(hidden_items < 0, axis=1, kind="stable")[:, : self.n_next_best]
        return np.take_along_axis(hidden_items, order, axis=1).astype(np.int32)

    def _estimate(self, intents: np.ndarray, shoppers: np.ndarray, rows: np.ndarray) -> Float32[np.ndarray, "n rows"]:
        """The engine's estimate of a click's log odds: partly right, with an error that never changes."""
        error = _steady_noise(intents, rows)
        if self.estimate_weight == 0:
            return error
        click = self.preferences.log_odds(intents, shoppers, rows).click
        return np.asarray(np.float32(self.estimate_weight) * click + error)

    def _explore(
        self,
        candidates: Bm25Hits,
        ranking: Int32[np.ndarray, "n page"],
        time: Float64[np.ndarray, " n"],
        rng: np.random.Generator,
    ) -> Int32[np.ndarray, "n page"]:
        """A random item for a random share of the slots, -1 in the others; no item that the page has already."""
        explored = np.full(ranking.shape, -1, np.int32)
        request, slot = np.nonzero(rng.random(ranking.shape) < self.exploration)
        hits = candidates.rows[:, : min(SEED_HITS, candidates.rows.shape[1])]
        n_hits = np.maximum((hits >= 0).sum(axis=1), 1)
        seed_items = hits[request, (rng.random(len(request)) * n_hits[request]).astype(np.int64)]
        items = self._draw(np.maximum(seed_items, 0), time[request], rng)
        explored[request, slot] = items
        is_duplicate = (explored[:, :, None] == ranking[:, None, :]).any(axis=2)
        is_earlier_slot = np.tril(np.ones((self.page_size, self.page_size), bool), -1)
        is_duplicate |= ((explored[:, :, None] == explored[:, None, :]) & is_earlier_slot).any(axis=2)
        return np.where(is_duplicate, -1, explored)

    def _draw(
        self, seed_items: Int[np.ndarray, " n"], time: Float64[np.ndarray, " n"], rng: np.random.Generator
    ) -> Int[np.ndarray, " n"]:
        """Random items on sale from the pools of `seed_items`; -1 where four tries gave none."""
        draws = np.full(len(seed_items), -1, np.int64)
        pool_numbers = rng.choice(len(self.pools), len(seed_items), p=POOL_SHARES)
        for _ in range(4):
            for number, pool in enumerate(self.pools):
                gaps = np.flatnonzero((draws < 0) & (pool_numbers == number))
                items = pool.draw(seed_items[gaps], rng)
                draws[gaps] = np.where(self.on_sale(items, time[gaps]), items, -1)
        return draws


def _steady_noise(intents: np.ndarray, items: np.ndarray) -> Float32[np.ndarray, "..."]:
    """Noise of mean 0 and deviation 1 that depends on intent and item alone (the sum of two hashed uniforms)."""
    key = intents.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + items.astype(np.uint64)
    key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    low = (key & np.uint64(0xFFFFFF)).astype(np.float32) / np.float32(1 << 24)
    high = (key >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return (low + high - np.float32(1)) * np.float32(np.sqrt(6.0))
