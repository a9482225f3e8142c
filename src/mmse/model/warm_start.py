"""A token table that starts from a sentence transformer: what it says of each grain, in as many dimensions as we have.

A grain's row is the transformer's vector of that grain alone, centred and rotated to its principal components, as in
Model2Vec (van Dongen and Tulkens, *Model2Vec: Fast State-of-the-Art Static Embeddings*, 2024). Where we differ: the
grains are the shop's own, and their weights are those at which a table always starts, their IDF in the catalogue.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32

from mmse.model.pretrained import Pretrained
from mmse.text import Tokenizer

_LONGEST = 16
"""A grain is one subword of ours, and hardly ever more of another tokenizer's."""


def warm_table(teacher: Pretrained, tokenizer: Tokenizer, dim: int) -> Float32[np.ndarray, "grains dim"]:
    """The rows at which a token table starts, at a mean square length of 1; those of hashed pairs are zero.

    Where `dim` is more than the teacher has, its space is turned at random into ours, by PyTorch's generator.
    """
    said = teacher.embed(tokenizer.subwords, _LONGEST)
    rows = _fitted(said - said.mean(axis=0), dim)
    table = np.zeros((tokenizer.n_grains, dim), np.float32)
    table[: len(rows)] = rows / np.sqrt((rows**2).sum(axis=1).mean())
    return table


def _fitted(said: Float32[np.ndarray, "grains width"], dim: int) -> Float[np.ndarray, "grains dim"]:
    """`said` in `dim` dimensions: its principal components, or all of it in a random subspace."""
    width = said.shape[1]
    if dim > width:
        turned, _ = torch.linalg.qr(torch.randn(dim, width))
        return np.asarray(said @ turned.numpy().T)
    _, axes = np.linalg.eigh(said.T @ said)
    return np.asarray(said @ axes[:, ::-1][:, :dim])
