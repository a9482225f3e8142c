"""The query tower for serving: its weights folded into a few arrays, without autograd or dispatch.

What does not depend on the query is computed once: token rows are multiplied by their learned weights, and everything
that reads the words (the first layer of every view, and the gates) becomes one matrix. A query then costs a few
products of a vector and a matrix. Queries are computed one by one, so that a query has the same vector, bit by bit,
alone and in a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from torch import nn

from mmse.model.towers import TwoTower
from mmse.text.tokenizer import Bags

_MIN_NORM = 1e-12
"""The smallest norm that PyTorch's `normalize` divides by."""


@dataclass(frozen=True)
class _Layer:
    """`x @ weights + bias`."""

    weights: Float32[np.ndarray, "inputs outputs"]
    bias: Float32[np.ndarray, " outputs"]

    @classmethod
    def stack(cls, *layers: nn.Linear) -> _Layer:
        """Several layers that read the same input as one, their outputs side by side."""
        weights = np.concatenate([_to_array(layer.weight) for layer in layers])
        return cls(np.ascontiguousarray(weights.T), np.concatenate([_to_array(layer.bias) for layer in layers]))

    def __call__(self, x: Float32[np.ndarray, " inputs"]) -> Float32[np.ndarray, " outputs"]:
        output: Float32[np.ndarray, " outputs"] = x @ self.weights
        output += self.bias
        return output


@final
class CompiledQueryTower:
    """The query side of `towers`; later changes of their weights do not reach it."""

    def __init__(self, towers: TwoTower) -> None:
        config, dim = towers.config, towers.config.dim
        self.views, self.dim, self._n_extra = config.views, dim, int(config.conversion)
        dense = [_linear_layers(towers.query_dense[view]) for view in config.views]
        with torch.no_grad():
            self._tokens = _to_array(towers.token_table())
        self._fusion_layers = None
        if config.fusion == "pre":
            inner, outer = _linear_layers(towers.query_mixed)
            self._fusion_layers = _Layer.stack(inner), _Layer.stack(outer)
            self._input_layer = _Layer.stack(*(inner for inner, _ in dense))
        else:
            self._gate_shifts = np.ascontiguousarray(_to_array(towers.gate.weight)[:, dim:].T)
            self._input_layer = _Layer.stack(*(inner for inner, _ in dense), _word_gates(towers.gate, dim))
        self._output_layers = [_Layer.stack(outer) for _, outer in dense]
        if "identity" in config.views:
            self._memory = _to_array(towers.query_memory)
        if "shopper" in config.views:
            self._users, self._shopper = _to_array(towers.users), _to_array(towers.shopper)
            inner, outer = _linear_layers(towers.history_dense)
            self._taste_layers = _Layer.stack(inner), _Layer.stack(outer)

    @property
    def width(self) -> int:
        """The length of a fused vector."""
        return self.dim * len(self.views) + self._n_extra

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
            views[i] = self._embed_query(grains, buckets[i], users[i], past[past > 0])
        return vectors

    def _embed_query(
        self, grains: Int32[np.ndarray, " g"], memory: int, user: int, history: Int32[np.ndarray, " h"]
    ) -> Float32[np.ndarray, " width"]:
        words = _rescale(self._tokens.take(grains, axis=0).sum(axis=0))
        activations, dim = self._input_layer(words), self.dim
        views = np.empty((len(self.views), dim), np.float32)
        for i, view in enumerate(self.views):
            embedding = self._output_layers[i](np.maximum(activations[i * dim : (i + 1) * dim], 0)) + words
            if view == "identity" and memory:
                embedding += self._memory[memory]
            if view == "shopper":
                if len(history):
                    embedding += self._embed_taste(history)
                if user:
                    embedding += self._users[user]
            views[i] = embedding
        if self._fusion_layers:
            return _mix(views.reshape(-1), *self._fusion_layers)
        gates = activations[len(self.views) * dim :]
        if len(history):
            gates = gates + self._gate_shifts[0]
        if user:
            gates = gates + self._gate_shifts[1]
        shares = np.exp(gates - gates.max())
        shares /= shares.sum()
        norms = np.sqrt(np.einsum("vd,vd->v", views, views))
        views *= (shares / np.maximum(norms, _MIN_NORM))[:, None]
        return views.reshape(-1)

    def _embed_taste(self, history: Int32[np.ndarray, " h"]) -> Float32[np.ndarray, " dim"]:
        past, (inner, outer) = _rescale(self._shopper.take(history, axis=0).sum(axis=0)), self._taste_layers
        return np.asarray(outer(np.maximum(inner(past), 0)) + past)


def _linear_layers(layer: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a residual block, `x + W₂ relu(W₁ x)`."""
    inner, outer = layer.first, layer.second
    assert isinstance(inner, nn.Linear)
    assert isinstance(outer, nn.Linear)
    return inner, outer


def _word_gates(gate: nn.Linear, dim: int) -> nn.Linear:
    """The part of the gates that reads the words."""
    part = nn.Linear(dim, gate.out_features)
    with torch.no_grad():
        part.weight.copy_(gate.weight[:, :dim])
        part.bias.copy_(gate.bias)
    return part


def _mix(x: Float32[np.ndarray, " width"], inner: _Layer, outer: _Layer) -> Float32[np.ndarray, " width"]:
    """All views through one residual block, as one vector of length 1."""
    output = outer(np.maximum(inner(x), 0)) + x
    return np.asarray(output / np.float32(max(math.sqrt(float(output @ output)), _MIN_NORM)))


def _rescale(x: Float32[np.ndarray, " dim"]) -> Float32[np.ndarray, " dim"]:
    return np.asarray(x * np.float32(math.sqrt(len(x)) / max(math.sqrt(float(x @ x)), _MIN_NORM)))


def _to_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
