"""The compiled query tower is the tower, for whatever may be asked."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.model.encoder import Encoder
from mmse.model.features import FeatureSpace
from mmse.model.towers import ModelConfig
from mmse.model.views import VIEWS
from mmse.text.tokenizer import Tokenizer

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c"],
        "title": ["red running shoes", "blue running shoes", "cordless drill 18v"],
        "category": ["shoes > running", "shoes > running", "tools > drills"],
        "brand": ["Nike", None, "Bosch"],
        "price": [90.0, None, 120.0],
        "colour": ["red", "blue", None],
    }
)

CHOICES = [views for n in (1, 2, 3) for views in combinations(VIEWS, n)]
TEXTS = st.lists(st.sampled_from(["red", "blue", "running", "drill", "18v", "zzqqx", "…", "🎧"]), max_size=5).map(
    " ".join
)
USERS = st.sampled_from([None, "", "u1", "never seen"])
HISTORIES = st.lists(st.integers(0, 5), min_size=4, max_size=4)


def trained(views: tuple[str, ...], fusion: Literal["post", "pre"] = "post", conversion: bool = False) -> Encoder:
    """An encoder none of whose weights is at its start."""
    torch.manual_seed(1)
    tokenizer = Tokenizer.train(ITEMS["title"].to_pylist(), vocab_size=300, bigram_buckets=64, max_tokens=16)
    space = FeatureSpace.fit(ITEMS, np.array([True, True, False]), text=[], categorical=["colour"], numeric=[])
    config = ModelConfig(dim=8, views=views, query_buckets=32, user_buckets=32, fusion=fusion, conversion=conversion)
    encoder = Encoder.create(config, tokenizer, space, space.encode(ITEMS, tokenizer))
    with torch.no_grad():
        for weights in encoder.towers.parameters():
            weights.add_(torch.randn_like(weights) / 2)
    return encoder


ENCODERS = [trained(views, fusion) for views in CHOICES for fusion in ("post", "pre")]
ENCODERS.append(trained(tuple(VIEWS), conversion=True))


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda case: "-".join([case.towers.config.fusion, *case.widths]))
@settings(max_examples=25, deadline=None)
@given(queries=st.lists(st.tuples(TEXTS, USERS, HISTORIES), min_size=1, max_size=4))
def test_both_forms_give_one_vector(encoder: Encoder, queries: list[tuple[str, str | None, list[int]]]) -> None:
    texts, users, histories = zip(*queries, strict=True)
    history = np.array(histories, np.int32)
    vectors = encoder.embed_queries_compiled(texts, users, history)
    np.testing.assert_allclose(vectors, encoder.embed_queries(texts, users, history), atol=1e-5)
    for i in range(len(queries)):
        single_vector = encoder.embed_queries_compiled(texts[i : i + 1], users[i : i + 1], history[i : i + 1])
        assert single_vector.tobytes() == vectors[i].tobytes(), "a batch changes no bit"


def test_nothing_to_go_by_is_finite() -> None:
    for encoder in ENCODERS:
        assert np.isfinite(encoder.embed_queries_compiled(["", "…"], [None, None], np.zeros((2, 4), np.int32))).all()


def test_no_queries() -> None:
    encoder = ENCODERS[-1]
    assert encoder.embed_queries_compiled([], [], np.zeros((0, 4), np.int32)).shape == (0, encoder.width)
