"""What is shown of the rows that were placed: the item, its score, and where that comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mmse.model.features import FeatureSpace
from mmse.ranking.candidates import Candidates
from mmse.ranking.rerank import Placed
from mmse.retrieval.query_context import Question
from mmse.schema.stages import Hit
from mmse.text.bm25 import words

LED = "names what the query names"


@dataclass(frozen=True)
class Found:
    """All candidates of a question, with the probabilities of them (None: not calibrated) and the rows that lead."""

    question: Question
    candidates: Candidates
    chances: Float64[np.ndarray, " n"] | None
    led: frozenset[int]


def hits_of(
    found: Found, placed: Sequence[Placed], views: Mapping[str, int], space: FeatureSpace, *, explain: bool
) -> list[Hit]:
    """The hits of the rows that were `placed`, in their order; `views` are the widths of those of the vectors."""
    if not placed:
        return []
    asked, candidates = found.question, found.candidates
    rows = np.array([one.row for one in placed], np.int64)
    at = {row: place for place, row in enumerate(candidates.rows.tolist())}
    places: Int64[np.ndarray, " m"] = np.array([at[one.row] for one in placed], np.int64)
    scores = asked.scores(candidates, "hybrid")[places].tolist()
    chances = [None] * len(rows) if found.chances is None else found.chances[places].tolist()
    parts: Sequence[dict[str, float]] = [{} for _ in placed]
    matched: Sequence[tuple[str, ...]] = [()] * len(rows)
    if explain:
        parts = _parts(asked, rows, candidates.lexical[places], views)
        matched = _matched(asked.query, space.item_texts(asked.now.table(rows)))
    told = zip(placed, asked.now.shown(rows), scores, chances, parts, matched, strict=True)
    return [
        Hit.made(
            rank=rank,
            item_id=item["item_id"],
            title=item["title"],
            score=score,
            probability=chance,
            parts=shares,
            matched=has,
            moved_by=(*one.moved_by, LED) if one.row in found.led else one.moved_by,
            item=item,
        )
        for rank, (one, item, score, chance, shares, has) in enumerate(told, 1)
    ]


def _parts(
    asked: Question, rows: Int64[np.ndarray, " m"], lexical: Float32[np.ndarray, " m"], views: Mapping[str, int]
) -> list[dict[str, float]]:
    """What each view, and the query's words, add to the score of each row."""
    products = asked.now.vectors(rows) * asked.vector
    starts = np.cumsum([0, *views.values()])[:-1]
    names = (*views, "words")
    said = np.column_stack([np.add.reduceat(products, starts, axis=1).astype(np.float64), asked.weight * lexical])
    return [dict(zip(names, shares, strict=True)) for shares in said.tolist()]


def _matched(query: str, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The words of `query` that stand in each text, in the text's order."""
    wanted = set(words(query))
    return [tuple(word for word in dict.fromkeys(words(text)) if word in wanted) for text in texts]
