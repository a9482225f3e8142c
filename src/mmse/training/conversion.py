"""What the training log says of the worth of a click."""

from __future__ import annotations

import numpy as np

from mmse.model.conversion import Conversion
from mmse.model.features import ItemFeatures
from mmse.model.inputs import item_numbers
from mmse.model.recipes import Recipe
from mmse.model.towers import TwoTower
from mmse.schema.stages import Stage
from mmse.training.encoded_requests import period_of, read_shard
from mmse.training.shards import Shards


def learn_conversion(shards: Shards, features: ItemFeatures, towers: TwoTower, recipe: Recipe) -> Conversion | None:
    """Learned from every training click, each item as it was known before the click's period; told to the towers.

    The clicks are those of the log alone, without what `reformulations` adds: of those nobody saw the end. None where
    the recipe has no use for it.
    """
    if not (recipe.conversion > 0 or recipe.expected_orders):
        return None
    numbers, ordered = [], []
    for path in shards.paths:
        logged, _ = read_shard(path)
        stages = logged["stage"].to_numpy()
        clicked = stages >= Stage.CLICKED
        rows = logged["item_row"].to_numpy()[clicked]
        numbers.append(item_numbers(features, shards.statistics(period_of(path)), rows))
        ordered.append(stages[clicked] == Stage.ORDERED)
    conversion = Conversion.fit(np.concatenate(numbers), np.concatenate(ordered))
    if recipe.conversion > 0:
        towers.learn_conversion(conversion, recipe.conversion * recipe.temperature)
    return conversion
