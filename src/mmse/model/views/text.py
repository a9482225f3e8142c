"""The text view: the words of the query against the words of the item."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from mmse.model.inputs import ItemInputs
from mmse.model.views.view import ResidualBlock, TowerShape, View, ViewTower


@final
class TextView(View):
    """Reads nothing of its own: the words of items are inputs that all views may read."""

    name = key = "text"
    phrase = "similar text"

    def make_tower(self, shape: TowerShape) -> ViewTower:
        """A layer for each side."""
        return TextTower(shape)


@final
class TextTower(ViewTower):
    """Both sides are the words through a layer of their own."""

    reads_words = True

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.item_dense = ResidualBlock(shape.dim)

    def embed_items(self, inputs: ItemInputs, words: Float[Tensor, "n dim"] | None) -> Float[Tensor, "n dim"]:
        """The words through a layer."""
        assert words is not None
        embedding: Tensor = self.item_dense(words)
        return embedding
