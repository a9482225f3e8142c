"""Recall over the full catalogue on the validation requests: what decides which checkpoint is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from mmse.model.encoder import Encoder
from mmse.model.features import ItemFeatures, shopper_ids
from mmse.schema.stages import Stage
from mmse.training.targets import Logged

_BLOCK = 256
_ENOUGH = 100


@dataclass(frozen=True)
class Recall:
    """Mean recall over requests of ordered and of clicked items, and how many requests have any."""

    ordered: float
    clicked: float
    ordered_requests: int
    clicked_requests: int

    @property
    def deciding(self) -> float:
        """Recall of ordered items, or of clicked ones where hardly any request has an order."""
        return self.ordered if self.ordered_requests >= _ENOUGH else self.clicked


def recall(
    encoder: Encoder,
    features: ItemFeatures,
    statistics: Float32[np.ndarray, "items statistics"],
    logged: Logged,
    k: int = 100,
) -> Recall:
    """Recall@`k` of what `logged` clicked or ordered, over the whole catalogue."""
    items = encoder.items(features, statistics)
    queries = encoder.queries(logged.queries, logged.users, shopper_ids(features.shopper, logged.history))
    found = np.zeros(len(logged.request), bool)
    place = min(k, len(items)) - 1
    for start in range(0, len(queries), _BLOCK):
        scores = queries[start : start + _BLOCK] @ items.T
        least = -np.partition(-scores, place, axis=1)[:, place]
        here = (logged.request >= start) & (logged.request < start + len(scores))
        request = logged.request[here] - start
        found[here] = scores[request, logged.item_rows[here]] >= least[request]
    ordered, n_ordered = _mean(found, logged, logged.stages >= Stage.ORDERED)
    clicked, n_clicked = _mean(found, logged, logged.stages >= Stage.CLICKED)
    return Recall(ordered, clicked, n_ordered, n_clicked)


def _mean(found: Bool[np.ndarray, " pairs"], logged: Logged, counted: Bool[np.ndarray, " pairs"]) -> tuple[float, int]:
    wanted = np.bincount(logged.request[counted], minlength=len(logged))
    hits = np.bincount(logged.request[counted], found[counted], minlength=len(logged))
    having = wanted > 0
    return (float((hits[having] / wanted[having]).mean()), int(having.sum())) if having.any() else (0.0, 0)
