"""A pretrained transformer as the text encoder, instead of a bag of grains: the same words in, one vector of `dim` out.

The bags are then the transformer's own tokens in their order. Dropout stays off, so that a resumed run is
bit-identical; the rest of the towers has to prevent overfitting.
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmse.model.bags import BagIndex
from mmse.model.pretrained_encoder import average_states, compute_states

BATCH_TEXTS = 256
"""How many texts, of about the same length, go through the transformer at a time."""


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
        """As in PyTorch, but the transformer itself stays in evaluation mode, so that its dropout is off."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, text: BagIndex) -> Float[Tensor, "n dim"]:
        """The vectors of `n` texts. In training, the inner states of only one batch of texts are kept at a time."""
        lengths = text.offsets.diff()
        order = torch.argsort(lengths, stable=True)
        parts = torch.split(order, BATCH_TEXTS)
        use_checkpoint = torch.is_grad_enabled() and len(parts) > 1
        vectors = [
            checkpoint(self._pool, *_pad(text, part), use_reentrant=False, preserve_rng_state=False)
            if use_checkpoint
            else self._pool(*_pad(text, part))
            for part in parts
            if len(part)
        ]
        states = torch.cat(vectors) if vectors else self.project.weight.new_zeros(0, self.project.in_features)
        output: Tensor = self.project(states[torch.argsort(order)])
        return output

    def _pool(self, ids: Int[Tensor, "n length"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
        return average_states(compute_states(self.model, ids, lengths), lengths)


def _pad(text: BagIndex, part: Int[Tensor, " m"]) -> tuple[Int[Tensor, "m length"], Int[Tensor, " m"]]:
    """The tokens of the texts at `part`, padded, and their numbers; an empty text counts as one token of padding."""
    starts, lengths = text.offsets[part].long(), text.offsets.diff()[part].long()
    position = torch.arange(max(int(lengths.max()), 1), device=starts.device)
    index = (starts.unsqueeze(1) + position).clamp(max=max(len(text.rows) - 1, 0))
    is_token = position < lengths.unsqueeze(1)
    ids = torch.where(is_token, text.rows.long()[index] if len(text.rows) else 0, 0)
    return ids, lengths.clamp(min=1)
