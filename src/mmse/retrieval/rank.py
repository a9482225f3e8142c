"""From the candidates of both channels to the order of the hits: guard, rules, caps, and which are likely enough.

The one list of a search, whatever part of it is asked for: it is ranked block by block (`ranking/candidates.py`), each
from candidates of a fixed depth, and what a block shows is fixed before the next one begins. A block with places left
ends the list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int, Int64
from scipy.special import expit

from mmse.catalogue.snapshot import Snapshot
from mmse.ranking.calibration import moments_of
from mmse.ranking.candidates import FIRST_BLOCK, Candidates, block_ends
from mmse.ranking.rerank import RankedRow, RerankCandidates, rerank
from mmse.ranking.rules import RuleEffects
from mmse.retrieval.explain import PagePart, ScoredCandidates
from mmse.retrieval.query_context import NO_ROWS, QueryContext
from mmse.schema.filters import Filter, comparison_key
from mmse.schema.search import Search

SORT_DEPTH = 1_000
"""So many of the best hits are sorted by a column."""
RELEVANT_SHARE = 0.25
"""A search that sorts and has no cut-off leaves out what is less than this share as likely as its likeliest item."""

Find = Callable[[int], Candidates]
"""Called with the end of a block: the candidates that it is ranked from."""


@dataclass(frozen=True)
class PreparedSearch:
    """A search, the effects of the rules on it, and the query that is searched for."""

    search: Search
    effects: RuleEffects
    context: QueryContext


@dataclass(frozen=True)
class RankedBlock:
    """The hits in one block of a list, in order, and what they were chosen from.

    `moments` are those of the first block's scores. `found_rows` are the rows that a search may show: the candidates,
    or those of them that are likely enough. No other item is where `is_exhaustive`.
    """

    scored_candidates: ScoredCandidates
    hits: list[RankedRow]
    moments: tuple[float, float]
    found_rows: Int64[np.ndarray, " f"]
    is_exhaustive: bool


def rank(prepared_search: PreparedSearch, find: Find) -> list[RankedBlock]:
    """The blocks of the list that hold the page of the search, from the first one on; for a sorted page one block."""
    search = prepared_search.search
    if not search.sort:
        return _rank_blocks(prepared_search, find, search.offset + search.k)
    effects = replace(prepared_search.effects, pins=())
    has_probabilities = search.channel == "hybrid" and prepared_search.context.ranking.calibration.is_learned
    depth = SORT_DEPTH if has_probabilities else FIRST_BLOCK
    blocks = _rank_blocks(replace(prepared_search, effects=effects), find, depth)
    return [_sort(blocks, search.sort)]


def page(blocks: Sequence[RankedBlock], search: Search) -> list[PagePart]:
    """The places `offset + 1` to `offset + k` of the list."""
    parts, start = [], 0
    for block in blocks:
        first = max(search.offset - start, 0)
        hits = block.hits[first : max(search.offset + search.k - start, 0)]
        if hits:
            parts.append(PagePart(block.scored_candidates, hits, start + first + 1))
        start += len(block.hits)
    return parts


def _rank_blocks(prepared_search: PreparedSearch, find: Find, n_hits: int) -> list[RankedBlock]:
    blocks: list[RankedBlock] = []
    former_rows: list[int] = []
    needs_whole_blocks = bool(prepared_search.search.caps or prepared_search.effects.pins)
    for end in block_ends(n_hits):
        place = end if needs_whole_blocks else min(end, n_hits)  # the order above it depends on nothing below
        block = _rank_block(prepared_search, find(end), place, former_rows, blocks[0].moments if blocks else None)
        blocks.append(block)
        former_rows += [hit.row for hit in block.hits]
        if len(former_rows) < end:
            break
    return blocks


def _rank_block(
    prepared_search: PreparedSearch,
    candidates: Candidates,
    end: int,
    former_rows: Sequence[int],
    moments: tuple[float, float] | None,
) -> RankedBlock:
    """A block behind `former_rows`, up to place `end`; `moments` are those of the first block, None for itself."""
    search, effects, context = prepared_search.search, prepared_search.effects, prepared_search.context
    found = candidates
    candidates, lead = context.apply_guard(candidates, search.channel)
    pinned_rows = _pinned_rows(context.snapshot, effects, search.filter)
    candidates = context.with_rows(candidates, pinned_rows)
    if former_rows:
        candidates = context.with_rows(candidates, np.array(former_rows, np.int64))
    lead = np.pad(lead, (0, len(candidates) - len(lead))) if len(candidates) > len(lead) else lead
    fused_scores = context.scores(candidates, "hybrid")
    moments = moments or moments_of(fused_scores)
    if search.channel == "hybrid":
        order_scores = context.log_odds(fused_scores, moments)
        probabilities = expit(order_scores) if context.ranking.calibration.is_learned else None
    else:
        order_scores, probabilities = context.scores(candidates, search.channel), None
    has_cut = probabilities is not None and (search.cuts or bool(search.sort))
    hits = rerank(
        _rerank_candidates(context.snapshot, candidates, order_scores),
        effects,
        len(candidates) if has_cut else end,
        boosts=search.boosts,
        caps=search.caps,
        lead=lead,
        former_rows=former_rows,
    )
    found_rows, threshold = candidates.rows, -math.inf
    if has_cut:
        assert probabilities is not None
        threshold = least_probability(search, probabilities)
        is_kept = (probabilities >= threshold) | np.isin(candidates.rows, pinned_rows)
        found_rows = candidates.rows[is_kept]
        kept_rows = set(found_rows.tolist())
        hits = [hit for hit in hits if hit.row in kept_rows][: end - len(former_rows)]
    scored_candidates = ScoredCandidates(
        context, candidates, fused_scores, probabilities, frozenset(candidates.rows[lead].tolist())
    )
    is_exhaustive = _is_exhaustive(search, context, found, threshold, moments)
    return RankedBlock(scored_candidates, hits, moments, found_rows, is_exhaustive)


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
    search: Search, context: QueryContext, found: Candidates, threshold: float, moments: tuple[float, float]
) -> bool:
    """Whether a search of any depth can show no item besides those of `found` that reach the `threshold`."""
    if search.channel == "lexical":
        return found.lexical_floor == 0.0
    if found.vector_floor == -math.inf:
        return True
    is_fixed = search.target_precision is None and context.ranking.calibration.form == "adapter"
    if search.channel != "hybrid" or threshold <= 0 or not is_fixed:
        return False
    best_rest = np.array([found.vector_floor + context.weight * found.lexical_floor])
    return bool(expit(context.log_odds(best_rest, moments))[0] < threshold)


def _sort(blocks: Sequence[RankedBlock], sort: str) -> RankedBlock:
    """The hits of all blocks in one, by the column that `sort` names, those without a value last."""
    hits, last = [hit for block in blocks for hit in block.hits], blocks[-1]
    column, sign = sort.removeprefix("-"), -1.0 if sort.startswith("-") else 1.0
    rows = np.array([hit.row for hit in hits], np.int64)
    values = last.scored_candidates.context.snapshot.values(column, rows) if hits else []
    keys = np.array([math.inf if value is None else sign * float(value) for value in values])
    keys[np.isnan(keys)] = math.inf
    return replace(last, hits=[hits[index] for index in np.argsort(keys, kind="stable").tolist()])


def _pinned_rows(snapshot: Snapshot, effects: RuleEffects, filter: Filter | None) -> Int64[np.ndarray, " m"]:
    """The rows that rules pin, without items that do not exist or do not pass the filter."""
    if not effects.pins:
        return NO_ROWS
    rows = snapshot.rows([pin.item_id for pin in effects.pins])
    rows = rows[rows >= 0]
    return rows if filter is None or len(rows) == 0 else rows[snapshot.match_filter(filter, rows)]


def _rerank_candidates(
    snapshot: Snapshot, candidates: Candidates, scores: Float64[np.ndarray, " n"]
) -> RerankCandidates:
    """The candidates as `rerank` takes them."""

    def codes(column: str) -> Int[np.ndarray, " n"]:
        values = snapshot.values(column, candidates.rows)
        keys = [None if value is None else comparison_key(str(value)) for value in values]
        code_of = {key: code for code, key in enumerate(dict.fromkeys(key for key in keys if key))}
        return np.array([code_of.get(key, -1) if key else -1 for key in keys], np.int64)

    def row_of(item_id: str) -> int | None:
        row = int(snapshot.rows([item_id])[0])
        return row if row >= 0 else None

    return RerankCandidates(
        candidates.rows, scores, lambda filter: snapshot.match_filter(filter, candidates.rows), codes, row_of
    )
