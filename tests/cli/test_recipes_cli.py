"""`mmse recipes`, and what docs/recipes.md says of recipes and shows of one's own."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cli.called import Call
from mmse.cli.recipes import as_markdown
from mmse.core.artifact import read_manifest
from mmse.core.config import build, plain_values
from mmse.model.encoder import Encoder
from mmse.model.recipes import ABLATIONS, BUILT_IN, OBJECTIVES, RECIPES, Recipe
from mmse.shop import Shop
from mmse.training.loop import TrainConfig

DOCS = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")


def block(language: str, having: str) -> str:
    """The one block of code of the docs that holds `having`."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL) if having in code]
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that commands are run in; a module of it, and its losses, are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    losses = dict(OBJECTIVES)
    yield tmp_path
    sys.modules.pop("my_recipes", None)
    OBJECTIVES.clear()
    OBJECTIVES.update(losses)


def test_the_list_and_one_recipe(call: Call) -> None:
    listed = call("recipes")
    assert listed.code == 0
    assert all(name in listed.out for name in BUILT_IN)
    assert all(name in listed.out.replace("\n", " ") for name in ABLATIONS)
    one = call("recipes", "mgdspr")
    assert "Taobao" in one.out
    assert "n = 32" in one.out
    said = json.loads(call("recipes", "dpsr", "--json").out)
    assert build(Recipe, said["recipe"], "json") == RECIPES["dpsr"]
    assert said["paper"].startswith("Zhang")
    assert [one["name"] for one in json.loads(call("recipes", "--json").out)] == list(BUILT_IN)
    wrong = call("recipes", "dsm")
    assert wrong.code == 2
    assert "There is no recipe 'dsm'" in wrong.err


def test_the_docs_say_what_the_program_says(call: Call) -> None:
    assert DOCS.endswith(as_markdown()), "make it again: mmse recipes --markdown"
    assert call("recipes", "--markdown").out == as_markdown()
    table = DOCS.split("## The keys of a recipe")[1].split("<!--")[0]
    for field in fields(Recipe):
        assert f"`{field.name}`" in table, field.name


def test_the_toml_of_the_docs() -> None:
    config = build(TrainConfig, tomllib.loads(block("toml", "[train]"))["train"], "docs")
    assert config.to_recipe().rank_weight == 0.5
    assert plain_values(config.to_recipe().stage_weights) == {
        "retrieved": 0,
        "unclicked": 0.05,
        "clicked": 1,
        "carted": 20,
        "ordered": 10,
    }


def test_a_recipe_of_ones_own_as_the_docs_show_it(call: Call, small_shop: Shop, folder: Path) -> None:
    code = block("python", "my_recipes")
    assert len(code.splitlines()) <= 20
    (folder / "my_recipes.py").write_text(code, "utf-8")
    shop = small_shop.path
    shutil.copytree(small_shop.base.parent / "run" / "dataset", folder / "run" / "dataset")
    command = block("sh", "my_recipes:FOCAL").split()
    assert command[:3] == ["mmse", "train", "shop.toml"]
    done = call("train", shop, *command[3:], "--out", folder / "run", "--epochs", 1)
    assert done.code == 0, done.err
    manifest = read_manifest(folder / "run" / "model", "model")
    assert manifest.config["recipe"] == "my_recipes:FOCAL"
    kept = manifest.config["objective"]
    assert (kept["retrieval"], kept["stage_weights"]["ordered"], kept["rank_weight"]) == ("focal", 5.0, 0.1)
    assert build(Recipe, kept, "manifest") == replace(RECIPES["my_recipes:FOCAL"], n_random=64)  # as shop.toml says
    assert manifest.counts["validation_recall@100"] > 0.3
    sys.modules.pop("my_recipes")
    (folder / "my_recipes.py").unlink()
    assert Encoder.open(folder / "run" / "model").views
    gone = call("train", shop, *command[3:], "--out", folder / "run")
    assert gone.code == 2
    assert "cannot import 'my_recipes'" in gone.err.replace("\n", " ")
