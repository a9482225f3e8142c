"""One query put to one state of the catalogue: what each channel finds, and what the ranking makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.special import expit

from mmse.catalogue.snapshot import Snapshot
from mmse.index.lexical import Asked, Expansions, Matches
from mmse.ranking.calibration import Form, moments_of
from mmse.ranking.candidates import KNOWN_MATCHES, Candidates, depth, gather
from mmse.ranking.fusion import reciprocal_ranks
from mmse.ranking.step import Ranking
from mmse.schema.filters import Filter
from mmse.schema.search import Channel

NO_ROWS: Int64[np.ndarray, " none"] = np.empty(0, np.int64)
Near = tuple[Int64[np.ndarray, " _"], Float32[np.ndarray, " _"]]
"""Rows of the vector channel, best first, and the inner product of each with the query."""


def nearest(now: Snapshot, vectors: Float32[np.ndarray, "n width"], k: int, only: Filter | None = None) -> list[Near]:
    """What the vector channel finds for `k` hits of each query."""
    found = now.search_vectors(vectors, depth(k), only)
    there = found.ids >= 0
    return [(ids[held], scores[held]) for ids, scores, held in zip(found.ids, found.scores, there, strict=True)]


@dataclass(frozen=True)
class Question:
    """A query as text and as vector, what it may find, and what is made of it; `now` is the catalogue it is put to."""

    now: Snapshot
    ranking: Ranking
    query: str
    vector: Float32[np.ndarray, " width"]
    only: Filter | None = None
    expansions: Expansions = ()

    @cached_property
    def words(self) -> Asked:
        """The query as the lexical index takes it."""
        return self.now.lexical.ask(self.query, self.ranking.boosts, self.expansions)

    @cached_property
    def asked_before(self) -> int:
        """In how many training requests the query was asked."""
        return int(self.ranking.known.counts([self.query])[0])

    @cached_property
    def weight(self) -> float:
        """What the words weigh in the fused score."""
        return float(self.ranking.fusion.weights(np.array([self.asked_before]))[0])

    def near(self, k: int) -> Near:
        """What the vector channel finds for `k` hits."""
        return nearest(self.now, self.vector[None], k, self.only)[0]

    def matches(self, k: int) -> Matches:
        """What the lexical channel finds for `k` hits."""
        wanted = depth(k) if self.now.lexical.scores_rows else max(KNOWN_MATCHES, depth(k))
        return self.now.lexical.search(self.words, wanted, self.only)

    def gathered(self, near: Near, matches: Matches, k: int) -> Candidates:
        """The candidates of both channels, each with both scores."""
        return gather(near, matches, self.words, self.now.lexical, k=k, vector_scores=self._inner_products)

    def found(self, near: Near | None, matches: Matches | None, k: int) -> Candidates:
        """The candidates for `k` hits of the channels that were asked."""
        if matches is None:
            assert near is not None
            return Candidates(*near, np.zeros(len(near[0]), np.float32))
        return self.gathered(near or (NO_ROWS, np.empty(0, np.float32)), matches, k)

    def guarded(self, found: Candidates, channel: Channel) -> tuple[Candidates, Bool[np.ndarray, " n"]]:
        """The candidates, with those that hold the brand or model that the query names, and which should lead."""
        guard = self.ranking.guard
        if channel != "hybrid" or guard is None or len(found) == 0:
            return found, np.zeros(len(found), bool)
        missed, lead = guard.guarded(self.query, found, self.words, self.now.lexical, self.only)
        return self.with_rows(found, missed), np.append(lead, np.ones(len(missed), bool))

    def with_rows(self, found: Candidates, rows: Int64[np.ndarray, " m"]) -> Candidates:
        """`found` and, behind them, those of `rows` that are not among them, with both scores."""
        more = rows[~np.isin(rows, found.rows)] if len(rows) else rows
        if len(more) == 0:
            return found
        share = self.now.lexical.scores(self.words, more) / max(self.words.most, 1e-6)
        return Candidates(
            np.concatenate([found.rows, more]),
            np.concatenate([found.vector, self._inner_products(more)]),
            np.concatenate([found.lexical, share.astype(np.float32)]),
        )

    def scores(self, found: Candidates, channel: Channel) -> Float64[np.ndarray, " n"]:
        """What `channel` scores each candidate with."""
        if channel == "rrf":
            return np.asarray(reciprocal_ranks(found.vector) + reciprocal_ranks(found.lexical), np.float64)
        if channel == "lexical":
            return np.asarray(found.lexical, np.float64)
        return np.asarray(found.vector + (self.weight if channel == "hybrid" else 0.0) * found.lexical, np.float64)

    def log_odds(self, scores: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """The log odds that candidates with these fused scores, all there are, are clicked by whoever looks."""
        return self.ranking.calibration.log_odds(scores, self.asked_before, moments_of(scores))

    def _inner_products(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
        return np.asarray(self.now.vectors(rows) @ self.vector)


@dataclass(frozen=True)
class Calibrated:
    """The hits of one query with their probabilities by each form of calibration, and those of other rows asked for."""

    rows: Int64[np.ndarray, " m"]
    chances: dict[Form, Float64[np.ndarray, " m"]]
    others: dict[Form, Float64[np.ndarray, " o"]]


@dataclass(frozen=True)
class Considered:
    """What the channels found for one question, to be ranked by either or by both."""

    question: Question
    near: Int64[np.ndarray, " a"]
    worded: Int64[np.ndarray, " b"]
    both: Candidates

    def rows(self, channel: Channel) -> Int64[np.ndarray, " n"]:
        """Item rows, best first, by `channel`."""
        if channel in ("vector", "lexical"):
            return self.near if channel == "vector" else self.worded
        found, lead = self.question.guarded(self.both, channel)
        scores = self.question.scores(found, channel)
        order = np.lexsort((found.rows, -scores, ~lead))
        return found.rows[order[scores[order] > 0] if channel == "rrf" else order]

    def calibrated(self, k: int, others: Int64[np.ndarray, " o"] = NO_ROWS) -> Calibrated:
        """The `k` best hits with their probabilities, and those of `others`, any distinct rows."""
        scores = self.question.scores(self.both, "hybrid")
        best, moments = np.argsort(-scores, kind="stable")[:k], moments_of(scores)
        found = self.question.with_rows(self.both, others)
        every = self.question.scores(found, "hybrid")
        forms = self.question.ranking.calibrations
        odds = {form: one.log_odds(every, self.question.asked_before, moments) for form, one in forms.items()}
        beside = _places(found.rows, others)
        return Calibrated(
            self.both.rows[best],
            {form: expit(values[best]) for form, values in odds.items()},
            {form: expit(values[beside]) for form, values in odds.items()},
        )


def _places(rows: Int64[np.ndarray, " n"], wanted: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
    """Where each of `wanted`, all among `rows`, stands in them."""
    order = np.argsort(rows)
    return np.asarray(order[np.searchsorted(rows, wanted, sorter=order)])
