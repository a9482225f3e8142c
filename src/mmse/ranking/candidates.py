"""What either channel found for a query, each item with both scores.

The vector of a lexical hit is looked up, and the words of a vector hit too, so that no score is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from mmse.index.lexical import Asked, LexicalIndex, Matches

LEAST = 200
"""So many of each channel are looked at, however few hits are wanted."""
KNOWN_MATCHES = 2_000
"""So many matches are fetched where a look-up of others costs much: where there are no more, an item that is not among
them has none of the words."""


@dataclass(frozen=True)
class Candidates:
    """Distinct item rows, with the inner product of the embeddings and the share (0 to 1) of the query's words."""

    rows: Int64[np.ndarray, " n"]
    vector: Float32[np.ndarray, " n"]
    lexical: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.rows)


def depth(k: int) -> int:
    """How many of each channel make the candidates for `k` hits."""
    return max(LEAST, k + 100)


def gather(
    near: tuple[Int64[np.ndarray, " a"], Float32[np.ndarray, " a"]],
    matches: Matches,
    asked: Asked,
    lexical: LexicalIndex,
    *,
    k: int,
    vector_scores: Callable[[Int64[np.ndarray, " m"]], Float32[np.ndarray, " m"]],
) -> Candidates:
    """The union of the best `depth(k)` of `near` (rows and scores of the vector channel) and of `matches`.

    `vector_scores` gives the inner products of any rows with the query.
    """
    wanted = depth(k)
    near_rows, near_scores = near[0][:wanted], near[1][:wanted]
    known = set(near_rows.tolist())
    worded = [place for place, row in enumerate(matches.rows[:wanted].tolist()) if row not in known]
    added = matches.rows[worded]
    rows = np.concatenate([near_rows, added])
    if lexical.scores_rows and not matches.complete:
        words = lexical.scores(asked, rows)  # all in one way, so that items of the same words stay equal
    else:
        words = np.concatenate([_found(near_rows, matches, asked, lexical), matches.scores[worded]])
    return Candidates(
        rows=rows,
        vector=np.concatenate([near_scores, vector_scores(added)]).astype(np.float32),
        lexical=(words / max(asked.most, 1e-6)).astype(np.float32),
    )


def _found(
    rows: Int64[np.ndarray, " n"], matches: Matches, asked: Asked, lexical: LexicalIndex
) -> Float32[np.ndarray, " n"]:
    """The BM25 score of each row: among the matches, or looked up where these are not all there are."""
    scores = np.zeros(len(rows), np.float32)
    if len(matches.rows):
        order = np.argsort(matches.rows)
        places = np.minimum(np.searchsorted(matches.rows, rows, sorter=order), len(order) - 1)
        held = matches.rows[order[places]] == rows
        scores[held] = matches.scores[order[places[held]]]
        if not matches.complete:
            scores[~held] = lexical.scores(asked, rows[~held])
    return scores
