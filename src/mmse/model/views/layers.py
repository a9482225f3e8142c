"""Layers of the towers as NumPy arrays, for serving without PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from mmse.model.views.view import MIN_NORM, ResidualBlock


@dataclass(frozen=True)
class CompiledLayer:
    """`x @ weights + bias`."""

    weights: Float32[np.ndarray, "inputs outputs"]
    bias: Float32[np.ndarray, " outputs"]

    @classmethod
    def stack(cls, *layers: nn.Linear) -> CompiledLayer:
        """Several layers that read the same input as one, their outputs side by side."""
        weights = np.concatenate([to_array(layer.weight) for layer in layers])
        return cls(np.ascontiguousarray(weights.T), np.concatenate([to_array(layer.bias) for layer in layers]))

    def __call__(self, x: Float32[np.ndarray, " inputs"]) -> Float32[np.ndarray, " outputs"]:
        """The layer's outputs for one input."""
        output: Float32[np.ndarray, " outputs"] = x @ self.weights
        output += self.bias
        return output


@dataclass(frozen=True)
class CompiledBlock:
    """A residual block, `x + W₂ relu(W₁ x)`."""

    inner: CompiledLayer
    outer: CompiledLayer

    @classmethod
    def compile(cls, block: ResidualBlock) -> CompiledBlock:
        """The block as it is now; later changes of its weights do not reach it."""
        return cls(CompiledLayer.stack(block.first), CompiledLayer.stack(block.second))

    def __call__(self, x: Float32[np.ndarray, " dim"]) -> Float32[np.ndarray, " dim"]:
        """The block's output for one input."""
        return np.asarray(self.outer(np.maximum(self.inner(x), 0)) + x)


def rescale_array(x: Float32[np.ndarray, " dim"]) -> Float32[np.ndarray, " dim"]:
    """`view.rescale` of one row."""
    return np.asarray(x * np.float32(math.sqrt(len(x)) / max(math.sqrt(float(x @ x)), MIN_NORM)))


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """A copy of `tensor` on the CPU in single precision, without a gradient."""
    return tensor.detach().float().cpu().numpy()
