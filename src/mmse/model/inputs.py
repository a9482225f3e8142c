"""The inputs of the towers: tensors made from text, ids and numbers, in the same way for training and serving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32, Int64
from torch import Tensor

from mmse.model.bags import BagIndex, bags_of_ids
from mmse.model.features import ItemFeatures
from mmse.text.tokenizer import Bags


@dataclass(frozen=True)
class Sizes:
    """The numbers of rows of the embedding tables, and how many `numbers` an item has without those of the log."""

    grains: int
    identity: int
    item_ids: int
    shopper: int
    numbers: int


@dataclass(frozen=True)
class QueryInputs:
    """`n` queries: text grains, the bucket of the whole query and of the shopper (0: unknown), recent history.

    `history` is a bag of the shopper-table ids of the items that a shopper clicked or ordered before the request.
    """

    text: BagIndex
    memory: Int[Tensor, " n"]
    user: Int[Tensor, " n"]
    history: BagIndex

    def to(self, device: torch.device) -> QueryInputs:
        """The same inputs on `device`."""
        return QueryInputs(self.text.to(device), self.memory.to(device), self.user.to(device), self.history.to(device))


@dataclass(frozen=True)
class ItemInputs:
    """`n` items: text grains, identity ids, own ids (0: unknown or dropped), shopper ids, and numbers."""

    text: BagIndex
    identity: BagIndex
    item_ids: Int[Tensor, " n"]
    shopper: BagIndex
    numbers: Float[Tensor, "n numbers"]

    def to(self, device: torch.device) -> ItemInputs:
        """The same inputs on `device`."""
        return ItemInputs(
            self.text.to(device),
            self.identity.to(device),
            self.item_ids.to(device),
            self.shopper.to(device),
            self.numbers.to(device),
        )


def make_query_inputs(
    text: Bags,
    memory: Int64[np.ndarray, " n"],
    user: Int64[np.ndarray, " n"],
    history: Int32[np.ndarray, "n ids"],
    sizes: Sizes | None = None,
) -> QueryInputs:
    """Inputs for `n` queries; `history` holds shopper-table ids, 0 for none. `sizes` is needed for training only."""
    return QueryInputs(
        text=BagIndex.from_bags(text, sizes.grains if sizes else None),
        memory=torch.from_numpy(memory),
        user=torch.from_numpy(user),
        history=BagIndex.from_bags(bags_of_ids(history), sizes.shopper if sizes else None),
    )


def make_item_inputs(
    features: ItemFeatures,
    statistics: Float32[np.ndarray, "all_items statistics"],
    rows: Int64[np.ndarray, " n"],
    sizes: Sizes | None = None,
) -> ItemInputs:
    """Inputs for the items at `rows`; `statistics` has all items. `sizes` is needed for training only."""
    return ItemInputs(
        text=BagIndex.from_bags(features.text.take(rows), sizes.grains if sizes else None),
        identity=BagIndex.from_bags(bags_of_ids(features.identity[rows]), sizes.identity if sizes else None),
        item_ids=torch.from_numpy(features.item_ids[rows].astype(np.int64)),
        shopper=BagIndex.from_bags(bags_of_ids(features.shopper[rows]), sizes.shopper if sizes else None),
        numbers=torch.from_numpy(item_numbers(features, statistics, rows)),
    )


def item_numbers(
    features: ItemFeatures,
    statistics: Float32[np.ndarray, "all_items statistics"],
    rows: Int32[np.ndarray, " n"] | Int64[np.ndarray, " n"],
) -> Float32[np.ndarray, "n numbers"]:
    """The numbers of the items at `rows`: first those of the catalogue, then those of the log."""
    return np.concatenate([features.numbers[rows], statistics[rows]], axis=1)
