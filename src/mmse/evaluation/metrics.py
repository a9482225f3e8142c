"""Retrieval metrics over padded rankings: how many relevant items a ranking has, and how early.

A ranking covers the full catalogue: no candidate set is sampled. Every metric gives one number per request, NaN if
the request has nothing relevant; the caller averages and resamples.

    relevant = from_pairs(requests, item_rows, gains, n_requests)
    hits = locate(rankings, relevant)
    recall(hits, 100), ndcg(hits, 10), mrr(hits, 10)

`recall`, `ndcg` and `mrr` are the definitions of trec_eval (and of `ir_measures`: R@k, nDCG@k, RR@k). The metrics of
a simulated shop's truth (`share_of_top`, `order_rate`, `draw_orders`) take the propensity with which each request's
shopper would order each item if they saw it; `TrueTop` has found the best of it once, for all rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

CELLS = 4_000_000
"""Comparisons made at a time, so that memory does not grow with the number of requests."""


@dataclass(frozen=True)
class Relevant:
    """The relevant items of each request: request `r` has `item_rows[offsets[r]:offsets[r + 1]]`, worth `gains` (> 0).

    A request has an item once. `schema.stages.STAGE_GAINS` has the gains of logged stages; judged grades and ones are
    gains too.
    """

    offsets: Int[np.ndarray, " n_plus_1"]
    item_rows: Int[np.ndarray, " m"]
    gains: Float[np.ndarray, " m"]

    def __post_init__(self) -> None:
        assert self.offsets[0] == 0
        assert self.offsets[-1] == len(self.item_rows) == len(self.gains)
        assert (np.diff(self.offsets) >= 0).all()
        assert (self.gains > 0).all()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Int[np.ndarray, " n"]:
        """How many items are relevant to each request."""
        return np.diff(self.offsets)

    @property
    def requests(self) -> Int[np.ndarray, " m"]:
        """The request of each relevant item."""
        return np.repeat(np.arange(len(self)), self.counts)


@dataclass(frozen=True)
class RelevantHits:
    """The rank of each relevant item in its request's ranking: `ranks` from 1, 0 if the ranking does not have it.

    `depth` is the width of the rankings; no metric looks deeper.
    """

    relevant: Relevant
    ranks: Int[np.ndarray, " m"]
    depth: int


def from_pairs(
    requests: Int[np.ndarray, " m"], item_rows: Int[np.ndarray, " m"], gains: Float[np.ndarray, " m"], n_requests: int
) -> Relevant:
    """Relevant items from pairs in any order; a pair that occurs more than once counts once, at its best gain."""
    order = np.lexsort((-gains, item_rows, requests))
    r, i, g = requests[order], item_rows[order], gains[order]
    distinct = np.ones(len(r), dtype=bool)
    distinct[1:] = (r[1:] != r[:-1]) | (i[1:] != i[:-1])
    counts = np.bincount(r[distinct], minlength=n_requests)
    return Relevant(np.concatenate([[0], np.cumsum(counts)]), i[distinct], g[distinct].astype(np.float64))


def concatenate(parts: Sequence[Relevant]) -> Relevant:
    """One `Relevant` of the requests of all `parts`, in order."""
    counts = np.concatenate([np.zeros(1, dtype=np.int64), *(part.counts for part in parts)])
    item_rows = np.concatenate([np.empty(0, dtype=np.int64), *(part.item_rows for part in parts)])
    gains = np.concatenate([np.empty(0), *(part.gains for part in parts)])
    return Relevant(np.cumsum(counts), item_rows, gains)


def locate(rankings: Int[np.ndarray, "n k"], relevant: Relevant) -> RelevantHits:
    """Finds every relevant item in its request's ranking (best first, padded with -1, no item twice)."""
    assert len(rankings) == len(relevant), (len(rankings), len(relevant))
    depth = rankings.shape[1]
    ranks = np.zeros(len(relevant.item_rows), dtype=np.int64)
    requests = relevant.requests
    step = max(1, CELLS // max(1, depth))
    for start in range(0, len(ranks) if depth else 0, step):
        part = slice(start, start + step)
        equal = rankings[requests[part]] == relevant.item_rows[part, None]
        ranks[part] = np.where(equal.any(axis=1), equal.argmax(axis=1) + 1, 0)
    return RelevantHits(relevant, ranks, depth)


def recall(hits: RelevantHits, k: int) -> Float[np.ndarray, " n"]:
    """|top k ∩ relevant| / |relevant|: the share of a request's relevant items among its first `k`."""
    counts = hits.relevant.counts
    return _ratio(_by_request(hits, _in_top(hits, k).astype(np.float64)), counts.astype(np.float64))


def ndcg(hits: RelevantHits, k: int) -> Float[np.ndarray, " n"]:
    """Σ gain / log2(rank + 1) over the first `k`, as a share of the best order of all the request's relevant items.

    Gains enter linearly (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with
    trec_eval's discount), not as 2^gain - 1.
    """
    in_top = _in_top(hits, k)
    gains = np.zeros(len(in_top))
    gains[in_top] = hits.relevant.gains[in_top] / np.log2(hits.ranks[in_top] + 1)
    return _ratio(_by_request(hits, gains), _ideal_gain(hits.relevant, k))


def mrr(hits: RelevantHits, k: int) -> Float[np.ndarray, " n"]:
    """1 / rank of the first relevant item, 0 if there is none among the first `k`.

    Gains do not enter. For the first *ordered* item give the ordered items alone as relevant.
    """
    in_top = _in_top(hits, k)
    best = np.zeros(len(hits.relevant))
    np.maximum.at(best, hits.relevant.requests[in_top], 1.0 / hits.ranks[in_top])
    return np.where(hits.relevant.counts > 0, best, np.nan)


@dataclass(frozen=True)
class TrueTop:
    """The propensity with which each request's shopper orders each item, and the highest of each, highest first."""

    propensity: Float[np.ndarray, "n n_items"]
    best: Float[np.ndarray, "n depth"]

    @classmethod
    def of(cls, propensity: Float[np.ndarray, "n n_items"], depth: int) -> TrueTop:
        """The `depth` highest of each request, or all where there are fewer; no metric of it has a larger `k`."""
        best = np.zeros((len(propensity), min(depth, propensity.shape[1])), propensity.dtype)
        for row, chances in enumerate(propensity):
            possible = chances[chances > 0]  # few: the many zeros are what a partition takes longest for
            if len(possible) > depth:
                possible = np.partition(possible, len(possible) - depth)[-depth:]
            best[row, : len(possible)] = np.sort(possible)[::-1]
        return cls(propensity, best)

    def head(self, k: int) -> Float[np.ndarray, "n m"]:
        """The `k` highest of each request; fewer where there are fewer items."""
        assert k <= self.best.shape[1] or self.best.shape == self.propensity.shape, (k, self.best.shape)
        return self.best[:, :k]


def share_of_top(rankings: Int[np.ndarray, "n w"], truth: TrueTop, k: int) -> Float[np.ndarray, " n"]:
    """How many of the `k` items most likely to be ordered are among a ranking's first `k`, as a share.

    Items of equal propensity are interchangeable: if a tie crosses rank `k`, any of the tied items fill the ranks that
    remain. Items that are never ordered do not count: with fewer than `k` others, those are the whole.
    """
    best = truth.head(k)
    depth, edge = best.shape[1], best[:, -1]
    n_better = (best > edge[:, None]).sum(axis=1)
    total = np.where(edge > 0, depth, n_better)
    value = _propensity_of_top(rankings, truth.propensity, k)
    hits = (value > edge[:, None]).sum(axis=1)
    ties = np.where(edge > 0, (value == edge[:, None]).sum(axis=1), 0)
    return _ratio((hits + np.minimum(ties, depth - n_better)).astype(np.float64), total.astype(np.float64))


def order_rate(rankings: Int[np.ndarray, "n w"], truth: TrueTop, k: int) -> Float[np.ndarray, " n"]:
    """The mean propensity of a ranking's first `k`, as a share of the best mean that any `k` items have.

    An empty rank counts as an item that is never ordered.
    """
    best = truth.head(k).sum(axis=1, dtype=np.float64)
    total = np.maximum(_propensity_of_top(rankings, truth.propensity, k), 0).sum(axis=1, dtype=np.float64)
    share: np.ndarray = np.minimum(_ratio(total, best), 1.0)
    return share


def draw_orders(
    propensity: Float[np.ndarray, "n n_items"], orders_per_request: int, rng: np.random.Generator
) -> Relevant:
    """Orders outside the search: items drawn by propensity from the whole catalogue, none twice in a request.

    What the shop's engine chose to show has no influence on them. Each next item is drawn in proportion to propensity
    among the remaining ones (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006, in its
    exponential form); a request with fewer possible items gets those. All gains are 1.
    """
    parts = []
    step = max(1, CELLS // max(1, propensity.shape[1]))
    n_orders = min(orders_per_request, propensity.shape[1])
    for start in range(0, len(propensity), step):
        chances = propensity[start : start + step]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            waits = rng.standard_exponential(chances.shape, dtype=np.float32) / chances
        waits[chances <= 0] = np.inf
        items = np.argpartition(waits, n_orders - 1, axis=1)[:, :n_orders]
        possible = np.isfinite(np.take_along_axis(waits, items, axis=1))
        requests = np.broadcast_to(np.arange(len(chances))[:, None], items.shape)[possible]
        parts.append(from_pairs(requests, items[possible], np.ones(len(requests)), len(chances)))
    return concatenate(parts)


def _in_top(hits: RelevantHits, k: int) -> np.ndarray:
    assert 1 <= k <= hits.depth, f"k {k} for rankings of depth {hits.depth}"
    return (hits.ranks > 0) & (hits.ranks <= k)


def _by_request(hits: RelevantHits, values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    return np.bincount(hits.relevant.requests, weights=values, minlength=len(hits.relevant)).astype(np.float64)


def _ideal_gain(relevant: Relevant, k: int) -> Float[np.ndarray, " n"]:
    requests = relevant.requests
    gains = relevant.gains[np.lexsort((-relevant.gains, requests))]
    ranks = np.arange(len(gains)) - relevant.offsets[requests] + 1
    weights = np.where(ranks <= k, gains / np.log2(ranks + 1), 0.0)
    return np.bincount(requests, weights=weights, minlength=len(relevant)).astype(np.float64)


def _propensity_of_top(
    rankings: Int[np.ndarray, "n w"], propensity: Float[np.ndarray, "n n_items"], k: int
) -> Float[np.ndarray, "n k"]:
    """The propensity of each item in a ranking's first `k`, -1 for empty ranks."""
    assert k <= rankings.shape[1] or rankings.shape[1] >= propensity.shape[1], (k, rankings.shape)
    top = rankings[:, :k]
    return np.where(top >= 0, np.take_along_axis(propensity, np.maximum(top, 0), axis=1), -1.0)


def _ratio(numerator: Num[np.ndarray, " n"], denominator: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    ratio: np.ndarray = np.divide(numerator, denominator, out=np.full(len(denominator), np.nan), where=denominator > 0)
    return ratio
