"""A view of vectors that the shop brings for its items, such as of pictures: one view for each column of them.

The item side is the vector, at length 1 and less the mean of the catalogue, through a learned projection. The query
side is the query's words, through a layer and a table of grains of the view's own: what shoppers took for these words
teaches what such items look like.

Nothing is taken off the score of an item without a vector: its words stand in for it, through a layer of their own, so
that its embedding here has length 1 like any other and the gates hold for it as well. Training hides a share of the
vectors, so that the stand-in is learned on all items, and both kinds of embedding are compared in one loss. Such an
item still lacks what a vector would say for it (docs/results.md). A zero instead would take the view's whole share off
its score; dividing by the gates of the views that are left would depend on query and item together, which no inner
product can express.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Float16, Float32, Float64, Int64
from torch import Tensor, nn

from mmse.core.errors import UsageError
from mmse.model.bags import sum_bags
from mmse.model.inputs import Feature, ItemInputs, QueryInputs
from mmse.model.item_columns import ItemColumns
from mmse.model.views.layers import to_array
from mmse.model.views.view import (
    MIN_NORM,
    CompiledView,
    ParsedQuery,
    ResidualBlock,
    TowerShape,
    View,
    ViewTower,
    rescale,
    zero_table,
)

_ROWS = 16_384
"""How many items are read at a time."""


@final
class VectorView(View):
    """Reads the column `column`: a list of numbers for each item, or nothing."""

    def __init__(self, column: str, name: str) -> None:
        self.column, self.name, self.key = column, name, f"vector:{column}"
        self.phrase = f"its {column}"

    def fit(self, columns: ItemColumns, in_training: Bool[np.ndarray, " n"]) -> dict[str, dict[str, Any]]:
        """The mean of the catalogue's vectors at length 1, and how far a number is from it on average."""
        total: Float64[np.ndarray, " width"] = np.zeros(0)
        n_vectors = 0
        for rows, vectors in _unit_vectors(columns.table, self.column):
            total = vectors.sum(axis=0, dtype=np.float64) + (total if len(total) else 0.0)
            n_vectors += len(rows)
        if n_vectors == 0:
            raise UsageError(
                f"No item has a vector in the column '{self.column}'.", "Bring vectors, or take it out of vectors."
            )
        mean = total / n_vectors
        spread = math.sqrt(max(1.0 - float(mean @ mean), 0.0) / len(mean)) or 1.0
        return {self.key: {"mean": mean.tolist(), "spread": spread}}

    def encode(self, columns: ItemColumns, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
        """The vectors less the mean, with a mean square of about 1; zeros for an item that has none."""
        scale = vocabulary[self.key]
        mean = np.array(scale["mean"], np.float32)
        feature: Float16[np.ndarray, "n width"] = np.zeros((len(columns.table), len(mean)), np.float16)
        for rows, vectors in _unit_vectors(columns.table, self.column):
            if vectors.shape[1] != len(mean):
                raise UsageError(
                    f"The column '{self.column}' has vectors of {vectors.shape[1]} numbers, and the model was trained "
                    f"on {len(mean)}.",
                    "Bring vectors of the same encoder, or train again.",
                )
            feature[rows] = (vectors - mean) / np.float32(scale["spread"])
        return {self.key: feature}

    def sizes(self, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """How many numbers a vector has."""
        return {self.key: len(vocabulary[self.key]["mean"])}

    def make_tower(self, shape: TowerShape) -> ViewTower:
        """A projection, a stand-in, and a table of grains."""
        return VectorTower(shape, self.key)


@final
class VectorTower(ViewTower):
    """The projection of vectors, and the words that meet it."""

    reads_words = True

    def __init__(self, shape: TowerShape, key: str) -> None:
        super().__init__()
        self._key = key
        self.query_words = zero_table(shape.sizes.grains, shape.dim)
        self.project = nn.Linear(shape.sizes.tables[key], shape.dim)
        self.vector_dense = ResidualBlock(shape.dim)
        self.stand_in = ResidualBlock(shape.dim)

    def embed_queries(self, embedding: Float[Tensor, "n dim"], inputs: QueryInputs) -> Float[Tensor, "n dim"]:
        """The words, through the layer and the table of this view."""
        return embedding + sum_bags(self.query_words, inputs.text)

    def embed_items(self, inputs: ItemInputs, words: Float[Tensor, "n dim"] | None) -> Float[Tensor, "n dim"]:
        """The projected vector; for an item without one, its words."""
        assert words is not None
        vectors = inputs.vectors(self._key)
        has_vector = vectors.any(dim=1, keepdim=True)
        return torch.where(has_vector, self.vector_dense(rescale(self.project(vectors))), self.stand_in(words))

    def compiled(self) -> CompiledView:
        """The table of grains."""
        return CompiledWords(to_array(self.query_words))


@final
class CompiledWords(CompiledView):
    """A table of grains."""

    def __init__(self, table: Float32[np.ndarray, "grains dim"]) -> None:
        self._table = table

    def add_to(self, embedding: Float32[np.ndarray, " dim"], query: ParsedQuery) -> None:
        """Adds the rows of the query's grains."""
        embedding += self._table.take(query.grains, axis=0).sum(axis=0)


def _unit_vectors(
    items: pa.Table, column: str
) -> Iterator[tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, "m width"]]]:
    """Rows of `items` that have a vector in `column`, and the vectors at length 1, some at a time.

    A vector of zeros has no direction and is left out.
    """
    start = 0
    for lists in items[column].chunks if column in items.column_names else []:
        for offset in range(0, len(lists), _ROWS):
            part = lists.slice(offset, _ROWS)
            rows = np.flatnonzero(part.is_valid().to_numpy(zero_copy_only=False))
            if len(rows):
                numbers = part.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
                vectors = numbers.reshape(len(rows), -1)
                lengths = np.linalg.norm(vectors, axis=1)
                has_direction = lengths > MIN_NORM
                yield start + offset + rows[has_direction], vectors[has_direction] / lengths[has_direction, None]
        start += len(lists)
