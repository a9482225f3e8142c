"""The items that a channel found for a query, each with the scores of both channels; what is remembered joins them.

The vector score of a lexical hit is looked up, and the lexical score of a vector hit too, so that no score is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mmse.index.base import Matches
from mmse.index.lexical import LexicalIndex, LexicalQuery

MIN_DEPTH = 200
"""At least so many hits of each channel become candidates, however few hits a search wants."""
FIRST_BLOCK = 100
BLOCK_GROWTH = 10
"""The first block of a list has so many places, and the blocks up to the next one together so many times as many."""
MATCH_DEPTH = 2_000
"""How many lexical matches are fetched where looking up a row's score is slow. If there are fewer, every other item
lacks all of the words."""
_LEAST_SCORE = 1e-6


@dataclass(frozen=True)
class Candidates:
    """Distinct item rows, with the inner product of the embeddings and the share (0 to 1) of the query's words.

    `memory_share` is what the memory adds to the score of each, None where the memory takes no part.

    No other item that the channels can find has a higher inner product than `vector_floor` together with a higher share
    than `lexical_floor`; a floor of -inf means that there is no other item.
    """

    rows: Int64[np.ndarray, " n"]
    vector: Float32[np.ndarray, " n"]
    lexical: Float32[np.ndarray, " n"]
    vector_floor: float = math.inf
    lexical_floor: float = math.inf
    memory_share: Float32[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.rows)


def block_ends(n_hits: int) -> Iterator[int]:
    """The last places of the blocks that together hold the first `n_hits` places: 100, 1,000, 10,000 and so on.

    A block is ranked as a whole, from candidates of its own depth, and deeper blocks come behind it. So the first
    places of a list are the same however long a part of it a search asks for.
    """
    end = FIRST_BLOCK
    yield end
    while end < n_hits:
        end *= BLOCK_GROWTH
        yield end


def depth(end: int) -> int:
    """How many hits of each channel become candidates for the block that ends at place `end`."""
    return max(MIN_DEPTH, end + 100)


def word_shares(scores: Float32[np.ndarray, " n"], query: LexicalQuery) -> Float32[np.ndarray, " n"]:
    """BM25 `scores` as shares of the most that the words of `query` can give."""
    return (scores / max(query.max_score, _LEAST_SCORE)).astype(np.float32)


def gather(
    neighbours: Matches,
    matches: Matches,
    query: LexicalQuery,
    lexical: LexicalIndex,
    *,
    k: int,
    vector_scores: Callable[[Int64[np.ndarray, " m"]], Float32[np.ndarray, " m"]],
) -> Candidates:
    """The union of the best `depth(k)` of `neighbours`, of the vector channel, and of `matches`, of the lexical one.

    `vector_scores` gives the inner products of any rows with the query.
    """
    limit = depth(k)
    vector_rows, inner_products = neighbours.rows[:limit], neighbours.scores[:limit]
    vector_row_set = set(vector_rows.tolist())
    new_matches = [index for index, row in enumerate(matches.rows[:limit].tolist()) if row not in vector_row_set]
    new_rows = matches.rows[new_matches]
    rows = np.concatenate([vector_rows, new_rows])
    if lexical.scores_rows_fast and not matches.is_complete:
        scores = lexical.score_rows(query, rows)  # all in the same way, so that items of the same words stay equal
    else:
        vector_row_scores = _lexical_scores(vector_rows, matches, query, lexical)
        scores = np.concatenate([vector_row_scores, matches.scores[new_matches]])
    return Candidates(
        rows=rows,
        vector=np.concatenate([inner_products, vector_scores(new_rows)]).astype(np.float32),
        lexical=word_shares(scores, query),
        vector_floor=_floor(neighbours, limit, -math.inf),
        lexical_floor=_floor(matches, limit, 0.0) / max(query.max_score, _LEAST_SCORE),
    )


def add_rows(
    candidates: Candidates,
    rows: Int64[np.ndarray, " m"],
    query: LexicalQuery,
    lexical: LexicalIndex,
    vector_scores: Callable[[Int64[np.ndarray, " k"]], Float32[np.ndarray, " k"]],
    remember: Callable[[Int64[np.ndarray, " k"]], Float32[np.ndarray, " k"]],
) -> Candidates:
    """`candidates`, followed by those of `rows` (distinct) that are not among them, with both scores.

    `remember` gives what the memory adds, if it takes part.
    """
    new_rows = rows[~np.isin(rows, candidates.rows, assume_unique=True)] if len(rows) else rows
    if len(new_rows) == 0:
        return candidates
    memory_share = candidates.memory_share
    return replace(
        candidates,
        rows=np.concatenate([candidates.rows, new_rows]),
        vector=np.concatenate([candidates.vector, vector_scores(new_rows)]),
        lexical=np.concatenate([candidates.lexical, word_shares(lexical.score_rows(query, new_rows), query)]),
        memory_share=None if memory_share is None else np.concatenate([memory_share, remember(new_rows)]),
    )


def _floor(matches: Matches, limit: int, least: float) -> float:
    """The highest score that an item outside the first `limit` of `matches` may have; `least` where these are all."""
    return least if matches.is_complete and len(matches.rows) <= limit else float(matches.scores[:limit][-1])


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
        if not matches.is_complete:
            scores[~is_match] = lexical.score_rows(query, rows[~is_match])
    return scores
