"""The query tower ready to serve: its weights folded into a few arrays, without autograd or dispatch.

What does not depend on the query is multiplied out once: the token table stands at its learned weights, and all that
reads the words (the first layer of every view, and the gates) is one matrix. A query costs a few products of a vector
and a matrix. They are made query by query, so that a query has the same vector alone and in a batch, bit by bit.
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

_LEAST_NORM = 1e-12
"""What PyTorch's `normalize` divides by at least."""


@dataclass(frozen=True)
class _Layer:
    """`x @ weights + bias`."""

    weights: Float32[np.ndarray, "given made"]
    bias: Float32[np.ndarray, " made"]

    @classmethod
    def of(cls, *layers: nn.Linear) -> _Layer:
        """The layers side by side: what each makes of the same input."""
        weights = np.concatenate([_array(layer.weight) for layer in layers])
        return cls(np.ascontiguousarray(weights.T), np.concatenate([_array(layer.bias) for layer in layers]))

    def __call__(self, x: Float32[np.ndarray, " given"]) -> Float32[np.ndarray, " made"]:
        made: Float32[np.ndarray, " made"] = x @ self.weights
        made += self.bias
        return made


@final
class CompiledQueries:
    """The query side of towers as they were when it was made."""

    def __init__(self, towers: TwoTower) -> None:
        config, dim = towers.config, towers.config.dim
        self.views, self.dim, self._more = config.views, dim, int(config.conversion)
        dense = [_dense(towers.query_dense[view]) for view in config.views]
        with torch.no_grad():
            self._tokens = _array(towers.token_table())
        self._mixed = None
        if config.fusion == "pre":
            first, second = _dense(towers.query_mixed)
            self._mixed = _Layer.of(first), _Layer.of(second)
            self._first = _Layer.of(*(first for first, _ in dense))
        else:
            self._known = np.ascontiguousarray(_array(towers.gate.weight)[:, dim:].T)
            self._first = _Layer.of(*(first for first, _ in dense), _on_words(towers.gate, dim))
        self._second = [_Layer.of(second) for _, second in dense]
        if "identity" in config.views:
            self._memory = _array(towers.query_memory)
        if "shopper" in config.views:
            self._users, self._shopper = _array(towers.users), _array(towers.shopper)
            first, second = _dense(towers.history_dense)
            self._taste = _Layer.of(first), _Layer.of(second)

    @property
    def width(self) -> int:
        """The length of a fused vector."""
        return self.dim * len(self.views) + self._more

    def vectors(
        self,
        text: Bags,
        memory: Int64[np.ndarray, " n"],
        user: Int64[np.ndarray, " n"],
        history: Int32[np.ndarray, "n ids"],
    ) -> Float32[np.ndarray, "n width"]:
        """The fused vectors of `n` queries, from what `query_inputs` takes."""
        vectors = np.ones((len(text), self.width), np.float32)
        views = vectors[:, : self.width - self._more]
        ends, buckets, users = text.offsets.tolist(), memory.tolist(), user.tolist()
        for place in range(len(text)):
            grains, past = text.grains[ends[place] : ends[place + 1]], history[place]
            views[place] = self._vector(grains, buckets[place], users[place], past[past > 0])
        return vectors

    def _vector(
        self, grains: Int32[np.ndarray, " g"], memory: int, user: int, history: Int32[np.ndarray, " h"]
    ) -> Float32[np.ndarray, " width"]:
        words = _rescaled(self._tokens.take(grains, axis=0).sum(axis=0))
        first, dim = self._first(words), self.dim
        views = np.empty((len(self.views), dim), np.float32)
        for place, view in enumerate(self.views):
            embedding = self._second[place](np.maximum(first[place * dim : (place + 1) * dim], 0)) + words
            if view == "identity" and memory:
                embedding += self._memory[memory]
            if view == "shopper":
                if len(history):
                    embedding += self._taste_of(history)
                if user:
                    embedding += self._users[user]
            views[place] = embedding
        if self._mixed:
            return _mixed(views.reshape(-1), *self._mixed)
        gates = first[len(self.views) * dim :]
        if len(history):
            gates = gates + self._known[0]
        if user:
            gates = gates + self._known[1]
        shares = np.exp(gates - gates.max())
        shares /= shares.sum()
        norms = np.sqrt(np.einsum("vd,vd->v", views, views))
        views *= (shares / np.maximum(norms, _LEAST_NORM))[:, None]
        return views.reshape(-1)

    def _taste_of(self, history: Int32[np.ndarray, " h"]) -> Float32[np.ndarray, " dim"]:
        past, (first, second) = _rescaled(self._shopper.take(history, axis=0).sum(axis=0)), self._taste
        return np.asarray(second(np.maximum(first(past), 0)) + past)


def _dense(layer: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """The two layers of what adds `W₂ relu(W₁ x)` to `x`."""
    first, second = layer.first, layer.second
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return first, second


def _on_words(gate: nn.Linear, dim: int) -> nn.Linear:
    """That part of the gates that reads the words."""
    part = nn.Linear(dim, gate.out_features)
    with torch.no_grad():
        part.weight.copy_(gate.weight[:, :dim])
        part.bias.copy_(gate.bias)
    return part


def _mixed(x: Float32[np.ndarray, " width"], first: _Layer, second: _Layer) -> Float32[np.ndarray, " width"]:
    """All views through one layer, together at length 1."""
    mixed = second(np.maximum(first(x), 0)) + x
    return np.asarray(mixed / np.float32(max(math.sqrt(float(mixed @ mixed)), _LEAST_NORM)))


def _rescaled(x: Float32[np.ndarray, " dim"]) -> Float32[np.ndarray, " dim"]:
    return np.asarray(x * np.float32(math.sqrt(len(x)) / max(math.sqrt(float(x @ x)), _LEAST_NORM)))


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
