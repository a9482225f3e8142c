"""The simulated shop's production engine: BM25 recall, pre-ranking, ranking, and a page with explored slots.

Like a real one it is good and wrong at once: it finds by words, prefers what is popular, underrates what is new,
and its estimate of a click is off by an error that is the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from mmse.lab.simulator.preferences import Preferences
from mmse.text.bm25 import Bm25, Ranking

PRE_RANKED: Final = 60
COLD_DAYS: Final = 14.0
"""How long a new item's popularity estimate needs to become whole."""
EXPLORED_FROM: Final = (0.6, 0.25, 0.15)
"""Where explored items come from: the group of one of the best BM25 hits, its department, the whole catalogue."""
NEIGHBOURS: Final = 10


@runtime_checkable
class Recall(Protocol):
    """Finds the candidates of queries."""

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Ranking:
        """The candidates of each query (a row of the shop's query texts), best first, -1 padded."""
        ...


@dataclass(frozen=True)
class TitleRecall:
    """The best `n_candidates` items by BM25 over titles."""

    index: Bm25
    texts: Sequence[str]
    n_candidates: int = 150

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Ranking:
        """The candidates of each query."""
        return self.index.search([self.texts[text] for text in texts], self.n_candidates)


@dataclass(frozen=True)
class Pool:
    """Items by category: `rows` sorted by `category`, category `c` at `first[c] : first[c] + size[c]`."""

    category: Int32[np.ndarray, " n_items"]
    rows: Int[np.ndarray, " n_items"]
    first: Int[np.ndarray, " n_categories"]
    size: Int[np.ndarray, " n_categories"]

    @classmethod
    def of(cls, category: Int32[np.ndarray, " n_items"]) -> Pool:
        """The pool of a category per item."""
        size = np.bincount(category)
        return cls(category, np.argsort(category, kind="stable"), np.cumsum(size) - size, size)

    def draw(self, items: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
        """For each item another of its category, drawn uniformly (it may be the same)."""
        category = self.category[items]
        within = (rng.random(len(items)) * self.size[category]).astype(np.int64)
        return np.asarray(self.rows[self.first[category] + within])


@dataclass(frozen=True)
class Pages:
    """What was shown: items by slot (-1: the page ends before), and which slots were filled at random.

    `below` are the engine's next best, which it did not show (-1: there are no more).
    """

    items: Int32[np.ndarray, "n page"]
    explored: Bool[np.ndarray, "n page"]
    below: Int32[np.ndarray, "n below"]


@dataclass(frozen=True)
class Engine:
    """`popularity` is the engine's noisy idea of what sells; `estimate_weight` 0 ranks by words and noise alone.

    `n_below` is how many of the items that it retrieves and does not show it tells of.
    """

    recall: Recall
    preferences: Preferences
    popularity: Float32[np.ndarray, " n_items"]
    listed: Float32[np.ndarray, " n_items"]
    delisted: Float32[np.ndarray, " n_items"]
    pools: tuple[Pool, Pool, Pool]
    page_size: int
    exploration: float
    estimate_weight: float = 0.5
    n_below: int = 0

    def pages(
        self,
        found: Ranking,
        intents: Int32[np.ndarray, " n"],
        shoppers: Int32[np.ndarray, " n"],
        time: Float64[np.ndarray, " n"],
        rng: np.random.Generator,
    ) -> Pages:
        """The page for each request; `found` holds its candidates, `time` is in days."""
        candidates = self._rank(found, intents, shoppers, time)
        ranked = candidates[:, : self.page_size]
        explored = self._explore(found, ranked, time, rng)
        is_explored = explored >= 0
        taken = np.cumsum(~is_explored, axis=1) - 1
        rest = np.take_along_axis(ranked, np.maximum(taken, 0), axis=1)
        items = np.where(is_explored, explored, rest)
        # A page ends with the engine's last result: an explored slot behind it would stand alone.
        on_page = taken < (ranked >= 0).sum(axis=1, keepdims=True)
        items = np.where(on_page, items, -1).astype(np.int32)
        return Pages(items, is_explored & on_page, self._below(candidates, items))

    def alive(self, items: Int[np.ndarray, "..."], time: Float64[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Whether each item is on sale at each moment."""
        return np.asarray((self.listed[items] <= time) & (time < self.delisted[items]))

    def _rank(
        self,
        found: Ranking,
        intents: Int32[np.ndarray, " n"],
        shoppers: Int32[np.ndarray, " n"],
        time: Float64[np.ndarray, " n"],
    ) -> Int32[np.ndarray, "n ranked"]:
        """The best `page_size + n_below` candidates on sale, best first, -1 padded."""
        depth = self.page_size + self.n_below
        rows, when = found.rows, time[:, None]
        exists = (rows >= 0) & self.alive(rows, when)
        known = np.clip((when - self.listed[rows]) / COLD_DAYS, 0, 1).astype(np.float32)
        words = 3 * found.scores / np.maximum(found.scores[:, :1], 1e-6)
        first = np.where(exists, words + self.popularity[rows] * known, -np.inf)
        kept = min(PRE_RANKED, rows.shape[1])
        best = np.argpartition(-first, kept - 1, axis=1)[:, :kept]
        first, rows = np.take_along_axis(first, best, axis=1), np.take_along_axis(rows, best, axis=1)
        estimate = self._estimate(intents[:, None], shoppers[:, None], rows)
        second = np.where(np.isneginf(first), -np.inf, 0.5 * first + estimate)
        order = np.argsort(-second, axis=1, kind="stable")[:, :depth]
        ranked = np.take_along_axis(np.where(np.isneginf(second), -1, rows), order, axis=1)
        missing = depth - ranked.shape[1]
        return np.pad(ranked, ((0, 0), (0, max(missing, 0))), constant_values=-1)

    def _below(
        self, candidates: Int32[np.ndarray, "n ranked"], items: Int32[np.ndarray, "n page"]
    ) -> Int32[np.ndarray, "n below"]:
        """The first `n_below` of the `candidates` that are not on the page."""
        if self.n_below == 0:
            return np.empty((len(items), 0), np.int32)
        rest = np.where((candidates[:, :, None] == items[:, None, :]).any(axis=2), -1, candidates)
        first = np.argsort(rest < 0, axis=1, kind="stable")[:, : self.n_below]
        return np.take_along_axis(rest, first, axis=1).astype(np.int32)

    def _estimate(self, intents: np.ndarray, shoppers: np.ndarray, rows: np.ndarray) -> Float32[np.ndarray, "n kept"]:
        """What the engine expects of a click: partly right, and always wrong in the same way."""
        error = _steady_noise(intents, rows)
        if self.estimate_weight == 0:
            return error
        click = self.preferences.log_odds(intents, shoppers, rows).click
        return np.asarray(np.float32(self.estimate_weight) * click + error)

    def _explore(
        self,
        found: Ranking,
        ranked: Int32[np.ndarray, "n page"],
        time: Float64[np.ndarray, " n"],
        rng: np.random.Generator,
    ) -> Int32[np.ndarray, "n page"]:
        """A random item for a random share of the slots, -1 elsewhere; never one that the page has anyway."""
        explored = np.full(ranked.shape, -1, np.int32)
        request, slot = np.nonzero(rng.random(ranked.shape) < self.exploration)
        near = found.rows[:, : min(NEIGHBOURS, found.rows.shape[1])]
        n_near = np.maximum((near >= 0).sum(axis=1), 1)
        like = near[request, (rng.random(len(request)) * n_near[request]).astype(np.int64)]
        items = self._draw(np.maximum(like, 0), time[request], rng)
        explored[request, slot] = items
        twice = (explored[:, :, None] == ranked[:, None, :]).any(axis=2)
        earlier = np.tril(np.ones((self.page_size, self.page_size), bool), -1)
        twice |= ((explored[:, :, None] == explored[:, None, :]) & earlier).any(axis=2)
        return np.where(twice, -1, explored)

    def _draw(
        self, like: Int[np.ndarray, " n"], time: Float64[np.ndarray, " n"], rng: np.random.Generator
    ) -> Int[np.ndarray, " n"]:
        """Random items on sale from the pools around `like`; -1 where none turned up in a few tries."""
        drawn = np.full(len(like), -1, np.int64)
        pool = rng.choice(len(self.pools), len(like), p=EXPLORED_FROM)
        for _ in range(4):
            for number, one in enumerate(self.pools):
                missing = np.flatnonzero((drawn < 0) & (pool == number))
                items = one.draw(like[missing], rng)
                drawn[missing] = np.where(self.alive(items, time[missing]), items, -1)
        return drawn


def _steady_noise(intents: np.ndarray, items: np.ndarray) -> Float32[np.ndarray, "..."]:
    """Noise of mean 0 and deviation 1 that depends on intent and item alone (the sum of two hashed uniforms)."""
    mixed = intents.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + items.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    low = (mixed & np.uint64(0xFFFFFF)).astype(np.float32) / np.float32(1 << 24)
    high = (mixed >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return (low + high - np.float32(1)) * np.float32(np.sqrt(6.0))
