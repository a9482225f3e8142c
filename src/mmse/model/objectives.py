"""The two losses of MMSE: one compares globally, one locally (our reading; see `docs/method.md`).

Both are pure functions of scores. A batch has `requests` requests of up to `group` items each, and `negatives`
distinct items that all of them are compared with. `own[r, j]` is the score of request r's j-th item, `stages[r, j]`
the stage it reached (0 where the group is padded).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

_NEVER = -1e4  # e^-10000 is 0, and unlike -inf its gradient is 0 where all negatives are masked


def retrieval_loss(
    own: Float[Tensor, "requests group"],
    against: Float[Tensor, "requests negatives"],
    weights: Float[Tensor, "requests group"],
    *,
    correction: Float[Tensor, " negatives"],
    reached: Bool[Tensor, "requests negatives"],
    temperature: float,
) -> Float[Tensor, ""]:
    """The global comparison: each item against the pool, with the weight of the stage it reached.

        L_ret = Σ_i α_{c(i)} · −log( e^{s_i/τ} / ( e^{s_i/τ} + Σ_n e^{s_n/τ − log Q(n)} ) )

    as a mean over requests. `weights` are the α_{c(i)} (0 where padded), `against` the scores s_n of the pool.
    `correction[n]` is −log Q(n), with Q(n) the expected number of times that n is drawn (plus the log of how often
    it was, since the pool holds it once); with it the sum over the pool estimates the sum over the catalogue without
    bias (Bengio and Senécal, *Adaptive Importance Sampling*, 2008; Yi et al., *Sampling-Bias-Corrected Neural
    Modeling*, RecSys 2019). `reached[r, n]` takes n out of what r is compared with.
    """
    negatives = (against / temperature + correction).masked_fill(reached, _NEVER)
    total = torch.logsumexp(negatives, dim=1, keepdim=True)
    return (weights * F.softplus(total - own / temperature)).sum() / len(own)


def ranking_loss(
    own: Float[Tensor, "requests group"],
    stages: Int[Tensor, "requests group"],
    examination: Float[Tensor, "requests group"],
    *,
    margin: float,
    temperature: float,
) -> Float[Tensor, ""]:
    """The local comparison: within one request, an item that got further scores higher.

        L_rank = Σ_{a,b} ω_b · softplus( (m·(c(a)−c(b)) − (s_a − s_b)) / τ_r ),   c(a) > c(b) ≥ 1

    as a mean over the pairs of a request and then over requests. `examination` is ω: the probability that the
    item was looked at, so that an unexamined item is hardly evidence against itself.
    """
    higher, lower = stages.unsqueeze(2), stages.unsqueeze(1)
    pairs = (higher > lower) & (lower >= 1)
    gap = own.unsqueeze(2) - own.unsqueeze(1)
    losses = F.softplus((margin * (higher - lower) - gap) / temperature) * examination.unsqueeze(1)
    per_request = (losses * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)
    return per_request.mean()
