"""A token table that starts from the vectors of a sentence transformer, the teacher.

A grain's own row is the teacher's vector of that grain alone, as in Model2Vec (van Dongen and Tulkens, *Model2Vec: Fast
State-of-the-Art Static Embeddings*, 2024). Where we differ: the grains are the shop's own, with the weights that our
tables start with. Also, a grain alone is often not a word, so the rows are then fitted to the teacher's vectors of
whole titles and queries. With A the weighted bags of those texts at length 1, Y their vectors and P the grains' own
vectors,

    T = argmin ‖A·T − Y‖² + λ‖T − P‖²

This is a ridge regression that stays near P where the texts give little evidence.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Float64
from scipy import sparse

from mmse.model.encoder import Encoder
from mmse.model.pretrained_encoder import PretrainedEncoder
from mmse.model.views.text import TextView
from mmse.text.tokenizer import Bags, Tokenizer

TEXT_WEIGHTS = ("tokens", "log_weights", f"query_dense.{TextView.key}.", f"views.{TextView.key}.")
"""Prefixes of the names of the text view's weights; the other views read the same token table."""

_MAX_GRAIN_TOKENS = 16
"""A grain is one of our subwords, and rarely more than a few tokens of the teacher's tokenizer."""

_RIDGE = 1.0
_STEPS = 300
_TOLERANCE = 1e-4
"""The iteration ends when the residual is smaller than this share of the first one."""


def fit_token_table(
    teacher: PretrainedEncoder,
    tokenizer: Tokenizer,
    dim: int,
    weights: Float32[np.ndarray, " grains"],
    texts: Sequence[str],
) -> Float32[np.ndarray, "grains dim"]:
    """The start of a token table, with a mean square row length of 1; rows of hashed pairs are zero.

    `weights` are those of the grains in a bag. Without `texts` the rows are the grains' own vectors. If `dim` is less
    than the teacher's width, they are projected to principal components; if more, into a random subspace, drawn by
    PyTorch's generator.
    """
    rows = _centre(teacher.embed(tokenizer.subwords, _MAX_GRAIN_TOKENS))
    if texts:
        targets = _centre(teacher.embed(texts, tokenizer.max_tokens))
        rows = _centre(_fit_ridge(rows, _unit_bags(tokenizer.encode(texts), weights[: len(rows)]), targets))
    projection = _project(rows, dim)
    table = np.zeros((tokenizer.n_grains, dim), np.float32)
    table[: len(rows)] = projection / np.sqrt((projection**2).sum(axis=1).mean())
    return table


def restore_text_view(encoder: Encoder, start: Encoder, share: float) -> Encoder:
    """A copy of `encoder` with its text view moved by `share` of the way back to that of `start`.

    Training moves the words of the log's queries far and all others hardly. Interpolated with the start, every word
    keeps some of the teacher's knowledge (Wortsman et al., *Robust Fine-Tuning of Zero-Shot Models*, CVPR 2022).
    """
    towers = copy.deepcopy(encoder.towers)
    start_weights = dict(start.towers.named_parameters())
    with torch.no_grad():
        for name, weight in towers.named_parameters():
            if name.startswith(TEXT_WEIGHTS):
                weight.lerp_(start_weights[name].to(weight.device), share)
    return Encoder(encoder.tokenizer, encoder.space, towers)


def _centre(rows: Float32[np.ndarray, "n width"]) -> Float32[np.ndarray, "n width"]:
    return np.asarray(rows - rows.mean(axis=0))


def _unit_bags(bags: Bags, weights: Float32[np.ndarray, " subwords"]) -> sparse.csr_matrix:
    """The bags as weighted rows over the subwords, each of length 1 or empty; hashed pairs are left out."""
    owner = np.repeat(np.arange(len(bags)), np.diff(bags.offsets))
    is_subword = bags.grains < len(weights)
    entries = (owner[is_subword], bags.grains[is_subword])
    rows = sparse.csr_matrix((weights[entries[1]], entries), shape=(len(bags), len(weights)))
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1))).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(lengths, 1e-6)) @ rows)


def _fit_ridge(
    own: Float32[np.ndarray, "subwords width"], bags: sparse.csr_matrix, targets: Float32[np.ndarray, "texts width"]
) -> Float32[np.ndarray, "subwords width"]:
    """The ridge regression of `targets` on `bags`, shrunk to `own` at the scale of `targets` (conjugate gradients)."""
    start = own * (_mean_length(targets) / _mean_length(own))
    table, gradient = start.astype(np.float64), bags.T @ (targets - bags @ start)
    residual: Float64[np.ndarray, "subwords width"] = gradient.astype(np.float64)
    direction, start_norm = residual.copy(), np.linalg.norm(residual)
    for _ in range(_STEPS):
        energy = (residual**2).sum(axis=0)
        if np.sqrt(energy.sum()) <= _TOLERANCE * start_norm:
            break
        image = bags.T @ (bags @ direction) + _RIDGE * direction
        step = energy / np.maximum((direction * image).sum(axis=0), 1e-30)
        table += step * direction
        residual -= step * image
        direction = residual + (residual**2).sum(axis=0) / np.maximum(energy, 1e-30) * direction
    return table.astype(np.float32)


def _mean_length(rows: Float32[np.ndarray, "n width"]) -> float:
    return float(np.linalg.norm(rows, axis=1).mean())


def _project(rows: Float32[np.ndarray, "grains width"], dim: int) -> Float32[np.ndarray, "grains dim"]:
    """`rows` in `dim` dimensions: their principal components, or all of them in a random subspace."""
    width = rows.shape[1]
    if dim > width:
        rotation, _ = torch.linalg.qr(torch.randn(dim, width))
        return np.asarray(rows @ rotation.numpy().T)
    _, axes = np.linalg.eigh(rows.T @ rows)
    return np.asarray(rows @ axes[:, ::-1][:, :dim])
