"""Against a simulated shop's truth: what each request's shopper would click and order, over the whole catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Int, Int64

from mmse.evaluation import metrics
from mmse.evaluation.channels import CUTS
from mmse.evaluation.metric_values import Measured, Progress
from mmse.evaluation.reliability import Slots, flat
from mmse.evaluation.rows import ALL
from mmse.lab.simulator.truth import Truth
from mmse.retrieval.query_context import Calibrated

TRUTH_CUTS = (10, 100)
ORDERS_DRAWN = 5
"""Orders per request that are drawn from the simulated truth, outside the search."""

_BLOCK = 256


@dataclass(frozen=True)
class World:
    """The truth of a shop, by the item rows of a run: `columns` has the truth's place of each row, or -1."""

    truth: Truth
    columns: Int64[np.ndarray, " items"]

    @classmethod
    def open(cls, truth: Path, dataset: Path) -> World:
        """The truth in the folder `truth`, of the shop whose log was mined into `dataset`."""
        world = Truth.open(truth)
        item_ids = pq.read_table(dataset / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
        place = {item_id: place for place, item_id in enumerate(world.item_ids)}
        return cls(world, np.array([place.get(item_id, -1) for item_id in item_ids], np.int64))

    def orders(self, request_ids: list[str]) -> Float[np.ndarray, "n items"]:
        """The chance that each request's shopper orders each item, were it seen."""
        return self._by_row(self.truth.order_propensity(request_ids))

    def clicks(self, request_ids: list[str]) -> Float[np.ndarray, "n items"]:
        """The chance that each request's shopper clicks each item, were it seen."""
        return self._by_row(self.truth.click_propensity(request_ids))

    def _by_row(self, known: Float[np.ndarray, "n known"]) -> Float[np.ndarray, "n items"]:
        return np.where(self.columns >= 0, known[:, self.columns], 0.0)


def truth_metrics(
    rankings: Sequence[Int[np.ndarray, "n depth"]],
    request_ids: list[str],
    world: World,
    requests: int,
    seed: int,
    say: Progress,
) -> list[Measured]:
    """Orders outside the search, the true top 100 and the true order rate, on the first `requests`; NaN on others."""
    n = min(requests, len(request_ids))
    empty = np.full((len(rankings), len(request_ids)), np.nan)
    off = {k: empty.copy() for k in CUTS}
    top, rate = empty.copy(), {k: empty.copy() for k in TRUTH_CUTS}
    for start in range(0, n, _BLOCK):
        say("hold against the truth", start, n)
        span = slice(start, min(start + _BLOCK, n))
        propensity = world.orders(request_ids[span])
        drawn = metrics.draw_orders(propensity, ORDERS_DRAWN, np.random.default_rng([seed, start]))
        for s, ranking in enumerate(rankings):
            found = metrics.locate(ranking[span], drawn)
            for k in CUTS:
                off[k][s, span] = metrics.recall(found, k)
            top[s, span] = metrics.share_of_top(ranking[span], propensity, 100)
            for k in TRUTH_CUTS:
                rate[k][s, span] = metrics.order_rate(ranking[span], propensity, k)
    say("hold against the truth", n, n)
    return [
        *(Measured("off_search", ALL, "recall", k, off[k]) for k in CUTS),
        Measured("truth", ALL, "share_of_top", 100, top),
        *(Measured("truth", ALL, "order_rate", k, rate[k]) for k in TRUTH_CUTS),
    ]


def true_hits(hits: Sequence[Calibrated], request_ids: list[str], world: World, requests: int) -> Slots:
    """The hits of the first `requests`, each with the true chance of a click by whoever looks at it."""
    n = min(requests, len(hits))
    true = []
    for start in range(0, n, _BLOCK):
        span = slice(start, min(start + _BLOCK, n))
        clicks = world.clicks(request_ids[span])
        true += [chances[one.rows] for chances, one in zip(clicks, hits[span], strict=True)]
    clicked = np.concatenate([np.empty(0), *true]).astype(np.float64)
    return Slots("hits, true chance", flat(hits[:n], others=False), clicked, np.ones(len(clicked)), sure=True)
