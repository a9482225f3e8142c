"""What the towers read of queries and items: features as arrays, and inputs as tensors made from them.

Inputs are made in the same way for training and serving. Every view may read an item's words and numbers; what else a
view reads of an item is its own, under a name that it gives (`mmse.model.views`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float32, Int, Int32, Int64
from torch import Tensor

from mmse.model.bags import BagIndex, bags_of_ids, clear_bags, thin_bags
from mmse.model.item_statistics import STATISTICS
from mmse.text.tokenizer import Bags

__all__ = [
    "HISTORY",
    "STATISTICS",
    "Feature",
    "ItemFeatures",
    "ItemInputs",
    "QueryInputs",
    "Sizes",
    "item_numbers",
    "make_item_inputs",
    "make_query_inputs",
]

HISTORY = "shopper"
"""The name of the features that tell of an item in a shopper's history: ids of its traits."""

Feature = Int32[np.ndarray, "n ids"] | Int32[np.ndarray, " n"] | Float16[np.ndarray, "n width"]
"""What a view reads of `n` items: a bag of ids each, one id each, which is a memory of that item, or a vector each.

An id of 0 means "none", as does a vector of zeros.
"""


@dataclass(frozen=True)
class Sizes:
    """How many grains there are, how many `numbers` an item has without those of the log, and what views need.

    `tables` has, by the name of the feature, the rows of the table of its ids, or the numbers of a vector.
    """

    grains: int
    numbers: int
    tables: Mapping[str, int]

    @classmethod
    def from_plain(cls, values: Mapping[str, int]) -> Sizes:
        """The sizes that a model's file has, all under their names."""
        tables = {name: size for name, size in values.items() if name not in ("grains", "numbers")}
        return cls(values["grains"], values["numbers"], tables)

    def to_plain(self) -> dict[str, int]:
        """The form of a model's file."""
        return {"grains": self.grains, **self.tables, "numbers": self.numbers}


@dataclass(frozen=True)
class ItemFeatures:
    """Features of `n` items: the grains of their words, numbers, and what views read besides, by name.

    `numbers` are the price relative to its category, the rating, and the shop's numeric columns.
    """

    text: Bags
    numbers: Float32[np.ndarray, "n numbers"]
    tables: Mapping[str, Feature]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def traits(self) -> Int32[np.ndarray, "n traits"]:
        """What tells of each item in a shopper's history."""
        return np.asarray(self.tables[HISTORY], np.int32)

    @property
    def has_vector(self) -> Bool[np.ndarray, " n"] | None:
        """Which items have a vector of any kind; None where the shop brings none."""
        vectors = [feature for feature in self.tables.values() if _is_vector(feature)]
        return np.logical_or.reduce([feature.any(axis=1) for feature in vectors]) if vectors else None

    def take(self, rows: Int64[np.ndarray, " m"]) -> ItemFeatures:
        """The features of the items at `rows`."""
        tables = {name: feature[rows] for name, feature in self.tables.items()}
        return ItemFeatures(self.text.take(rows), self.numbers[rows], tables)

    def hide_vectors(self, is_hidden: Bool[np.ndarray, " n"]) -> ItemFeatures:
        """The same items, of which those of the mask have no vector."""
        tables = {
            name: _mask_rows(feature, is_hidden) if _is_vector(feature) else feature
            for name, feature in self.tables.items()
        }
        return replace(self, tables=tables)

    def hide_listing(self, is_hidden: Bool[np.ndarray, " n"]) -> ItemFeatures:
        """The same items, of which those of the mask have neither words nor ids, but vectors and numbers alone."""
        tables = {
            name: feature if _is_vector(feature) else _mask_rows(feature, is_hidden)
            for name, feature in self.tables.items()
        }
        return ItemFeatures(clear_bags(self.text, is_hidden), self.numbers, tables)

    def hide_words(self, share: float, rng: np.random.Generator) -> ItemFeatures:
        """The same items, each without about a `share` of the grains of its words."""
        return replace(self, text=thin_bags(self.text, rng.random(len(self.text.grains)) >= share))

    def look_up_history(self, history: Int32[np.ndarray, "n length"]) -> Int32[np.ndarray, "n ids"]:
        """The ids of the traits of the items in each history of item rows, -1 for none."""
        return look_up_traits(self.traits, history)


def look_up_traits(
    traits: Int32[np.ndarray, "items traits"], history: Int32[np.ndarray, "n length"]
) -> Int32[np.ndarray, "n ids"]:
    """The ids of the `traits` of the items in each history of item rows, -1 for none."""
    ids = np.where(history[:, :, None] >= 0, traits[history], 0)
    return ids.reshape(len(history), history.shape[1] * traits.shape[1]).astype(np.int32)


@dataclass(frozen=True)
class QueryInputs:
    """`n` queries: text grains, the bucket of the whole query and of the shopper (0: unknown), recent history.

    `history` is a bag of the traits of the items that a shopper clicked or ordered before the request.
    """

    text: BagIndex
    memory: Int[Tensor, " n"]
    user: Int[Tensor, " n"]
    history: BagIndex

    @property
    def has_history(self) -> Bool[Tensor, " n"]:
        """Which queries are of a shopper with a history."""
        return self.history.offsets.diff() > 0

    def to(self, device: torch.device) -> QueryInputs:
        """The same inputs on `device`."""
        return QueryInputs(self.text.to(device), self.memory.to(device), self.user.to(device), self.history.to(device))


@dataclass(frozen=True)
class ItemInputs:
    """`n` items: text grains, numbers (those of the log last), and what views read besides, by name."""

    text: BagIndex
    numbers: Float[Tensor, "n numbers"]
    tables: Mapping[str, BagIndex | Tensor]

    def __len__(self) -> int:
        return len(self.numbers)

    def bags(self, name: str) -> BagIndex:
        """The bags of ids under `name`."""
        bags = self.tables[name]
        assert isinstance(bags, BagIndex)
        return bags

    def ids(self, name: str) -> Int[Tensor, " n"]:
        """The ids under `name`, one for each item; 0: unknown or hidden."""
        ids = self.tables[name]
        assert isinstance(ids, Tensor)
        return ids

    def vectors(self, name: str) -> Float[Tensor, "n width"]:
        """The vectors under `name`; zeros where an item has none."""
        vectors = self.tables[name]
        assert isinstance(vectors, Tensor)
        return vectors

    def to(self, device: torch.device) -> ItemInputs:
        """The same inputs on `device`."""
        tables = {name: table.to(device) for name, table in self.tables.items()}
        return ItemInputs(self.text.to(device), self.numbers.to(device), tables)

    def hide_memories(self, share: float, rng: np.random.Generator) -> ItemInputs:
        """The same inputs, in which every memory of an item is hidden with the probability `share`."""
        tables = {
            name: torch.from_numpy(hide_ids(table.numpy(), share, rng)) if is_memory(table) else table
            for name, table in self.tables.items()
        }
        return replace(self, tables=tables)


def is_memory(table: BagIndex | Tensor) -> TypeGuard[Tensor]:
    """Whether an input is one id for each item."""
    return isinstance(table, Tensor) and not table.is_floating_point()


def make_query_inputs(
    text: Bags,
    memory: Int64[np.ndarray, " n"],
    user: Int64[np.ndarray, " n"],
    history: Int32[np.ndarray, "n ids"],
    sizes: Sizes | None = None,
) -> QueryInputs:
    """Inputs for `n` queries; `history` holds ids of traits, 0 for none. `sizes` is needed for training only."""
    return QueryInputs(
        text=BagIndex.from_bags(text, sizes.grains if sizes else None),
        memory=torch.from_numpy(memory),
        user=torch.from_numpy(user),
        history=BagIndex.from_bags(bags_of_ids(history), sizes.tables[HISTORY] if sizes else None),
    )


def make_item_inputs(
    features: ItemFeatures, statistics: Float32[np.ndarray, "n statistics"], sizes: Sizes | None = None
) -> ItemInputs:
    """Inputs for all items of `features`; `sizes` is needed for training only."""
    return ItemInputs(
        text=BagIndex.from_bags(features.text, sizes.grains if sizes else None),
        numbers=torch.from_numpy(np.concatenate([features.numbers, statistics], axis=1)),
        tables={
            name: _make_input(feature, sizes.tables[name] if sizes else None)
            for name, feature in features.tables.items()
        },
    )


def item_numbers(
    features: ItemFeatures,
    statistics: Float32[np.ndarray, "all_items statistics"],
    rows: Int32[np.ndarray, " n"] | Int64[np.ndarray, " n"],
) -> Float32[np.ndarray, "n numbers"]:
    """The numbers of the items at `rows`: first those of the catalogue, then those of the log."""
    return np.concatenate([features.numbers[rows], statistics[rows]], axis=1)


def hide_ids(ids: Int64[np.ndarray, " n"], share: float, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """`ids`, each replaced by 0 with the probability `share`."""
    is_hidden: Bool[np.ndarray, " n"] = rng.random(len(ids)) < share
    return np.where(is_hidden, np.int64(0), ids)


def _mask_rows(feature: Feature, is_hidden: Bool[np.ndarray, " n"]) -> Feature:
    """The feature, which is none where `is_hidden`."""
    return np.where(is_hidden if feature.ndim == 1 else is_hidden[:, None], feature.dtype.type(0), feature)


def _is_vector(feature: Feature) -> bool:
    return feature.dtype == np.float16


def _make_input(feature: Feature, n_rows: int | None) -> BagIndex | Tensor:
    if _is_vector(feature):
        return torch.from_numpy(feature.astype(np.float32))
    if feature.ndim == 1:
        return torch.from_numpy(feature.astype(np.int64))
    return BagIndex.from_bags(bags_of_ids(feature), n_rows)
