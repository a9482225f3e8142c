"""What the ranking learns from the validation window: the fields' boosts, the fusion, the calibration.

The model was not trained on that window, and its item vectors are made anew as of the window's start, so that no score
that is learned from has seen its answer. The test window stays for the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int64

from mmse.dataset.folder import ItemStats
from mmse.index import IndexConfig, build
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.model.encoder import Encoder
from mmse.model.features import shopper_ids, statistics
from mmse.ranking.calibration import Calibration, Form, Slots, learn_calibration, moments_of
from mmse.ranking.candidates import KNOWN_MATCHES, LEAST, Candidates, gather
from mmse.ranking.fusion import Choices, Fusion, learn_fusion
from mmse.ranking.query_counts import KnownQueries
from mmse.schema.stages import Stage
from mmse.training.targets import Logged, Shown, read_logged, read_shown

FIRST_BOOSTS = {"title": 1.0, "brand": 0.5, "category": 0.25, "attributes": 0.25}
TRIED_BOOSTS = (0.0, 0.25, 0.5, 1.0, 2.0)
TUNED_ON = 400
"""Requests with an order (or a click) that the boosts are tuned on."""
ENOUGH_ORDERS = 100
"""With fewer requests that ordered something, clicks are learned from as well."""
ENOUGH_EXPLORED = 100
"""From so many clicks in randomly filled slots on, calibration is learned from those slots alone."""

_BLOCK = 512
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Learned:
    """The numbers of the ranking, and from how much they come."""

    boosts: dict[str, float]
    fusion: Fusion
    calibrations: dict[Form, Calibration]
    counts: dict[str, int | str]


@dataclass(frozen=True)
class Window:
    """The validation window as the ranking sees it: requests, what they were shown, vectors of both sides."""

    logged: Logged
    shown: Shown
    queries: Float32[np.ndarray, "n width"]
    items: Float32[np.ndarray, "items width"]
    asked_before: Int64[np.ndarray, " n"]

    @property
    def taken(self) -> Bool[np.ndarray, " pairs"]:
        """The pairs that are learned from: orders, or clicks too where orders are few."""
        ordered = self.logged.stages == Stage.ORDERED
        enough = len(np.unique(self.logged.request[ordered])) >= ENOUGH_ORDERS
        return ordered if enough else np.ones_like(ordered)


def read_window(dataset: Path, encoder: Encoder, known: KnownQueries, requests: int) -> Window:
    """A sample of at most `requests` of the validation window, with item vectors as of its start."""
    stats = ItemStats.open(dataset)
    features = encoder.encode_items(pq.read_table(dataset / "items.parquet"))
    logged = read_logged(dataset, "valid", requests, clicked_only=False)
    return Window(
        logged=logged,
        shown=read_shown(dataset, "valid", logged),
        queries=encoder.queries(logged.queries, logged.users, shopper_ids(features.shopper, logged.history)),
        items=encoder.items(features, statistics(stats.at(stats.snapshots.valid))),
        asked_before=known.counts(logged.queries),
    )


def learn(window: Window, lexical: LexicalIndex, say: Progress) -> Learned:
    """Boosts, then the fusion under them, then both forms of calibration under that."""
    boosts = tune_boosts(window, lexical, say)
    found = _candidates(window, lexical, boosts, say)
    choices = _choices(window, found)
    fusion = learn_fusion(choices)
    slots = _slots(window, lexical, boosts, fusion, found)
    explored = int((slots.clicked * window.shown.explored).sum())
    if explored >= ENOUGH_EXPLORED:
        slots = _those(slots, window.shown.explored)
    counts: dict[str, int | str] = {
        "requests": len(window.logged),
        "chosen_items": len(choices.taken),
        "clicks_in_explored_slots": explored,
        "calibrated_on": "explored slots" if explored >= ENOUGH_EXPLORED else "all slots",
    }
    forms: tuple[Form, ...] = ("adapter", "distribution")
    return Learned(boosts, fusion, {form: learn_calibration(slots, form) for form in forms}, counts)


def tune_boosts(window: Window, lexical: LexicalIndex, say: Progress) -> dict[str, float]:
    """The fields' boosts, title at 1, under which BM25 places what was taken best; one field after the other, twice.

    Better means a higher mean of 1 / log2(1 + rank) among the first hundred.
    """
    taken = window.taken
    requests = np.unique(window.logged.request[taken])[:TUNED_ON]
    kept = taken & np.isin(window.logged.request, requests)
    pairs = window.logged.request[kept], window.logged.item_rows[kept]
    best = dict(FIRST_BOOSTS)
    if len(requests) == 0:
        return best
    reached = _gain(lexical, window.logged.queries, pairs, best)
    for step, field in enumerate([*FIELDS[1:]] * 2):
        say("tune boosts", step, 2 * len(FIELDS) - 2)
        for tried in TRIED_BOOSTS:
            gain = _gain(lexical, window.logged.queries, pairs, best | {field: tried})
            if gain > reached + 1e-9:
                reached, best = gain, best | {field: tried}
    return best


def _gain(
    lexical: LexicalIndex, queries: list[str], pairs: tuple[np.ndarray, np.ndarray], boosts: dict[str, float]
) -> float:
    gains = 0.0
    for request in np.unique(pairs[0]):
        rows = lexical.search(lexical.ask(queries[request], boosts), 100).rows
        ranks = np.flatnonzero(np.isin(rows, pairs[1][pairs[0] == request]))
        gains += float((1 / np.log2(ranks + 2)).sum())
    return gains / len(pairs[0])


def _candidates(window: Window, lexical: LexicalIndex, boosts: dict[str, float], say: Progress) -> list[Candidates]:
    index = build(IndexConfig(kind="exact"), window.items, np.arange(len(window.items), dtype=np.int64))
    found = []
    for start in range(0, len(window.logged), _BLOCK):
        near = index.search(window.queries[start : start + _BLOCK], min(LEAST, len(window.items)))
        for place in range(len(near.ids)):
            query = window.queries[start + place]
            asked = lexical.ask(window.logged.queries[start + place], boosts)
            matches = lexical.search(asked, KNOWN_MATCHES)
            found.append(
                gather(
                    (near.ids[place], near.scores[place]),
                    matches,
                    asked,
                    lexical,
                    k=1,
                    vector_scores=partial(_scores, window.items, query),
                )
            )
        say("learn the ranking", len(found), len(window.logged))
    return found


def _scores(
    items: Float32[np.ndarray, "items width"], query: Float32[np.ndarray, " width"], rows: Int64[np.ndarray, " m"]
) -> Float32[np.ndarray, " m"]:
    return np.asarray(items[rows] @ query)


def _choices(window: Window, found: list[Candidates]) -> Choices:
    """The candidates of the requests that took one of them."""
    logged, taken = window.logged, window.taken
    starts = np.concatenate([[0], np.cumsum([len(one) for one in found])]).astype(np.int64)
    rows = np.concatenate([np.empty(0, np.int64), *(one.rows for one in found)])
    request = np.repeat(np.arange(len(found)), np.diff(starts))
    n_items = len(window.items)
    keys = request * n_items + rows
    order = np.argsort(keys)
    wanted = logged.request[taken] * n_items + logged.item_rows[taken]
    places = np.minimum(np.searchsorted(keys, wanted, sorter=order), max(len(keys) - 1, 0))
    chosen = order[places][keys[order[places]] == wanted] if len(keys) else np.empty(0, np.int64)
    kept = np.zeros(len(found), bool)
    kept[request[chosen]] = True
    among = kept[request]
    return Choices(
        vector=np.concatenate([np.empty(0, np.float32), *(one.vector for one in found)])[among],
        lexical=np.concatenate([np.empty(0, np.float32), *(one.lexical for one in found)])[among],
        request=(np.cumsum(kept) - 1)[request[among]],
        taken=(np.cumsum(among) - 1)[chosen],
        asked_before=window.asked_before[kept],
    )


def _slots(
    window: Window, lexical: LexicalIndex, boosts: dict[str, float], fusion: Fusion, found: list[Candidates]
) -> Slots:
    """Every shown slot with the score that the ranking gives it."""
    shown, weights = window.shown, fusion.weights(window.asked_before)
    vector = np.einsum("sd,sd->s", window.items[shown.item_rows], window.queries[shown.request])
    share = np.zeros(len(shown.request), np.float32)
    order = np.argsort(shown.request, kind="stable")
    bounds = np.searchsorted(shown.request[order], np.arange(len(window.logged) + 1))
    for request, query in enumerate(window.logged.queries):
        slots = order[bounds[request] : bounds[request + 1]]
        asked = lexical.ask(query, boosts)
        share[slots] = lexical.scores(asked, shown.item_rows[slots].astype(np.int64)) / max(asked.most, 1e-6)
    moments = np.array([moments_of(one.vector + weights[i] * one.lexical) for i, one in enumerate(found)])
    return Slots(
        scores=vector + weights[shown.request] * share,
        asked_before=window.asked_before[shown.request],
        moments=moments.reshape(-1, 2)[shown.request],
        examination=shown.examination,
        clicked=(shown.stages >= Stage.CLICKED).astype(np.float64),
    )


def _those(slots: Slots, kept: Bool[np.ndarray, " n"]) -> Slots:
    fields = (slots.scores, slots.asked_before, slots.moments, slots.examination, slots.clicked)
    return Slots(*(values[kept] for values in fields))
