"""The optimizer of the towers: Adam, and for the rows of memories one whose step does not grow with the catalogue.

A batch touches few rows of a memory (`ViewTower.memories`), and a dense Adam walks through all of them in each step. An
Adam without momentum leaves a row without a gradient where it is, so only the rows of the batch need any work. Without
momentum a lone gradient moves a row at once as far as momentum would have moved it over the next steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from mmse.model.towers import TwoTower

_DECAY = 0.999
_EPSILON = 1e-8


@final
class RowAdam(torch.optim.Optimizer):
    """Adam with β₁ = 0 for tables whose gradients are sparse, row by row.

    The second moment of a row decays by the steps that have passed since the row was last touched, so that a step is
    that of `torch.optim.Adam` with `betas=(0, 0.999)`, and costs as much as the rows that it touches.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.0, "share": 1.0})
        for group in self.param_groups:
            for table in group["params"]:
                self.state[table] = {
                    "step": torch.zeros((), device=table.device),
                    "exp_avg_sq": torch.zeros_like(table),
                    "touched": torch.zeros(len(table), device=table.device),
                }

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates the rows that have a gradient."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, table.grad.coalesce(), group["lr"])

    def _update(self, table: nn.Parameter, gradient: Tensor, rate: float) -> None:
        state = self.state[table]
        state["step"] += 1
        rows, values = gradient.indices()[0], gradient.values()
        age = state["step"] - state["touched"][rows]
        square = state["exp_avg_sq"][rows] * (_DECAY**age).unsqueeze(1) + (1 - _DECAY) * values.square()
        state["exp_avg_sq"][rows], state["touched"][rows] = square, state["step"]
        deviation = (square / (1 - _DECAY ** state["step"])).sqrt() + _EPSILON
        table.index_add_(0, rows, values / deviation, alpha=-rate)


@final
class TowerOptimizer:
    """Adam for the parameters of `towers`, and `RowAdam` for its memories.

    A pretrained transformer learns at `transformer_share` of the rate.
    """

    def __init__(self, towers: TwoTower, transformer_share: float) -> None:
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in towers.named_parameters()}
        memories = set(towers.memories)
        groups = [
            group | {"params": [parameter for parameter in group["params"] if parameter not in memories]}
            for group in towers.parameter_groups(transformer_share)
        ]
        self._optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(groups, fused=True)]
        if memories:
            self._optimizers.append(RowAdam(towers.memories))

    def step(self, rate: float) -> None:
        """Updates all parameters at a learning `rate` that groups have their share of."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            optimizer.step()

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """All that it knows of the steps so far, by `name of the value.name of the parameter`."""
        return {
            f"{key}.{self._names[parameter]}": value
            for optimizer in self._optimizers
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Goes on from what `state` gave; raises `KeyError` where a parameter has none there."""
        for optimizer in self._optimizers:
            keys = ("step", "exp_avg_sq", "touched" if isinstance(optimizer, RowAdam) else "exp_avg")
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    name = self._names[parameter]
                    optimizer.state[parameter] = {key: tensors[f"{key}.{name}"] for key in keys}
