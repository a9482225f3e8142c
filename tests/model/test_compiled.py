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
from mmse.model.towers import VIEWS, ModelConfig
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
    made = Encoder.fresh(config, tokenizer, space, space.encode(ITEMS, tokenizer))
    with torch.no_grad():
        for weights in made.towers.parameters():
            weights.add_(torch.randn_like(weights) / 2)
    return made


ENCODERS = [trained(views, fusion) for views in CHOICES for fusion in ("post", "pre")]
ENCODERS.append(trained(VIEWS, conversion=True))


@pytest.mark.parametrize("made", ENCODERS, ids=lambda one: "-".join([one.towers.config.fusion, *one.widths]))
@settings(max_examples=25, deadline=None)
@given(asked=st.lists(st.tuples(TEXTS, USERS, HISTORIES), min_size=1, max_size=4))
def test_both_forms_give_one_vector(made: Encoder, asked: list[tuple[str, str | None, list[int]]]) -> None:
    texts, users, histories = zip(*asked, strict=True)
    history = np.array(histories, np.int32)
    compiled = made.served(texts, users, history)
    np.testing.assert_allclose(compiled, made.queries(texts, users, history), atol=1e-5)
    for place in range(len(asked)):
        alone = made.served(texts[place : place + 1], users[place : place + 1], history[place : place + 1])
        assert alone.tobytes() == compiled[place].tobytes(), "a batch changes no bit"


def test_nothing_to_go_by_is_finite() -> None:
    for made in ENCODERS:
        assert np.isfinite(made.served(["", "…"], [None, None], np.zeros((2, 4), np.int32))).all()


def test_no_queries() -> None:
    made = ENCODERS[-1]
    assert made.served([], [], np.zeros((0, 4), np.int32)).shape == (0, made.width)
