"""The shopper view: what the shopper took before, and who it is, against what kind of item this is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from mmse.model.bags import sum_bags
from mmse.model.inputs import HISTORY, STATISTICS, Feature, ItemInputs, QueryInputs
from mmse.model.item_columns import ItemColumns, Texts, count_ids, look_up_columns, number_columns
from mmse.model.views.layers import CompiledBlock, rescale_array, to_array
from mmse.model.views.view import (
    CompiledView,
    ParsedQuery,
    ResidualBlock,
    TowerShape,
    View,
    ViewTower,
    look_up,
    random_table,
    rescale,
    zero_table,
)

PRICE_BUCKETS = 12


@final
class ShopperView(View):
    """Reads what tells a shopper's taste: brand, category, price, and price within its category."""

    name = key = "shopper"
    phrase = "this shopper's taste"

    def fit(self, columns: ItemColumns, in_training: Bool[np.ndarray, " n"]) -> dict[str, dict[str, Any]]:
        """Ids for all values of the traits."""
        return number_columns(HISTORY, _traits(columns))

    def encode(self, columns: ItemColumns, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
        """The ids of each item's traits."""
        return {HISTORY: look_up_columns(HISTORY, vocabulary, _traits(columns))}

    def sizes(self, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """How many ids there are."""
        return {HISTORY: count_ids(HISTORY, vocabulary)}

    def make_tower(self, shape: TowerShape) -> ViewTower:
        """Tables of traits and shoppers."""
        return ShopperTower(shape)


@final
class ShopperTower(ViewTower):
    """A history is a bag of the traits of its items, in the table that describes items as well."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        sizes, dim = shape.sizes, shape.dim
        self.users = zero_table(shape.user_buckets + 1, dim)
        self.shopper = random_table(sizes.tables[HISTORY], dim)
        self.history_dense = ResidualBlock(dim)
        self.shopper_numbers = nn.Linear(sizes.numbers + STATISTICS, dim)

    @property
    def memories(self) -> list[nn.Parameter]:
        """That of shoppers."""
        return [self.users]

    def embed_queries(self, embedding: Float[Tensor, "n dim"], inputs: QueryInputs) -> Float[Tensor, "n dim"]:
        """The words, the taste that the history tells, and the memory of the shopper."""
        taste = self.history_dense(rescale(sum_bags(self.shopper, inputs.history)))
        has_history = inputs.has_history.to(embedding.dtype)
        shopper = look_up(self.users, inputs.user)
        query: Tensor = embedding + taste * has_history.unsqueeze(1) + shopper
        return query

    def embed_items(self, inputs: ItemInputs, words: Float[Tensor, "n dim"] | None) -> Float[Tensor, "n dim"]:
        """The traits and the numbers."""
        embedding: Tensor = sum_bags(self.shopper, inputs.bags(HISTORY)) + self.shopper_numbers(inputs.numbers)
        return embedding

    def compiled(self) -> CompiledView:
        """The taste and the memory of shoppers."""
        return CompiledShopper(self)


@final
class CompiledShopper(CompiledView):
    """The memory of shoppers, and the taste that a history tells."""

    def __init__(self, tower: ShopperTower) -> None:
        self._users, self._shopper = to_array(tower.users), to_array(tower.shopper)
        self._history_block = CompiledBlock.compile(tower.history_dense)

    def add_to(self, embedding: Float32[np.ndarray, " dim"], query: ParsedQuery) -> None:
        """Adds the taste and the shopper, where there are any."""
        if len(query.history):
            embedding += self._history_block(rescale_array(self._shopper.take(query.history, axis=0).sum(axis=0)))
        if query.user:
            embedding += self._users[query.user]


def _traits(columns: ItemColumns) -> dict[str, Sequence[Texts]]:
    """What tells a taste; of several brands or paths the first, so that every item has as many traits."""
    levels = columns.category_levels()
    steps = np.clip(np.round(columns.relative_price() * 3) + PRICE_BUCKETS // 2, 0, PRICE_BUCKETS - 1)
    absolute = np.round(2 * np.log1p(np.maximum(columns.numbers("price"), 0)))
    traits: dict[str, Texts] = {
        "brand": columns.texts("brand"),
        "category1": levels[0],
        "category2": levels[1],
        "category3": levels[2],
        "relative_price": Texts.from_numbers(steps),
        "price": Texts.from_numbers(absolute),
    }
    return {name: [texts] for name, texts in traits.items()}
