"""A view is one file and a line in the table: everything else loops over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float, Float32
from safetensors import safe_open
from torch import Tensor

from mmse.model.bags import sum_bags
from mmse.model.encoder import Encoder
from mmse.model.inputs import Feature, ItemInputs, QueryInputs
from mmse.model.item_columns import ItemColumns, count_ids, look_up_columns, number_columns
from mmse.model.item_statistics import STATISTICS
from mmse.model.views import VIEWS
from mmse.model.views.layers import to_array
from mmse.model.views.view import CompiledView, ParsedQuery, TowerShape, View, ViewTower, look_up, random_table
from model.test_two_tower import ITEMS, encoder


class BrandView(View):
    name = key = "brand"
    phrase = "a brand that goes with it"

    def fit(self, columns: ItemColumns, in_training: Bool[np.ndarray, " n"]) -> dict[str, dict[str, Any]]:
        return number_columns("brands", {"brand": columns.value_columns("brand")})

    def encode(self, columns: ItemColumns, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
        return {"brands": look_up_columns("brands", vocabulary, {"brand": columns.value_columns("brand")})}

    def sizes(self, vocabulary: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        return {"brands": count_ids("brands", vocabulary)}

    def make_tower(self, shape: TowerShape) -> ViewTower:
        return BrandTower(shape)


class BrandTower(ViewTower):
    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.brands = random_table(shape.sizes.tables["brands"], shape.dim)
        self.fans = random_table(shape.user_buckets + 1, shape.dim)

    def embed_queries(self, embedding: Float[Tensor, "n dim"], inputs: QueryInputs) -> Float[Tensor, "n dim"]:
        return embedding + look_up(self.fans, inputs.user)

    def embed_items(self, inputs: ItemInputs, words: Float[Tensor, "n dim"] | None) -> Float[Tensor, "n dim"]:
        return sum_bags(self.brands, inputs.bags("brands"))

    def compiled(self) -> CompiledView:
        return CompiledBrand(to_array(self.fans))


class CompiledBrand(CompiledView):
    def __init__(self, fans: Float32[np.ndarray, "rows dim"]) -> None:
        self.fans = fans

    def add_to(self, embedding: Float32[np.ndarray, " dim"], query: ParsedQuery) -> None:
        if query.user:
            embedding += self.fans[query.user]


def test_a_new_view_is_a_file_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast("dict[str, View]", VIEWS), "brand", BrandView())
    model = encoder(("text", "brand"), conversion=True)
    assert model.widths == {"text": 8, "brand": 8, "conversion": 1}
    assert model.phrases["brand"] == "a brand that goes with it"
    zero, history = np.zeros((3, STATISTICS), np.float32), np.zeros((2, 4), np.int32)
    items = model.embed_items(model.encode_items(ITEMS), zero)
    assert not np.array_equal(items[0, 8:16], items[2, 8:16]), "two brands differ"
    queries = (["running shoes", "drill"], ["u1", None], history)
    vectors = model.embed_queries(*queries)
    np.testing.assert_allclose(model.embed_queries_compiled(*queries), vectors, atol=1e-5)
    model.save(tmp_path)
    loaded_model = Encoder.open(tmp_path)
    np.testing.assert_array_equal(loaded_model.embed_queries(*queries), vectors)
    np.testing.assert_array_equal(loaded_model.embed_items(loaded_model.encode_items(ITEMS), zero), items)


def test_a_models_file_has_the_names_that_it_always_had(tmp_path: Path) -> None:
    """Models of the time before views had files of their own open, and those made today open there."""
    encoder(conversion=True).save(tmp_path)
    with safe_open(tmp_path / "towers.safetensors", "np") as file:
        names = set(file.keys())
    layers = {f"query_dense.{view}" for view in VIEWS} | {"item_dense", "history_dense"}
    blocks = {
        f"{layer}.{part}.{kind}" for layer in layers for part in ("first", "second") for kind in ("weight", "bias")
    }
    tables = {"tokens", "log_weights", "query_memory", "identity", "item_ids", "users", "shopper", "sells"}
    lines = {
        f"{line}.{kind}" for line in ("gate", "identity_numbers", "shopper_numbers") for kind in ("weight", "bias")
    }
    assert names == blocks | tables | lines


def test_a_table_whose_rows_are_loaded_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "randn")  # on the device "meta" it imports a second's worth of modules
    with torch.device("meta"):
        assert random_table(5, 3).is_meta
