"""The identity view: what a whole query leads to, against what an item is (its attributes, its numbers, itself)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from mmse.model.bags import sum_bags
from mmse.model.inputs import STATISTICS, Feature, ItemInputs, QueryInputs
from mmse.model.item_columns import (
    ItemColumns,
    Texts,
    count_ids,
    look_up_columns,
    look_up_ids,
    number_columns,
    number_values,
)
from mmse.model.views.layers import to_array
from mmse.model.views.view import (
    CompiledView,
    ParsedQuery,
    TowerShape,
    View,
    ViewTower,
    look_up,
    random_table,
    zero_table,
)

_ATTRIBUTES, _IDS = "identity", "item_ids"
"""The inputs: the ids of an item's attributes, and its own id, which only items of the training log have."""

_ID_COLUMN = "item_id"


@final
class IdentityView(View):
    """Reads category levels, brand, seller, the shop's categorical columns, and the item's id."""

    name = key = "identity"
    phrase = "what this query leads to"

    def fit(self, columns: ItemColumns, in_training: Bool[np.ndarray, " n"]) -> dict[str, dict[str, Any]]:
        """Ids for all values; an id of their own for items in training."""
        ids = columns.table[_ID_COLUMN].filter(pa.array(in_training)).to_pylist()
        return {_ID_COLUMN: number_values(ids)} | number_columns(_ATTRIBUTES, _attributes(columns))

    def encode(self, columns: ItemColumns, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
        """The ids of each item's attributes, and its own."""
        return {
            _ATTRIBUTES: look_up_columns(_ATTRIBUTES, vocabulary, _attributes(columns)),
            _IDS: look_up_ids(vocabulary[_ID_COLUMN], columns.table[_ID_COLUMN].to_pylist()),
        }

    def sizes(self, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """How many ids there are of either kind."""
        return {_ATTRIBUTES: count_ids(_ATTRIBUTES, vocabulary), _IDS: 1 + len(vocabulary[_ID_COLUMN])}

    def make_tower(self, shape: TowerShape) -> ViewTower:
        """Tables of attributes, items and queries."""
        return IdentityTower(shape)


@final
class IdentityTower(ViewTower):
    """Queries have a memory of their whole text, items one of themselves."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        sizes, dim = shape.sizes, shape.dim
        self.query_memory = zero_table(shape.query_buckets + 1, dim)
        self.identity = random_table(sizes.tables[_ATTRIBUTES], dim)
        self.item_ids = zero_table(sizes.tables[_IDS], dim)
        self.identity_numbers = nn.Linear(sizes.numbers + STATISTICS, dim)

    @property
    def memories(self) -> list[nn.Parameter]:
        """Those of whole queries and of items."""
        return [self.query_memory, self.item_ids]

    def embed_queries(self, embedding: Float[Tensor, "n dim"], inputs: QueryInputs) -> Float[Tensor, "n dim"]:
        """The words and the memory of the whole query."""
        return embedding + look_up(self.query_memory, inputs.memory)

    def embed_items(self, inputs: ItemInputs, words: Float[Tensor, "n dim"] | None) -> Float[Tensor, "n dim"]:
        """The attributes, the memory of the item, and its numbers."""
        attributes = sum_bags(self.identity, inputs.bags(_ATTRIBUTES))
        embedding: Tensor = (
            attributes + look_up(self.item_ids, inputs.ids(_IDS)) + self.identity_numbers(inputs.numbers)
        )
        return embedding

    def compiled(self) -> CompiledView:
        """The memory of whole queries."""
        return CompiledIdentity(to_array(self.query_memory))


@final
class CompiledIdentity(CompiledView):
    """The memory of whole queries."""

    def __init__(self, memory: Float32[np.ndarray, "rows dim"]) -> None:
        self._memory = memory

    def add_to(self, embedding: Float32[np.ndarray, " dim"], query: ParsedQuery) -> None:
        """Adds what the whole query led to."""
        if query.memory:
            embedding += self._memory[query.memory]


def _attributes(columns: ItemColumns) -> dict[str, Sequence[Texts]]:
    attributes: dict[str, Sequence[Texts]] = {
        f"category{depth}": level for depth, level in enumerate(columns.all_category_levels(), 1)
    }
    for name in ("brand", "seller", *columns.shop_columns["categorical"]):
        attributes[name] = columns.value_columns(name)
    return attributes
