"""Retrieval metrics over padded rankings: what of the relevant was found, and how early.

A ranking is the full catalogue's: no candidate set is sampled. Every metric gives one number a request, NaN where
the request has nothing relevant, so that the caller averages and resamples as it likes.

    relevant = from_pairs(requests, item_rows, gains, n_requests)
    found = locate(rankings, relevant)
    recall(found, 100), ndcg(found, 10), mrr(found, 10)

`recall`, `ndcg` and `mrr` are the definitions of trec_eval (and of `ir_measures`: R@k, nDCG@k, RR@k). The metrics of
a simulated shop's truth (`share_of_top`, `order_rate`, `draw_orders`) take the propensity with which each request's
shopper would order each item, were it seen.
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
    """What each request should find: request `r` has `item_rows[offsets[r]:offsets[r + 1]]`, worth `gains` (> 0).

    An item stands once in a request. `records.STAGE_GAINS` holds the gains of logged stages; judged grades and
    ones are gains too.
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
class Located:
    """Where each relevant item stands in its request's ranking: `ranks` from 1, 0 where it is not found.

    `depth` is the width of the rankings; no metric looks deeper.
    """

    relevant: Relevant
    ranks: Int[np.ndarray, " m"]
    depth: int


def from_pairs(
    requests: Int[np.ndarray, " m"], item_rows: Int[np.ndarray, " m"], gains: Float[np.ndarray, " m"], n_requests: int
) -> Relevant:
    """Relevant items from pairs in any order; a pair that stands more than once counts once, at its best gain."""
    order = np.lexsort((-gains, item_rows, requests))
    r, i, g = requests[order], item_rows[order], gains[order]
    first = np.ones(len(r), dtype=bool)
    first[1:] = (r[1:] != r[:-1]) | (i[1:] != i[:-1])
    counts = np.bincount(r[first], minlength=n_requests)
    return Relevant(np.concatenate([[0], np.cumsum(counts)]), i[first], g[first].astype(np.float64))


def joined(parts: Sequence[Relevant]) -> Relevant:
    """One `Relevant` of the requests of all `parts`, in order."""
    counts = np.concatenate([np.zeros(1, dtype=np.int64), *(part.counts for part in parts)])
    item_rows = np.concatenate([np.empty(0, dtype=np.int64), *(part.item_rows for part in parts)])
    gains = np.concatenate([np.empty(0), *(part.gains for part in parts)])
    return Relevant(np.cumsum(counts), item_rows, gains)


def locate(rankings: Int[np.ndarray, "n k"], relevant: Relevant) -> Located:
    """Finds every relevant item in its request's ranking (best first, padded with -1, no item twice)."""
    assert len(rankings) == len(relevant), (len(rankings), len(relevant))
    depth = rankings.shape[1]
    ranks = np.zeros(len(relevant.item_rows), dtype=np.int64)
    requests = relevant.requests
    step = max(1, CELLS // max(1, depth))
    for start in range(0, len(ranks) if depth else 0, step):
        part = slice(start, start + step)
        same = rankings[requests[part]] == relevant.item_rows[part, None]
        ranks[part] = np.where(same.any(axis=1), same.argmax(axis=1) + 1, 0)
    return Located(relevant, ranks, depth)


def recall(found: Located, k: int) -> Float[np.ndarray, " n"]:
    """|first k ∩ relevant| / |relevant|: the share of a request's relevant items among its first `k`."""
    counts = found.relevant.counts
    return _ratio(_by_request(found, _within(found, k).astype(np.float64)), counts.astype(np.float64))


def ndcg(found: Located, k: int) -> Float[np.ndarray, " n"]:
    """Σ gain / log2(rank + 1) over the first `k`, as a share of the best order of all the request's relevant items.

    Gains enter linearly (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with
    trec_eval's discount), not as 2^gain - 1.
    """
    within = _within(found, k)
    discounted = np.zeros(len(within))
    discounted[within] = found.relevant.gains[within] / np.log2(found.ranks[within] + 1)
    return _ratio(_by_request(found, discounted), _ideal(found.relevant, k))


def mrr(found: Located, k: int) -> Float[np.ndarray, " n"]:
    """1 / rank of the first relevant item, 0 where the first `k` hold none.

    Gains do not enter. For the first *ordered* item give the ordered items alone as relevant.
    """
    within = _within(found, k)
    best = np.zeros(len(found.relevant))
    np.maximum.at(best, found.relevant.requests[within], 1.0 / found.ranks[within])
    return np.where(found.relevant.counts > 0, best, np.nan)


def share_of_top(
    rankings: Int[np.ndarray, "n w"], propensity: Float[np.ndarray, "n n_items"], k: int
) -> Float[np.ndarray, " n"]:
    """The share of the `k` items likeliest to be ordered that stand among a ranking's first `k`.

    Items of equal propensity are interchangeable: where a tie crosses place `k`, any of the tied fill the places
    left. Items that are never ordered do not count: with fewer than `k` others, those are the whole.
    """
    wanted = min(k, propensity.shape[1])
    edge = -np.partition(-propensity, wanted - 1, axis=1)[:, wanted - 1]
    above = (propensity > edge[:, None]).sum(axis=1)
    total = np.where(edge > 0, wanted, above)
    value = _retrieved(rankings, propensity, k)
    sure = (value > edge[:, None]).sum(axis=1)
    tied = np.where(edge > 0, (value == edge[:, None]).sum(axis=1), 0)
    return _ratio((sure + np.minimum(tied, wanted - above)).astype(np.float64), total.astype(np.float64))


def order_rate(
    rankings: Int[np.ndarray, "n w"], propensity: Float[np.ndarray, "n n_items"], k: int
) -> Float[np.ndarray, " n"]:
    """The mean propensity of a ranking's first `k`, as a share of the best mean that any `k` items have.

    A place left empty counts as an item that is never ordered.
    """
    wanted = min(k, propensity.shape[1])
    best = -np.partition(-propensity, wanted - 1, axis=1)[:, :wanted].sum(axis=1, dtype=np.float64)
    got = np.maximum(_retrieved(rankings, propensity, k), 0).sum(axis=1, dtype=np.float64)
    share: np.ndarray = np.minimum(_ratio(got, best), 1.0)
    return share


def draw_orders(
    propensity: Float[np.ndarray, "n n_items"], orders_per_request: int, rng: np.random.Generator
) -> Relevant:
    """Orders outside the search: items drawn by propensity from the whole catalogue, none twice in a request.

    Recall of them is not coloured by what the shop's engine chose to show. Each next item is drawn in proportion
    to propensity among those left (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006, in
    its exponential form); a request with fewer possible items gets those. All gains are 1.
    """
    parts = []
    step = max(1, CELLS // max(1, propensity.shape[1]))
    wanted = min(orders_per_request, propensity.shape[1])
    for start in range(0, len(propensity), step):
        chances = propensity[start : start + step]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            waits = rng.standard_exponential(chances.shape, dtype=np.float32) / chances
        waits[chances <= 0] = np.inf
        drawn = np.argpartition(waits, wanted - 1, axis=1)[:, :wanted]
        possible = np.isfinite(np.take_along_axis(waits, drawn, axis=1))
        requests = np.broadcast_to(np.arange(len(chances))[:, None], drawn.shape)[possible]
        parts.append(from_pairs(requests, drawn[possible], np.ones(len(requests)), len(chances)))
    return joined(parts)


def _within(found: Located, k: int) -> np.ndarray:
    assert 1 <= k <= found.depth, f"k {k} for rankings of depth {found.depth}"
    return (found.ranks > 0) & (found.ranks <= k)


def _by_request(found: Located, values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    return np.bincount(found.relevant.requests, weights=values, minlength=len(found.relevant)).astype(np.float64)


def _ideal(relevant: Relevant, k: int) -> Float[np.ndarray, " n"]:
    requests = relevant.requests
    gains = relevant.gains[np.lexsort((-relevant.gains, requests))]
    ranks = np.arange(len(gains)) - relevant.offsets[requests] + 1
    weights = np.where(ranks <= k, gains / np.log2(ranks + 1), 0.0)
    return np.bincount(requests, weights=weights, minlength=len(relevant)).astype(np.float64)


def _retrieved(
    rankings: Int[np.ndarray, "n w"], propensity: Float[np.ndarray, "n n_items"], k: int
) -> Float[np.ndarray, "n k"]:
    """The propensity of each of the first `k` retrieved items, -1 in empty places."""
    assert k <= rankings.shape[1] or rankings.shape[1] >= propensity.shape[1], (k, rankings.shape)
    first = rankings[:, :k]
    return np.where(first >= 0, np.take_along_axis(propensity, np.maximum(first, 0), axis=1), -1.0)


def _ratio(above: Num[np.ndarray, " n"], below: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    ratio: np.ndarray = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return ratio
