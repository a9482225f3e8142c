"""Recall over the full catalogue on the validation requests, reported after every epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from mmse.model.encoder import Encoder
from mmse.model.inputs import ItemFeatures
from mmse.schema.stages import Stage
from mmse.training.targets import LoggedRequests

_CELLS = 16_000_000
"""Scores computed at a time, so that memory does not grow with the catalogue."""
_MIN_ORDER_REQUESTS = 100


@dataclass(frozen=True)
class Recall:
    """Mean recall of ordered and of clicked items over requests, and how many requests have any."""

    ordered: float
    clicked: float
    ordered_requests: int
    clicked_requests: int

    @property
    def selection_recall(self) -> float:
        """What `keep = "best"` selects by: recall of ordered items, or of clicked ones if few requests have orders."""
        return self.ordered if self.ordered_requests >= _MIN_ORDER_REQUESTS else self.clicked


def measure_recall(
    encoder: Encoder,
    features: ItemFeatures,
    statistics: Float32[np.ndarray, "items statistics"],
    requests: LoggedRequests,
    k: int = 100,
) -> Recall:
    """Recall@`k` of the items that `requests` clicked or ordered, over the whole catalogue."""
    items = encoder.embed_items(features, statistics)
    queries = encoder.embed_queries(requests.queries, requests.users, features.look_up_history(requests.history))
    is_hit = np.zeros(len(requests.request), bool)
    edge, step = max(0, len(items) - k), max(1, _CELLS // len(items))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ items.T
        threshold = np.partition(scores, edge, axis=1)[:, edge]
        in_block = (requests.request >= start) & (requests.request < start + len(scores))
        request = requests.request[in_block] - start
        is_hit[in_block] = scores[request, requests.item_rows[in_block]] >= threshold[request]
    ordered, n_ordered = _mean_recall(is_hit, requests, requests.stages >= Stage.ORDERED)
    clicked, n_clicked = _mean_recall(is_hit, requests, requests.stages >= Stage.CLICKED)
    return Recall(ordered, clicked, n_ordered, n_clicked)


def _mean_recall(
    is_hit: Bool[np.ndarray, " pairs"], requests: LoggedRequests, is_target: Bool[np.ndarray, " pairs"]
) -> tuple[float, int]:
    n_targets = np.bincount(requests.request[is_target], minlength=len(requests))
    hits = np.bincount(requests.request[is_target], is_hit[is_target], minlength=len(requests))
    has_target = n_targets > 0
    return (
        (float((hits[has_target] / n_targets[has_target]).mean()), int(has_target.sum()))
        if has_target.any()
        else (0.0, 0)
    )
