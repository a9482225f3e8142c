"""Builds the hits that a search shows: each item with its score, and where the score comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mmse.model.encoder import Encoder
from mmse.ranking.candidates import Candidates, find_rows
from mmse.ranking.rerank import RankedRow
from mmse.retrieval.query_context import QueryContext
from mmse.schema.search import WORDS_PART, Hit
from mmse.text.normalise import words

LEAD_REASON = "names what the query names"
_WORDS_PHRASE = "same words"


@dataclass(frozen=True)
class ScoredCandidates:
    """All candidates of a query with their fused scores and probabilities (None: not calibrated).

    `lead_rows` are the rows that the guard lets lead.
    """

    context: QueryContext
    candidates: Candidates
    scores: Float64[np.ndarray, " n"]
    probabilities: Float64[np.ndarray, " n"] | None
    lead_rows: frozenset[int]


@dataclass(frozen=True)
class PagePart:
    """Hits of a page that were chosen from the same candidates; `first_rank` is the place of the first in the list."""

    scored_candidates: ScoredCandidates
    hits: list[RankedRow]
    first_rank: int


def build_hits(part: PagePart, encoder: Encoder, *, explain: bool) -> list[Hit]:
    """The hits of `part`, which has some; `encoder` made the fused vectors."""
    scored_candidates, ranking = part.scored_candidates, part.hits
    context, candidates = scored_candidates.context, scored_candidates.candidates
    rows = np.array([hit.row for hit in ranking], np.int64)
    indices, _ = find_rows(candidates.rows, rows)
    scores = scored_candidates.scores[indices].tolist()
    probabilities = (
        [None] * len(rows)
        if scored_candidates.probabilities is None
        else scored_candidates.probabilities[indices].tolist()
    )
    parts: Sequence[dict[str, float]] = [{} for _ in rows]
    matched_words: Sequence[tuple[str, ...]] = [()] * len(rows)
    if explain:
        parts = _parts(context, rows, candidates.lexical[indices], encoder.widths)
        space = encoder.space
        table = context.snapshot.table(rows, space.text_columns)
        matched_words = _match_words(context.query, space.item_texts(table))
    moved_by = [
        (*hit.moved_by, LEAD_REASON) if hit.row in scored_candidates.lead_rows else hit.moved_by for hit in ranking
    ]
    items = context.snapshot.display_items(rows)
    columns = zip(items, scores, probabilities, parts, matched_words, moved_by, strict=True)
    phrases = {**encoder.phrases, WORDS_PART: _WORDS_PHRASE}
    return [
        Hit.unchecked(
            rank=rank,
            item_id=item["item_id"],
            title=item["title"],
            score=score,
            probability=probability,
            parts=shares,
            matched=item_words,
            moved_by=reasons,
            item=item,
            phrases=phrases,
        )
        for rank, (item, score, probability, shares, item_words, reasons) in enumerate(columns, part.first_rank)
    ]


def _parts(
    context: QueryContext,
    rows: Int64[np.ndarray, " m"],
    lexical: Float32[np.ndarray, " m"],
    view_widths: Mapping[str, int],
) -> list[dict[str, float]]:
    """The share of each view, and of the query's words, in the score of each row."""
    products = context.snapshot.vectors(rows) * context.vector
    starts = np.cumsum([0, *view_widths.values()])[:-1]
    names = (*view_widths, WORDS_PART)
    views = np.add.reduceat(products, starts, axis=1).astype(np.float64)
    table = np.column_stack([views, context.weight * lexical])
    return [dict(zip(names, shares, strict=True)) for shares in table.tolist()]


def _match_words(query: str, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The words of `query` that each text has, in the text's order."""
    query_words = set(words(query))
    return [tuple(word for word in dict.fromkeys(words(text)) if word in query_words) for text in texts]
