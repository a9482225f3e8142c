"""Learns from the training log how likely an order is after a click."""

from __future__ import annotations

import numpy as np

from mmse.model.conversion import Conversion
from mmse.model.inputs import ItemFeatures, item_numbers
from mmse.model.recipes import Recipe
from mmse.model.towers import TwoTower
from mmse.schema.stages import Stage
from mmse.training.encoded_requests import read_period, read_shard
from mmse.training.shards import Shards


def learn_conversion(shards: Shards, features: ItemFeatures, towers: TwoTower, recipe: Recipe) -> Conversion | None:
    """Fits P(order | click) on every training click and stores it in `towers` where the recipe has `conversion`.

    Items have their statistics from before the click's period. Only clicks of the log count, without those that
    `reformulations` adds, since nobody saw whether they led to an order. None where the recipe does not need it.
    """
    if not (recipe.conversion > 0 or recipe.expected_orders):
        return None
    numbers, ordered = [], []
    for path in shards.paths:
        table, _ = read_shard(path)
        stages = table["stage"].to_numpy()
        clicked = stages >= Stage.CLICKED
        rows = table["item_row"].to_numpy()[clicked]
        numbers.append(item_numbers(features, shards.statistics(read_period(path)), rows))
        ordered.append(stages[clicked] == Stage.ORDERED)
    conversion = Conversion.fit(np.concatenate(numbers), np.concatenate(ordered))
    if recipe.conversion > 0:
        for tower in towers.number_towers:
            tower.learn(conversion, recipe.conversion * recipe.temperature)
    return conversion
