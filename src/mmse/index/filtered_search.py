"""The `k` best rows that pass a filter, with exact scores; never fewer than exist.

The cost rule, for a filter that `m` of `n` rows pass:

- If `m` is at most `CostRule.max_scan_rows`, the exact vectors of all `m` rows are compared.
- Otherwise lists are visited from the nearest on. The search stops when it has compared `safety` times as many rows of
  the filter as an unfiltered search compares rows, but at most `max_rows`, or as many as lie in `1/√f` times the lists
  of an unfiltered search if that is more (`f` is the share of rows that pass). For a broad filter these are a few
  lists, for a narrow one up to all of them.
- Where the filter is thinner near the query than overall, its best rows are spread over many lists at about the same
  distance. So the thinner it is, the more rows are compared, up to `max_thin_rows`. Once the filter's rows have been
  counted list by list, lists without any are skipped.

An IVF index rounds its vectors, so somewhat more than `k` rows are taken from it and scored again from `vectors`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from mmse.core.config import require
from mmse.index.base import Index, Neighbours, check_vectors, contains_ids, no_neighbours
from mmse.index.ivf import RESCORE_FACTORS, IvfIndex, ListLayout, bitmap


@dataclass(frozen=True)
class CostRule:
    """How many rows are compared; the defaults were chosen with `benchmarks/filters.py` on a million rows.

    `safety` multiplies the number of rows of an unfiltered search. How many rows of a filter lie in each list is
    estimated; where they are thin near the query and at most a share `count_share` of all rows, they are counted.
    `rescore_factor · k` rows are scored again, or more where the index says so.
    """

    max_scan_rows: int = 20_000
    max_thin_rows: int = 80_000
    safety: float = 4.0
    max_rows: int = 20_000
    count_share: float = 0.15
    rescore_factor: float = RESCORE_FACTORS[0]

    def __post_init__(self) -> None:
        require(self.max_scan_rows >= 0, "max_scan_rows", self.max_scan_rows, "0 rows or more")
        require(self.max_thin_rows >= 1, "max_thin_rows", self.max_thin_rows, "1 row or more")
        require(self.safety >= 1, "safety", self.safety, "at least 1")
        require(self.max_rows >= 1, "max_rows", self.max_rows, "1 row or more")
        require(0 <= self.count_share <= 1, "count_share", self.count_share, "a share from 0 to 1")
        require(self.rescore_factor >= 1, "rescore_factor", self.rescore_factor, "at least 1")


THIN_RATIO = 1.5
THIN_EXPONENT = 3
"""A filter three times as thin near the query gets 27 times the rows; with fewer, recall fell below 0.95 for some."""

CHUNK_ROWS = 1024
CHUNK_QUERIES = 64
"""How many rows and queries are compared at a time."""


@dataclass(frozen=True)
class _FilterSpread:
    """How the rows of a filter are spread over the lists of an index."""

    layout: ListLayout
    mask: Bool[np.ndarray, " n"]

    @cached_property
    def bits(self) -> UInt8[np.ndarray, " b"]:
        return bitmap(self.mask)

    @cached_property
    def row_estimates(self) -> Int64[np.ndarray, " nlist"]:
        return self.layout.estimate_rows(self.mask)

    @cached_property
    def row_counts(self) -> Int64[np.ndarray, " nlist"]:
        return self.layout.count_rows(self.mask)

    def thin_ratio(self, in_list: Int64[np.ndarray, " nlist"], near_lists: Int64[np.ndarray, " p"]) -> float:
        """How many times thinner the filter is in `near_lists` than overall; at least 1."""
        near_share = in_list[near_lists].sum() / max(1, self.layout.sizes[near_lists].sum())
        overall_share = in_list.sum() / self.layout.sizes.sum()
        return max(1.0, float(overall_share / near_share)) if near_share else math.inf


def search_filtered(
    index: Index,
    vectors: Float32[np.ndarray, "n d"],
    queries: Float32[np.ndarray, "q width"],
    k: int,
    mask: Bool[np.ndarray, " n"] | None = None,
    rule: CostRule = CostRule(),
) -> Neighbours:
    """The `k` best rows of each query among those of `mask` (None: all), scored by their exact inner products.

    `vectors[id]` is the vector that `index` has under `id`; `vectors` may be memory-mapped and have further rows. A
    query gets `min(k, m)` rows, where `m` rows are both in the index and in `mask`. Raises `UsageError` where a query
    has another width or is not finite.
    """
    check_vectors(queries, index.dim, "query vectors")
    assert len(index) == 0 or int(index.ids[-1]) < len(vectors), (int(index.ids[-1]), len(vectors))
    assert mask is None or len(mask) == len(vectors), (len(vectors), None if mask is None else len(mask))
    queries, vectors = np.ascontiguousarray(queries), np.asarray(vectors)
    if mask is None:
        return rescore(vectors, queries, index.search(queries, _count_candidates(index, k, rule)).ids, k)
    m = int(np.count_nonzero(mask))
    if m <= rule.max_scan_rows:
        rows = np.flatnonzero(mask)
        present_rows = rows if len(index) == len(vectors) else rows[contains_ids(rows, index.ids)]
        return scan_rows(vectors, present_rows, queries, k)
    if not isinstance(index, IvfIndex) or len(index) == 0:
        return index.search(queries, k, mask)
    spread, n_candidates = _FilterSpread(index.layout(), mask), min(_count_candidates(index, k, rule), len(index))
    candidates = np.empty((len(queries), n_candidates), dtype=np.int64)
    for i, query in enumerate(queries):
        nearness = spread.layout.centroids @ query
        lists = _choose_lists(index, spread, nearness, n_candidates, rule)
        candidates[i] = index.visit(query, n_candidates, lists, nearness=nearness, bits=spread.bits)
        if (candidates[i] >= 0).sum() < min(k, m):
            all_lists = np.arange(index.nlist)
            candidates[i] = index.visit(query, n_candidates, all_lists, nearness=nearness, bits=spread.bits)
    return rescore(vectors, queries, candidates, k)


def _choose_lists(
    index: IvfIndex, spread: _FilterSpread, nearness: Float32[np.ndarray, " nlist"], n_candidates: int, rule: CostRule
) -> Int64[np.ndarray, " p"]:
    """The lists to visit, nearest first; at least one."""
    order = np.argsort(-nearness)
    depth_factor = max(1.0, n_candidates / _rescore_factor(index, rule) / index.config.recall_k)
    unfiltered_rows = depth_factor * index.nprobe * len(index) / index.nlist
    in_list = spread.row_estimates
    share = min(1.0, in_list.sum() / len(index))
    usual_rows = max(min(rule.safety * unfiltered_rows, float(rule.max_rows)), unfiltered_rows * math.sqrt(share))
    near_lists = order[: _count_lists(usual_rows, spread.layout.sizes[order])]
    thin_ratio = spread.thin_ratio(in_list, near_lists)
    if thin_ratio > THIN_RATIO and in_list.sum() <= rule.count_share * len(index):
        in_list = spread.row_counts
        thin_ratio = spread.thin_ratio(in_list, near_lists)
        order = order[in_list[order] > 0] if in_list.any() else order
    rows = max(usual_rows, min(usual_rows * thin_ratio**THIN_EXPONENT, float(rule.max_thin_rows)), 2.0 * n_candidates)
    return order[: _count_lists(rows, in_list[order])]


def _count_lists(rows: float, sizes: Int64[np.ndarray, " p"]) -> int:
    """How many lists, from the first on, together have `rows` rows; one more than exist if all have fewer."""
    return int(np.searchsorted(np.cumsum(sizes), rows)) + 1


def scan_rows(
    vectors: Float32[np.ndarray, "n d"], rows: Int64[np.ndarray, " m"], queries: Float32[np.ndarray, "q d"], k: int
) -> Neighbours:
    """The best of `rows`, all of which are compared.

    One small buffer is reused: allocating megabytes for each query costs more in page faults than the comparison.
    """
    best, n_hits = no_neighbours(len(queries), k), min(k, len(rows))
    buffer = np.empty((min(CHUNK_ROWS, len(rows)), vectors.shape[1]), dtype=np.float32)
    for query_start in range(0, len(queries), CHUNK_QUERIES):
        query_chunk = queries[query_start : query_start + CHUNK_QUERIES]
        scores = np.empty((len(query_chunk), len(rows)), dtype=np.float32)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            row_vectors = vectors.take(chunk, axis=0, out=buffer[: len(chunk)], mode="clip")
            scores[:, start : start + CHUNK_ROWS] = query_chunk @ row_vectors.T
        columns = _top_columns(scores, n_hits)
        best.ids[query_start : query_start + CHUNK_QUERIES, :n_hits] = rows[columns]
        best.scores[query_start : query_start + CHUNK_QUERIES, :n_hits] = np.take_along_axis(scores, columns, axis=1)
    return best


def _top_columns(scores: Float32[np.ndarray, "q m"], k: int) -> Int64[np.ndarray, "q k"]:
    """The column indices of the `k` highest scores of each row, highest first."""
    if k < scores.shape[1]:
        columns = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, columns, axis=1), axis=1)
        return np.take_along_axis(columns, order, axis=1)
    return np.argsort(-scores, axis=1, kind="stable")


def rescore(
    vectors: Float32[np.ndarray, "n d"],
    queries: Float32[np.ndarray, "q d"],
    candidates: Int64[np.ndarray, "q f"],
    k: int,
) -> Neighbours:
    """The `k` best of each query's `candidates` by their exact scores; -1 is skipped."""
    best = no_neighbours(len(queries), k)
    for i, query in enumerate(queries):
        ids = candidates[i][candidates[i] >= 0]
        scores = vectors.take(ids, axis=0) @ query
        order = np.argsort(-scores, kind="stable")[:k]
        best.ids[i, : len(order)], best.scores[i, : len(order)] = ids[order], scores[order]
    return best


def _count_candidates(index: Index, k: int, rule: CostRule) -> int:
    return math.ceil(_rescore_factor(index, rule) * k)


def _rescore_factor(index: Index, rule: CostRule) -> float:
    return max(rule.rescore_factor, index.rescore_factor) if isinstance(index, IvfIndex) else rule.rescore_factor
