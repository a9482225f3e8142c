"""The arms of a simulated test: each recipe trained on the same log, a run folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmse.core.config import require
from mmse.model.recipes import RECIPES
from mmse.pipeline import Listener, Shop, embed_stage, index_stage, mine_stage, ranking_stage, train_stage
from mmse.schema.search import Channel


@dataclass(frozen=True)
class Arm:
    """What shoppers of an arm are served: a recipe's run, by a channel of it."""

    recipe: str = "mmse"
    channel: Channel = "hybrid"

    def __post_init__(self) -> None:
        require(self.recipe in RECIPES, "recipe", self.recipe, f"one of {', '.join(RECIPES)}")


def make_runs(shop: Shop, recipes: Sequence[str], folder: Path, listener: Listener) -> dict[str, Path]:
    """A run folder for each of `recipes`, below `folder`, with groups mined once; what is up to date stays."""
    mine_stage(shop, folder / "mined", listener)
    return {recipe: _run(shop, recipe, folder, listener) for recipe in dict.fromkeys(recipes)}


def _run(shop: Shop, recipe: str, folder: Path, listener: Listener) -> Path:
    run = folder / recipe
    _link(folder / "mined" / "dataset", run / "dataset")
    own = replace(shop, train=replace(shop.train, recipe=recipe))
    for stage in (train_stage, embed_stage, index_stage, ranking_stage):
        stage(own, run, listener)
    return run


def _link(dataset: Path, place: Path) -> None:
    """The groups of all runs are the same files."""
    if place.is_dir():
        shutil.rmtree(place)
    shutil.copytree(dataset, place, copy_function=os.link)
