"""Text through a pretrained transformer instead of a bag of grains: the same words in, one vector of `dim` out.

The bags of the tokenizer are the transformer's own tokens in their order. Dropout stays off, so that a resumed run goes
on bit by bit; what keeps a small log from being memorised is the rest of the towers.
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmse.model.bags import BagIndex
from mmse.model.pretrained import hidden, mean

TOGETHER = 256
"""So many texts go through the transformer at a time, of about the same length."""


@final
class TransformerText(nn.Module):
    """The mean of a transformer's last states over a text, projected to `dim`."""

    def __init__(self, model: nn.Module, dim: int) -> None:
        super().__init__()
        self.model = model
        self.project = nn.Linear(model.config.hidden_size, dim)  # type: ignore[union-attr, arg-type]
        nn.init.orthogonal_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.train(False)

    def train(self, mode: bool = True) -> TransformerText:
        """As always, but the transformer itself is never in training mode: its dropout stays off."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, text: BagIndex) -> Float[Tensor, "n dim"]:
        """The vectors of `n` texts. Where they learn, only one part's inner states are kept at a time."""
        lengths = text.offsets.diff()
        order = torch.argsort(lengths, stable=True)
        parts = torch.split(order, TOGETHER)
        learns = torch.is_grad_enabled() and len(parts) > 1
        vectors = [
            checkpoint(self._pooled, *_padded(text, part), use_reentrant=False, preserve_rng_state=False)
            if learns
            else self._pooled(*_padded(text, part))
            for part in parts
            if len(part)
        ]
        pooled = torch.cat(vectors) if vectors else self.project.weight.new_zeros(0, self.project.in_features)
        projected: Tensor = self.project(pooled[torch.argsort(order)])
        return projected

    def _pooled(self, ids: Int[Tensor, "n length"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
        return mean(hidden(self.model, ids, lengths), lengths)


def _padded(text: BagIndex, part: Int[Tensor, " m"]) -> tuple[Int[Tensor, "m length"], Int[Tensor, " m"]]:
    """The tokens of the texts at `part` and how many each has; one of padding where a text has none."""
    starts, lengths = text.offsets[part].long(), text.offsets.diff()[part].long()
    inside = torch.arange(max(int(lengths.max()), 1), device=starts.device)
    places = (starts.unsqueeze(1) + inside).clamp(max=max(len(text.rows) - 1, 0))
    real = inside < lengths.unsqueeze(1)
    ids = torch.where(real, text.rows.long()[places] if len(text.rows) else 0, 0)
    return ids, lengths.clamp(min=1)
