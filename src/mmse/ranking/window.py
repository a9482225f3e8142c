"""The validation window as the ranking learns from it: requests, what they chose, candidates and slots with scores.

The model was not trained on that window, and the item vectors are computed as of the window's start, so that no score
knows what happened in the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Float64, Int64

from mmse.core.progress import Progress
from mmse.dataset.folder import VALID, DatasetFolder, ItemStats
from mmse.index import IndexConfig, build
from mmse.index.base import Matches
from mmse.index.lexical import LexicalIndex
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import compute_statistics
from mmse.ranking.calibration import CalibrationSlots, moments_of
from mmse.ranking.candidates import MATCH_DEPTH, MIN_DEPTH, add_rows, find_rows, gather, word_shares
from mmse.ranking.fusion import Choices, Fusion, fuse
from mmse.ranking.memory import QueryMemory, memory_key
from mmse.ranking.memory_fit import ChoiceSets
from mmse.ranking.query_counts import QueryCounts
from mmse.schema.stages import Stage
from mmse.training.targets import LoggedRequests, ShownSlots, read_logged_requests, read_slots

MIN_ORDERS = 100
"""With fewer requests that ordered something, clicks are positives as well."""
ORDERS_FROM = 0.5
"""The goal from which on orders alone are positives."""
_BLOCK = 512


@dataclass(frozen=True)
class ValidationWindow:
    """A sample of the validation window: requests, their slots, the vectors of their queries and of all items.

    `query_counts` are the requests of each query in the training window. `goal` is that of the model (`TrainConfig`).
    """

    requests: LoggedRequests
    slots: ShownSlots
    queries: Float32[np.ndarray, "n width"]
    items: Float32[np.ndarray, "items width"]
    query_counts: Int64[np.ndarray, " n"]
    goal: float = 1.0

    @property
    def positives(self) -> Bool[np.ndarray, " pairs"]:
        """Which pairs of request and item are positive: orders, and clicks too where orders are few or not the goal."""
        is_order: Bool[np.ndarray, " pairs"] = self.requests.stages == Stage.ORDERED
        has_enough_orders = len(np.unique(self.requests.request[is_order])) >= MIN_ORDERS
        return is_order if has_enough_orders and self.goal >= ORDERS_FROM else np.ones_like(is_order)


def read_window(
    dataset: Path, encoder: Encoder, query_counts: QueryCounts, n_requests: int, goal: float
) -> ValidationWindow:
    """A sample of at most `n_requests` of the validation window, with item vectors as of its start."""
    stats = ItemStats.open(dataset)
    features = encoder.encode_items(pq.read_table(DatasetFolder(dataset).items))
    requests = read_logged_requests(dataset, VALID, n_requests, clicked_only=False)
    history = features.look_up_history(requests.history)
    return ValidationWindow(
        requests=requests,
        slots=read_slots(dataset, VALID, requests),
        queries=encoder.embed_queries(requests.queries, requests.users, history),
        items=encoder.embed_items(features, compute_statistics(stats.at(stats.snapshots.valid))),
        query_counts=query_counts.counts(requests.queries),
        goal=goal,
    )


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Items of requests, sorted by request, with the scores of both channels and how likely each was looked at."""

    request: Int64[np.ndarray, " n"]
    rows: Int64[np.ndarray, " n"]
    vector: Float32[np.ndarray, " n"]
    lexical: Float32[np.ndarray, " n"]
    looks: Float64[np.ndarray, " n"]

    def select(self, mask: Bool[np.ndarray, " n"]) -> ScoredPairs:
        """The pairs that `mask` marks."""
        columns = (self.request, self.rows, self.vector, self.lexical, self.looks)
        return ScoredPairs(*(column[mask] for column in columns))


@dataclass(frozen=True, eq=False)
class ScoredWindow:
    """The candidates and the slots of a window with their scores; `keys` has the `memory_key` of each request.

    `order` are the slots by request, as `slots` has them.
    """

    window: ValidationWindow
    keys: list[str]
    candidates: ScoredPairs
    slots: ScoredPairs
    order: Int64[np.ndarray, " slots"]

    @classmethod
    def of(
        cls,
        window: ValidationWindow,
        lexical: LexicalIndex,
        boosts: dict[str, float],
        progress: Progress,
        memory: QueryMemory,
    ) -> ScoredWindow:
        """Searches the candidates of each request with both channels; what `memory` has of its query joins them."""
        order = np.argsort(window.slots.request, kind="stable")
        keys = [memory_key(query, lexical.stems) for query in window.requests.queries]
        remembered_rows = [memory.recall(key).rows.astype(np.int64) for key in keys]
        candidates = _find_candidates(window, lexical, boosts, progress, remembered_rows)
        return cls(window, keys, candidates, _score_slots(window, lexical, boosts, order), order)

    def choices(self, memory: QueryMemory | None = None, *, of_new: bool = True) -> Choices:
        """What was chosen among the candidates, with what `memory` has of them; `of_new` as in `ChoiceSets`."""
        pairs, positives, request_ids = self._choose(self.candidates)
        return Choices(
            vector=pairs.vector,
            lexical=pairs.lexical,
            request=np.searchsorted(request_ids, pairs.request),
            positives=positives,
            query_counts=self.window.query_counts[request_ids],
            evidence=None if memory is None else self._choice_evidence(memory, pairs, of_new=of_new),
        )

    def choice_sets(self, fusion: Fusion, *, of_pages: bool) -> ChoiceSets:
        """What was chosen among the candidates, or among the items of the page, with the fused scores."""
        pairs, positives, request_ids = self._choose(self.slots if of_pages else self.candidates)
        weights = fusion.weights(self.window.query_counts)[pairs.request]
        return ChoiceSets(
            keys=[self.keys[request] for request in request_ids.tolist()],
            is_new=self.window.query_counts[request_ids] == 0,
            starts=np.append(np.searchsorted(pairs.request, request_ids), len(pairs.request)).astype(np.int64),
            rows=pairs.rows,
            scores=fuse(pairs.vector, pairs.lexical, weights),
            log_looks=np.log(pairs.looks),
            positives=positives,
        )

    def calibration_slots(self, fusion: Fusion, memory: QueryMemory) -> CalibrationSlots:
        """Every slot with its fused score, in the order of the window's."""
        window, slots = self.window, self.window.slots
        scores, moments = np.empty(len(self.order)), np.zeros((len(window.requests), 2))
        scores[self.order] = self._fuse(fusion, memory, self.slots)
        candidate_scores = self._fuse(fusion, memory, self.candidates)
        bounds = np.searchsorted(self.candidates.request, np.arange(len(window.requests) + 1)).tolist()
        for request in range(len(window.requests)):
            moments[request] = moments_of(candidate_scores[bounds[request] : bounds[request + 1]])
        return CalibrationSlots(
            scores=scores,
            query_counts=window.query_counts[slots.request],
            moments=moments[slots.request],
            examination=slots.examination,
            clicked=(slots.stages >= Stage.CLICKED).astype(np.float64),
        )

    def _fuse(self, fusion: Fusion, memory: QueryMemory, pairs: ScoredPairs) -> Float64[np.ndarray, " n"]:
        weights = fusion.weights(self.window.query_counts)[pairs.request]
        scores: Float64[np.ndarray, " n"] = fuse(pairs.vector, pairs.lexical, weights)
        if fusion.remembers:
            counts = self.window.query_counts[pairs.request]
            evidence = self._evidence(memory, pairs)
            scores = scores + fusion.remember(evidence[:, 0], evidence[:, 1], counts)
        return scores

    def _choice_evidence(self, memory: QueryMemory, pairs: ScoredPairs, *, of_new: bool) -> Float32[np.ndarray, "n 2"]:
        evidence = self._evidence(memory, pairs)
        if not of_new:
            evidence[self.window.query_counts[pairs.request] == 0, 1] = 0.0
        return evidence

    def _evidence(self, memory: QueryMemory, pairs: ScoredPairs) -> Float32[np.ndarray, "n 2"]:
        requests, starts = np.unique(pairs.request, return_index=True)
        keys = [self.keys[request] for request in requests.tolist()]
        return memory.evidence(keys, np.append(starts, len(pairs.request)).astype(np.int64), pairs.rows)

    def _choose(
        self, pairs: ScoredPairs
    ) -> tuple[ScoredPairs, Int64[np.ndarray, " positives"], Int64[np.ndarray, " requests"]]:
        """The pairs of the requests that have a positive among them, the indices of the positives, the requests."""
        requests, is_positive, n_items = self.window.requests, self.window.positives, len(self.window.items)
        positive_keys = requests.request[is_positive] * n_items + requests.item_rows[is_positive]
        indices, is_match = find_rows(pairs.request * n_items + pairs.rows, positive_keys)
        positives = indices[is_match]
        has_positive = np.zeros(len(self.window.requests), bool)
        has_positive[pairs.request[positives]] = True
        is_kept = has_positive[pairs.request]
        return pairs.select(is_kept), (np.cumsum(is_kept) - 1)[positives], np.flatnonzero(has_positive)


def _find_candidates(
    window: ValidationWindow,
    lexical: LexicalIndex,
    boosts: dict[str, float],
    progress: Progress,
    remembered_rows: Sequence[Int64[np.ndarray, " _"]],
) -> ScoredPairs:
    """The candidates of each request, to which those of `remembered_rows` belong."""
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
            group = gather(nearest, matches, query, lexical, k=1, vector_scores=vector_scores)
            rows = remembered_rows[request]
            candidates.append(add_rows(group, rows, query, lexical, vector_scores, _remember_nothing))
        progress("learn the ranking", len(candidates), len(window.requests))
    rows = np.concatenate([np.empty(0, np.int64), *(group.rows for group in candidates)])
    no_scores = np.empty(0, np.float32)
    return ScoredPairs(
        request=np.repeat(np.arange(len(candidates)), np.array([len(group) for group in candidates], np.int64)),
        rows=rows,
        vector=np.concatenate([no_scores, *(group.vector for group in candidates)]),
        lexical=np.concatenate([no_scores, *(group.lexical for group in candidates)]),
        looks=np.ones(len(rows)),
    )


def _inner_products(
    items: Float32[np.ndarray, "items width"], query: Float32[np.ndarray, " width"], rows: Int64[np.ndarray, " m"]
) -> Float32[np.ndarray, " m"]:
    return np.asarray(items[rows] @ query)


def _remember_nothing(rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
    return np.zeros(len(rows), np.float32)


def _score_slots(
    window: ValidationWindow, lexical: LexicalIndex, boosts: dict[str, float], order: Int64[np.ndarray, " slots"]
) -> ScoredPairs:
    """Every slot by request with the scores of both channels."""
    slots = window.slots
    request, rows = slots.request[order], slots.item_rows[order].astype(np.int64)
    shares = np.zeros(len(request), np.float32)
    bounds = np.searchsorted(request, np.arange(len(window.requests) + 1)).tolist()
    for number, text in enumerate(window.requests.queries):
        part = slice(bounds[number], bounds[number + 1])
        query = lexical.parse(text, boosts)
        shares[part] = word_shares(lexical.score_rows(query, rows[part]), query)
    vector = np.einsum("sd,sd->s", window.items[rows], window.queries[request])
    return ScoredPairs(request, rows, vector, shares, slots.examination[order].astype(np.float64))
