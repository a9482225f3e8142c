"""Learns the ranking from the validation window: the fields' boosts, the fusion, the calibration.

The model was not trained on that window, and the item vectors are computed as of the window's start, so that no score
knows what happened in the window. The test window is left for the report.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int64

from mmse.core.progress import Progress
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.index import IndexConfig, build
from mmse.index.base import Matches
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import compute_statistics
from mmse.ranking.calibration import (
    FORMS,
    NO_PROBABILITIES,
    Calibration,
    CalibrationSlots,
    Form,
    learn_calibration,
    moments_of,
)
from mmse.ranking.candidates import MATCH_DEPTH, MIN_DEPTH, Candidates, find_rows, gather, word_shares
from mmse.ranking.fusion import Choices, Fusion, fuse, learn_fusion
from mmse.ranking.query_counts import QueryCounts
from mmse.schema.stages import Stage
from mmse.training.targets import LoggedRequests, ShownSlots, read_logged_requests, read_slots

INITIAL_BOOSTS = {"title": 1.0, "brand": 0.5, "category": 0.25, "attributes": 0.25}
BOOST_GRID = (0.0, 0.25, 0.5, 1.0, 2.0)
TUNING_REQUESTS = 400
"""The boosts are tuned on at most so many requests with an order (or a click)."""
MIN_ORDERS = 100
"""With fewer requests that ordered something, clicks are positives as well."""
MIN_EXPLORED_CLICKS = 100
"""With so many clicks in randomly filled slots, the calibration is learned on those slots alone."""

_BLOCK = 512

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LearnedRanking:
    """The numbers of the ranking, and how much data they come from."""

    boosts: dict[str, float]
    fusion: Fusion
    calibrations: dict[Form, Calibration]
    counts: dict[str, int | str]


@dataclass(frozen=True)
class ValidationWindow:
    """A sample of the validation window: requests, their slots, the vectors of their queries and of all items.

    `query_counts` are the requests of each query in the training window.
    """

    requests: LoggedRequests
    slots: ShownSlots
    queries: Float32[np.ndarray, "n width"]
    items: Float32[np.ndarray, "items width"]
    query_counts: Int64[np.ndarray, " n"]

    @property
    def positives(self) -> Bool[np.ndarray, " pairs"]:
        """Which pairs of request and item are positive: orders, and clicks too where orders are few."""
        ordered = self.requests.stages == Stage.ORDERED
        has_enough_orders = len(np.unique(self.requests.request[ordered])) >= MIN_ORDERS
        return ordered if has_enough_orders else np.ones_like(ordered)


def read_window(dataset: Path, encoder: Encoder, query_counts: QueryCounts, n_requests: int) -> ValidationWindow:
    """A sample of at most `n_requests` of the validation window, with item vectors as of its start."""
    stats = ItemStats.open(dataset)
    features = encoder.encode_items(pq.read_table(DatasetFolder(dataset).items))
    requests = read_logged_requests(dataset, "valid", n_requests, clicked_only=False)
    history = features.look_up_history(requests.history)
    return ValidationWindow(
        requests=requests,
        slots=read_slots(dataset, "valid", requests),
        queries=encoder.embed_queries(requests.queries, requests.users, history),
        items=encoder.embed_items(features, compute_statistics(stats.at(stats.snapshots.valid))),
        query_counts=query_counts.counts(requests.queries),
    )


def learn(window: ValidationWindow, lexical: LexicalIndex, progress: Progress) -> LearnedRanking:
    """Learns the boosts, then the fusion with these boosts, then both forms of calibration of the fused score."""
    boosts = tune_boosts(window, lexical, progress)
    candidates = _candidates(window, lexical, boosts, progress)
    choices = _choices(window, candidates)
    fusion = learn_fusion(choices)
    slots = _slots(window, lexical, boosts, fusion, candidates)
    n_explored_clicks = int((slots.clicked * window.slots.explored).sum())
    explored_only = n_explored_clicks >= MIN_EXPLORED_CLICKS
    if explored_only:
        slots = _select_slots(slots, window.slots.explored)
    counts: dict[str, int | str] = {
        "requests": len(window.requests),
        "chosen_items": len(choices.positives),
        "clicks_in_explored_slots": n_explored_clicks,
        "calibrated_on": "explored slots" if explored_only else "all slots",
    }
    calibrations = {form: learn_calibration(slots, form) for form in FORMS}
    if not all(calibration.is_learned for calibration in calibrations.values()):
        counts["calibrated_on"] = "nothing"
        log.warning(NO_PROBABILITIES)
    return LearnedRanking(boosts, fusion, calibrations, counts)


def tune_boosts(window: ValidationWindow, lexical: LexicalIndex, progress: Progress) -> dict[str, float]:
    """The fields' boosts, title at 1, under which BM25 ranks the positives best; tunes one field at a time, twice.

    Better means a higher mean of 1 / log2(1 + rank) among the first hundred.
    """
    positives = window.positives
    requests = np.unique(window.requests.request[positives])[:TUNING_REQUESTS]
    is_tuning_pair = positives & np.isin(window.requests.request, requests)
    pairs = window.requests.request[is_tuning_pair], window.requests.item_rows[is_tuning_pair]
    best_boosts = dict(INITIAL_BOOSTS)
    if len(requests) == 0:
        return best_boosts
    best_gain = _gain(lexical, window.requests.queries, pairs, best_boosts)
    for step, field in enumerate([*FIELDS[1:]] * 2):
        progress("tune boosts", step, 2 * len(FIELDS) - 2)
        for boost in BOOST_GRID:
            gain = _gain(lexical, window.requests.queries, pairs, best_boosts | {field: boost})
            if gain > best_gain + 1e-9:
                best_gain, best_boosts = gain, best_boosts | {field: boost}
    return best_boosts


def _gain(
    lexical: LexicalIndex, queries: list[str], pairs: tuple[np.ndarray, np.ndarray], boosts: dict[str, float]
) -> float:
    """The mean gain of `pairs` (requests and item rows) with these boosts."""
    total = 0.0
    for request in np.unique(pairs[0]):
        rows = lexical.search(lexical.parse(queries[request], boosts), 100).rows
        ranks = np.flatnonzero(np.isin(rows, pairs[1][pairs[0] == request]))
        total += float((1 / np.log2(ranks + 2)).sum())
    return total / len(pairs[0])


def _candidates(
    window: ValidationWindow, lexical: LexicalIndex, boosts: dict[str, float], progress: Progress
) -> list[Candidates]:
    """The candidates of each request."""
    index = build(IndexConfig(kind="exact"), window.items, np.arange(len(window.items), dtype=np.int64))
    candidates = []
    for start in range(0, len(window.requests), _BLOCK):
        neighbours = index.search(window.queries[start : start + _BLOCK], min(MIN_DEPTH, len(window.items)))
        for offset, (ids, scores) in enumerate(zip(neighbours.ids, neighbours.scores, strict=True)):
            request = start + offset
            query = lexical.parse(window.requests.queries[request], boosts)
            vector_scores = partial(_inner_products, window.items, window.queries[request])
            matches = lexical.search(query, MATCH_DEPTH)
            nearest = Matches(ids, scores, is_complete=len(ids) < MIN_DEPTH)
            candidates.append(gather(nearest, matches, query, lexical, k=1, vector_scores=vector_scores))
        progress("learn the ranking", len(candidates), len(window.requests))
    return candidates


def _inner_products(
    items: Float32[np.ndarray, "items width"], query: Float32[np.ndarray, " width"], rows: Int64[np.ndarray, " m"]
) -> Float32[np.ndarray, " m"]:
    return np.asarray(items[rows] @ query)


def _choices(window: ValidationWindow, candidates: list[Candidates]) -> Choices:
    """The candidates of the requests that have a positive among them."""
    requests, is_positive = window.requests, window.positives
    rows = np.concatenate([np.empty(0, np.int64), *(group.rows for group in candidates)])
    request = np.repeat(np.arange(len(candidates)), np.array([len(group) for group in candidates], np.int64))
    n_items = len(window.items)
    positive_keys = requests.request[is_positive] * n_items + requests.item_rows[is_positive]
    indices, is_candidate = find_rows(request * n_items + rows, positive_keys)
    positives = indices[is_candidate]
    has_positive = np.zeros(len(candidates), bool)
    has_positive[request[positives]] = True
    is_used = has_positive[request]
    return Choices(
        vector=np.concatenate([np.empty(0, np.float32), *(group.vector for group in candidates)])[is_used],
        lexical=np.concatenate([np.empty(0, np.float32), *(group.lexical for group in candidates)])[is_used],
        request=(np.cumsum(has_positive) - 1)[request[is_used]],
        positives=(np.cumsum(is_used) - 1)[positives],
        query_counts=window.query_counts[has_positive],
    )


def _slots(
    window: ValidationWindow,
    lexical: LexicalIndex,
    boosts: dict[str, float],
    fusion: Fusion,
    candidates: list[Candidates],
) -> CalibrationSlots:
    """Every slot with its fused score."""
    slots, weights = window.slots, fusion.weights(window.query_counts)
    vector = np.einsum("sd,sd->s", window.items[slots.item_rows], window.queries[slots.request])
    shares = np.zeros(len(slots.request), np.float32)
    order = np.argsort(slots.request, kind="stable")
    bounds = np.searchsorted(slots.request[order], np.arange(len(window.requests) + 1))
    for request, text in enumerate(window.requests.queries):
        indices = order[bounds[request] : bounds[request + 1]]
        query = lexical.parse(text, boosts)
        shares[indices] = word_shares(lexical.score_rows(query, slots.item_rows[indices].astype(np.int64)), query)
    moments = [moments_of(fuse(c.vector, c.lexical, weight)) for c, weight in zip(candidates, weights, strict=True)]
    return CalibrationSlots(
        scores=fuse(vector, shares, weights[slots.request]),
        query_counts=window.query_counts[slots.request],
        moments=np.array(moments).reshape(-1, 2)[slots.request],
        examination=slots.examination,
        clicked=(slots.stages >= Stage.CLICKED).astype(np.float64),
    )


def _select_slots(slots: CalibrationSlots, mask: Bool[np.ndarray, " n"]) -> CalibrationSlots:
    fields = (slots.scores, slots.query_counts, slots.moments, slots.examination, slots.clicked)
    return CalibrationSlots(*(values[mask] for values in fields))
