"""Learns the ranking from the validation window: the fields' boosts, the fusion with its memory, the calibration.

The test window is left for the report.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from mmse.core.progress import Progress
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.ranking.calibration import FORMS, NO_PROBABILITIES, Calibration, CalibrationSlots, Form, learn_calibration
from mmse.ranking.fusion import Fusion, learn_fusion
from mmse.ranking.memory import QueryMemory
from mmse.ranking.memory_fit import START, LearnedMemory, learn_memory
from mmse.ranking.memory_log import MemoryLog
from mmse.ranking.window import ScoredWindow, ValidationWindow
from mmse.schema.stages import Stage

INITIAL_BOOSTS = {"title": 1.0, "brand": 0.5, "category": 0.25, "attributes": 0.25}
BOOST_GRID = (0.0, 0.25, 0.5, 1.0, 2.0)
TUNING_REQUESTS = 400
"""The boosts are tuned on at most so many requests with an order (or a click)."""
MIN_EXPLORED_CLICKS = 100
"""With so many clicks in randomly filled slots, the calibration is learned on those slots alone."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LearnedRanking:
    """The numbers of the ranking, and how much data they come from; `memory` is None where none is of use."""

    boosts: dict[str, float]
    fusion: Fusion
    calibrations: dict[Form, Calibration]
    memory: LearnedMemory | None
    counts: dict[str, int | str | float]


def learn(
    window: ValidationWindow, lexical: LexicalIndex, progress: Progress, memory_log: MemoryLog | None = None
) -> LearnedRanking:
    """Learns the boosts, then the fusion with these boosts, then both forms of calibration of the fused score.

    `memory_log` is the log before the window; without it nothing is remembered.
    """
    boosts = tune_boosts(window, lexical, progress)
    fit, memory = None, memory_log.remember(START) if memory_log else QueryMemory.empty()
    scores = ScoredWindow.of(window, lexical, boosts, progress, memory)
    fusion = learn_fusion(scores.choices())
    if memory_log is not None:
        fusion, fit = _learn_memory(scores, fusion, memory_log, progress)
        memory = memory_log.remember(fit.settings) if fit else QueryMemory.empty()
    slots = scores.calibration_slots(fusion, memory)
    n_explored_clicks = int((slots.clicked * window.slots.explored).sum())
    explored_only = n_explored_clicks >= MIN_EXPLORED_CLICKS
    if explored_only:
        slots = _select_slots(slots, window.slots.explored)
    counts: dict[str, int | str | float] = {
        "requests": len(window.requests),
        "chosen_items": len(scores.choices().positives),
        "clicks_in_explored_slots": n_explored_clicks,
        "calibrated_on": "explored slots" if explored_only else "all slots",
    }
    calibrations = {form: learn_calibration(slots, form) for form in FORMS}
    if not all(calibration.is_learned for calibration in calibrations.values()):
        counts["calibrated_on"] = "nothing"
        log.warning(NO_PROBABILITIES)
    return LearnedRanking(boosts, fusion, calibrations, fit, counts)


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
    gains = {tuple(best_boosts.values()): best_gain}
    for step, field in enumerate([*FIELDS[1:]] * 2):
        progress("tune boosts", step, 2 * len(FIELDS) - 2)
        for boost in BOOST_GRID:
            boosts = best_boosts | {field: boost}
            key = tuple(boosts.values())
            if key not in gains:
                gains[key] = _gain(lexical, window.requests.queries, pairs, boosts)
            if gains[key] > best_gain + 1e-9:
                best_gain, best_boosts = gains[key], boosts
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


def _learn_memory(
    scores: ScoredWindow, fusion: Fusion, memory_log: MemoryLog, progress: Progress
) -> tuple[Fusion, LearnedMemory | None]:
    """The fusion with the weights of the memory, and how to remember; the `fusion` as it is where that is of no use.

    Choices within pages say nothing of what no page showed, so the weights of the channels stay; choices among all
    candidates give all weights at once.
    """
    of_pages, start = memory_log.has_looks, memory_log.remember(START)
    base = fusion if of_pages else learn_fusion(scores.choices(start))
    fit = learn_memory(
        memory_log,
        scores.choice_sets(base, of_pages=of_pages),
        scores.choice_sets(fusion, of_pages=of_pages),
        has_orders=bool((scores.window.requests.stages > Stage.CLICKED).any()),
        progress=progress,
    )
    if fit is None:
        return fusion, None
    if of_pages:
        memory_weight, popularity_weight = fit.weights
        fusion = replace(fusion, memory=memory_weight, popularity=popularity_weight)
    else:
        fusion = learn_fusion(scores.choices(memory_log.remember(fit.settings), of_new=fit.of_new))
    return replace(fusion, new_popularity=fusion.popularity if fit.of_new else 0.0), fit


def _select_slots(slots: CalibrationSlots, mask: Bool[np.ndarray, " n"]) -> CalibrationSlots:
    fields = (slots.scores, slots.query_counts, slots.moments, slots.examination, slots.clicked)
    return CalibrationSlots(*(values[mask] for values in fields))
