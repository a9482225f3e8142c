"""One query against one state of the catalogue: its candidates from each channel, their scores and probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from mmse.catalogue.snapshot import Snapshot
from mmse.index.lexical import Expansions, LexicalQuery, Matches
from mmse.ranking.candidates import MATCH_DEPTH, Candidates, depth, floor_of, gather, word_shares
from mmse.ranking.fusion import fuse, reciprocal_ranks
from mmse.ranking.step import Ranking
from mmse.schema.filters import Filter
from mmse.schema.search import Channel

NO_ROWS: Int64[np.ndarray, " none"] = np.empty(0, np.int64)


class QueryNeighbours(NamedTuple):
    """Item rows of the vector channel, best first, and the inner product of each with the query."""

    rows: Int64[np.ndarray, " _"]
    scores: Float32[np.ndarray, " _"]


def search_vectors(
    snapshot: Snapshot, vectors: Float32[np.ndarray, "n width"], k: int, filter: Filter | None = None
) -> list[QueryNeighbours]:
    """The vector channel's candidates for `k` hits of each query."""
    neighbours = snapshot.search_vectors(vectors, depth(k), filter)
    masks = neighbours.ids >= 0
    return [
        QueryNeighbours(ids[mask], scores[mask])
        for ids, scores, mask in zip(neighbours.ids, neighbours.scores, masks, strict=True)
    ]


@dataclass(frozen=True)
class QueryContext:
    """A query as text and as vector, the state of the catalogue it searches, the filter, and what was learned."""

    snapshot: Snapshot
    ranking: Ranking
    query: str
    vector: Float32[np.ndarray, " width"]
    filter: Filter | None = None
    expansions: Expansions = ()

    @cached_property
    def lexical_query(self) -> LexicalQuery:
        """The query in the lexical index's terms."""
        return self.snapshot.lexical.parse(self.query, self.ranking.boosts, self.expansions)

    @cached_property
    def query_count(self) -> int:
        """The number of training requests with this query."""
        return int(self.ranking.query_counts.counts([self.query])[0])

    @cached_property
    def weight(self) -> float:
        """The weight of the lexical score in the fused score."""
        return float(self.ranking.fusion.weights(np.array([self.query_count]))[0])

    def neighbours(self, k: int) -> QueryNeighbours:
        """The vector channel's candidates for `k` hits."""
        return search_vectors(self.snapshot, self.vector[None], k, self.filter)[0]

    def matches(self, k: int) -> Matches:
        """The lexical channel's candidates for `k` hits."""
        limit = depth(k) if self.snapshot.lexical.scores_rows_fast else max(MATCH_DEPTH, depth(k))
        return self.snapshot.lexical.search(self.lexical_query, limit, self.filter)

    def gather_candidates(self, neighbours: QueryNeighbours | None, matches: Matches | None, k: int) -> Candidates:
        """The candidates for `k` hits, each with both scores; None for a channel that was not searched.

        Without the lexical channel every lexical score is 0.
        """
        if matches is None:
            assert neighbours is not None
            no_shares = np.zeros(len(neighbours.rows), np.float32)
            return Candidates(*neighbours, no_shares, floor_of(neighbours.scores, depth(k)), 0.0)
        return gather(
            neighbours or (NO_ROWS, np.empty(0, np.float32)),
            matches,
            self.lexical_query,
            self.snapshot.lexical,
            k=k,
            vector_scores=self._inner_products,
        )

    def apply_guard(self, candidates: Candidates, channel: Channel) -> tuple[Candidates, Bool[np.ndarray, " n"]]:
        """The candidates, with those that the guard adds for the names in the query, and which of them should lead."""
        guard = self.ranking.guard
        if channel != "hybrid" or guard is None or len(candidates) == 0:
            return candidates, np.zeros(len(candidates), bool)
        rows, lead = guard.find_leads(self.query, candidates, self.lexical_query, self.snapshot.lexical, self.filter)
        return self.with_rows(candidates, rows), np.append(lead, np.ones(len(rows), bool))

    def with_rows(self, candidates: Candidates, rows: Int64[np.ndarray, " m"]) -> Candidates:
        """`candidates`, followed by those of `rows` that are not among them, with both scores."""
        new_rows = rows[~np.isin(rows, candidates.rows)] if len(rows) else rows
        if len(new_rows) == 0:
            return candidates
        shares = word_shares(self.snapshot.lexical.score_rows(self.lexical_query, new_rows), self.lexical_query)
        return replace(
            candidates,
            rows=np.concatenate([candidates.rows, new_rows]),
            vector=np.concatenate([candidates.vector, self._inner_products(new_rows)]),
            lexical=np.concatenate([candidates.lexical, shares]),
        )

    def scores(self, candidates: Candidates, channel: Channel) -> Float64[np.ndarray, " n"]:
        """The score of each candidate by `channel`."""
        if channel == "rrf":
            ranks = reciprocal_ranks(candidates.vector) + reciprocal_ranks(candidates.lexical)
            return np.asarray(ranks, np.float64)
        if channel == "lexical":
            return np.asarray(candidates.lexical, np.float64)
        weight = self.weight if channel == "hybrid" else 0.0
        return np.asarray(fuse(candidates.vector, candidates.lexical, weight), np.float64)

    def log_odds(self, scores: Float64[np.ndarray, " n"], moments: tuple[float, float]) -> Float64[np.ndarray, " n"]:
        """The log odds that a shopper who looks at items with these fused `scores` clicks them.

        `moments` are those of the scores of all candidates (`moments_of`).
        """
        return self.ranking.calibration.log_odds(scores, self.query_count, moments)

    def _inner_products(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
        return np.asarray(self.snapshot.vectors(rows) @ self.vector)
