"""What a batch costs under each recipe: what it may see, what is shared, and what is learned beside the towers."""

from __future__ import annotations

import itertools
from copy import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from jaxtyping import Int8
from safetensors.torch import load_file
from torch import Tensor

from mmse.core.config import build, plain_values
from mmse.core.errors import UsageError
from mmse.dataset.folder import DatasetFolder
from mmse.model.bags import BagIndex
from mmse.model.conversion import Conversion
from mmse.model.encoder import Encoder
from mmse.model.inputs import ItemFeatures, ItemInputs, QueryInputs
from mmse.model.item_statistics import STATISTICS
from mmse.model.recipes import RECIPES, HardNegatives, Recipe
from mmse.schema.stages import Stage
from mmse.shop import Shop
from mmse.text.tokenizer import Bags
from mmse.training.batches import Batch, Batches, Dropout
from mmse.training.loop import train
from mmse.training.losses import add_learned_parameters, compute_losses, compute_vector_losses
from mmse.training.meter import TrainingStep
from mmse.training.setup import fit_inputs
from mmse.training.shards import Shards

ALL_OPTIONS = Recipe(
    n_random=64,
    learn_temperature=True,
    uncertainty=True,
    matryoshka=(4,),
    own_negatives="lower",
    hard=HardNegatives(n=4, mix=(0.4, 0.6)),
)


@dataclass(frozen=True)
class SmallShop:
    """The small shop, ready to make batches of."""

    encoder: Encoder
    features: ItemFeatures
    shards: dict[bool, Shards]
    """By whether even unclicked items teach."""

    def batches(self, recipe: Recipe, *, swap: tuple[Stage, Stage] | None = None) -> Batches:
        """Batches of a log in which some clicks became carts; of two stages to `swap` some rows have the other's."""
        shards = copy(self.shards[recipe.stage_weights.teaches_without_click])
        random, shard_requests = np.random.default_rng(0), [requests for requests, _ in shards.read_all_usable()]
        shards._cache = {}
        for i, requests in enumerate(shard_requests):
            stages = requests.stages.copy()
            stages[(stages == Stage.CLICKED) & (random.random(len(stages)) < 0.3)] = Stage.CARTED
            shards._cache[i] = replace(requests, stages=relabelled(stages, swap, random.random(len(stages)) < 0.5))
        return Batches(
            shards,
            self.features,
            self.encoder.towers.sizes,
            recipe,
            batch_requests=64,
            group_size=6,
            dropout=Dropout(),
            seed=5,
        )

    def batch(self, recipe: Recipe) -> Batch:
        return next(self.batches(recipe).epoch(0))


def relabelled(
    stages: Int8[np.ndarray, " rows"], swap: tuple[Stage, Stage] | None, is_changed: np.ndarray
) -> Int8[np.ndarray, " rows"]:
    if swap is None:
        return stages
    stage, new_stage = swap
    return np.where(
        is_changed & (stages == stage), new_stage, np.where(is_changed & (stages == new_stage), stage, stages)
    ).astype(np.int8)


def same(a: object, b: object) -> bool:
    """Whether two batches are alike to the last bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


@pytest.fixture(scope="module")
def shop_fixture(small_shop: Shop) -> SmallShop:
    dataset = small_shop.base.parent / "run" / "dataset"
    tokenizer, space = fit_inputs(dataset, small_shop.train)
    features = space.encode(pq.read_table(DatasetFolder(dataset).items), tokenizer)
    torch.manual_seed(1)
    encoder = Encoder.create(small_shop.train.to_model(), tokenizer, space, features)
    return SmallShop(encoder, features, {every: Shards(dataset, encoder, all_stages=every) for every in (False, True)})


def smaller(name: str) -> Recipe:
    return replace(RECIPES[name], n_random=min(RECIPES[name].n_random, 64))


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_reads_a_label_that_it_should_not_see(shop_fixture: SmallShop, name: str) -> None:
    """Rows of two stages that count as the same to it swap their labels: neither batch nor loss may know."""
    recipe = smaller(name)
    batch = next(shop_fixture.batches(recipe).epoch(0))
    cost = compute_losses(shop_fixture.encoder, batch, recipe)
    assert all(torch.isfinite(part) for part in cost)
    stage_map = recipe.stage_map
    for stage, other_stage in itertools.combinations([Stage.UNCLICKED, Stage.CLICKED, Stage.CARTED, Stage.ORDERED], 2):
        swapped_batch = next(shop_fixture.batches(recipe, swap=(stage, other_stage)).epoch(0))
        alike = stage_map[stage] == stage_map[other_stage]
        assert same(batch, swapped_batch) == alike, (stage.name, other_stage.name)
        if alike:
            swapped_losses = compute_losses(shop_fixture.encoder, swapped_batch, recipe)
            assert torch.equal(cost.retrieval, swapped_losses.retrieval)
            assert torch.equal(cost.ranking, swapped_losses.ranking)


@pytest.mark.parametrize(
    ("name", "alike"),
    [
        ("dssm", [Stage.CLICKED, Stage.CARTED, Stage.ORDERED]),
        ("dpsr", [Stage.CLICKED, Stage.CARTED, Stage.ORDERED]),
        ("mgdspr", [Stage.CLICKED, Stage.CARTED, Stage.ORDERED]),
        ("semantic_product_search", [Stage.UNCLICKED, Stage.CLICKED, Stage.CARTED]),
        ("moppr", [Stage.CLICKED, Stage.CARTED]),
        ("mmse", []),
        ("weighted_softmax", []),
        ("h_infonce", []),
    ],
)
def test_what_each_paper_tells_apart(name: str, alike: list[Stage]) -> None:
    stage_map = RECIPES[name].stage_map
    assert [
        s
        for s in Stage
        if sum(stage_map[s] == stage_map[other_stage] for other_stage in Stage if other_stage > Stage.RETRIEVED) > 1
    ] == alike


@pytest.mark.parametrize("name", RECIPES)
def test_a_word_is_the_same_row_for_queries_and_titles(shop_fixture: SmallShop, name: str) -> None:
    """The gradients of both sides land in one table, in the rows of the grains that either side holds."""
    recipe = smaller(name)
    batch, towers = shop_fixture.batch(recipe), shop_fixture.encoder.towers
    query_rows, title_rows = set(batch.queries.text.rows.tolist()), set(batch.items.text.rows.tolist())
    assert query_rows & title_rows
    table = towers.token_table().detach()

    def gradient_of(*, queries: bool, items: bool) -> Tensor:
        """What the token table is told where only some sides may speak."""
        tokens = table.clone().requires_grad_()
        views, gates = towers.embed_queries(batch.queries, tokens if queries else table)
        vectors = towers.embed_items(batch.items, tokens if items else table)
        cost = compute_vector_losses(views * gates.unsqueeze(2), vectors, batch, recipe, towers.extra)
        (gradient,) = torch.autograd.grad(cost.retrieval + recipe.rank_weight * cost.ranking, tokens)
        return gradient

    all_gradients, query_side, item_side = (
        gradient_of(queries=q, items=i) for q, i in ((True, True), (True, False), (False, True))
    )
    torch.testing.assert_close(all_gradients, query_side + item_side)
    for side, grains in ((query_side, query_rows), (item_side, title_rows)):
        rows = set(side.abs().sum(dim=1).nonzero().flatten().tolist())
        assert rows
        assert rows <= grains
    shared_rows = (query_side.abs().sum(dim=1) > 0) & (item_side.abs().sum(dim=1) > 0)
    assert shared_rows.any(), "no row hears of both sides"


def test_what_is_learned_starts_at_the_recipes_values(shop_fixture: SmallShop) -> None:
    """Learned temperatures and weights, before any step, cost what the fixed ones do: τ, τ_r, and 1 and λ."""
    plain, batch = Recipe(n_random=64), shop_fixture.batch(Recipe(n_random=64))
    towers = shop_fixture.encoder.towers
    plain_losses = compute_losses(shop_fixture.encoder, batch, plain)
    try:
        for recipe in (replace(plain, learn_temperature=True), replace(plain, uncertainty=True)):
            add_learned_parameters(towers, recipe)
            recipe_losses = compute_losses(shop_fixture.encoder, batch, recipe)
            total = recipe_losses.retrieval + recipe.rank_weight * recipe_losses.ranking
            offset = -np.log(recipe.rank_weight) / 2 if recipe.uncertainty else 0.0
            expected_loss = plain_losses.retrieval + plain.rank_weight * plain_losses.ranking + offset
            assert total.item() == pytest.approx(expected_loss.item(), rel=1e-5)
        total.backward()  # type: ignore[no-untyped-call]
        noise = towers.extra["uncertainty"]
        expected_slope = torch.stack([0.5 - plain_losses.retrieval, 0.5 - plain.rank_weight * plain_losses.ranking])
        torch.testing.assert_close(noise.grad, expected_slope)
    finally:
        towers.extra.clear()
        towers.zero_grad()


def test_a_learned_temperature_is_that_of_a_recipe_with_its_value(shop_fixture: SmallShop) -> None:
    batch, towers = shop_fixture.batch(Recipe(n_random=64)), shop_fixture.encoder.towers
    recipe = Recipe(n_random=64, learn_temperature=True)
    try:
        add_learned_parameters(towers, recipe)
        with torch.no_grad():
            towers.extra["temperature"].copy_(torch.tensor(0.2).log())
            towers.extra["rank_temperature"].copy_(torch.tensor(1e-9).log())
        learned_losses = compute_losses(shop_fixture.encoder, batch, recipe)
    finally:
        towers.extra.clear()
    fixed_losses = compute_losses(
        shop_fixture.encoder, batch, Recipe(n_random=64, temperature=0.2, rank_temperature=0.01)
    )
    torch.testing.assert_close(torch.stack(learned_losses), torch.stack(fixed_losses))


def test_matryoshka_adds_the_losses_of_the_first_dimensions() -> None:
    """One view of 4 dimensions, of which the first two, at the length of the whole view, give other scores."""
    batch = one_request()
    queries = torch.tensor([[[0.3, 0.0, 0.4, 0.0]]])  # a view at the length of its gate, 0.5
    items = torch.tensor([[[0.6, 0.8, 0.0, 0.0]], [[0.0, 1.0, 0.0, 0.0]]])
    recipe, extra = Recipe(n_random=1, rank_weight=0.0), torch.nn.ParameterDict()
    cut_queries, cut_items = torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[0.6, 0.8]], [[0.0, 1.0]]])
    whole = compute_vector_losses(queries, items, batch, recipe, extra).retrieval
    truncated_loss = compute_vector_losses(cut_queries, cut_items, batch, recipe, extra).retrieval
    total_loss = compute_vector_losses(queries, items, batch, replace(recipe, matryoshka=(2,)), extra).retrieval
    assert whole.item() == pytest.approx(np.log1p(np.exp(-0.18 / 0.05)))
    torch.testing.assert_close(total_loss, whole + truncated_loss)
    with pytest.raises(UsageError, match="matryoshka has 4, but a view has 4 dimensions"):
        compute_vector_losses(queries, items, batch, replace(recipe, matryoshka=(4,)), extra)


def one_request() -> Batch:
    """One clicked item against one other; the losses of vectors look at nothing of the inputs."""
    bag = BagIndex.from_bags(Bags(np.zeros(2, np.int64), np.zeros(0, np.int32)), None)
    ids = torch.zeros(1, dtype=torch.int64)
    return Batch(
        queries=QueryInputs(bag, ids, ids, bag),
        items=ItemInputs(bag, torch.zeros(1, 1), {}),
        columns=torch.tensor([[0]]),
        stages=torch.tensor([[int(Stage.CLICKED)]]),
        weights=torch.ones(1, 1),
        examination=torch.ones(1, 1),
        negatives=torch.tensor([1]),
        correction=torch.zeros(1),
        exclusions=torch.zeros(1, 1, dtype=torch.bool),
    )


def test_a_recipe_with_everything_trains_resumes_and_is_saved_without_it(small_shop: Shop, tmp_path: Path) -> None:
    class Killed(BaseException):
        """Stands for a kill between two steps."""

    def kill(step: TrainingStep) -> None:
        if step.step == 6:
            raise Killed

    objective = {key: value for key, value in plain_values(ALL_OPTIONS).items() if value != plain_values(Recipe())[key]}
    config = replace(small_shop.train, recipe="mmse_paper", objective=objective, epochs=1)
    assert config.to_recipe() == ALL_OPTIONS
    dataset = small_shop.base.parent / "run" / "dataset"
    manifest = train(dataset, tmp_path / "whole", config)
    with pytest.raises(Killed):
        train(dataset, tmp_path / "broken", config, on_step=kill)
    checkpoint = load_file(tmp_path / ".broken.unfinished" / "latest.safetensors")
    assert {
        "towers.extra.temperature",
        "towers.extra.rank_temperature",
        "towers.extra.uncertainty",
    } <= checkpoint.keys()
    train(dataset, tmp_path / "broken", config, resume=True)
    whole_weights, resumed_weights = (load_file(tmp_path / name / "towers.safetensors") for name in ("whole", "broken"))
    assert whole_weights.keys() == resumed_weights.keys()
    assert all(torch.equal(whole_weights[key], resumed_weights[key]) for key in whole_weights)
    assert not [key for key in whole_weights if key.startswith("extra")]
    assert build(Recipe, manifest.config["objective"], "manifest") == ALL_OPTIONS
    Encoder.open(tmp_path / "whole")


def test_views_alone_add_their_own_retrieval_loss(shop_fixture: SmallShop) -> None:
    recipe = smaller("mmse_paper")
    batch, towers = shop_fixture.batch(recipe), shop_fixture.encoder.towers
    tokens = towers.token_table()
    views, gates = towers.embed_queries(batch.queries, tokens)
    items = towers.embed_items(batch.items, tokens)
    fused_losses = compute_vector_losses(views * gates.unsqueeze(2), items, batch, recipe, towers.extra)
    view_losses = [
        compute_vector_losses(views[:, [v]], items[:, [v]], batch, recipe, towers.extra).retrieval for v in range(3)
    ]
    total_losses = compute_vector_losses(
        views * gates.unsqueeze(2), items, batch, replace(recipe, view_weight=0.5), towers.extra
    )
    torch.testing.assert_close(total_losses.retrieval, fused_losses.retrieval + 0.5 * sum(view_losses))
    torch.testing.assert_close(total_losses.ranking, fused_losses.ranking)


def test_a_click_weighs_what_it_is_worth(shop_fixture: SmallShop) -> None:
    recipe = smaller("mmse")
    batches = shop_fixture.batches(recipe)
    batches.conversion = Conversion(np.full(shop_fixture.features.numbers.shape[1] + STATISTICS, 0.4), -1.0, 0.0)
    batch = next(batches.epoch(0))
    clicked = batch.stages >= Stage.CLICKED
    numbers = batch.items.numbers[batch.columns[clicked]].numpy()
    expected_weights = 1 + (recipe.stage_weights.ordered - 1) * batches.conversion.predict(numbers)
    np.testing.assert_allclose(batch.weights[clicked].numpy(), expected_weights, rtol=1e-5)
    assert len(np.unique(expected_weights)) > 10
    assert not batch.weights[~clicked].any()
