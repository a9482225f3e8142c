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

from mmse.core.config import build, plain
from mmse.core.errors import UsageError
from mmse.model.bags import BagIndex
from mmse.model.conversion import Conversion
from mmse.model.encoder import Encoder
from mmse.model.features import STATISTICS, ItemFeatures
from mmse.model.inputs import ItemInputs, QueryInputs
from mmse.model.recipes import RECIPES, HardNegatives, Recipe
from mmse.pipeline import Shop
from mmse.schema.stages import Stage
from mmse.text.tokenizer import Bags
from mmse.training.batches import Batch, Batches, Dropout
from mmse.training.loop import describe, train
from mmse.training.losses import losses, losses_of, prepare
from mmse.training.meter import Step
from mmse.training.shards import Shards

EVERYTHING = Recipe(
    n_random=64,
    learn_temperature=True,
    uncertainty=True,
    matryoshka=(4,),
    own_negatives="lower",
    hard=HardNegatives(n=4, mix=(0.4, 0.6)),
)


@dataclass(frozen=True)
class Made:
    """The small shop, ready to make batches of."""

    encoder: Encoder
    features: ItemFeatures
    shards: dict[bool, Shards]
    """By whether even unclicked items teach."""

    def batches(self, recipe: Recipe, *, swapped: tuple[Stage, Stage] | None = None) -> Batches:
        """Batches of a log in which some clicks became carts; of two `swapped` stages some rows have the other's."""
        shards = copy(self.shards[recipe.stage_weights.unclicked_teach])
        random, read = np.random.default_rng(0), [requests for requests, _ in shards.all_usable()]
        shards._cache = {}
        for i, requests in enumerate(read):
            stages = requests.stages.copy()
            stages[(stages == Stage.CLICKED) & (random.random(len(stages)) < 0.3)] = Stage.CARTED
            shards._cache[i] = replace(requests, stages=relabelled(stages, swapped, random.random(len(stages)) < 0.5))
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
    stages: Int8[np.ndarray, " rows"], swapped: tuple[Stage, Stage] | None, some: np.ndarray
) -> Int8[np.ndarray, " rows"]:
    if swapped is None:
        return stages
    one, other = swapped
    return np.where(some & (stages == one), other, np.where(some & (stages == other), one, stages)).astype(np.int8)


def same(one: object, other: object) -> bool:
    """Whether two batches are alike to the last bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    return one == other


@pytest.fixture(scope="module")
def made(small_shop: Shop) -> Made:
    groups = small_shop.base.parent / "run" / "dataset"
    tokenizer, space = describe(groups, small_shop.train)
    features = space.encode(pq.read_table(groups / "items.parquet"), tokenizer)
    torch.manual_seed(1)
    encoder = Encoder.fresh(small_shop.train.to_model(), tokenizer, space, features)
    return Made(encoder, features, {every: Shards(groups, encoder, all_stages=every) for every in (False, True)})


def smaller(name: str) -> Recipe:
    return replace(RECIPES[name], n_random=min(RECIPES[name].n_random, 64))


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_reads_a_label_that_it_should_not_see(made: Made, name: str) -> None:
    """Rows of two stages that count as the same to it swap their labels: neither batch nor loss may know."""
    recipe = smaller(name)
    before = next(made.batches(recipe).epoch(0))
    cost = losses(made.encoder, before, recipe)
    assert all(torch.isfinite(part) for part in cost)
    seen = recipe.read_as
    for one, other in itertools.combinations([Stage.UNCLICKED, Stage.CLICKED, Stage.CARTED, Stage.ORDERED], 2):
        after = next(made.batches(recipe, swapped=(one, other)).epoch(0))
        alike = seen[one] == seen[other]
        assert same(before, after) == alike, (one.name, other.name)
        if alike:
            again = losses(made.encoder, after, recipe)
            assert torch.equal(cost.retrieval, again.retrieval)
            assert torch.equal(cost.ranking, again.ranking)


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
    seen = RECIPES[name].read_as
    assert [s for s in Stage if sum(seen[s] == seen[other] for other in Stage if other > Stage.RETRIEVED) > 1] == alike


@pytest.mark.parametrize("name", RECIPES)
def test_a_word_is_the_same_row_for_queries_and_titles(made: Made, name: str) -> None:
    """The gradients of both sides land in one table, in the rows of the grains that either side holds."""
    recipe = smaller(name)
    batch, towers = made.batch(recipe), made.encoder.towers
    asked, titled = set(batch.queries.text.rows.tolist()), set(batch.items.text.rows.tolist())
    assert asked & titled
    table = towers.token_table().detach()

    def gradient_of(*, queries: bool, items: bool) -> Tensor:
        """What the token table is told where only some sides may speak."""
        tokens = table.clone().requires_grad_()
        views, gates = towers.embed_queries(batch.queries, tokens if queries else table)
        vectors = towers.embed_items(batch.items, tokens if items else table)
        cost = losses_of(views * gates.unsqueeze(2), vectors, batch, recipe, towers.extra)
        (gradient,) = torch.autograd.grad(cost.retrieval + recipe.rank_weight * cost.ranking, tokens)
        return gradient

    both, query_side, item_side = (
        gradient_of(queries=q, items=i) for q, i in ((True, True), (True, False), (False, True))
    )
    torch.testing.assert_close(both, query_side + item_side)
    for side, grains in ((query_side, asked), (item_side, titled)):
        touched = set(side.abs().sum(dim=1).nonzero().flatten().tolist())
        assert touched
        assert touched <= grains
    shared = (query_side.abs().sum(dim=1) > 0) & (item_side.abs().sum(dim=1) > 0)
    assert shared.any(), "no row hears of both sides"


def test_what_is_learned_starts_at_the_recipes_values(made: Made) -> None:
    """Learned temperatures and weights, before any step, cost what the fixed ones do: τ, τ_r, and 1 and λ."""
    plain, batch = Recipe(n_random=64), made.batch(Recipe(n_random=64))
    towers = made.encoder.towers
    fixed = losses(made.encoder, batch, plain)
    try:
        for learned in (replace(plain, learn_temperature=True), replace(plain, uncertainty=True)):
            prepare(towers, learned)
            found = losses(made.encoder, batch, learned)
            total = found.retrieval + learned.rank_weight * found.ranking
            weighed = -np.log(learned.rank_weight) / 2 if learned.uncertainty else 0.0
            expected = fixed.retrieval + plain.rank_weight * fixed.ranking + weighed
            assert total.item() == pytest.approx(expected.item(), rel=1e-5)
        total.backward()  # type: ignore[no-untyped-call]
        noise = towers.extra["uncertainty"]
        expected_slope = torch.stack([0.5 - fixed.retrieval, 0.5 - plain.rank_weight * fixed.ranking])
        torch.testing.assert_close(noise.grad, expected_slope)
    finally:
        towers.extra.clear()
        towers.zero_grad()


def test_a_learned_temperature_is_that_of_a_recipe_with_its_value(made: Made) -> None:
    batch, towers = made.batch(Recipe(n_random=64)), made.encoder.towers
    learned = Recipe(n_random=64, learn_temperature=True)
    try:
        prepare(towers, learned)
        with torch.no_grad():
            towers.extra["temperature"].copy_(torch.tensor(0.2).log())
            towers.extra["rank_temperature"].copy_(torch.tensor(1e-9).log())
        found = losses(made.encoder, batch, learned)
    finally:
        towers.extra.clear()
    fixed = losses(made.encoder, batch, Recipe(n_random=64, temperature=0.2, rank_temperature=0.01))
    torch.testing.assert_close(torch.stack(found), torch.stack(fixed))


def test_matryoshka_adds_the_losses_of_the_first_dimensions() -> None:
    """One view of 4 dimensions, of which the first two, at the length of the whole view, give other scores."""
    batch = one_request()
    queries = torch.tensor([[[0.3, 0.0, 0.4, 0.0]]])  # a view at the length of its gate, 0.5
    items = torch.tensor([[[0.6, 0.8, 0.0, 0.0]], [[0.0, 1.0, 0.0, 0.0]]])
    recipe, none = Recipe(n_random=1, rank_weight=0.0), torch.nn.ParameterDict()
    cut_queries, cut_items = torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[0.6, 0.8]], [[0.0, 1.0]]])
    whole = losses_of(queries, items, batch, recipe, none).retrieval
    cut = losses_of(cut_queries, cut_items, batch, recipe, none).retrieval
    both = losses_of(queries, items, batch, replace(recipe, matryoshka=(2,)), none).retrieval
    assert whole.item() == pytest.approx(np.log1p(np.exp(-0.18 / 0.05)))
    torch.testing.assert_close(both, whole + cut)
    with pytest.raises(UsageError, match="matryoshka has 4, but a view has 4 dimensions"):
        losses_of(queries, items, batch, replace(recipe, matryoshka=(4,)), none)


def one_request() -> Batch:
    """One clicked item against one other; the losses of vectors look at nothing of the inputs."""
    bag = BagIndex.of(Bags(np.zeros(2, np.int64), np.zeros(0, np.int32)), None)
    ids = torch.zeros(1, dtype=torch.int64)
    return Batch(
        queries=QueryInputs(bag, ids, ids, bag),
        items=ItemInputs(bag, bag, ids, bag, torch.zeros(1, 1)),
        columns=torch.tensor([[0]]),
        stages=torch.tensor([[int(Stage.CLICKED)]]),
        weights=torch.ones(1, 1),
        examination=torch.ones(1, 1),
        negatives=torch.tensor([1]),
        correction=torch.zeros(1),
        reached=torch.zeros(1, 1, dtype=torch.bool),
    )


def test_a_recipe_with_everything_trains_resumes_and_is_saved_without_it(small_shop: Shop, tmp_path: Path) -> None:
    class Killed(BaseException):
        """Stands for a kill between two steps."""

    def kill(step: Step) -> None:
        if step.step == 6:
            raise Killed

    objective = {key: value for key, value in plain(EVERYTHING).items() if value != plain(Recipe())[key]}
    config = replace(small_shop.train, recipe="mmse_paper", objective=objective, epochs=1)
    assert config.to_recipe() == EVERYTHING
    groups = small_shop.base.parent / "run" / "dataset"
    manifest = train(groups, tmp_path / "whole", config)
    with pytest.raises(Killed):
        train(groups, tmp_path / "broken", config, on_step=kill)
    kept = load_file(tmp_path / ".broken.unfinished" / "latest.safetensors")
    assert {"towers.extra.temperature", "towers.extra.rank_temperature", "towers.extra.uncertainty"} <= kept.keys()
    train(groups, tmp_path / "broken", config, resume=True)
    one, other = (load_file(tmp_path / name / "towers.safetensors") for name in ("whole", "broken"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not [key for key in one if key.startswith("extra")]
    assert build(Recipe, manifest.config["objective"], "manifest") == EVERYTHING
    Encoder.open(tmp_path / "whole")


def test_views_alone_add_their_own_retrieval_loss(made: Made) -> None:
    recipe = smaller("mmse_paper")
    batch, towers = made.batch(recipe), made.encoder.towers
    tokens = towers.token_table()
    views, gates = towers.embed_queries(batch.queries, tokens)
    items = towers.embed_items(batch.items, tokens)
    fused = losses_of(views * gates.unsqueeze(2), items, batch, recipe, towers.extra)
    alone = [losses_of(views[:, [v]], items[:, [v]], batch, recipe, towers.extra).retrieval for v in range(3)]
    both = losses_of(views * gates.unsqueeze(2), items, batch, replace(recipe, view_weight=0.5), towers.extra)
    torch.testing.assert_close(both.retrieval, fused.retrieval + 0.5 * sum(alone))
    torch.testing.assert_close(both.ranking, fused.ranking)


def test_a_click_weighs_what_it_is_worth(made: Made) -> None:
    recipe = smaller("mmse")
    batches = made.batches(recipe)
    batches.worth = Conversion(np.full(made.features.numbers.shape[1] + STATISTICS, 0.4), -1.0, 0.0)
    batch = next(batches.epoch(0))
    clicked = batch.stages >= Stage.CLICKED
    numbers = batch.items.numbers[batch.columns[clicked]].numpy()
    expected = 1 + (recipe.stage_weights.ordered - 1) * batches.worth.chance(numbers)
    np.testing.assert_allclose(batch.weights[clicked].numpy(), expected, rtol=1e-5)
    assert len(np.unique(expected)) > 10
    assert not batch.weights[~clicked].any()
