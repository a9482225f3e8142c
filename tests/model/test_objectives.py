"""Each loss against a slow loop written from its formula, and the sign of logQ by a case worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmse.model.objectives import ranking_loss, retrieval_loss


def slow_retrieval(
    own: Tensor, against: Tensor, weights: Tensor, correction: Tensor, reached: Tensor, tau: float
) -> float:
    total = 0.0
    for r in range(len(own)):
        negatives = 0.0
        for n in range(against.shape[1]):
            if not reached[r, n]:
                negatives += math.exp(against[r, n].item() / tau + correction[n].item())
        for j in range(own.shape[1]):
            wanted = math.exp(own[r, j].item() / tau)
            total += weights[r, j].item() * -math.log(wanted / (wanted + negatives))
    return total / len(own)


def slow_ranking(scores: Tensor, stages: Tensor, examination: Tensor, margin: float, tau: float) -> float:
    total = 0.0
    for r in range(len(scores)):
        losses = []
        for a in range(scores.shape[1]):
            for b in range(scores.shape[1]):
                if stages[r, a] > stages[r, b] >= 1:
                    gap = (scores[r, a] - scores[r, b]).item()
                    wanted = margin * (stages[r, a] - stages[r, b]).item()
                    losses.append(examination[r, b].item() * math.log1p(math.exp((wanted - gap) / tau)))
        total += sum(losses) / len(losses) if losses else 0.0
    return total / len(scores)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), requests=st.integers(1, 5), pool=st.integers(3, 12), group=st.integers(1, 5))
def test_the_losses_are_what_the_formulas_say(seed: int, requests: int, pool: int, group: int) -> None:
    random = torch.Generator().manual_seed(seed)
    scores = torch.rand(requests, pool, generator=random, dtype=torch.float64) * 2 - 1
    own = torch.rand(requests, group, generator=random, dtype=torch.float64) * 2 - 1
    stages = torch.randint(0, 4, (requests, group), generator=random)
    examination = torch.rand(requests, group, generator=random, dtype=torch.float64)
    correction = torch.randn(pool, generator=random, dtype=torch.float64)
    reached = torch.rand(requests, pool, generator=random) < 0.3
    weights = torch.tensor([0.0, 0.1, 1.0, 7.0], dtype=torch.float64)[stages]
    fast = retrieval_loss(own, scores, weights, correction=correction, reached=reached, temperature=0.3)
    assert fast.item() == pytest.approx(slow_retrieval(own, scores, weights, correction, reached, 0.3))
    fast = ranking_loss(own, stages, examination, margin=0.1, temperature=0.2)
    assert fast.item() == pytest.approx(slow_ranking(own, stages, examination, 0.1, 0.2))


def test_logq_takes_from_what_is_drawn_often() -> None:
    """Two negatives drawn once each, a where 8 were expected and b where 1 was: they weigh 1/8 and 1.

    All scores are 0, so the loss is −log(1 / (1 + 1/8 + 1)). With the sign reversed it would be −log(1 / (1 + 8 + 1)).
    """
    expected = torch.tensor([8.0, 1.0])
    loss = retrieval_loss(
        torch.zeros(1, 1), torch.zeros(1, 2), torch.ones(1, 1), correction=-expected.log(),
        reached=torch.zeros(1, 2, dtype=torch.bool), temperature=1.0,
    )  # fmt: skip
    assert loss.item() == pytest.approx(math.log(1 + 1 / 8 + 1))


def test_a_request_whose_every_negative_is_masked_costs_nothing_and_has_a_gradient() -> None:
    own, against = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    loss = retrieval_loss(
        own, against, torch.ones(1, 1), correction=torch.zeros(2), reached=torch.ones(1, 2, dtype=torch.bool),
        temperature=0.1,
    )  # fmt: skip
    torch.autograd.backward(loss)
    assert loss.item() == 0
    for gradient in (own.grad, against.grad):
        assert gradient is not None
        assert torch.isfinite(gradient).all()


def test_an_unexamined_item_is_no_evidence() -> None:
    scores, stages = torch.tensor([[0.2, 0.5]]), torch.tensor([[2, 1]])
    assert ranking_loss(scores, stages, torch.tensor([[1.0, 0.0]]), margin=0.1, temperature=0.1) == 0
    assert ranking_loss(scores, stages, torch.tensor([[1.0, 1.0]]), margin=0.1, temperature=0.1) > 3


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_gradients_of_both_losses(margin: float) -> None:
    own = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    against = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    stages = torch.randint(0, 4, (3, 4))
    examination = torch.rand(3, 4, dtype=torch.float64)
    correction, reached = torch.randn(6, dtype=torch.float64), torch.rand(3, 6) < 0.3
    weights = torch.tensor([0.0, 0.1, 1.0, 7.0], dtype=torch.float64)[stages]

    def both(o: Tensor, a: Tensor) -> Tensor:
        retrieval = retrieval_loss(o, a, weights, correction=correction, reached=reached, temperature=0.5)
        return retrieval + ranking_loss(o, stages, examination, margin=margin, temperature=0.5)

    assert torch.autograd.gradcheck(both, (own, against))
