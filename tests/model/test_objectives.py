"""Each loss against a slow loop written from its formula, small values by hand, and its gradients in double."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmse.model.objectives import BatchScores, hard_negatives, own_negatives, ranking_loss, retrieval_loss
from mmse.model.recipe import StageName
from mmse.model.recipes import OBJECTIVES, HardNegatives, Recipe, StageWeights
from mmse.schema.stages import STAGE_LEVELS, Stage

WEIGHTS = StageWeights(retrieved=0.0, unclicked=0.1, clicked=1.0, carted=3.0, ordered=7.0)
EVERY: tuple[StageName, ...] = ("retrieved", "unclicked", "clicked", "carted", "ordered")


def make_batch(seed: int, requests: int = 3, group: int = 4, pool: int = 6, temperature: float = 0.5) -> BatchScores:
    """A batch of random scores, in double; every request has something of every kind by chance."""
    random = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    stages = torch.randint(0, len(Stage), (requests, group), generator=random)
    return BatchScores(
        own_scores=drawn(requests, group) * 2 - 1,
        stages=stages,
        weights=torch.tensor(WEIGHTS.by_stage, dtype=torch.float64)[stages],
        examination=drawn(requests, group),
        pool_scores=drawn(requests, pool) * 2 - 1,
        correction=drawn(pool) * 2 - 1,
        exclusions=drawn(requests, pool) < 0.3,
        temperature=temperature,
        rank_temperature=0.2,
    )


def by_hand(
    own: list[float], stages: list[Stage], against: list[float], weights: StageWeights = WEIGHTS
) -> BatchScores:
    """One request, every item looked at, every pool item drawn once and none masked."""
    return BatchScores(
        own_scores=torch.tensor([own]),
        stages=torch.tensor([[int(stage) for stage in stages]]),
        weights=torch.tensor([[weights.by_stage[stage] for stage in stages]]),
        examination=torch.ones(1, len(own)),
        pool_scores=torch.tensor([against]),
        correction=torch.zeros(len(against)),
        exclusions=torch.zeros(1, len(against), dtype=torch.bool),
        temperature=1.0,
        rank_temperature=1.0,
    )


def costs(recipe: Recipe, batch: BatchScores) -> float:
    return OBJECTIVES[recipe.retrieval](batch, recipe).item()


def slow_retrieval(batch: BatchScores, further_negatives: Callable[[int, int], list[float]] = lambda r, j: []) -> float:
    """Softmax by loops; `also(r, j)` are scores that request r's j-th item is compared with beside the pool."""
    tau, total = float(batch.temperature), 0.0
    for r in range(len(batch.own_scores)):
        pool = sum(
            math.exp(batch.pool_scores[r, n].item() / tau + batch.correction[n].item())
            for n in range(batch.pool_scores.shape[1])
            if not batch.exclusions[r, n]
        )
        for j in range(batch.own_scores.shape[1]):
            negatives = pool + sum(math.exp(score / tau) for score in further_negatives(r, j))
            positive = math.exp(batch.own_scores[r, j].item() / tau)
            total += batch.weights[r, j].item() * -math.log(positive / (positive + negatives))
    return total / len(batch.own_scores)


def slow_ranking(batch: BatchScores, margin: float, tau: float, lowest: Stage) -> float:
    scores, stages, total = batch.own_scores, batch.stages, 0.0
    for r in range(len(scores)):
        losses = []
        for a in range(scores.shape[1]):
            for b in range(scores.shape[1]):
                if stages[r, a] > stages[r, b] >= lowest:
                    gap = (scores[r, a] - scores[r, b]).item()
                    target_gap = margin * (STAGE_LEVELS[stages[r, a]] - STAGE_LEVELS[stages[r, b]])
                    losses.append(batch.examination[r, b].item() * math.log1p(math.exp((target_gap - gap) / tau)))
        total += max(batch.weights[r].sum().item(), 1.0) * sum(losses) / len(losses) if losses else 0.0
    return total / len(scores)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5), st.integers(3, 12), st.sampled_from([1, 2]))
def test_the_losses_are_what_the_formulas_say(seed: int, requests: int, group: int, pool: int, lowest: int) -> None:
    batch = make_batch(seed, requests, group, pool, temperature=0.3)
    assert costs(Recipe(), batch) == pytest.approx(slow_retrieval(batch))
    fast = ranking_loss(
        batch.own_scores,
        batch.stages,
        batch.weights,
        batch.examination,
        margin=0.1,
        temperature=0.2,
        lowest=Stage(lowest),
    )
    assert fast.item() == pytest.approx(slow_ranking(batch, 0.1, 0.2, Stage(lowest)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_own_negatives_are_what_the_formula_says(seed: int) -> None:
    batch = make_batch(seed, group=6)

    def lower(r: int, j: int) -> list[float]:
        return [
            batch.own_scores[r, b].item() for b in range(6) if Stage.RANDOM < batch.stages[r, b] < batch.stages[r, j]
        ]

    def unclicked(r: int, j: int) -> list[float]:
        plain = (Stage.RETRIEVED, Stage.UNCLICKED)
        negatives = [batch.own_scores[r, b].item() for b in range(6) if batch.stages[r, b] in plain]
        return negatives if batch.stages[r, j] >= Stage.CLICKED else []

    assert costs(Recipe(own_negatives="lower"), batch) == pytest.approx(slow_retrieval(batch, lower))
    assert costs(Recipe(own_negatives="unclicked"), batch) == pytest.approx(slow_retrieval(batch, unclicked))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_hard_negatives_are_what_the_formula_says(seed: int, n: int, guard: float) -> None:
    """The best n of what is not masked, moved towards the positive by shares from 0.2 (the hardest) to 0.6."""
    batch, low, high = make_batch(seed), 0.2, 0.6
    recipe = Recipe(hard=HardNegatives(n=n, weight=3.0, guard=guard, mix=(low, high)))

    def mixed(r: int, j: int) -> list[float]:
        score, n_hard = batch.own_scores[r, j].item(), min(n, batch.pool_scores.shape[1])
        best = sorted(
            (
                s
                for s, is_excluded in zip(batch.pool_scores[r].tolist(), batch.exclusions[r], strict=True)
                if not is_excluded
            )
        )[::-1]
        logits = []
        for i, hardest in enumerate(best[:n_hard]):
            if guard == 0 or hardest <= score - (1 - guard) * abs(score):
                share = low + (high - low) * i / max(n_hard - 1, 1)
                logits += [share * score + (1 - share) * hardest] * 3
        return logits

    assert costs(recipe, batch) == pytest.approx(slow_retrieval(batch, mixed))


def test_a_mixed_negative_scores_as_its_mixed_vector_does() -> None:
    """MGDSPR mixes vectors; its score is that of the mixed scores, since a score is an inner product."""
    query, positive, negative = torch.randn(3, 8, dtype=torch.float64)
    batch = replace(
        make_batch(0, requests=1, group=1, pool=1),
        own_scores=(query @ positive).reshape(1, 1),
        temperature=1.0,
        pool_scores=(query @ negative).reshape(1, 1),
        exclusions=torch.zeros(1, 1, dtype=torch.bool),
    )
    logits = hard_negatives(batch, HardNegatives(n=1, guard=0.0, mix=(0.4, 0.6)))
    assert logits.item() == pytest.approx((query @ (0.4 * positive + 0.6 * negative)).item())


def test_the_guard_leaves_out_what_may_be_as_good() -> None:
    """Of scores 0.78, 0.7 and 0.1 the first is above 95% of the positive's 0.8; of a positive at −0.1 none is below."""
    batch = by_hand([0.8, -0.1], [Stage.CLICKED, Stage.CLICKED], [0.78, 0.1, 0.7])
    is_used = hard_negatives(batch, HardNegatives(n=2)) > -100
    assert is_used.tolist() == [[[False, True], [False, False]]]
    negative_batch = by_hand([-0.1], [Stage.CLICKED], [-0.102, -0.2])
    assert (hard_negatives(negative_batch, HardNegatives(n=2)) > -100).tolist() == [[[False, True]]]


def test_softmax_by_hand() -> None:
    """Scores 0, one negative at 0: an order costs 7·log 2. With its unclicked neighbour as a negative, 7·log 3."""
    batch = by_hand([0.0, 0.0], [Stage.ORDERED, Stage.UNCLICKED], [0.0], StageWeights())
    assert costs(Recipe(), batch) == pytest.approx(7 * math.log(2))
    assert costs(Recipe(own_negatives="lower"), batch) == pytest.approx(7 * math.log(3))
    assert costs(Recipe(own_negatives="unclicked"), batch) == pytest.approx(7 * math.log(3))
    hard = Recipe(hard=HardNegatives(n=5, weight=2.0, guard=0.0))
    assert costs(hard, batch) == pytest.approx(7 * math.log(1 + 1 + 2))


def test_hinge_by_hand() -> None:
    """δ 0.1: a click at 0.5 lacks 0 of 0.3, 0.05 of 0.45 and 0.2 of 0.6; drawn 1, 2 and 1 times that is 0.075."""
    batch = by_hand([0.5], [Stage.CLICKED], [0.3, 0.45, 0.6])
    batch = replace(batch, correction=torch.tensor([1.0, 2.0, 1.0]).log())
    recipe = Recipe(retrieval="hinge", margin=0.1)
    assert costs(recipe, batch) == pytest.approx((0 + 2 * 0.05 + 0.2) / 4)
    masked_batch = replace(batch, exclusions=torch.tensor([[False, False, True]]))
    assert costs(recipe, masked_batch) == pytest.approx(2 * 0.05 / 3)
    assert costs(recipe, replace(batch, exclusions=torch.ones(1, 3, dtype=torch.bool))) == 0


def test_the_three_part_hinge_by_hand() -> None:
    """Ordered at 0.7 lacks 0.2, shown at 0.65 is 0.1 above, shown at 0.1 costs nothing; pool at 0.3 is 0.1 above."""
    weights = StageWeights(unclicked=1.0, clicked=1.0, carted=1.0, ordered=1.0)
    stages = [Stage.ORDERED, Stage.UNCLICKED, Stage.UNCLICKED, Stage.RANDOM]
    batch = by_hand([0.7, 0.65, 0.1, 0.9], stages, [0.3, 0.0], weights)
    loss = 0.2**2 + 0.1**2 + 3 * (0.1**2 + 0) / 2  # three items of its own, so the pool's mean counts thrice
    assert costs(Recipe(retrieval="thresholds"), batch) == pytest.approx(loss)


def test_multi_positive_by_hand() -> None:
    """All scores 0, one random item. Shown: both items against the pool, log 2. Clicked, ordered: against the pool and
    the unclicked one, log 3.
    """
    weights = StageWeights(unclicked=0.5, clicked=1.0, carted=0.0, ordered=2.0)
    recipe = Recipe(retrieval="multi_positive", reads=("unclicked", "clicked", "ordered"), stage_weights=weights)
    batch = by_hand([0.0, 0.0, 0.0], [Stage.ORDERED, Stage.UNCLICKED, Stage.RANDOM], [0.0], weights)
    assert costs(recipe, batch) == pytest.approx(0.5 * math.log(2) + 1.0 * math.log(3) + 2.0 * math.log(3))
    explored = replace(batch, weights=torch.tensor([[2.0, 0.0, 0.0]]))  # nobody chose to show the unclicked one
    explored = replace(explored, own_scores=torch.tensor([[0.0, -9.0, 0.0]]))
    low = math.log(2 + math.exp(-9))
    assert costs(recipe, explored) == pytest.approx(0.5 * math.log(2) + 1.0 * low + 2.0 * low)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_multi_positive_is_what_the_formula_says(seed: int) -> None:
    batch, tau, total = make_batch(seed), 0.5, 0.0
    recipe = Recipe(retrieval="multi_positive", reads=EVERY, stage_weights=WEIGHTS)
    for r in range(3):
        pool = sum(
            math.exp(batch.pool_scores[r, n].item() / tau + batch.correction[n].item())
            for n in range(6)
            if not batch.exclusions[r, n]
        )
        items = list(
            zip(batch.own_scores[r].tolist(), batch.stages[r].tolist(), batch.weights[r].tolist(), strict=True)
        )
        for stage in sorted(set(recipe.stage_map) - {Stage.RANDOM}):
            lower = sum(math.exp(score / tau) for score, level, _ in items if 0 < level < stage)
            reached = [score for score, level, weight in items if level > stage or (level == stage and weight > 0)]
            losses = [math.log(1 + (pool + lower) / math.exp(score / tau)) for score in reached]
            total += WEIGHTS.by_stage[stage] * sum(losses) / max(len(losses), 1)
    assert costs(recipe, batch) == pytest.approx(total / 3)


def test_logq_takes_from_what_is_drawn_often() -> None:
    """Two negatives drawn once each, a where 8 were expected and b where 1 was: they weigh 1/8 and 1.

    All scores are 0, so the loss is −log(1 / (1 + 1/8 + 1)). With the sign reversed it would be −log(1 / (1 + 8 + 1)).
    """
    expected_copies = torch.tensor([8.0, 1.0])
    loss = retrieval_loss(
        torch.zeros(1, 1),
        torch.zeros(1, 2),
        torch.ones(1, 1),
        correction=-expected_copies.log(),
        exclusions=torch.zeros(1, 2, dtype=torch.bool),
        temperature=1.0,
    )
    assert loss.item() == pytest.approx(math.log(1 + 1 / 8 + 1))


@pytest.mark.parametrize("retrieval", ["softmax", "hinge", "thresholds", "multi_positive"])
def test_a_request_whose_every_negative_is_masked_has_a_finite_gradient(retrieval: str) -> None:
    batch = by_hand([0.0, 0.0], [Stage.ORDERED, Stage.CLICKED], [0.0, 0.0])
    own, against = batch.own_scores.requires_grad_(), batch.pool_scores.requires_grad_()
    batch = replace(batch, own_scores=own, pool_scores=against, exclusions=torch.ones(1, 2, dtype=torch.bool))
    recipe = Recipe(retrieval=retrieval)
    if retrieval == "softmax":
        recipe = replace(recipe, hard=HardNegatives(n=1), own_negatives="lower")
    torch.autograd.backward(OBJECTIVES[retrieval](batch, recipe))
    for gradient in (own.grad, against.grad):
        assert gradient is not None
        assert torch.isfinite(gradient).all()
    assert costs(Recipe(), batch) == 0


def test_an_unexamined_item_is_no_evidence() -> None:
    scores, stages = torch.tensor([[0.2, 0.5]]), torch.tensor([[Stage.CLICKED, Stage.UNCLICKED]])
    weights = torch.tensor([[1.0, 0.0]])
    assert ranking_loss(scores, stages, weights, torch.tensor([[1.0, 0.0]]), margin=0.1, temperature=0.1) == 0
    assert ranking_loss(scores, stages, weights, torch.tensor([[1.0, 1.0]]), margin=0.1, temperature=0.1) > 3
    batch = replace(by_hand([0.2, 0.5], [Stage.CLICKED, Stage.UNCLICKED], [0.0]), examination=torch.zeros(1, 2))
    assert OBJECTIVES["pairs"](batch, Recipe()) == 0
    assert OBJECTIVES["pairs"](batch, Recipe(use_examination=False)) > 0


def test_what_was_retrieved_only_is_in_pairs_where_the_recipe_says_so() -> None:
    batch = by_hand([0.2, 0.5], [Stage.UNCLICKED, Stage.RETRIEVED], [0.0])
    assert OBJECTIVES["pairs"](batch, Recipe()) == 0
    assert OBJECTIVES["pairs"](batch, Recipe(reads=EVERY, rank_from="retrieved")) > 0


def test_the_margin_goes_by_levels() -> None:
    """From clicked to ordered is 1 whether or not there are carts between, from clicked to carted 0.5."""
    for higher, steps in ((Stage.ORDERED, 1.0), (Stage.CARTED, 0.5)):
        loss = ranking_loss(
            torch.zeros(1, 2),
            torch.tensor([[higher, Stage.CLICKED]]),
            torch.zeros(1, 2),
            torch.ones(1, 2),
            margin=2.0,
            temperature=1.0,
        )
        assert loss.item() == pytest.approx(math.log1p(math.exp(2.0 * steps)))


def test_own_negatives_of_equal_stages_do_not_compete() -> None:
    logits = own_negatives(
        by_hand([0.1, 0.2, 0.3], [Stage.CLICKED, Stage.CLICKED, Stage.UNCLICKED], [0.0]), only_unclicked=False
    )
    assert (logits[0] > -100).tolist() == [[False, False, True], [False, False, True], [False, False, False]]


GRADIENTS = {
    "softmax": Recipe(),
    "softmax with own negatives": Recipe(own_negatives="lower"),
    "softmax with unclicked negatives": Recipe(own_negatives="unclicked"),
    "softmax with hard negatives": Recipe(hard=HardNegatives(n=3, weight=2.0)),
    "softmax with mixed negatives": Recipe(own_negatives="lower", hard=HardNegatives(n=9, guard=0.0, mix=(0.3, 0.7))),
    "pairs": Recipe(retrieval="pairs", reads=EVERY, rank_from="retrieved"),
    "pairs without a margin": Recipe(retrieval="pairs", rank_margin=0.0, use_examination=False),
    "hinge": Recipe(retrieval="hinge", margin=0.3),
    "thresholds": Recipe(retrieval="thresholds"),
    "multi_positive": Recipe(retrieval="multi_positive", reads=EVERY, stage_weights=WEIGHTS),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    """Of scores and of both temperatures, in double, against finite differences."""
    recipe, batch = GRADIENTS[name], make_batch(7, group=5)

    def loss(own: Tensor, against: Tensor, tau: Tensor, rank_tau: Tensor) -> Tensor:
        at = replace(batch, own_scores=own, pool_scores=against, temperature=tau, rank_temperature=rank_tau)
        return OBJECTIVES[recipe.retrieval](at, recipe)

    tau = torch.tensor(0.4, dtype=torch.float64)
    inputs = [batch.own_scores.clone(), batch.pool_scores.clone(), tau, tau / 2]
    assert torch.autograd.gradcheck(loss, [tensor.requires_grad_() for tensor in inputs])


def test_every_built_in_loss_has_its_gradient_checked() -> None:
    built_in = {name for name, loss in OBJECTIVES.items() if loss.__module__.startswith("mmse.")}
    assert built_in == {recipe.retrieval for recipe in GRADIENTS.values()}
