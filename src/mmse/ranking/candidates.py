"""The items that either channel found for a query, each with the scores of both channels.

The vector score of a lexical hit is looked up, and the lexical score of a vector hit too, so that no score is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mmse.index.lexical import LexicalIndex, LexicalQuery, Matches

MIN_DEPTH = 200
"""At least so many hits of each channel become candidates, however few hits a search wants."""
MATCH_DEPTH = 2_000
"""How many lexical matches are fetched where looking up a row's score is slow. If there are fewer, every other item
lacks all of the words."""


@dataclass(frozen=True)
class Candidates:
    """Distinct item rows, with the inner product of the embeddings and the share (0 to 1) of the query's words."""

    rows: Int64[np.ndarray, " n"]
    vector: Float32[np.ndarray, " n"]
    lexical: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.rows)


def depth(k: int) -> int:
    """How many hits of each channel become candidates for `k` hits."""
    return max(MIN_DEPTH, k + 100)


def word_shares(scores: Float32[np.ndarray, " n"], query: LexicalQuery) -> Float32[np.ndarray, " n"]:
    """BM25 `scores` as shares of the most that the words of `query` can give."""
    return (scores / max(query.max_score, 1e-6)).astype(np.float32)


def gather(
    neighbours: tuple[Int64[np.ndarray, " a"], Float32[np.ndarray, " a"]],
    matches: Matches,
    query: LexicalQuery,
    lexical: LexicalIndex,
    *,
    k: int,
    vector_scores: Callable[[Int64[np.ndarray, " m"]], Float32[np.ndarray, " m"]],
) -> Candidates:
    """The union of the best `depth(k)` of `neighbours` (rows and scores of the vector channel) and of `matches`.

    `vector_scores` gives the inner products of any rows with the query.
    """
    limit = depth(k)
    vector_rows, inner_products = neighbours[0][:limit], neighbours[1][:limit]
    vector_row_set = set(vector_rows.tolist())
    new_matches = [index for index, row in enumerate(matches.rows[:limit].tolist()) if row not in vector_row_set]
    new_rows = matches.rows[new_matches]
    rows = np.concatenate([vector_rows, new_rows])
    if lexical.scores_rows_fast and not matches.complete:
        scores = lexical.score_rows(query, rows)  # all in the same way, so that items of the same words stay equal
    else:
        vector_row_scores = _lexical_scores(vector_rows, matches, query, lexical)
        scores = np.concatenate([vector_row_scores, matches.scores[new_matches]])
    return Candidates(
        rows=rows,
        vector=np.concatenate([inner_products, vector_scores(new_rows)]).astype(np.float32),
        lexical=word_shares(scores, query),
    )


def find_rows(
    rows: Int64[np.ndarray, " n"], wanted_rows: Int64[np.ndarray, " m"]
) -> tuple[Int64[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """The index in `rows` (distinct) of each of `wanted_rows`, and whether it is there; the index is 0 where not."""
    if len(rows) == 0:
        return np.zeros(len(wanted_rows), np.int64), np.zeros(len(wanted_rows), bool)
    order = np.argsort(rows)
    indices = order[np.minimum(np.searchsorted(rows, wanted_rows, sorter=order), len(rows) - 1)]
    is_match = rows[indices] == wanted_rows
    return np.where(is_match, indices, 0), is_match


def _lexical_scores(
    rows: Int64[np.ndarray, " n"], matches: Matches, query: LexicalQuery, lexical: LexicalIndex
) -> Float32[np.ndarray, " n"]:
    """The BM25 score of each row: that of its match, or looked up where `matches` are not complete."""
    scores = np.zeros(len(rows), np.float32)
    if len(matches.rows):
        indices, is_match = find_rows(matches.rows, rows)
        scores[is_match] = matches.scores[indices[is_match]]
        if not matches.complete:
            scores[~is_match] = lexical.score_rows(query, rows[~is_match])
    return scores
