"""The `k` best of what a filter lets through, with exact scores: never fewer than exist, whatever the filter.

The cost rule, for a filter that lets `m` of `n` rows through:

- few rows (`m` at most `CostRule.few`): their exact vectors are compared one and all;
- otherwise lists are visited from the nearest on, until `safety` times as many of the filter's rows are compared as an
  unfiltered search compares, but no more than `enough`, or as many as lie in `1/√f` times the lists of an unfiltered
  search where that is more (`f` is the share that the filter lets through). For a broad filter that is a few lists,
  for a narrow one up to all of them;
- where the filter is thinner near the query than on the whole, the best rows lie scattered over lists that are all
  about as far away, so more rows are compared the thinner it is, up to `far`. Where the filter's rows were counted list
  by list, lists without any are passed over.

An IVF index rounds its vectors, so somewhat more than `k` are taken from it and scored again from `vectors`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from mmse.core.config import require
from mmse.index.base import Found, Index, checked_vectors, is_held, nothing_found
from mmse.index.ivf import MORE, IvfIndex, Layout, bitmap


@dataclass(frozen=True)
class CostRule:
    """How much is compared; the defaults were chosen by `benchmarks/filters.py` on a million rows.

    `few`, `enough` and `far` are rows, `safety` multiplies what an unfiltered search compares. How a filter's rows lie
    over the lists is estimated; where they are thin near the query, and at most a share `counted` of all rows, they are
    counted. `more` is how many times `k` are scored again.
    """

    few: int = 20_000
    far: int = 80_000
    safety: float = 4.0
    enough: int = 20_000
    counted: float = 0.15
    more: float = MORE

    def __post_init__(self) -> None:
        require(self.few >= 0, "few", self.few, "0 rows or more")
        require(self.far >= 1, "far", self.far, "1 row or more")
        require(self.safety >= 1, "safety", self.safety, "at least 1")
        require(self.enough >= 1, "enough", self.enough, "1 row or more")
        require(0 <= self.counted <= 1, "counted", self.counted, "a share from 0 to 1")
        require(self.more >= 1, "more", self.more, "at least 1")


THIN = 1.5
STEEP = 3
"""Thrice as thin near the query asks for 27 times the rows: with fewer, recall fell under 0.95 between the extremes."""

GATHERED = 1024
TOGETHER = 64
"""Rows and queries that are compared at a time."""


@dataclass(frozen=True)
class _Spread:
    """A filter over the lists of an index."""

    layout: Layout
    mask: Bool[np.ndarray, " n"]

    @cached_property
    def bits(self) -> UInt8[np.ndarray, " b"]:
        return bitmap(self.mask)

    @cached_property
    def estimated(self) -> Int64[np.ndarray, " nlist"]:
        return self.layout.estimated(self.mask)

    @cached_property
    def counted(self) -> Int64[np.ndarray, " nlist"]:
        return self.layout.counted(self.mask)

    def thinner(self, in_list: Int64[np.ndarray, " nlist"], near: Int64[np.ndarray, " p"]) -> float:
        """How many times thinner the filter is in the lists `near` than on the whole; at least 1."""
        there = in_list[near].sum() / max(1, self.layout.sizes[near].sum())
        whole = in_list.sum() / self.layout.sizes.sum()
        return max(1.0, float(whole / there)) if there else math.inf


def search_filtered(
    index: Index,
    vectors: Float32[np.ndarray, "n d"],
    queries: Float32[np.ndarray, "q d"],
    k: int,
    mask: Bool[np.ndarray, " n"] | None = None,
    rule: CostRule = CostRule(),
) -> Found:
    """The `k` best rows of each query among those of `mask` (None: all), scored by their exact inner products.

    `vectors[id]` is what `index` holds under `id`; it may be memory-mapped, and hold more than the index does. A query
    gets `min(k, m)` rows, where `m` are held and in `mask`. Raises `UsageError` where a query has another width or is
    not finite.
    """
    checked_vectors(queries, index.dim, "query vectors")
    assert len(index) == 0 or int(index.ids[-1]) < len(vectors), (int(index.ids[-1]), len(vectors))
    assert mask is None or len(mask) == len(vectors), (len(vectors), None if mask is None else len(mask))
    queries, vectors = np.ascontiguousarray(queries), np.asarray(vectors)
    if mask is None:
        return _rescored(vectors, queries, index.search(queries, _fetched(k, rule)).ids, k)
    m = int(np.count_nonzero(mask))
    if m <= rule.few:
        rows = np.flatnonzero(mask)
        held = rows if len(index) == len(vectors) else rows[is_held(rows, index.ids)]
        return _compared(vectors, held, queries, k)
    if not isinstance(index, IvfIndex) or len(index) == 0:
        return index.search(queries, k, mask)
    spread, fetched = _Spread(index.layout(), mask), min(_fetched(k, rule), len(index))
    found = np.empty((len(queries), fetched), dtype=np.int64)
    for place, query in enumerate(queries):
        nearness = spread.layout.centroids @ query
        lists = _lists(index, spread, nearness, fetched, rule)
        found[place] = index.visit(query, fetched, lists, nearness=nearness, bits=spread.bits)
        if (found[place] >= 0).sum() < min(k, m):
            every = np.arange(index.nlist)
            found[place] = index.visit(query, fetched, every, nearness=nearness, bits=spread.bits)
    return _rescored(vectors, queries, found, k)


def _lists(
    index: IvfIndex, spread: _Spread, nearness: Float32[np.ndarray, " nlist"], fetched: int, rule: CostRule
) -> Int64[np.ndarray, " p"]:
    """The lists to visit, nearest first; at least one."""
    order = np.argsort(-nearness)
    deeper = max(1.0, fetched / rule.more / index.config.recall_k)
    unfiltered = deeper * index.nprobe * len(index) / index.nlist
    in_list = spread.estimated
    share = min(1.0, in_list.sum() / len(index))
    usual = max(min(rule.safety * unfiltered, float(rule.enough)), unfiltered * math.sqrt(share))
    near = order[: _until(usual, spread.layout.sizes[order])]
    thinner = spread.thinner(in_list, near)
    if thinner > THIN and in_list.sum() <= rule.counted * len(index):
        in_list = spread.counted
        thinner = spread.thinner(in_list, near)
        order = order[in_list[order] > 0] if in_list.any() else order
    rows = max(usual, min(usual * thinner**STEEP, float(rule.far)), 2.0 * fetched)
    return order[: _until(rows, in_list[order])]


def _until(rows: float, sizes: Int64[np.ndarray, " p"]) -> int:
    """How many of the first `sizes` it takes to make up `rows`; one more than there are where all fall short."""
    return int(np.searchsorted(np.cumsum(sizes), rows)) + 1


def _compared(
    vectors: Float32[np.ndarray, "n d"], rows: Int64[np.ndarray, " m"], queries: Float32[np.ndarray, "q d"], k: int
) -> Found:
    """The best of `rows`, all of them compared.

    One small buffer is filled again and again: fresh megabytes for each query cost more in page faults than the
    comparison does.
    """
    best, wanted = nothing_found(len(queries), k), min(k, len(rows))
    buffer = np.empty((min(GATHERED, len(rows)), vectors.shape[1]), dtype=np.float32)
    for first in range(0, len(queries), TOGETHER):
        some = queries[first : first + TOGETHER]
        scores = np.empty((len(some), len(rows)), dtype=np.float32)
        for start in range(0, len(rows), GATHERED):
            chunk = rows[start : start + GATHERED]
            gathered = vectors.take(chunk, axis=0, out=buffer[: len(chunk)], mode="clip")
            scores[:, start : start + GATHERED] = some @ gathered.T
        places = _best(scores, wanted)
        best.ids[first : first + TOGETHER, :wanted] = rows[places]
        best.scores[first : first + TOGETHER, :wanted] = np.take_along_axis(scores, places, axis=1)
    return best


def _best(scores: Float32[np.ndarray, "q m"], k: int) -> Int64[np.ndarray, "q k"]:
    """The places of the `k` highest of each row, highest first."""
    if k < scores.shape[1]:
        places = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1)
        return np.take_along_axis(places, order, axis=1)
    return np.argsort(-scores, axis=1, kind="stable")


def _rescored(
    vectors: Float32[np.ndarray, "n d"], queries: Float32[np.ndarray, "q d"], found: Int64[np.ndarray, "q f"], k: int
) -> Found:
    """The `k` best of each query's `found` ids, -1 passed over, by their exact scores."""
    best = nothing_found(len(queries), k)
    for place, query in enumerate(queries):
        ids = found[place][found[place] >= 0]
        scores = vectors.take(ids, axis=0) @ query
        order = np.argsort(-scores, kind="stable")[:k]
        best.ids[place, : len(order)], best.scores[place, : len(order)] = ids[order], scores[order]
    return best


def _fetched(k: int, rule: CostRule) -> int:
    return math.ceil(rule.more * k)
