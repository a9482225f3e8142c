"""The door of a view: what it reads of an item, its two sides in the towers, its compiled query side, its words.

A view is one pair of embeddings, of a query and of an item, that is compared by itself. On the query side every view
starts with the query's words, which the towers put through a layer of the view's own, and adds what else it knows of
the query. On the item side it is free. A file of this package holds one view whole, and `VIEWS` is their table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int, Int32
from torch import Tensor, nn

from mmse.model.inputs import Feature, ItemInputs, QueryInputs, Sizes
from mmse.model.item_columns import ItemColumns

MIN_NORM = 1e-12
"""The smallest norm that PyTorch's `normalize` divides by."""


class TowerShape(NamedTuple):
    """What a view's part of the towers is made from: its width, the sizes of tables that are hashed, and of inputs."""

    dim: int
    query_buckets: int
    user_buckets: int
    sizes: Sizes


class ParsedQuery(NamedTuple):
    """One query for the compiled towers: its grains, the buckets of its text and shopper (0: none), its history."""

    grains: Int32[np.ndarray, " g"]
    memory: int
    user: int
    history: Int32[np.ndarray, " h"]


class CompiledView:
    """A view's query side without PyTorch."""

    def add_to(self, embedding: Float32[np.ndarray, " dim"], query: ParsedQuery) -> None:
        """Adds, in place, what the view knows of `query` besides its words."""
        raise NotImplementedError


class ViewTower(nn.Module):
    """A view's parameters and its two sides. The names of the parameters are those in a model's file."""

    reads_words = False
    """Whether the item side reads the words of items."""

    @property
    def memories(self) -> list[nn.Parameter]:
        """The tables of which a batch looks up few rows (`look_up`)."""
        return []

    def embed_queries(self, embedding: Float[Tensor, "n dim"], inputs: QueryInputs) -> Float[Tensor, "n dim"]:
        """The query side; `embedding` is that of the words, through the view's own layer."""
        return embedding

    def embed_items(self, inputs: ItemInputs, words: Float[Tensor, "n dim"] | None) -> Float[Tensor, "n dim"]:
        """The item side; `words` are the embeddings of the items' words, None if no view of the model `reads_words`."""
        raise NotImplementedError

    def compiled(self) -> CompiledView | None:
        """The query side for serving; None where it is that of the words alone."""
        return None


class ViewLabel:
    """What a view is called: `name` in explanations, `key` in the names of parameters.

    `phrase` says in words why an item was found by this view.
    """

    name: str
    key: str
    phrase: str


class View(ViewLabel):
    """What a view reads of an item, and how its towers are made.

    A view that reads nothing but the words and numbers of items needs `make_tower` alone.
    """

    def fit(self, columns: ItemColumns, in_training: Bool[np.ndarray, " n"]) -> dict[str, dict[str, Any]]:
        """What has to be kept to read other items in the same terms, in a form that JSON can hold.

        `in_training` marks the items that training will see.
        """
        return {}

    def encode(self, columns: ItemColumns, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
        """What the view reads of the items besides words and numbers, by name; `vocabulary` is what `fit` gave."""
        return {}

    def sizes(self, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """The size of each of these inputs: how many rows its table has, or numbers its vectors."""
        return {}

    def make_tower(self, shape: TowerShape) -> ViewTower:
        """New parameters."""
        raise NotImplementedError


class ResidualBlock(nn.Module):
    """`x + W₂ relu(W₁ x)`; it starts as the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """The output for `n` inputs."""
        residual: Tensor = self.second(F.relu(self.first(x)))
        return x + residual


def random_table(rows: int, dim: int) -> nn.Parameter:
    """A table of random rows, each about 1 long; without numbers on the device "meta", where weights are loaded after.

    To draw there would give none either, and PyTorch imports a second's worth of modules for it.
    """
    table = torch.empty(rows, dim)
    return nn.Parameter(table if table.is_meta else torch.randn(rows, dim) * dim**-0.5)


def zero_table(rows: int, dim: int) -> nn.Parameter:
    """A table of zeros: a row that training never updated then adds nothing instead of noise."""
    return nn.Parameter(torch.zeros(rows, dim))


def rescale(x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """`x` with a mean square of 1 per row, whatever the length of the text; zero stays zero."""
    unit: Tensor = F.normalize(x, dim=1)
    return unit * math.sqrt(x.shape[1])


def look_up(table: Float[Tensor, "rows dim"], ids: Int[Tensor, " n"]) -> Float[Tensor, "n dim"]:
    """Rows of a memory, `table`, where id 0 means "none" and gives zero; the gradient has the rows of `ids` alone."""
    rows: Tensor = F.embedding(ids, table, padding_idx=0, sparse=True)
    return rows * (ids > 0).unsqueeze(1)
