"""How the scores of the channels become one: a sum whose weight of words falls the more often a query was asked.

    score = vector + w(n) · lexical + remembered       w(0) = new_query,   w(n) = known_query · n^−decay   for n ≥ 1
    remembered = memory · evidence(query, item) + p(n) · popularity(item)      p(0) = new_popularity, p(n) = popularity

`vector` is the inner product of the fused embeddings, `lexical` the item's BM25 score as a share of the most that the
query's words can give (0 to 1), `n` the requests of the query in the training log. The three numbers are above 0, so
that a higher score of either channel never lowers an item, and a person can read what was learned. For a query that the
log does not have, words are the better guide; for a query with fifty requests, the model has learned what it leads to.
What is remembered (`mmse.ranking.memory`) has weights of 0 where the validation window shows no use of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from mmse.core.config import require
from mmse.ranking.fit import minimise

PRIOR = {"new_query": (1.0, 0.5), "known_query": (0.5, 1.0), "decay": (1.0, 0.5)}
"""The prior of each number: its median, and the standard deviation of its logarithm. A weight of 1 for a new query did
best on human judgements of queries that no log had."""

WITHOUT_CHOICES = 1.5
"""The weight of words for a new query where no choice of a shopper is known. Of weights from 0.3 to 3 it found most of
what people judged relevant in two real catalogues (1,500 and 253 queries), by vectors of the catalogues' own words."""

MEMORY_PRIOR = (0.03, 1.5)
"""The same for both weights of the memory, where it is of use."""

_Scores = TypeVar("_Scores", Float[np.ndarray, " n"], Tensor)

_RANK_CONSTANT = 60
"""Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion*, SIGIR 2009."""


@dataclass(frozen=True)
class Fusion:
    """The numbers of the formula above."""

    new_query: float = PRIOR["new_query"][0]
    known_query: float = PRIOR["known_query"][0]
    decay: float = PRIOR["decay"][0]
    memory: float = 0.0
    popularity: float = 0.0
    new_popularity: float = 0.0

    def __post_init__(self) -> None:
        for name in PRIOR:
            require(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")
        for name in ("memory", "popularity", "new_popularity"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")

    def weights(self, query_counts: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """`w` of queries with so many requests in the log."""
        known_weights = self.known_query * np.maximum(query_counts, 1).astype(np.float64) ** -self.decay
        return np.where(query_counts == 0, self.new_query, known_weights)

    @property
    def remembers(self) -> bool:
        """Whether the memory has a weight."""
        return self.memory > 0 or self.popularity > 0

    def popularity_weights(self, query_counts: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """`p` of queries with so many requests in the log."""
        return np.where(query_counts == 0, self.new_popularity, self.popularity)

    def remember(
        self,
        evidence: Float32[np.ndarray, " n"],
        popularity: Float32[np.ndarray, " n"],
        query_counts: Int64[np.ndarray, " m"],
    ) -> Float32[np.ndarray, " n"]:
        """What the memory adds to the scores of items with this evidence after their query, and this popularity.

        `query_counts` has one number, or one for each item.
        """
        score = self.memory * evidence + self.popularity_weights(query_counts) * popularity
        return np.asarray(score, np.float32)


def fuse(vector: _Scores, lexical: _Scores, weight: float | _Scores) -> _Scores:
    """The fused score of candidates from their scores by both channels; `weight` is `Fusion.weights` of their query."""
    return vector + weight * lexical


@dataclass(frozen=True)
class Choices:
    """What shoppers chose among candidates, flat: candidate `c` belongs to request `request[c]`.

    `positives` are the indices of the chosen candidates; `query_counts` has one number for each request: how often the
    training log has its query. `evidence` has what is remembered of each candidate, after its query and of the item.
    """

    vector: Float32[np.ndarray, " candidates"]
    lexical: Float32[np.ndarray, " candidates"]
    request: Int64[np.ndarray, " candidates"]
    positives: Int64[np.ndarray, " positives"]
    query_counts: Int64[np.ndarray, " requests"]
    evidence: Float32[np.ndarray, "candidates 2"] | None = None


def learn_fusion(choices: Choices) -> Fusion:
    """The fusion that makes the positives likeliest among the candidates of their requests, given `PRIOR`.

    The likelihood is a softmax over each request's candidates with a learned temperature. The prior is normal on the
    logarithm of each number, so that little data changes little and no number reaches 0. Without `evidence` of the
    choices nothing is remembered.
    """
    if len(choices.positives) == 0:
        return Fusion(new_query=WITHOUT_CHOICES)
    vector, lexical = torch.from_numpy(choices.vector).double(), torch.from_numpy(choices.lexical).double()
    request, positives = torch.from_numpy(choices.request), torch.from_numpy(choices.positives)
    counts = torch.from_numpy(choices.query_counts).double()[request]
    evidence = None if choices.evidence is None else torch.from_numpy(choices.evidence).double()
    priors = [*PRIOR.values(), *([] if evidence is None else [MEMORY_PRIOR] * 2)]
    log_median = torch.tensor([median for median, _ in priors]).double().log()
    spread = torch.tensor([deviation for _, deviation in priors]).double()
    shifts = torch.zeros(len(priors) + 1, dtype=torch.double, requires_grad=True)  # the last of log(1/temperature)

    def loss() -> Tensor:
        new_query, known_query, decay, *memory_weights = torch.exp(log_median + shifts[:-1])
        weight = torch.where(counts == 0, new_query, known_query * counts.clamp(min=1) ** -decay)
        scores = fuse(vector, lexical, weight)
        if evidence is not None:
            scores = scores + evidence @ torch.stack(memory_weights)
        logits = torch.exp(3 + shifts[-1]) * scores
        log_losses = -log_likelihoods(logits, request, positives, len(choices.query_counts))
        return log_losses.sum() + ((shifts[:-1] / spread) ** 2).sum() / 2

    minimise(shifts, loss)
    return Fusion(*torch.exp(log_median + shifts[:-1]).tolist())


def reciprocal_ranks(scores: Float32[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """`1 / (60 + rank)` of each score, 0 for scores of 0 or below: a channel's share in reciprocal rank fusion."""
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return np.where(scores > 0, 1 / (_RANK_CONSTANT + ranks), 0.0)


def log_likelihoods(logits: Tensor, request: Tensor, positives: Tensor, n_requests: int) -> Tensor:
    """The logarithm of each positive's share of `exp(logits)` among the candidates of its request."""
    return logits[positives] - _log_sums(logits, request, n_requests)[request[positives]]


def _log_sums(logits: Tensor, request: Tensor, n_requests: int) -> Tensor:
    """The logarithm of the sum of `exp(logits)` over each request."""
    maximum = torch.full((n_requests,), -torch.inf, dtype=logits.dtype)
    maximum = maximum.scatter_reduce(0, request, logits.detach(), "amax")
    total = torch.zeros(n_requests, dtype=logits.dtype).scatter_add(0, request, torch.exp(logits - maximum[request]))
    return torch.log(total) + maximum
