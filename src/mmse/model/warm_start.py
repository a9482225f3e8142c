"""A token table that starts from a sentence transformer: what it says of our grains, and of texts made of them.

A grain's own row is the transformer's vector of that grain alone, as in Model2Vec (van Dongen and Tulkens, *Model2Vec:
Fast State-of-the-Art Static Embeddings*, 2024). Where we differ: the grains are the shop's own, with the weights that
our tables start with; and a grain alone is often no word, so the rows are then fitted to what the transformer says of
whole titles and queries. With A the weighted bags of those texts at length 1, Y their vectors, P the grains' own ones,

    T = argmin ‖A·T − Y‖² + λ‖T − P‖²

that is the ridge regression that is drawn to P where texts say little.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Float64
from scipy import sparse

from mmse.model.encoder import Encoder
from mmse.model.pretrained import Pretrained
from mmse.text.tokenizer import Bags, Tokenizer

READS_TEXT = ("tokens", "log_weights", "query_dense.text.", "item_dense.")
"""What the names of the weights that read text begin with, but for the words that other views read."""

_LONGEST = 16
"""A grain is one subword of ours, and hardly ever more of another tokenizer's."""

_RIDGE = 1.0
_STEPS = 300
_NEAR = 1e-4
"""Where the steps towards the solution end: a residual so much smaller than the right-hand side."""


def warm_table(
    teacher: Pretrained, tokenizer: Tokenizer, dim: int, weights: Float32[np.ndarray, " grains"], texts: Sequence[str]
) -> Float32[np.ndarray, "grains dim"]:
    """The rows at which a token table starts, at a mean square length of 1; those of hashed pairs are zero.

    `weights` are those of the grains in a bag; without `texts` the rows are the grains' own. Where `dim` is less than
    the teacher has, they are principal components; where more, its space turned at random, by PyTorch's generator.
    """
    rows = _centred(teacher.embed(tokenizer.subwords, _LONGEST))
    if texts:
        said = _centred(teacher.embed(texts, tokenizer.max_tokens))
        rows = _centred(_fitted(rows, _at_length_1(tokenizer.encode(texts), weights[: len(rows)]), said))
    turned = _turned(rows, dim)
    table = np.zeros((tokenizer.n_grains, dim), np.float32)
    table[: len(rows)] = turned / np.sqrt((turned**2).sum(axis=1).mean())
    return table


def settled(encoder: Encoder, start: Encoder, share: float) -> Encoder:
    """A copy of `encoder` whose text view has gone back by `share` of the way to that of `start`.

    Training moves the words of the log's queries far and others hardly; part of the way back, each keeps some of what
    the teacher said of it (Wortsman et al., *Robust Fine-Tuning of Zero-Shot Models*, CVPR 2022).
    """
    towers = copy.deepcopy(encoder.towers)
    first = dict(start.towers.named_parameters())
    with torch.no_grad():
        for name, weight in towers.named_parameters():
            if name.startswith(READS_TEXT):
                weight.lerp_(first[name].to(weight.device), share)
    return Encoder(encoder.tokenizer, encoder.space, towers)


def _centred(rows: Float32[np.ndarray, "n width"]) -> Float32[np.ndarray, "n width"]:
    return np.asarray(rows - rows.mean(axis=0))


def _at_length_1(bags: Bags, weights: Float32[np.ndarray, " subwords"]) -> sparse.csr_matrix:
    """The bags as weighted rows over the subwords, each of length 1, or empty; pairs are left out."""
    owner = np.repeat(np.arange(len(bags)), np.diff(bags.offsets))
    kept = bags.grains < len(weights)
    at = (owner[kept], bags.grains[kept])
    rows = sparse.csr_matrix((weights[at[1]], at), shape=(len(bags), len(weights)))
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1))).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(lengths, 1e-6)) @ rows)


def _fitted(
    own: Float32[np.ndarray, "subwords width"], bags: sparse.csr_matrix, said: Float32[np.ndarray, "texts width"]
) -> Float32[np.ndarray, "subwords width"]:
    """The ridge regression of `said` on `bags`, drawn to `own` at the scale of `said`; by conjugate gradients."""
    start = own * (_mean_length(said) / _mean_length(own))
    table, missing = start.astype(np.float64), bags.T @ (said - bags @ start)
    residual: Float64[np.ndarray, "subwords width"] = missing.astype(np.float64)
    towards, first = residual.copy(), np.linalg.norm(residual)
    for _ in range(_STEPS):
        squared = (residual**2).sum(axis=0)
        if np.sqrt(squared.sum()) <= _NEAR * first:
            break
        image = bags.T @ (bags @ towards) + _RIDGE * towards
        step = squared / np.maximum((towards * image).sum(axis=0), 1e-30)
        table += step * towards
        residual -= step * image
        towards = residual + (residual**2).sum(axis=0) / np.maximum(squared, 1e-30) * towards
    return table.astype(np.float32)


def _mean_length(rows: Float32[np.ndarray, "n width"]) -> float:
    return float(np.linalg.norm(rows, axis=1).mean())


def _turned(rows: Float32[np.ndarray, "grains width"], dim: int) -> Float32[np.ndarray, "grains dim"]:
    """`rows` in `dim` dimensions: their principal components, or all of them in a random subspace."""
    width = rows.shape[1]
    if dim > width:
        turned, _ = torch.linalg.qr(torch.randn(dim, width))
        return np.asarray(rows @ turned.numpy().T)
    _, axes = np.linalg.eigh(rows.T @ rows)
    return np.asarray(rows @ axes[:, ::-1][:, :dim])
