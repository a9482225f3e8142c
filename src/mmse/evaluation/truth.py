"""Metrics against a simulated shop's truth: what each shopper would click and order in the whole catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Int, Int64

from mmse.core.progress import Progress
from mmse.dataset.folder import DatasetFolder
from mmse.evaluation import metrics
from mmse.evaluation.channels import CUTS
from mmse.evaluation.metric_values import MetricValues
from mmse.evaluation.reliability import CalibrationSample, concatenate_probabilities
from mmse.evaluation.rows import ALL
from mmse.retrieval.channel_rankings import CalibratedHits

TRUTH_CUTS = (10, 100)
ORDERS_PER_REQUEST = 5
"""Orders per request that are drawn from the simulated truth, outside the search."""

_BLOCK = 256
"""Orders are drawn with a seed for so many requests."""
_CELLS = 32_000_000
"""Chances computed at a time, so that memory does not grow with the catalogue."""


@runtime_checkable
class ShopperTruth(Protocol):
    """Who knows the true chance of a click and of an order, for every request and every item (`lab.simulator.truth`).

    The arrays have a column per item, in the order of `item_ids`.
    """

    @property
    def item_ids(self) -> list[str]:
        """The items that the truth knows."""
        ...

    def order_propensity(self, request_ids: list[str]) -> Float[np.ndarray, "n n_items"]:
        """The chance that each request's shopper orders each item if they look at it."""
        ...

    def click_propensity(self, request_ids: list[str]) -> Float[np.ndarray, "n n_items"]:
        """The chance that each request's shopper clicks each item if they look at it."""
        ...


@dataclass(frozen=True)
class CatalogueTruth:
    """The truth of a shop by the item rows of a run: `columns` has the truth's column of each row, -1 for none."""

    truth: ShopperTruth
    columns: Int64[np.ndarray, " items"]

    @classmethod
    def align(cls, truth: ShopperTruth, dataset: Path) -> CatalogueTruth:
        """`truth` by the rows of `dataset`, which was mined from the log of the same shop."""
        item_ids = pq.read_table(DatasetFolder(dataset).items, columns=["item_id"])["item_id"].to_pylist()
        columns = {item_id: column for column, item_id in enumerate(truth.item_ids)}
        return cls(truth, np.array([columns.get(item_id, -1) for item_id in item_ids], np.int64))

    def orders(self, request_ids: list[str]) -> Float[np.ndarray, "n items"]:
        """The chance that each request's shopper orders each item if they look at it."""
        return self._by_row(self.truth.order_propensity(request_ids))

    def clicks(self, request_ids: list[str]) -> Float[np.ndarray, "n items"]:
        """The chance that each request's shopper clicks each item if they look at it."""
        return self._by_row(self.truth.click_propensity(request_ids))

    def parts(self, begin: int, end: int) -> Iterator[slice]:
        """The requests from `begin` to before `end` in parts that fit into memory."""
        step = max(1, _CELLS // max(1, len(self.columns)))
        return (slice(start, min(start + step, end)) for start in range(begin, end, step))

    def _by_row(self, propensity: Float[np.ndarray, "n n_items"]) -> Float[np.ndarray, "n items"]:
        chances: np.ndarray = propensity[:, self.columns]
        chances[:, self.columns < 0] = 0
        return chances


def truth_metrics(
    rankings: Sequence[Int[np.ndarray, "n depth"]],
    request_ids: list[str],
    truth: CatalogueTruth,
    requests: int,
    seed: int,
    progress: Progress,
) -> list[MetricValues]:
    """Recall of orders outside the search, share of the true top 100, and order rate, on the first `requests`.

    The other requests have NaN.
    """
    n = min(requests, len(request_ids))
    empty = np.full((len(rankings), len(request_ids)), np.nan)
    off_search = {k: empty.copy() for k in CUTS}
    top, rate = empty.copy(), {k: empty.copy() for k in TRUTH_CUTS}
    for start in range(0, n, _BLOCK):
        progress("compare with the truth", start, n)
        rng = np.random.default_rng([seed, start])
        for part in truth.parts(start, min(start + _BLOCK, n)):
            propensity = truth.orders(request_ids[part])
            orders = metrics.draw_orders(propensity, ORDERS_PER_REQUEST, rng)
            best = metrics.TrueTop.of(propensity, max(TRUTH_CUTS))
            for s, ranking in enumerate(rankings):
                hits = metrics.locate(ranking[part], orders)
                for k in CUTS:
                    off_search[k][s, part] = metrics.recall(hits, k)
                top[s, part] = metrics.share_of_top(ranking[part], best, 100)
                for k in TRUTH_CUTS:
                    rate[k][s, part] = metrics.order_rate(ranking[part], best, k)
    progress("compare with the truth", n, n)
    return [
        *(MetricValues("off_search", ALL, "recall", k, off_search[k]) for k in CUTS),
        MetricValues("truth", ALL, "share_of_top", 100, top),
        *(MetricValues("truth", ALL, "order_rate", k, rate[k]) for k in TRUTH_CUTS),
    ]


def true_hits(
    hits: Sequence[CalibratedHits], request_ids: list[str], truth: CatalogueTruth, requests: int
) -> CalibrationSample:
    """The hits of the first `requests`, each with its true chance of a click by a shopper who looks at it."""
    n = min(requests, len(hits))
    chances = []
    for part in truth.parts(0, n):
        clicks = truth.clicks(request_ids[part])
        chances += [row[query_hits.rows] for row, query_hits in zip(clicks, hits[part], strict=True)]
    clicked = np.concatenate([np.empty(0), *chances]).astype(np.float64)
    probabilities = concatenate_probabilities([query_hits.probabilities for query_hits in hits[:n]])
    return CalibrationSample("hits, true chance", probabilities, clicked, np.ones(len(clicked)), exact=True)
