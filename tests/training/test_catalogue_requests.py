"""Requests made from a catalogue: out of each item's own words, the same ones from one seed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mmse.core.errors import TableError
from mmse.model.bags import thin_bags
from mmse.text.normalise import normalise
from mmse.text.tokenizer import Bags
from mmse.training import catalogue_requests
from mmse.training.catalogue_requests import LONGEST, make_requests
from mmse.training.encoded_requests import SHARD

TITLES = ["Red Steel Kettle, 2 l", "!!!", "Lamp", "Very long title of a lawn mower with a bag and more words than fit"]
ITEMS = pa.table(
    {
        "title": TITLES,
        "brand": ["Acme Home", None, None, "Bolt"],
        "category": ["Kitchen > Kettles", None, "Lamps", None],
    }
)
OWN_WORDS = [
    {"red", "steel", "kettle", "2", "l", "acme", "home", "kettles"},
    set(),
    {"lamp", "lamps"},
    {*normalise(TITLES[3]).split(), "bolt"},
]


@pytest.fixture
def typed_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody mistypes."""
    monkeypatch.setattr(catalogue_requests, "SLIP_SHARE", 0.0)


@pytest.mark.usefixtures("typed_well")
def test_a_query_has_words_of_its_item_alone() -> None:
    made = make_requests(ITEMS, seed=1)
    assert made.schema == SHARD
    for query, row in zip(made["query"].to_pylist()[:2_000], made["item_row"].to_pylist(), strict=False):
        assert query == normalise(query) != ""
        assert set(query.split()) <= OWN_WORDS[row]
        assert len(query.split()) <= LONGEST


@pytest.mark.usefixtures("typed_well")
def test_each_way_of_asking_occurs() -> None:
    made = make_requests(ITEMS, seed=1)
    queries = set(made.filter(pc.equal(made["item_row"], 0))["query"].to_pylist())
    assert {"red steel kettle", "red kettle l", "acme home 2 l"} <= queries, "words of the title, brand and noun"
    assert {"kettles", "acme home kettles", "steel kettles"} <= queries, "the leaf of the category"


def test_every_item_with_a_word_is_asked_for_equally_often() -> None:
    rows, counts = np.unique(make_requests(ITEMS, seed=0)["item_row"].to_numpy(), return_counts=True)
    assert rows.tolist() == [0, 2, 3]
    assert counts.max() - counts.min() <= 1


def test_one_seed_makes_the_same_requests() -> None:
    assert make_requests(ITEMS, seed=5).equals(make_requests(ITEMS, seed=5))
    assert not make_requests(ITEMS, seed=5).equals(make_requests(ITEMS, seed=6))


def test_some_queries_have_one_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    lamps = pa.table({"title": ["kettle"]})
    monkeypatch.setattr(catalogue_requests, "SLIP_SHARE", 0.5)
    queries = make_requests(lamps, seed=0)["query"].to_pylist()
    assert {"kettle", "kettl", "kttle", "kettlle", "kettel", "ekttle"} - set(queries) == {"kettl", "ekttle"}, (
        "the first and the last letter stay where one is left out, and the first is not exchanged"
    )
    assert 0.5 < np.mean([query == "kettle" for query in queries]) < 0.8, "a word alone has no space to leave out"


def test_a_catalogue_without_a_word_is_refused() -> None:
    with pytest.raises(TableError, match="No title of the items table has a word"):
        make_requests(pa.table({"title": ["!!!", "—"]}), seed=0)


def test_thin_bags_keep_what_the_mask_says() -> None:
    rng = np.random.default_rng(0)
    bags = [list(rng.integers(0, 50, n)) for n in (3, 0, 5, 1)]
    flat = Bags(np.cumsum([0, *map(len, bags)]), np.array([g for bag in bags for g in bag], np.int32))
    mask = rng.random(9) < 0.5
    thin = thin_bags(flat, mask)
    flags = iter(mask)
    expected = [[grain for grain in bag if next(flags)] for bag in bags]
    found = [thin.grains[a:b].tolist() for a, b in zip(thin.offsets[:-1], thin.offsets[1:], strict=True)]
    assert found == expected
