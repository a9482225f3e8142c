"""One query against one state of the catalogue: what each channel finds, candidates, their scores and probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from mmse.catalogue.snapshot import Snapshot
from mmse.index.base import NO_MATCHES, Matches
from mmse.index.lexical import CodeMatch, LexicalQuery
from mmse.ranking.candidates import FIRST_BLOCK, MATCH_DEPTH, MIN_DEPTH, Candidates, add_rows, depth, gather
from mmse.ranking.fusion import fuse, reciprocal_ranks
from mmse.ranking.memory import Recollection, memory_key
from mmse.ranking.rules import RuleEffects
from mmse.ranking.step import Ranking
from mmse.schema.filters import Filter
from mmse.schema.search import Channel
from mmse.text.terms import terms

MIN_CODE_WORD = 3
"""A part of a code with fewer characters is no word, though items may have it."""
NO_ROWS: Int64[np.ndarray, " none"] = np.empty(0, np.int64)
NO_SCORES: Float32[np.ndarray, " none"] = np.empty(0, np.float32)


def search_vectors(
    snapshot: Snapshot, vectors: Float32[np.ndarray, "n width"], end: int, filter: Filter | None = None
) -> list[Matches]:
    """What the vector channel finds of each query for the block that ends at place `end`."""
    limit = depth(end)
    neighbours = snapshot.search_vectors(vectors, limit, filter)
    masks = neighbours.ids >= 0
    return [
        Matches(ids[mask], scores[mask], is_complete=bool(mask.sum() < limit))
        for ids, scores, mask in zip(neighbours.ids, neighbours.scores, masks, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class QueryContext:
    """A query as text and as vector, what rules make of it, the catalogue it searches, the filter, what was learned.

    `matches` and `neighbours` are what the lexical and the vector channel found, by the end of the block: each block is
    searched once. Contexts of the same words and filter may share `matches`.
    """

    snapshot: Snapshot
    ranking: Ranking
    effects: RuleEffects
    vector: Float32[np.ndarray, " width"]
    filter: Filter | None = None
    matches: dict[int, Matches] = field(default_factory=dict)
    neighbours: dict[int, Matches] = field(default_factory=dict)

    @property
    def query(self) -> str:
        """The text that is searched for."""
        return self.effects.text

    @cached_property
    def lexical_query(self) -> LexicalQuery:
        """The query in the lexical index's terms."""
        return self.snapshot.lexical.parse(self.query, self.ranking.boosts, self.effects.expansions)

    @cached_property
    def query_count(self) -> int:
        """The number of training requests with this query."""
        return int(self.ranking.query_counts.counts([self.query])[0])

    @cached_property
    def weight(self) -> float:
        """The weight of the lexical score in the fused score."""
        return float(self.ranking.fusion.weights(np.array([self.query_count]))[0])

    @cached_property
    def recollection(self) -> Recollection:
        """What is remembered of the query."""
        return self.ranking.memory.recall(memory_key(self.query, self.snapshot.lexical.stems))

    @cached_property
    def code_match(self) -> CodeMatch | None:
        """The items with the code that the query is, or that begin with it; None where it is no code."""
        return self.snapshot.lexical.find_codes(self.effects.query, MIN_DEPTH, self.filter)

    @property
    def is_unknown_code(self) -> bool:
        """Whether the query is a code that no item has, in no form, and no shopper took an item after it.

        Then nothing is near it either. A code of which items have a part as a word, such as `galaxy-s99`, is none.
        """
        match, lexical = self.code_match, self.snapshot.lexical
        is_strange = match is not None and len(match.rows) == 0 and len(self.recollection.rows) == 0
        return is_strange and not any(
            lexical.has_word(part) for part in terms(self.query) if len(part) >= MIN_CODE_WORD
        )

    @property
    def is_without_matches(self) -> bool:
        """Whether the lexical channel was searched and found nothing, no code either, and nothing is remembered."""
        matches = self.matches.get(FIRST_BLOCK)
        if matches is None or len(matches.rows) or len(self.recollection.rows):
            return False
        return self.code_match is None or len(self.code_match.rows) == 0

    def find_neighbours(self, end: int) -> Matches:
        """What the vector channel finds for the block that ends at place `end`."""
        return _get(self.neighbours, end, lambda: search_vectors(self.snapshot, self.vector[None], end, self.filter)[0])

    def find_matches(self, end: int) -> Matches:
        """What the lexical channel finds for the block that ends at place `end`."""
        lexical = self.snapshot.lexical
        limit = depth(end) if lexical.scores_rows_fast else max(MATCH_DEPTH, depth(end))
        return _get(self.matches, end, lambda: lexical.search(self.lexical_query, limit, self.filter))

    def find_candidates(self, channel: Channel, end: int) -> Candidates:
        """The candidates of `channel` for the block that ends at place `end`, each with both scores.

        What is remembered joins the hybrid's. Without the lexical channel every lexical score is 0. A code that no item
        has finds nothing, and the beginning of a code only the items with it.
        """
        match = self.code_match if channel != "vector" else None
        if match is not None and self.is_unknown_code:
            return Candidates(NO_ROWS, NO_SCORES, NO_SCORES, -math.inf, 0.0)
        has_no_neighbours = channel == "lexical"
        if match is not None and match.is_prefix:
            has_all = len(match.rows) < MIN_DEPTH
            floors = (-math.inf, 0.0) if has_all else (math.inf, math.inf)
            no_candidates = Candidates(NO_ROWS, NO_SCORES, NO_SCORES, *floors)
            return self.with_rows(no_candidates, match.rows)
        candidates = gather(
            NO_MATCHES if has_no_neighbours else self.find_neighbours(end),
            NO_MATCHES if channel == "vector" else self.find_matches(end),
            self.lexical_query,
            self.snapshot.lexical,
            k=end,
            vector_scores=self._inner_products,
        )
        if channel != "hybrid" or has_no_neighbours or not self.ranking.fusion.remembers:
            return candidates
        candidates = replace(candidates, memory_share=self._remember(candidates.rows))
        return self.with_rows(candidates, self._searchable(self.recollection.candidate_rows))

    def apply_guard(self, candidates: Candidates, channel: Channel) -> tuple[Candidates, Bool[np.ndarray, " n"]]:
        """The candidates, with those that the guard adds for the names in the query, and which of them should lead."""
        guard, match = self.ranking.guard, self.code_match if channel != "vector" else None
        if match is not None and len(match.rows):
            candidates = self.with_rows(candidates, match.rows)
            return candidates, np.isin(candidates.rows, match.rows)
        if channel != "hybrid" or guard is None or len(candidates) == 0:
            return candidates, np.zeros(len(candidates), bool)
        rows, lead = guard.find_leads(self.query, candidates, self.lexical_query, self.snapshot.lexical, self.filter)
        return self.with_rows(candidates, rows), np.append(lead, np.ones(len(rows), bool))

    def excluded(self, candidates: Candidates) -> list[tuple[Bool[np.ndarray, " n"], str]]:
        """Which candidates have a word in title or brand that the query excludes, and how that is said."""
        lexical, masks = self.snapshot.lexical, []
        for word, phrases in self.effects.exclusions:
            mask = lexical.match_phrases([[word]], candidates.rows)
            for phrase in phrases:
                mask &= ~lexical.match_phrases([phrase], candidates.rows)
            masks.append((mask, f"has '{word}', which the query excludes"))
        return masks

    def with_rows(self, candidates: Candidates, rows: Int64[np.ndarray, " m"]) -> Candidates:
        """`candidates`, followed by those of `rows` (distinct) that are not among them, with both scores."""
        return add_rows(
            candidates, rows, self.lexical_query, self.snapshot.lexical, self._inner_products, self._remember
        )

    def scores(self, candidates: Candidates, channel: Channel) -> Float64[np.ndarray, " n"]:
        """The score of each candidate by `channel`."""
        if channel == "rrf":
            ranks = reciprocal_ranks(candidates.vector) + reciprocal_ranks(candidates.lexical)
            return np.asarray(ranks, np.float64)
        if channel == "lexical":
            return np.asarray(candidates.lexical, np.float64)
        weight = self.weight if channel == "hybrid" else 0.0
        scores = fuse(candidates.vector, candidates.lexical, weight)
        memory_share = candidates.memory_share if channel == "hybrid" else None
        return np.asarray(scores if memory_share is None else scores + memory_share, np.float64)

    def log_odds(self, scores: Float64[np.ndarray, " n"], moments: tuple[float, float]) -> Float64[np.ndarray, " n"]:
        """The log odds that a shopper who looks at items with these fused `scores` clicks them.

        `moments` are those of the scores of all candidates (`moments_of`).
        """
        return self.ranking.calibration.log_odds(scores, self.query_count, moments)

    def _remember(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
        """What the memory adds to the scores of `rows`."""
        memory, fusion = self.ranking.memory, self.ranking.fusion
        return fusion.remember(self.recollection.of(rows), memory.popularity_of(rows), np.array([self.query_count]))

    def _searchable(self, rows: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " k"]:
        """Those of `rows` that have an item which the filter lets through."""
        if len(rows) == 0:
            return rows
        snapshot, filter = self.snapshot, self.filter
        mask = snapshot.alive(rows) if filter is None else snapshot.match_filter(filter, rows)
        return np.asarray(rows[mask])

    def _inner_products(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
        return np.asarray(self.snapshot.vectors(rows) @ self.vector)


def _get(cache: dict[int, Matches], end: int, find: Callable[[], Matches]) -> Matches:
    matches = cache.get(end)
    if matches is None:
        matches = cache[end] = find()
    return matches
