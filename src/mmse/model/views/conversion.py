"""The view of one number: how well an item sells after a click (`mmse.model.conversion`).

No gate weighs it and no loss sees it. It is one more number of a fused vector: on the item's side the log odds of an
order after a click, less their mean, on the query's side 1.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmse.model.conversion import Conversion
from mmse.model.inputs import STATISTICS, ItemInputs, Sizes
from mmse.model.views.view import ViewLabel


@final
class ConversionView(ViewLabel):
    """Reads the numbers of an item."""

    name = key = "conversion"
    phrase = "sells well"

    def make_tower(self, sizes: Sizes) -> ConversionTower:
        """A tower that adds nothing until it has learned."""
        return ConversionTower(sizes)


@final
class ConversionTower(nn.Module):
    """The regression's line, a buffer and no parameter: no loss changes it."""

    sells: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.register_buffer("sells", torch.zeros(sizes.numbers + STATISTICS + 1))

    def learn(self, conversion: Conversion, strength: float) -> None:
        """From here on an item's number is `strength` times its log odds of an order after a click, less their mean."""
        line = np.append(conversion.weights, -conversion.mean).astype(np.float32)
        self.sells = torch.from_numpy(strength * line).to(self.sells.device)

    def score_items(self, inputs: ItemInputs) -> Float[Tensor, "n 1"]:
        """The number of each item."""
        return (inputs.numbers @ self.sells[:-1] + self.sells[-1]).unsqueeze(1)
