"""How the two channels become one score: a sum, monotone in both, whose weight of words falls as a query is known.

    score = vector + w(n) · lexical          w(0) = new_query,   w(n) = known_query · n^−decay   for n ≥ 1

`vector` is the inner product of the fused embeddings, `lexical` the share of the query's weight that BM25 found in the
item (0 to 1), `n` how often the training log has asked the query. Three numbers, all above 0, so that more of either
score never lowers an item, and a person can read what was learned. On a query that the log never asked, words
are the surer guide; on one that it asked fifty times, the model has learned what it leads to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from mmse.core.config import require
from mmse.ranking.fit import minimise

PRIOR = {"new_query": (1.0, 0.5), "known_query": (0.5, 1.0), "decay": (1.0, 0.5)}
"""What each number is before anything was learned, and how far (one deviation of its logarithm) data may
move it: 1 for a new query did best on human judgements of queries that no log had asked."""

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

    def weights(self, asked_before: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """`w` of queries that the log has asked so many times."""
        known = self.known_query * np.maximum(asked_before, 1).astype(np.float64) ** -self.decay
        return np.where(asked_before == 0, self.new_query, known)


@dataclass(frozen=True)
class Choices:
    """What shoppers took from candidates, flat: candidate `c` belongs to request `request[c]`.

    `taken` are the places of the taken candidates; `asked_before` is of each request.
    """

    vector: Float32[np.ndarray, " candidates"]
    lexical: Float32[np.ndarray, " candidates"]
    request: Int64[np.ndarray, " candidates"]
    taken: Int64[np.ndarray, " taken"]
    asked_before: Int64[np.ndarray, " requests"]


def learn_fusion(choices: Choices) -> Fusion:
    """The fusion under which what was taken is likeliest among its request's candidates, given `PRIOR`.

    A softmax over each request's candidates with a learned temperature, and a normal prior on the logarithm of every
    number, so that little data leaves it where it was and no number reaches 0.
    """
    if len(choices.taken) == 0:
        return Fusion()
    vector, lexical = torch.from_numpy(choices.vector).double(), torch.from_numpy(choices.lexical).double()
    request, taken = torch.from_numpy(choices.request), torch.from_numpy(choices.taken)
    asked = torch.from_numpy(choices.asked_before).double()[request]
    middle = torch.tensor([m for m, _ in PRIOR.values()]).double().log()
    spread = torch.tensor([s for _, s in PRIOR.values()]).double()
    moved = torch.zeros(4, dtype=torch.double, requires_grad=True)  # the three, and the logarithm of 1/temperature / 3

    def loss() -> Tensor:
        new, known, decay = torch.exp(middle + moved[:3])
        weight = torch.where(asked == 0, new, known * asked.clamp(min=1) ** -decay)
        logits = torch.exp(3 + moved[3]) * (vector + weight * lexical)
        surprise = _log_totals(logits, request, len(choices.asked_before))[request[taken]] - logits[taken]
        return surprise.sum() + ((moved[:3] / spread) ** 2).sum() / 2

    minimise(moved, loss)
    new, known, decay = torch.exp(middle + moved[:3]).tolist()
    return Fusion(new, known, decay)


def reciprocal_ranks(scores: Float32[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """`1 / (60 + rank)` of each score, 0 for scores of 0 or below: what a channel adds in reciprocal rank fusion."""
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return np.where(scores > 0, 1 / (_RANK_CONSTANT + ranks), 0.0)


def _log_totals(logits: Tensor, group: Tensor, groups: int) -> Tensor:
    most = torch.full((groups,), -torch.inf, dtype=logits.dtype)
    most = most.scatter_reduce(0, group, logits.detach(), "amax")
    total = torch.zeros(groups, dtype=logits.dtype).scatter_add(0, group, torch.exp(logits - most[group]))
    return torch.log(total) + most
