"""The towers: the fused score is one inner product, memories start silent, bags have the right gradient."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.core.errors import ArtifactError
from mmse.model.bags import BagIndex, bags_of_ids, sum_bags
from mmse.model.encoder import Encoder
from mmse.model.features import FeatureSpace
from mmse.model.fusion import fuse_item, fuse_query
from mmse.model.item_statistics import STATISTICS, compute_statistics
from mmse.model.towers import ModelConfig
from mmse.text.tokenizer import Bags, Tokenizer

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c"],
        "title": ["red running shoes", "blue running shoes", "cordless drill 18v"],
        "category": ["shoes > running", "shoes > running", "tools > drills"],
        "brand": ["Nike", None, "Bosch"],
        "price": [90.0, None, 120.0],
        "rating": [4.5, 3.0, None],
        "colour": ["red", "blue", None],
    }
)


def encoder(
    views: tuple[str, ...] = ("text", "identity", "shopper"),
    fusion: Literal["post", "pre"] = "post",
    conversion: bool = False,
) -> Encoder:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(ITEMS["title"].to_pylist(), vocab_size=300, bigram_buckets=64, max_tokens=16)
    space = FeatureSpace.fit(ITEMS, np.array([True, True, False]), text=[], categorical=["colour"], numeric=[])
    config = ModelConfig(dim=8, views=views, fusion=fusion, conversion=conversion)
    return Encoder.create(config, tokenizer, space, space.encode(ITEMS, tokenizer))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4), st.integers(1, 8))
def test_the_fused_score_is_one_inner_product(seed: int, n: int, n_views: int, dim: int) -> None:
    random = torch.Generator().manual_seed(seed)
    f, g = torch.randn(n, n_views, dim, generator=random), torch.randn(n, n_views, dim, generator=random)
    w = torch.softmax(torch.randn(n, n_views, generator=random), dim=1)
    by_view = (w * (f * g).sum(dim=2)).sum(dim=1)
    query, item = fuse_query(f, w), fuse_item(g)
    torch.testing.assert_close((query * item).sum(dim=1), by_view)


def test_views_are_unit_norm_and_gates_add_up_to_one() -> None:
    model = encoder()
    items = model.embed_items(model.encode_items(ITEMS), np.zeros((3, STATISTICS), np.float32))
    norms = np.linalg.norm(items.reshape(3, 3, 8), axis=2)
    np.testing.assert_allclose(norms, 1, atol=1e-5)
    queries = model.embed_queries(["running shoes", ""], [None, "u1"], np.zeros((2, 4), np.int32))
    gates = np.linalg.norm(queries.reshape(2, 3, 8), axis=2).sum(axis=1)
    assert gates[0] == pytest.approx(1, abs=1e-4)
    assert np.isfinite(queries).all()


def test_what_training_never_met_adds_nothing() -> None:
    """Item c is not known to training: with or without its id it has the same vector. So has an unknown shopper."""
    model = encoder()
    features = model.encode_items(ITEMS)
    assert features.tables["item_ids"].tolist() == [1, 2, 0]
    history = np.zeros((1, 4), np.int32)
    with_user, without_user = (model.embed_queries(["shoes"], [u], history) for u in ("never seen", None))
    gates = [np.linalg.norm(v.reshape(3, 8), axis=1) for v in (with_user, without_user)]
    for view in range(3):
        np.testing.assert_allclose(
            with_user.reshape(3, 8)[view] / gates[0][view], without_user.reshape(3, 8)[view] / gates[1][view], atol=1e-6
        )


def test_the_backward_of_summed_bags_is_pytorchs_own() -> None:
    bags = Bags(np.array([0, 2, 2, 5], np.int64), np.array([1, 3, 3, 0, 3], np.int32))
    index = BagIndex.from_bags(bags, 4)
    table = torch.randn(4, 6, requires_grad=True)
    torch_table = table.detach().clone().requires_grad_()
    weight = torch.randn(3, 6)
    torch.autograd.backward((sum_bags(table, index) * weight).sum())
    torch_sums = torch.nn.functional.embedding_bag(
        index.rows.long(), torch_table, index.offsets.long(), mode="sum", include_last_offset=True
    )
    torch.autograd.backward((torch_sums * weight).sum())
    torch.testing.assert_close(table.grad, torch_table.grad)


def test_bags_of_ids_leave_zeros_out() -> None:
    bags = bags_of_ids(np.array([[0, 2, 5], [0, 0, 0], [1, 0, 0]], np.int32))
    assert bags.offsets.tolist() == [0, 2, 2, 3]
    assert bags.grains.tolist() == [2, 5, 1]


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    model = encoder()
    model.save(tmp_path)
    loaded_model = Encoder.open(tmp_path)
    zero = np.zeros((3, STATISTICS), np.float32)
    np.testing.assert_array_equal(
        model.embed_items(model.encode_items(ITEMS), zero),
        loaded_model.embed_items(loaded_model.encode_items(ITEMS), zero),
    )
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".json", ".safetensors")]


@pytest.mark.parametrize(
    "name", ["towers.safetensors", "towers.json", "features.json", "tokenizer.json", "grains.json"]
)
def test_a_damaged_model_is_refused(tmp_path: Path, name: str) -> None:
    encoder().save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="Train the model again"):
        Encoder.open(tmp_path)


def test_statistics_are_zero_before_anything_was_shown_and_rise_with_orders() -> None:
    assert not compute_statistics(np.zeros((3, 3), np.int64)).any()
    statistics = compute_statistics(np.array([[100, 10, 5], [100, 10, 0], [0, 0, 0]], np.int64))
    assert statistics[0, 1] > statistics[1, 1]
    assert not statistics[2].any()


@pytest.mark.parametrize("views", [("text",), ("identity",), ("shopper",), ("text", "shopper")])
def test_any_choice_of_views_works(views: tuple[str, ...]) -> None:
    model = encoder(views)
    assert model.embed_queries(["drill"], [None], np.zeros((1, 2), np.int32)).shape == (1, 8 * len(views))


@pytest.mark.parametrize("views", [("text",), ("text", "identity", "shopper")])
def test_fused_first_there_is_one_view_of_the_same_width(views: tuple[str, ...], tmp_path: Path) -> None:
    model = encoder(views, "pre")
    assert model.views == ("together",)
    items = model.embed_items(model.encode_items(ITEMS), np.zeros((3, STATISTICS), np.float32))
    queries = model.embed_queries(["running shoes", ""], [None, "u1"], np.zeros((2, 4), np.int32))
    assert items.shape == (3, 8 * len(views))
    assert queries.shape == (2, 8 * len(views))
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(queries[0]) == pytest.approx(1, abs=1e-5), "no gate takes anything off"
    model.save(tmp_path)
    np.testing.assert_array_equal(
        Encoder.open(tmp_path).embed_queries(["running shoes"], [None], np.zeros((1, 4), np.int32)),
        model.embed_queries(["running shoes"], [None], np.zeros((1, 4), np.int32)),
    )


def test_what_a_recipe_learns_beside_the_towers_does_not_leave_with_the_model(tmp_path: Path) -> None:
    model = encoder()
    model.towers.extra["temperature"] = torch.nn.Parameter(torch.tensor(0.5))
    assert "extra.temperature" in model.towers.state_dict(), "a checkpoint keeps it"
    model.save(tmp_path)
    assert len(Encoder.open(tmp_path).towers.extra) == 0


def test_an_optimizer_takes_every_parameter_once() -> None:
    model = encoder()
    (group,) = model.towers.parameter_groups(0.01)
    assert group["share"] == 1
    assert {id(parameter) for parameter in group["params"]} == {
        id(parameter) for parameter in model.towers.parameters()
    }
