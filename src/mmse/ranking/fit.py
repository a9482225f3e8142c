"""Fitting a handful of numbers: the likelihoods here are smooth, small and done in a second."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def minimise(parameters: Tensor, loss: Callable[[], Tensor]) -> None:
    """Moves `parameters` (which require gradients) to where `loss` is least, by L-BFGS with a line search."""
    optimiser = torch.optim.LBFGS([parameters], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
