"""Fits a few numbers: the likelihoods here are smooth and small, and take a second."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def minimise(parameters: Tensor, loss: Callable[[], Tensor]) -> None:
    """Changes `parameters` (which require gradients) to minimise `loss`, by L-BFGS with a line search."""
    optimiser = torch.optim.LBFGS([parameters], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
