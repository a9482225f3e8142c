"""The losses that recipes name: pure functions of scores, and of the recipe's numbers.

A batch has `requests` requests of up to `group` items each, and `negatives` distinct items, the pool, that all of them
are compared with. The two losses of MMSE, `softmax` and `pairs`, compare globally and locally (our reading; see
`docs/method.md`); the rest are its neighbours' (`recipes` says whose, and where we differ). A loss of one's own is
registered with `recipe.objective` (see `docs/recipes.md`).
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

_NEVER = -1e4  # e^-10000 is 0, and unlike -inf its gradient is 0 where all negatives are masked


@dataclass(frozen=True)
class Scored:
    """What a batch looks like to a loss.

    `own[r, j]` is the score of request r's j-th item, `stages[r, j]` the stage it counts as (0 where the group is
    padded), `weights[r, j]` the weight α of that stage, `examination[r, j]` the probability ω that it was looked at.
    `against[r, n]` is the score of the pool's n-th item for request r, `correction[n]` the log of how often it was
    drawn, less log Q(n) where the recipe corrects for it, and `reached[r, n]` takes n out of what r is compared with.
    The temperatures are numbers, or parameters where the recipe learns them.
    """

    own: Float[Tensor, "requests group"]
    stages: Int[Tensor, "requests group"]
    weights: Float[Tensor, "requests group"]
    examination: Float[Tensor, "requests group"]
    against: Float[Tensor, "requests negatives"]
    correction: Float[Tensor, " negatives"]
    reached: Bool[Tensor, "requests negatives"]
    temperature: float | Float[Tensor, ""]
    rank_temperature: float | Float[Tensor, ""]


@objective("softmax")
def softmax(scored: Scored, recipe: Recipe) -> Float[Tensor, ""]:
    """`retrieval_loss` with the recipe's temperature, and with the further negatives it asks for."""
    more = []
    if recipe.own_negatives != "none":
        more.append(own_negatives(scored, only_unclicked=recipe.own_negatives == "unclicked"))
    if recipe.hard.n:
        more.append(hard_negatives(scored, recipe.hard))
    return retrieval_loss(
        scored.own,
        scored.against,
        scored.weights,
        correction=scored.correction,
        reached=scored.reached,
        temperature=scored.temperature,
        more=torch.cat(more, dim=2) if more else None,
    )


@objective("pairs")
def pairs(scored: Scored, recipe: Recipe) -> Float[Tensor, ""]:
    """`ranking_loss` with the recipe's margin and temperature."""
    examined = scored.examination if recipe.use_examination else torch.ones_like(scored.examination)
    return ranking_loss(
        scored.own,
        scored.stages,
        examined,
        margin=recipe.rank_margin,
        temperature=scored.rank_temperature,
        lowest=Stage[recipe.rank_from.upper()],
    )


@objective("hinge")
def hinge(scored: Scored, recipe: Recipe) -> Float[Tensor, ""]:
    """Each item leads every negative by a margin: Σ_i α_{c(i)} · mean_n max(0, δ − s_i + s_n), a mean over requests.

    The mean over the pool counts an item as often as it was drawn.
    """
    request, place = scored.weights.nonzero(as_tuple=True)  # most items of a request teach nothing as positives
    lacking = F.relu(recipe.margin - scored.own[request, place].unsqueeze(1) + scored.against[request])
    mean = (lacking * _pool_share(scored)[request]).sum(dim=1)
    return (scored.weights[request, place] * mean).sum() / len(scored.own)


@objective("thresholds")
def thresholds(scored: Scored, recipe: Recipe) -> Float[Tensor, ""]:
    """Three squared hinges with fixed thresholds, as a mean over requests.

        Σ_ordered α·max(0, θ_o − s)² + Σ_shown α·max(0, s − θ_s)² + |own| · mean_n max(0, s_n − θ_r)²

    An item of the request that is not ordered is shown. |own|, how many items the request brings, lets the pool weigh
    as much as they do.
    """
    at = recipe.thresholds
    ordered = scored.stages == Stage.ORDERED
    own = torch.where(ordered, F.relu(at.ordered - scored.own), F.relu(scored.own - at.shown)).square()
    pool = (F.relu(scored.against - at.random).square() * _pool_share(scored)).sum(dim=1)
    n_own = (scored.stages > Stage.RANDOM).sum(dim=1)
    return ((scored.weights * own).sum(dim=1) + n_own * pool).mean()


@objective("multi_positive")
def multi_positive(scored: Scored, recipe: Recipe) -> Float[Tensor, ""]:
    """One softmax per stage o: what reached o, each apart, against what did not and against the pool.

        Σ_o γ_o · mean_{i: c(i) ≥ o} −log( e^{s_i/τ} / ( e^{s_i/τ} + Σ_{j: 0 < c(j) < o} e^{s_j/τ} + Σ_n … ) )

    as a mean over requests. γ_o is the recipe's weight of stage o; positives do not compete with one another.
    """
    own, pool = scored.own / scored.temperature, _pool(scored)
    loss = own.new_zeros(())
    for stage in sorted(set(recipe.read_as) - {Stage.RANDOM}):
        weight = recipe.stage_weights.by_stage[stage]
        if weight == 0:
            continue
        lower = (scored.stages > Stage.RANDOM) & (scored.stages < stage)
        total = torch.logaddexp(pool, own.masked_fill(~lower, _NEVER).logsumexp(dim=1, keepdim=True))
        positive = (scored.stages > stage) | ((scored.stages == stage) & (scored.weights > 0))
        mean = (F.softplus(total - own) * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        loss = loss + weight * mean.mean()
    return loss


def retrieval_loss(
    own: Float[Tensor, "requests group"],
    against: Float[Tensor, "requests negatives"],
    weights: Float[Tensor, "requests group"],
    *,
    correction: Float[Tensor, " negatives"],
    reached: Bool[Tensor, "requests negatives"],
    temperature: float | Float[Tensor, ""],
    more: Float[Tensor, "requests group more"] | None = None,
) -> Float[Tensor, ""]:
    """The global comparison: each item against the pool, with the weight of the stage it reached.

        L_ret = Σ_i α_{c(i)} · −log( e^{s_i/τ} / ( e^{s_i/τ} + Σ_n e^{s_n/τ − log Q(n)} ) )

    as a mean over requests. `weights` are the α_{c(i)} (0 where padded), `against` the scores s_n of the pool.
    `correction[n]` is −log Q(n), with Q(n) the expected number of times that n is drawn (plus the log of how often
    it was, since the pool holds it once); with it the sum over the pool estimates the sum over the catalogue without
    bias (Bengio and Senécal, *Adaptive Importance Sampling*, 2008; Yi et al., *Sampling-Bias-Corrected Neural
    Modeling*, RecSys 2019). `reached[r, n]` takes n out of what r is compared with. `more` are logits, already divided
    by τ, of what each item is compared with beside the pool.
    """
    negatives = (against / temperature + correction).masked_fill(reached, _NEVER)
    total = torch.logsumexp(negatives, dim=1, keepdim=True)
    if more is not None:
        total = torch.logaddexp(total, torch.logsumexp(more, dim=2))
    return (weights * F.softplus(total - own / temperature)).sum() / len(own)


def ranking_loss(
    own: Float[Tensor, "requests group"],
    stages: Int[Tensor, "requests group"],
    examination: Float[Tensor, "requests group"],
    *,
    margin: float,
    temperature: float | Float[Tensor, ""],
    lowest: Stage = Stage.UNCLICKED,
) -> Float[Tensor, ""]:
    """The local comparison: within one request, an item that got further scores higher.

        L_rank = Σ_{a,b} ω_b · softplus( (m·(ℓ(a)−ℓ(b)) − (s_a − s_b)) / τ_r ),   c(a) > c(b) ≥ lowest

    as a mean over the pairs of a request and then over requests; ℓ is `records.STAGE_LEVELS`. `examination` is ω: the
    probability that the item was looked at, so that an unexamined item is hardly evidence against itself.
    """
    higher, lower = stages.unsqueeze(2), stages.unsqueeze(1)
    paired = (higher > lower) & (lower >= lowest)
    levels = own.new_tensor(STAGE_LEVELS)[stages]
    wanted = margin * (levels.unsqueeze(2) - levels.unsqueeze(1))
    gap = own.unsqueeze(2) - own.unsqueeze(1)
    losses = F.softplus((wanted - gap) / temperature) * examination.unsqueeze(1)
    per_request = (losses * paired).sum(dim=(1, 2)) / paired.sum(dim=(1, 2)).clamp(min=1)
    return per_request.mean()


def own_negatives(scored: Scored, *, only_unclicked: bool) -> Float[Tensor, "requests group group"]:
    """Logits of the request's own items that each of them is compared with: those of strictly lower stages.

    With `only_unclicked` what was not clicked, and only for what was.
    """
    higher, lower = scored.stages.unsqueeze(2), scored.stages.unsqueeze(1)
    below = (higher > lower) & (lower > Stage.RANDOM)
    if only_unclicked:
        below &= (lower <= Stage.UNCLICKED) & (higher > Stage.UNCLICKED)
    return (scored.own / scored.temperature).unsqueeze(1).masked_fill(~below, _NEVER)


def hard_negatives(scored: Scored, hard: HardNegatives) -> Float[Tensor, "requests group more"]:
    """Logits of the pool's best items for each request, mixed with each of its own items as `hard` says.

    A score is an inner product, so the mixed item α·i + (1 − α)·n scores α·s_i + (1 − α)·s_n, and no vector is needed.
    MGDSPR draws α anew each time; here it is laid evenly over the interval, from the hardest negative on, so that a
    batch costs the same whenever and on however many processes it is looked at.
    """
    reachable = scored.against.masked_fill(scored.reached, -math.inf)
    best = reachable.topk(min(hard.n, reachable.shape[1]), dim=1).values.unsqueeze(1)
    own = scored.own.unsqueeze(2)
    kept = best > -math.inf
    if hard.guard > 0:
        kept = kept & (best <= own - (1 - hard.guard) * own.abs())
    share = torch.linspace(*hard.mix, best.shape[2], dtype=own.dtype, device=own.device)
    mixed = share * own + (1 - share) * best.masked_fill(best == -math.inf, 0.0)
    return (mixed / scored.temperature + math.log(hard.weight)).masked_fill(~kept, _NEVER)


def _pool(scored: Scored) -> Float[Tensor, "requests 1"]:
    """Log of the pool's Σ_n e^{s_n/τ} for each request."""
    logits = scored.against / scored.temperature + scored.correction
    return logits.masked_fill(scored.reached, _NEVER).logsumexp(dim=1, keepdim=True)


def _pool_share(scored: Scored) -> Float[Tensor, "requests negatives"]:
    """Each pool item's share in a mean over a request's negatives; all 0 where every one is masked."""
    drawn = scored.correction.exp().masked_fill(scored.reached, 0.0)
    return drawn / drawn.sum(dim=1, keepdim=True).clamp(min=1e-12)
