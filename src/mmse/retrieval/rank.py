"""From the candidates of both channels to the order of the hits: guard, rules, caps, and which are likely enough.

The one list of a search, whatever part of it is asked for: it is ranked block by block (`ranking/candidates.py`), each
from candidates of a fixed depth, and what a block shows is fixed before the next one begins. A block with places left
ends the list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import expit

from mmse.ranking.calibration import moments_of
from mmse.ranking.candidates import FIRST_BLOCK, Candidates, block_ends, find_rows
from mmse.ranking.rerank import rerank
from mmse.retrieval.query_context import NO_ROWS, QueryContext
from mmse.schema.search import Search

SORT_DEPTH = 1_000
"""So many of the best hits are sorted by a column."""
RELEVANT_SHARE = 0.25
"""A search that sorts and has no cut-off leaves out what is less than this share as likely as its likeliest item."""


@dataclass(frozen=True)
class RankedBlock:
    """The hits in one block of a list, and the candidates that they were chosen from, with all that led to the order.

    `order` are the indices of the hits among the candidates, best first, and `first_rank` is the place of the first.
    `scores` are fused, `probabilities` are None where they are not calibrated, `is_lead` marks what the guard lets
    lead, and `moved_by` says what rules and caps did, by candidate. `moments` are those of the first block's scores.
    `found_rows` are the rows that a search may show: the candidates, or those of them that are likely enough. No other
    item is where `is_exhaustive`. `groups` numbers the item group of each candidate, where only one of each is shown.
    """

    candidates: Candidates
    scores: Float64[np.ndarray, " n"]
    probabilities: Float64[np.ndarray, " n"] | None
    is_lead: Bool[np.ndarray, " n"]
    moved_by: Mapping[int, tuple[str, ...]]
    moments: tuple[float, float]
    order: Int64[np.ndarray, " h"]
    first_rank: int
    found_rows: Int64[np.ndarray, " f"]
    is_exhaustive: bool
    groups: Int64[np.ndarray, " n"] | None

    def __len__(self) -> int:
        """The number of hits."""
        return len(self.order)

    @property
    def rows(self) -> Int64[np.ndarray, " h"]:
        """The rows of the hits, best first."""
        rows: Int64[np.ndarray, " h"] = self.candidates.rows[self.order]
        return rows


def rank(context: QueryContext, search: Search) -> list[RankedBlock]:
    """The blocks of the list that hold the page of `search`, from the first one on; for a sorted page one block.

    `context` is that of the query which is searched for.
    """
    if not search.sort:
        return _rank_blocks(context, search, search.offset + search.k)
    context = replace(context, effects=replace(context.effects, pins=()))
    has_probabilities = search.channel == "hybrid" and context.ranking.calibration.is_learned
    blocks = _rank_blocks(context, search, SORT_DEPTH if has_probabilities else FIRST_BLOCK)
    return [_sort(context, blocks, search.sort)]


def page(blocks: Sequence[RankedBlock], search: Search) -> list[RankedBlock]:
    """The places `offset + 1` to `offset + k` of the list: of each block that has some of them, its part."""
    parts = []
    for block in blocks:
        start, stop = (max(end - block.first_rank + 1, 0) for end in (search.offset, search.offset + search.k))
        order = block.order[start:stop]
        if len(order):
            parts.append(replace(block, order=order, first_rank=block.first_rank + start))
    return parts


def rows_of(blocks: Sequence[RankedBlock]) -> Int64[np.ndarray, " h"]:
    """The rows of all hits, best first."""
    return np.concatenate([NO_ROWS, *(block.rows for block in blocks)])


def _rank_blocks(context: QueryContext, search: Search, n_hits: int) -> list[RankedBlock]:
    blocks: list[RankedBlock] = []
    needs_whole_blocks = bool(search.caps or context.effects.pins)
    for end in block_ends(n_hits):
        last_rank = end if needs_whole_blocks else min(end, n_hits)  # the order above it depends on nothing below
        block = _rank_block(context, search, end, last_rank, blocks)
        blocks.append(block)
        if block.first_rank + len(block) <= end:
            break
    return blocks


def _rank_block(
    context: QueryContext, search: Search, end: int, last_rank: int, former_blocks: Sequence[RankedBlock]
) -> RankedBlock:
    """The block behind `former_blocks` that ends at place `end`, as far as `last_rank`."""
    originals = _find_candidates(context, search, end)
    candidates, is_lead = context.apply_guard(originals, search.channel)
    pinned_rows, former_rows = _pinned_rows(context), rows_of(former_blocks)
    candidates = context.with_rows(context.with_rows(candidates, pinned_rows), former_rows)
    is_lead = np.pad(is_lead, (0, len(candidates) - len(is_lead)))
    scores = context.scores(candidates, search.channel)
    fused_scores = scores if search.channel == "hybrid" else context.scores(candidates, "hybrid")
    moments = former_blocks[0].moments if former_blocks else moments_of(fused_scores)
    probabilities = None
    if search.channel == "hybrid":
        scores = context.log_odds(fused_scores, moments)
        probabilities = expit(scores) if context.ranking.calibration.is_learned else None
    groups = _groups(context, search, candidates)
    has_cut = probabilities is not None and (search.cuts or bool(search.sort))
    order, moved_by = rerank(
        context.snapshot,
        candidates.rows,
        scores,
        context.effects,
        len(candidates) if has_cut else last_rank,
        boosts=search.boosts,
        caps=search.caps,
        is_lead=is_lead,
        exclusions=context.excluded(candidates),
        former_rows=former_rows,
        groups=groups,
    )
    found_rows, threshold = candidates.rows, -math.inf
    if has_cut:
        assert probabilities is not None
        threshold = least_probability(search, probabilities) if context.effects.has_known_word else math.inf
        is_kept = (probabilities >= threshold) | np.isin(candidates.rows, pinned_rows)
        found_rows = candidates.rows[is_kept]
        order = order[is_kept[order]][: last_rank - len(former_rows)]
    return RankedBlock(
        candidates=candidates,
        scores=fused_scores,
        probabilities=probabilities,
        is_lead=is_lead,
        moved_by=moved_by,
        moments=moments,
        order=order,
        first_rank=len(former_rows) + 1,
        found_rows=found_rows,
        is_exhaustive=_is_exhaustive(search, context, originals, threshold, moments),
        groups=groups,
    )


def _find_candidates(context: QueryContext, search: Search, end: int) -> Candidates:
    """The candidates for the block that ends at place `end`: as many as have enough item groups among them."""
    depth = end
    while True:
        candidates = context.find_candidates(search.channel, depth)
        groups = _groups(context, search, candidates)
        n_groups = end if groups is None else len(np.unique(groups))
        if n_groups >= end or _are_all(candidates, search):
            return candidates
        depth *= 2


def _groups(context: QueryContext, search: Search, candidates: Candidates) -> Int64[np.ndarray, " n"] | None:
    """The number of each candidate's item group; None where every variant may be a hit."""
    return None if search.all_variants else context.snapshot.item_groups(candidates.rows)


def _are_all(candidates: Candidates, search: Search) -> bool:
    """Whether a deeper search finds nothing else."""
    if search.channel == "lexical":
        return candidates.lexical_floor == 0.0
    return candidates.vector_floor == -math.inf


def least_probability(search: Search, probabilities: Float64[np.ndarray, " n"]) -> float:
    """The least probability of a hit of `search`, whose candidates have these probabilities."""
    threshold = search.min_probability
    if search.target_precision is not None:
        sorted_probabilities = np.sort(probabilities)[::-1]
        means = np.cumsum(sorted_probabilities) / np.arange(1, len(sorted_probabilities) + 1)
        precise = np.flatnonzero(means >= search.target_precision)
        threshold = max(threshold, float(sorted_probabilities[precise[-1]]) if len(precise) else 2.0)
    if search.sort and not search.cuts:
        threshold = RELEVANT_SHARE * float(probabilities.max(initial=0.0))
    return threshold


def _is_exhaustive(
    search: Search, context: QueryContext, originals: Candidates, threshold: float, moments: tuple[float, float]
) -> bool:
    """Whether a search of any depth can show no item besides those of `originals` that reach the `threshold`."""
    if search.channel == "lexical" or originals.vector_floor == -math.inf:
        return _are_all(originals, search)
    is_fixed = search.target_precision is None and context.ranking.calibration.form == "adapter"
    if search.channel != "hybrid" or threshold <= 0 or not is_fixed:
        return False
    memory, counts = context.ranking.memory, np.array([context.query_count])
    weight = float(context.ranking.fusion.popularity_weights(counts)[0])
    memory_share = 0.0 if originals.memory_share is None else weight * memory.highest_popularity(originals.rows)
    best_rest = np.array([originals.vector_floor + context.weight * originals.lexical_floor + memory_share])
    return bool(expit(context.log_odds(best_rest, moments))[0] < threshold)


def _sort(context: QueryContext, blocks: Sequence[RankedBlock], sort: str) -> RankedBlock:
    """The hits of all blocks in one, by the column that `sort` names, those without a value last."""
    rows, last = rows_of(blocks), blocks[-1]
    column, sign = sort.removeprefix("-"), -1.0 if sort.startswith("-") else 1.0
    values = context.snapshot.values(column, rows) if len(rows) else []
    keys = np.array([math.inf if value is None else sign * float(value) for value in values])
    keys[np.isnan(keys)] = math.inf
    indices, _ = find_rows(last.candidates.rows, rows)
    reasons = [block.moved_by.get(index) for block in blocks for index in block.order.tolist()]
    moved_by = {index: reason for index, reason in zip(indices.tolist(), reasons, strict=True) if reason}
    return replace(last, order=indices[np.argsort(keys, kind="stable")], moved_by=moved_by, first_rank=1)


def _pinned_rows(context: QueryContext) -> Int64[np.ndarray, " m"]:
    """The rows that rules pin, without items that do not exist or do not pass the filter."""
    if not context.effects.pins:
        return NO_ROWS
    rows = context.snapshot.rows([pin.item_id for pin in context.effects.pins])
    rows = rows[rows >= 0]
    filter = context.filter
    return rows if filter is None or len(rows) == 0 else rows[context.snapshot.match_filter(filter, rows)]
