"""The query tower for serving: its weights folded into a few arrays, without autograd or dispatch.

What does not depend on the query is computed once: token rows are multiplied by their learned weights, and everything
that reads the words (the first layer of every view, and the gates) becomes one matrix. A query then costs a few
products of a vector and a matrix. Queries are computed one by one, so that a query has the same vector, bit by bit,
alone and in a batch.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from torch import nn

from mmse.model.towers import TwoTower
from mmse.model.views.layers import CompiledBlock, CompiledLayer, rescale_array, to_array
from mmse.model.views.view import MIN_NORM, ParsedQuery, ResidualBlock
from mmse.text.tokenizer import Bags


@final
class CompiledQueryTower:
    """The query side of `towers`; later changes of their weights do not reach it."""

    def __init__(self, towers: TwoTower) -> None:
        config, dim = towers.config, towers.config.dim
        self.dim, self._n_extra = dim, len(towers.number_towers)
        dense = [_residual_block(towers.query_dense[key]) for key, _ in towers.view_towers]
        with torch.no_grad():
            self._tokens = to_array(towers.token_table())
        self._mixing_block = None
        if config.fusion == "pre":
            self._mixing_block = CompiledBlock.compile(towers.query_mixed)
            self._input_layer = CompiledLayer.stack(*(block.first for block in dense))
        else:
            self._gate_shifts = np.ascontiguousarray(to_array(towers.gate.weight)[:, dim:].T)
            self._input_layer = CompiledLayer.stack(*(block.first for block in dense), _word_gates(towers.gate, dim))
        self._output_layers = [CompiledLayer.stack(block.second) for block in dense]
        self._views = [tower.compiled() for _, tower in towers.view_towers]

    @property
    def width(self) -> int:
        """The length of a fused vector."""
        return self.dim * len(self._views) + self._n_extra

    def embed(
        self,
        text: Bags,
        memory: Int64[np.ndarray, " n"],
        user: Int64[np.ndarray, " n"],
        history: Int32[np.ndarray, "n ids"],
    ) -> Float32[np.ndarray, "n width"]:
        """The fused vectors of `n` queries; the arguments are those of `make_query_inputs`."""
        vectors = np.ones((len(text), self.width), np.float32)
        views = vectors[:, : self.width - self._n_extra]
        ends, buckets, users = text.offsets.tolist(), memory.tolist(), user.tolist()
        for i in range(len(text)):
            grains, past = text.grains[ends[i] : ends[i + 1]], history[i]
            views[i] = self._embed_query(ParsedQuery(grains, buckets[i], users[i], past[past > 0]))
        return vectors

    def _embed_query(self, query: ParsedQuery) -> Float32[np.ndarray, " width"]:
        words = rescale_array(self._tokens.take(query.grains, axis=0).sum(axis=0))
        activations, dim = self._input_layer(words), self.dim
        views = np.empty((len(self._views), dim), np.float32)
        for i, view in enumerate(self._views):
            embedding = self._output_layers[i](np.maximum(activations[i * dim : (i + 1) * dim], 0)) + words
            if view is not None:
                view.add_to(embedding, query)
            views[i] = embedding
        if self._mixing_block is not None:
            return _unit(self._mixing_block(views.reshape(-1)))
        gates = activations[len(self._views) * dim :]
        if len(query.history):
            gates = gates + self._gate_shifts[0]
        if query.user:
            gates = gates + self._gate_shifts[1]
        shares = np.exp(gates - gates.max())
        shares /= shares.sum()
        norms = np.sqrt(np.einsum("vd,vd->v", views, views))
        views *= (shares / np.maximum(norms, MIN_NORM))[:, None]
        return views.reshape(-1)


def _residual_block(module: nn.Module) -> ResidualBlock:
    assert isinstance(module, ResidualBlock)
    return module


def _word_gates(gate: nn.Linear, dim: int) -> nn.Linear:
    """The part of the gates that reads the words."""
    part = nn.Linear(dim, gate.out_features)
    with torch.no_grad():
        part.weight.copy_(gate.weight[:, :dim])
        part.bias.copy_(gate.bias)
    return part


def _unit(x: Float32[np.ndarray, " width"]) -> Float32[np.ndarray, " width"]:
    """`x` at length 1."""
    return np.asarray(x / np.float32(max(math.sqrt(float(x @ x)), MIN_NORM)))
