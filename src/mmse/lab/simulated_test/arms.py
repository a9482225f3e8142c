"""The arms of a simulated test: one run folder per recipe, all trained on the same log."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmse.core.config import require
from mmse.core.run_folder import DATASET, INDEX, MODEL, RANKING, SERVING, VECTORS, RunFolder
from mmse.model.recipes import RECIPES
from mmse.pipeline import Listener, make
from mmse.schema.search import Channel
from mmse.shop import Shop


@dataclass(frozen=True)
class SimulatedArm:
    """The searches of an arm: the run of a recipe, through one of its channels."""

    recipe: str = "mmse"
    channel: Channel = "hybrid"

    def __post_init__(self) -> None:
        require(self.recipe in RECIPES, "recipe", self.recipe, f"one of {', '.join(RECIPES)}")


def make_runs(shop: Shop, recipes: Sequence[str], folder: Path, listener: Listener) -> dict[str, Path]:
    """A run folder for each of `recipes`, below `folder`, with one dataset for all; makes what is not up to date."""
    make(DATASET, shop, folder / "mined", listener)
    return {recipe: _make_run(shop, recipe, folder, listener) for recipe in dict.fromkeys(recipes)}


def _make_run(shop: Shop, recipe: str, folder: Path, listener: Listener) -> Path:
    run = folder / recipe
    _link(RunFolder(folder / "mined").dataset, RunFolder(run).dataset)
    shop = replace(shop, train=replace(shop.train, recipe=recipe))
    for kind in (SERVING, MODEL, VECTORS, INDEX, RANKING):
        make(kind, shop, run, listener)
    return run


def _link(dataset: Path, target: Path) -> None:
    """Makes `target` a copy of `dataset` with hard links, so that all runs share the same files."""
    if target.is_dir():
        shutil.rmtree(target)
    shutil.copytree(dataset, target, copy_function=os.link)
