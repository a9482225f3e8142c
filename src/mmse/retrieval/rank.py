"""From the candidates of both channels to the order of the hits: guard, rules, caps, and which are likely enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64
from scipy.special import expit

from mmse.catalogue.snapshot import Snapshot
from mmse.index.lexical import Matches
from mmse.ranking.candidates import Candidates
from mmse.ranking.rerank import RankedRow, RerankCandidates, rerank
from mmse.ranking.rules import RuleEffects
from mmse.retrieval.explain import ScoredCandidates
from mmse.retrieval.query_context import NO_ROWS, QueryContext, QueryNeighbours
from mmse.schema.filters import Filter, comparison_key
from mmse.schema.search import Search


@dataclass(frozen=True)
class PreparedSearch:
    """A search, the effects of the rules on it, and the query that is searched for."""

    search: Search
    effects: RuleEffects
    context: QueryContext


def rank(
    prepared_search: PreparedSearch, neighbours: QueryNeighbours | None, matches: Matches | None
) -> tuple[ScoredCandidates, list[RankedRow]]:
    """All candidates with their scores, and the rows to show, in order; with a cut-off these are more than `k`.

    `neighbours` and `matches` are those of the channels, None for a channel that was not searched.
    """
    search, effects, context = prepared_search.search, prepared_search.effects, prepared_search.context
    candidates = context.gather_candidates(neighbours, matches, search.k)
    candidates, lead = context.apply_guard(candidates, search.channel)
    pinned_rows = _pinned_rows(context.snapshot, effects, search.filter)
    candidates = context.with_rows(candidates, pinned_rows)
    lead = np.pad(lead, (0, len(candidates) - len(lead))) if len(candidates) > len(lead) else lead
    fused_scores = context.scores(candidates, "hybrid")
    if search.channel == "hybrid":
        order_scores = context.log_odds(fused_scores)
        probabilities = expit(order_scores) if context.ranking.calibration.is_learned else None
    else:
        order_scores, probabilities = context.scores(candidates, search.channel), None
    ranking = rerank(
        _rerank_candidates(context.snapshot, candidates, order_scores),
        effects,
        len(candidates) if search.cuts else search.k,
        boosts=search.boosts,
        caps=search.caps,
        lead=lead,
    )
    if search.cuts:
        assert probabilities is not None
        by_row = dict(zip(candidates.rows.tolist(), probabilities.tolist(), strict=True))
        ranking = keep_likely(ranking, by_row, search, set(pinned_rows.tolist()))
    lead_rows = frozenset(candidates.rows[lead].tolist())
    return ScoredCandidates(context, candidates, fused_scores, probabilities, lead_rows), ranking


def keep_likely(
    ranking: Sequence[RankedRow], probabilities: Mapping[int, float], search: Search, pinned_rows: set[int]
) -> list[RankedRow]:
    """The rows that are likely enough for `search`, in their order, and all `pinned_rows`.

    `probabilities` are by row.
    """
    threshold = search.min_probability
    if search.target_precision is not None:
        sorted_probabilities = np.sort([probabilities[hit.row] for hit in ranking])[::-1]
        means = np.cumsum(sorted_probabilities) / np.arange(1, len(sorted_probabilities) + 1)
        precise = np.flatnonzero(means >= search.target_precision)
        threshold = max(threshold, float(sorted_probabilities[precise[-1]]) if len(precise) else 2.0)
    return [hit for hit in ranking if probabilities[hit.row] >= threshold or hit.row in pinned_rows]


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
