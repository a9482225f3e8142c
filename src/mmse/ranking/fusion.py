"""How the scores of the two channels become one: a sum whose weight of words falls the more often a query was asked.

    score = vector + w(n) · lexical          w(0) = new_query,   w(n) = known_query · n^−decay   for n ≥ 1

`vector` is the inner product of the fused embeddings, `lexical` the item's BM25 score as a share of the most that the
query's words can give (0 to 1), `n` the requests of the query in the training log. The three numbers are above 0, so
that a higher score of either channel never lowers an item, and a person can read what was learned. For a query that the
log does not have, words are the better guide; for a query with fifty requests, the model has learned what it leads to.
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

_Scores = TypeVar("_Scores", Float[np.ndarray, " n"], Tensor)

_RANK_CONSTANT = 60
"""Cormack, Clarke and Büttcher, *Reciprocal Rank Fusion*, SIGIR 2009."""


@dataclass(frozen=True)
class Fusion:
    """The three numbers of the formula above."""

    new_query: float = PRIOR["new_query"][0]
    known_query: float = PRIOR["known_query"][0]
    decay: float = PRIOR["decay"][0]

    def __post_init__(self) -> None:
        for name in PRIOR:
            require(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")

    def weights(self, query_counts: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """`w` of queries with so many requests in the log."""
        known_weights = self.known_query * np.maximum(query_counts, 1).astype(np.float64) ** -self.decay
        return np.where(query_counts == 0, self.new_query, known_weights)


def fuse(vector: _Scores, lexical: _Scores, weight: float | _Scores) -> _Scores:
    """The fused score of candidates from their scores by both channels; `weight` is `Fusion.weights` of their query."""
    return vector + weight * lexical


@dataclass(frozen=True)
class Choices:
    """What shoppers chose among candidates, flat: candidate `c` belongs to request `request[c]`.

    `positives` are the indices of the chosen candidates; `query_counts` has one number for each request: how often the
    training log has its query.
    """

    vector: Float32[np.ndarray, " candidates"]
    lexical: Float32[np.ndarray, " candidates"]
    request: Int64[np.ndarray, " candidates"]
    positives: Int64[np.ndarray, " positives"]
    query_counts: Int64[np.ndarray, " requests"]


def learn_fusion(choices: Choices) -> Fusion:
    """The fusion that makes the positives likeliest among the candidates of their requests, given `PRIOR`.

    The likelihood is a softmax over each request's candidates with a learned temperature. The prior is normal on the
    logarithm of each number, so that little data changes little and no number reaches 0.
    """
    if len(choices.positives) == 0:
        return Fusion(new_query=WITHOUT_CHOICES)
    vector, lexical = torch.from_numpy(choices.vector).double(), torch.from_numpy(choices.lexical).double()
    request, positives = torch.from_numpy(choices.request), torch.from_numpy(choices.positives)
    counts = torch.from_numpy(choices.query_counts).double()[request]
    log_median = torch.tensor([median for median, _ in PRIOR.values()]).double().log()
    spread = torch.tensor([deviation for _, deviation in PRIOR.values()]).double()
    shifts = torch.zeros(4, dtype=torch.double, requires_grad=True)  # of the three, and of log(1/temperature) from 3

    def loss() -> Tensor:
        new_query, known_query, decay = torch.exp(log_median + shifts[:3])
        weight = torch.where(counts == 0, new_query, known_query * counts.clamp(min=1) ** -decay)
        logits = torch.exp(3 + shifts[3]) * fuse(vector, lexical, weight)
        log_losses = _log_sums(logits, request, len(choices.query_counts))[request[positives]] - logits[positives]
        return log_losses.sum() + ((shifts[:3] / spread) ** 2).sum() / 2

    minimise(shifts, loss)
    new_query, known_query, decay = torch.exp(log_median + shifts[:3]).tolist()
    return Fusion(new_query, known_query, decay)


def reciprocal_ranks(scores: Float32[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """`1 / (60 + rank)` of each score, 0 for scores of 0 or below: a channel's share in reciprocal rank fusion."""
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return np.where(scores > 0, 1 / (_RANK_CONSTANT + ranks), 0.0)


def _log_sums(logits: Tensor, request: Tensor, n_requests: int) -> Tensor:
    """The logarithm of the sum of `exp(logits)` over each request."""
    maximum = torch.full((n_requests,), -torch.inf, dtype=logits.dtype)
    maximum = maximum.scatter_reduce(0, request, logits.detach(), "amax")
    total = torch.zeros(n_requests, dtype=logits.dtype).scatter_add(0, request, torch.exp(logits - maximum[request]))
    return torch.log(total) + maximum
