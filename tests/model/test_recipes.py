"""Recipes as values: what they hold, single keys replaced, what cannot be, and a user's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mmse.core.config import build, plain_values
from mmse.core.errors import UsageError
from mmse.model import recipe as registry
from mmse.model.objectives import BatchScores
from mmse.model.recipes import ABLATIONS, BUILT_IN, OBJECTIVES, RECIPES, Recipe, StageWeights, objective, override
from mmse.schema.stages import Stage
from mmse.training.loop import TrainConfig


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what is imported from it, and what it registers, is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    modules, losses = set(sys.modules), dict(OBJECTIVES)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    OBJECTIVES.clear()
    OBJECTIVES.update(losses)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_plain_values(name: str) -> None:
    assert build(Recipe, plain_values(RECIPES[name]), name) == RECIPES[name]
    entry = BUILT_IN[name]
    assert entry.recipe is RECIPES[name]
    assert all(len(text) > 10 for text in (entry.paper, entry.equation, entry.differs))


def test_the_baseline_that_must_be_beaten() -> None:
    """A softmax with an order weight: apart from that weight it is the paper's reading without the ranking loss."""
    weights = StageWeights(clicked=1.0, carted=5.0, ordered=15.0)
    assert RECIPES["weighted_softmax"] == replace(RECIPES["mmse_paper"], rank_weight=0.0, stage_weights=weights)


def test_a_goal_lies_between_clicks_and_orders() -> None:
    assert TrainConfig().to_recipe() == RECIPES["mmse"]
    clicks, half = (TrainConfig(goal=goal).to_recipe() for goal in (0.0, 0.5))
    assert clicks.stage_weights == StageWeights(clicked=1.0, carted=1.0, ordered=1.0)
    assert half.stage_weights == StageWeights(clicked=1.0, carted=10.5, ordered=30.5)
    assert (clicks.conversion, half.conversion) == (0.0, 0.25)
    assert not TrainConfig(goal=0.0).to_model().conversion
    with pytest.raises(ValueError, match=r"from 0 \(clicks\) to 1 \(orders\)"):
        TrainConfig(goal=1.5)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_thing(name: str) -> None:
    config = build(TrainConfig, ABLATIONS[name], name)
    changes = {k: v for k, v in plain_values(config).items() if v != plain_values(TrainConfig())[k]}
    assert len(changes) == 1 or changes.keys() == {"views", "vectors"}, "one view alone has no vectors of the shop"
    ablation, base = plain_values(config.to_recipe()), plain_values(RECIPES["mmse"])
    differs = {key for key in ablation if ablation[key] != base[key]}
    two = ("with_retrieved", "without_expected_orders", "without_stage_weights")
    assert len(differs) == (0 if "objective" not in changes else 2 if name in two else 1)


def test_what_a_stage_counts_as() -> None:
    clicks = Recipe(reads=("unclicked", "clicked")).stage_map
    assert clicks == (Stage.RANDOM, Stage.RANDOM, Stage.UNCLICKED, Stage.CLICKED, Stage.CLICKED, Stage.CLICKED)
    orders = Recipe(reads=("ordered", "unclicked")).stage_map
    assert orders[Stage.CARTED] == orders[Stage.UNCLICKED] == Stage.UNCLICKED
    assert RECIPES["mmse"].lowest_stage is Stage.UNCLICKED
    assert override(Recipe(), ABLATIONS["with_retrieved"]["objective"], "x").lowest_stage is Stage.RETRIEVED


def test_single_keys_are_replaced_also_inside_tables() -> None:
    recipe = override(RECIPES["mgdspr"], {"temperature": 0.1, "hard": {"n": 5}, "stage_weights": {"ordered": 2}}, "x")
    assert recipe.temperature == 0.1
    assert recipe.hard == replace(RECIPES["mgdspr"].hard, n=5)
    assert recipe.stage_weights == StageWeights(clicked=1.0, carted=1.0, ordered=2.0)
    assert replace(recipe, temperature=0.05, hard=RECIPES["mgdspr"].hard, stage_weights=recipe.stage_weights) == (
        replace(RECIPES["mgdspr"], stage_weights=recipe.stage_weights)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"retrieval": "sotfmax"}, "did you mean 'softmax'"),
        ({"ranking": "none"}, "'ranking' is 'none', expected one of"),
        ({"temprature": 1}, "temperature"),
        ({"stage_weights": {"orderd": 7}}, "stage_weights: there is no key 'orderd'.*Did you mean 'ordered'"),
        ({"stage_weights": [0, 1, 7]}, "'stage_weights'"),
        ({"stage_weights": {"clicked": -1}}, "'clicked' is -1.0, expected 0 or more"),
        ({"stage_weights": {"clicked": 0, "carted": 0, "ordered": 0}}, "at least one weight above 0"),
        ({"stage_weights": {"retrieved": 1}}, "'retrieved' among them"),
        ({"reads": ["clickd"]}, "reads"),
        ({"reads": ["clicked", "clicked"]}, "each stage once"),
        ({"reads": ["unclicked"]}, "whose weight is above 0"),
        ({"rank_from": "retrieved"}, "'retrieved' among them"),
        ({"n_random": 0, "in_batch": "none"}, "a loss needs negatives"),
        ({"retrieval": "hinge", "hard": {"n": 3}}, "chooses its negatives itself"),
        ({"retrieval": "multi_positive", "own_negatives": "lower"}, "chooses its negatives itself"),
        ({"retrieval": "thresholds", "learn_temperature": True}, "has no temperature"),
        ({"uncertainty": True, "rank_weight": 0}, "two losses to weigh"),
        ({"reads": ["unclicked", "clicked"]}, "'clicked' and 'ordered' among them"),
        ({"retrieval": "multi_positive"}, "weighs stages, not items"),
        ({"matryoshka": [32, 16]}, "rising widths"),
        ({"hard": {"mix": [0.6, 0.4]}}, "the lower one first"),
        ({"hard": {"guard": 95}}, "a share between 0 and 1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error_info:
        build(TrainConfig, {"objective": values}, "shop.toml [train]")
    assert re.search(message, f"{error_info.value.cause} {error_info.value.cure}")


def test_a_recipe_of_ones_own_is_found_in_the_current_folder(folder: Path) -> None:
    (folder / "house_recipes.py").write_text(
        "from mmse.model.recipes import Recipe\nCALM = Recipe(temperature=0.2)\nOTHER = 3\n", "utf-8"
    )
    path = list(sys.path)
    config = build(TrainConfig, {"recipe": "house_recipes:CALM", "objective": {"n_random": 9}}, "x")
    assert config.to_recipe() == Recipe(temperature=0.2, n_random=9)
    assert sys.path == path
    assert "house_recipes:CALM" in RECIPES
    assert "house_recipes:CALM" not in list(RECIPES)
    for name, message in (
        ("house_recipes:CLAM", "'house_recipes' has no 'CLAM'; it has CALM"),
        ("house_recipes:OTHER", "'OTHER' is a int, expected Recipe"),
        ("house_recipes:", "has no ''"),
        ("home_recipes:CALM", "cannot import 'home_recipes'"),
        (":CALM", "cannot import ''"),
    ):
        with pytest.raises(UsageError, match=message):
            build(TrainConfig, {"recipe": name}, "x")
    with pytest.raises(UsageError, match="'recipe' is 'calm', expected one of mmse, "):
        build(TrainConfig, {"recipe": "calm"}, "x")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("from mmse.model.recipes import Recipe\nMINE = Recipe(temperature=-1.0)", "ValueError: 'temperature' is -1.0"),
        ("MINE = Recip(", "SyntaxError"),
        ("from mmse.model.recipes import objective\nobjective('softmax')(lambda s, r: s.own.sum())", "Rename it"),
    ],
)
def test_what_is_wrong_with_the_users_module_is_said(folder: Path, code: str, message: str) -> None:
    (folder / "broken_recipes.py").write_text(code, "utf-8")
    with pytest.raises(UsageError) as error_info:
        RECIPES["broken_recipes:MINE"]
    assert message in f"{error_info.value.cause} {error_info.value.cure}"


def test_a_loss_may_be_registered_again_by_the_same_module_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "OBJECTIVES", dict(OBJECTIVES))

    def mine(scores: BatchScores, recipe: Recipe) -> Tensor:
        return scores.own_scores.sum()

    def other(scores: BatchScores, recipe: Recipe) -> Tensor:
        return scores.own_scores.mean()

    objective("mine")(mine)
    objective("mine")(mine)
    with pytest.raises(UsageError, match=r"The loss 'mine' of .*other has the name of .*mine"):
        objective("mine")(other)
