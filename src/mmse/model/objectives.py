"""The losses that recipes name: pure functions of scores and of the recipe's numbers.

A batch has `requests` requests of up to `group` items each, and a pool of `negatives` distinct items that every request
is compared with. The two losses of MMSE are `softmax`, the global comparison, and `pairs`, the local one (our reading;
see `docs/method.md`). The others come from other papers; `recipes` names them and says where we differ. Register a loss
of your own with `recipe.objective` (see `docs/recipes.md`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmse.model.recipe import HardNegatives, Recipe, objective
from mmse.schema.stages import STAGE_LEVELS, Stage

_MASK_LOGIT = -1e4  # e^-10000 is 0, and unlike -inf its gradient is 0 where all negatives are masked


@dataclass(frozen=True)
class BatchScores:
    """All that a loss reads of a batch.

    `own_scores[r, j]` is the score of request r's j-th item, `stages[r, j]` the stage it counts as (0 in padding),
    `weights[r, j]` the weight α of that stage, `examination[r, j]` the probability ω that it was looked at.
    `pool_scores[r, n]` is the score of the pool's n-th item for request r, `correction[n]` the log of how often that
    item was drawn, minus log Q(n) where the recipe corrects for it. Where `exclusions[r, n]` is true, request r is not
    compared with item n. The temperatures are numbers, or parameters where the recipe learns them.
    """

    own_scores: Float[Tensor, "requests group"]
    stages: Int[Tensor, "requests group"]
    weights: Float[Tensor, "requests group"]
    examination: Float[Tensor, "requests group"]
    pool_scores: Float[Tensor, "requests negatives"]
    correction: Float[Tensor, " negatives"]
    exclusions: Bool[Tensor, "requests negatives"]
    temperature: float | Float[Tensor, ""]
    rank_temperature: float | Float[Tensor, ""]


@objective("softmax")
def softmax(scores: BatchScores, recipe: Recipe) -> Float[Tensor, ""]:
    """`retrieval_loss` with the recipe's temperature and with the further negatives that the recipe asks for."""
    extra_logits = []
    if recipe.own_negatives != "none":
        extra_logits.append(own_negatives(scores, only_unclicked=recipe.own_negatives == "unclicked"))
    if recipe.hard.n:
        extra_logits.append(hard_negatives(scores, recipe.hard))
    return retrieval_loss(
        scores.own_scores,
        scores.pool_scores,
        scores.weights,
        correction=scores.correction,
        exclusions=scores.exclusions,
        temperature=scores.temperature,
        extra_logits=torch.cat(extra_logits, dim=2) if extra_logits else None,
    )


@objective("pairs")
def pairs(scores: BatchScores, recipe: Recipe) -> Float[Tensor, ""]:
    """`ranking_loss` with the recipe's margin and temperature, each request with the weight of its positives."""
    examination = scores.examination if recipe.use_examination else torch.ones_like(scores.examination)
    return ranking_loss(
        scores.own_scores,
        scores.stages,
        scores.weights,
        examination,
        margin=recipe.rank_margin,
        temperature=scores.rank_temperature,
        lowest=Stage[recipe.rank_from.upper()],
    )


@objective("hinge")
def hinge(scores: BatchScores, recipe: Recipe) -> Float[Tensor, ""]:
    """Each item leads every negative by a margin: Σ_i α_{c(i)} · mean_n max(0, δ − s_i + s_n), a mean over requests.

    The mean over the pool counts an item once for each time it was drawn.
    """
    request, slot = scores.weights.nonzero(as_tuple=True)  # few items of a request are positives
    violations = F.relu(recipe.margin - scores.own_scores[request, slot].unsqueeze(1) + scores.pool_scores[request])
    mean = (violations * _pool_share(scores)[request]).sum(dim=1)
    return (scores.weights[request, slot] * mean).sum() / len(scores.own_scores)


@objective("thresholds")
def thresholds(scores: BatchScores, recipe: Recipe) -> Float[Tensor, ""]:
    """Three squared hinges with fixed thresholds, as a mean over requests.

        Σ_ordered α·max(0, θ_o − s)² + Σ_shown α·max(0, s − θ_s)² + |own| · mean_n max(0, s_n − θ_r)²

    Every item of the request that was not ordered counts as shown. |own| is the number of items of the request: with
    this factor the pool weighs as much as they do.
    """
    limits = recipe.thresholds
    ordered = scores.stages == Stage.ORDERED
    own = torch.where(
        ordered, F.relu(limits.ordered - scores.own_scores), F.relu(scores.own_scores - limits.shown)
    ).square()
    pool = (F.relu(scores.pool_scores - limits.random).square() * _pool_share(scores)).sum(dim=1)
    n_own = (scores.stages > Stage.RANDOM).sum(dim=1)
    return ((scores.weights * own).sum(dim=1) + n_own * pool).mean()


@objective("multi_positive")
def multi_positive(scores: BatchScores, recipe: Recipe) -> Float[Tensor, ""]:
    """One softmax per stage o: each item that reached o, by itself, against those that did not and the pool.

        Σ_o γ_o · mean_{i: c(i) ≥ o} −log( e^{s_i/τ} / ( e^{s_i/τ} + Σ_{j: 0 < c(j) < o} e^{s_j/τ} + Σ_n … ) )

    as a mean over requests. γ_o is the recipe's weight of stage o. Positives do not compete with one another.
    """
    own, pool = scores.own_scores / scores.temperature, _pool_logit(scores)
    loss = own.new_zeros(())
    for stage in sorted(set(recipe.stage_map) - {Stage.RANDOM}):
        weight = recipe.stage_weights.by_stage[stage]
        if weight == 0:
            continue
        lower = (scores.stages > Stage.RANDOM) & (scores.stages < stage)
        total = torch.logaddexp(pool, own.masked_fill(~lower, _MASK_LOGIT).logsumexp(dim=1, keepdim=True))
        positive = (scores.stages > stage) | ((scores.stages == stage) & (scores.weights > 0))
        mean = (F.softplus(total - own) * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        loss = loss + weight * mean.mean()
    return loss


def retrieval_loss(
    own_scores: Float[Tensor, "requests group"],
    pool_scores: Float[Tensor, "requests negatives"],
    weights: Float[Tensor, "requests group"],
    *,
    correction: Float[Tensor, " negatives"],
    exclusions: Bool[Tensor, "requests negatives"],
    temperature: float | Float[Tensor, ""],
    extra_logits: Float[Tensor, "requests group more"] | None = None,
) -> Float[Tensor, ""]:
    """The global comparison: each item against the pool, with the weight of the stage it reached.

        L_ret = Σ_i α_{c(i)} · −log( e^{s_i/τ} / ( e^{s_i/τ} + Σ_n e^{s_n/τ − log Q(n)} ) )

    as a mean over requests. `weights` are the α_{c(i)} (0 in padding), `pool_scores` the scores s_n of the pool.
    `correction[n]` is −log Q(n), where Q(n) is the expected number of times that n is drawn, plus the log of how often
    it was drawn, since the pool holds it once. With it the sum over the pool is an unbiased estimate of the sum over
    the catalogue (Bengio and Senécal, *Adaptive Importance Sampling*, 2008; Yi et al., *Sampling-Bias-Corrected Neural
    Modeling*, RecSys 2019). Where `exclusions[r, n]` is true, r is not compared with n. `extra_logits`, already divided
    by τ, are of further negatives of each item.
    """
    negatives = (pool_scores / temperature + correction).masked_fill(exclusions, _MASK_LOGIT)
    total = torch.logsumexp(negatives, dim=1, keepdim=True)
    if extra_logits is not None:
        total = torch.logaddexp(total, torch.logsumexp(extra_logits, dim=2))
    return (weights * F.softplus(total - own_scores / temperature)).sum() / len(own_scores)


def ranking_loss(
    own_scores: Float[Tensor, "requests group"],
    stages: Int[Tensor, "requests group"],
    weights: Float[Tensor, "requests group"],
    examination: Float[Tensor, "requests group"],
    *,
    margin: float,
    temperature: float | Float[Tensor, ""],
    lowest: Stage = Stage.UNCLICKED,
) -> Float[Tensor, ""]:
    """The local comparison: within one request, an item that got further scores higher.

        L_rank = A · mean_{a,b} ω_b · softplus( (m·(ℓ(a)−ℓ(b)) − (s_a − s_b)) / τ_r ),   c(a) > c(b) ≥ lowest

    as a mean over requests; ℓ is `stages.STAGE_LEVELS`. A, the sum of the request's α (`weights`) and at least 1, makes
    it count as much as in `retrieval_loss`, so that λ means the same whatever the weights are. `examination` is ω, the
    probability that the item was looked at: an item that nobody saw is little evidence against itself.
    """
    higher, lower = stages.unsqueeze(2), stages.unsqueeze(1)
    is_pair = (higher > lower) & (lower >= lowest)
    levels = own_scores.new_tensor(STAGE_LEVELS)[stages]
    target_gap = margin * (levels.unsqueeze(2) - levels.unsqueeze(1))
    gap = own_scores.unsqueeze(2) - own_scores.unsqueeze(1)
    losses = F.softplus((target_gap - gap) / temperature) * examination.unsqueeze(1)
    per_request = (losses * is_pair).sum(dim=(1, 2)) / is_pair.sum(dim=(1, 2)).clamp(min=1)
    return (weights.sum(dim=1).clamp(min=1.0) * per_request).mean()


def own_negatives(scores: BatchScores, *, only_unclicked: bool) -> Float[Tensor, "requests group group"]:
    """Logits of the items of the same request that each item is compared with: those of strictly lower stages.

    With `only_unclicked`, clicked items are compared with items that were not clicked, and no others.
    """
    higher, lower = scores.stages.unsqueeze(2), scores.stages.unsqueeze(1)
    is_negative = (higher > lower) & (lower > Stage.RANDOM)
    if only_unclicked:
        is_negative &= (lower <= Stage.UNCLICKED) & (higher > Stage.UNCLICKED)
    return (scores.own_scores / scores.temperature).unsqueeze(1).masked_fill(~is_negative, _MASK_LOGIT)


def hard_negatives(scores: BatchScores, hard: HardNegatives) -> Float[Tensor, "requests group more"]:
    """Logits of the pool's best items for each request, mixed with each of its own items as `hard` says.

    A score is an inner product, so the mixed item α·i + (1 − α)·n scores α·s_i + (1 − α)·s_n, and no vector is needed.
    MGDSPR draws α at random each time. Here α is spread evenly over its interval, in order of hardness, so that a batch
    has the same loss at any time and on any number of processes.
    """
    reachable = scores.pool_scores.masked_fill(scores.exclusions, -math.inf)
    best = reachable.topk(min(hard.n, reachable.shape[1]), dim=1).values.unsqueeze(1)
    own = scores.own_scores.unsqueeze(2)
    usable = best > -math.inf
    if hard.guard > 0:
        usable = usable & (best <= own - (1 - hard.guard) * own.abs())
    share = torch.linspace(*hard.mix, best.shape[2], dtype=own.dtype, device=own.device)
    mixture = share * own + (1 - share) * best.masked_fill(best == -math.inf, 0.0)
    return (mixture / scores.temperature + math.log(hard.weight)).masked_fill(~usable, _MASK_LOGIT)


def _pool_logit(scores: BatchScores) -> Float[Tensor, "requests 1"]:
    """Log of the pool's Σ_n e^{s_n/τ} for each request."""
    logits = scores.pool_scores / scores.temperature + scores.correction
    return logits.masked_fill(scores.exclusions, _MASK_LOGIT).logsumexp(dim=1, keepdim=True)


def _pool_share(scores: BatchScores) -> Float[Tensor, "requests negatives"]:
    """Each pool item's share in a mean over a request's negatives; all 0 where all of them are excluded."""
    copies = scores.correction.exp().masked_fill(scores.exclusions, 0.0)
    return copies / copies.sum(dim=1, keepdim=True).clamp(min=1e-12)
