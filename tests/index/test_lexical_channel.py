"""The lexical channel: exact words, either way of scoring an item, and the same filters as the columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmse.core.errors import ArtifactError
from mmse.index.columns import Columns
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.schema.filters import Between, Filter, Kind, parse_filter

BOOSTS = dict.fromkeys(FIELDS, 1.0)
KINDS = {
    "brand": Kind.NAME,
    "category": Kind.PATH,
    "price": Kind.NUMBER,
    "available": Kind.FLAG,
    "odd name: é": Kind.NAME,
}
ITEMS = pa.table(
    {
        "title": ["Red iPhone 6 case", "iPhone 7 case", "Running shoes", "Garden hose 6 m", "Étui d'été", "跑鞋 red"],
        "brand": ["Acme", "acme ", "Speedy", None, "Acme", ""],
        "category": ["Phones > Cases", "Phones>Cases > Clear", "Shoes", None, "Phones", "Shoes > Running"],
        "price": [9.99, 19.99, 80.0, None, 9.99, 120.0],
        "available": [True, False, True, None, True, False],
        "odd name: é": ["x", "y", None, "x", "X", "z"],
    }
)
N = len(ITEMS)


def made(folder: Path, language: str = "english") -> LexicalIndex:
    index = LexicalIndex.create(folder, KINDS, language)
    writer = index.writer()
    writer.add(np.arange(N), ITEMS, ["odd name: é"])
    writer.commit()
    writer.close()
    return LexicalIndex.open(folder)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    return made(tmp_path_factory.mktemp("lexical"))


def rows(index: LexicalIndex, query: str, only: Filter | None = None) -> list[int]:
    found: list[int] = index.search(index.ask(query, BOOSTS), 10, only).rows.tolist()
    return found


def test_words_are_found_in_any_form_and_case(index: LexicalIndex) -> None:
    assert rows(index, "RUNNING shoe") == [2, 5], "stemmed, and the category is read too"
    assert rows(index, "cases") == [0, 1]
    assert rows(index, "ÉTÉ") == [4]
    assert rows(index, "跑鞋") == [5]


def test_without_a_stemmer_words_stay_as_they_are(tmp_path: Path) -> None:
    plain = made(tmp_path, "none")
    assert plain.stems("running shoes") == ["running", "shoes"]
    assert rows(plain, "shoe") == []


def test_more_of_the_querys_words_stand_first(index: LexicalIndex) -> None:
    assert rows(index, "red iphone 6 case")[:2] == [0, 1]


def test_what_is_found_is_what_is_scored(index: LexicalIndex) -> None:
    asked = index.ask("red iphone case acme", BOOSTS)
    found = index.search(asked, N)
    assert found.complete
    scores = index.scores(asked, np.arange(N))
    np.testing.assert_allclose(scores[found.rows], found.scores, rtol=1e-6)
    assert set(np.flatnonzero(scores)) == set(found.rows.tolist())
    np.testing.assert_allclose(index.scores(asked, np.array([3, 1, 0])), scores[[3, 1, 0]])
    assert not index.search(asked, 2).complete


def test_a_boost_of_zero_leaves_a_field_out(index: LexicalIndex) -> None:
    title = {"title": 1.0, "brand": 0.0, "category": 0.0, "attributes": 0.0}
    assert index.search(index.ask("acme", title), 5).rows.tolist() == []
    twice = {field: 2.0 for field in FIELDS}
    once, double = (index.scores(index.ask("case", b), np.array([0])) for b in (BOOSTS, twice))
    np.testing.assert_allclose(double, 2 * once, rtol=1e-6)


def test_no_item_scores_more_than_the_most(index: LexicalIndex) -> None:
    for query in ("iphone", "red iphone 6 case", "shoes shoes running", "case nonesuch"):
        asked = index.ask(query, BOOSTS)
        assert asked.most > 0
    assert index.ask("iphone nonesuch", BOOSTS).most > index.ask("iphone", BOOSTS).most, "an unknown word weighs, too"


def test_a_phrase_may_be_met_by_what_stands_for_it(index: LexicalIndex) -> None:
    assert rows(index, "sneakers") == []
    asked = index.ask("sneakers", BOOSTS, [("sneakers", ["running shoes", "pumps"])])
    assert index.search(asked, 5).rows.tolist()[0] == 2
    neither = index.ask("red case", BOOSTS, [("sneakers", ["running shoes"])])
    np.testing.assert_allclose(
        index.scores(neither, np.arange(N)), index.scores(index.ask("red case", BOOSTS), np.arange(N))
    )


def test_items_that_hold_phrases(index: LexicalIndex) -> None:
    assert index.holds([("iphone", "6")], np.arange(N)).tolist() == [True, False, False, False, False, False]
    assert index.holds([("acme",), ("iphone", "7")], np.arange(N)).tolist() == [False, True, *[False] * 4]
    asked = index.ask("case", BOOSTS)
    assert index.holding([("acme",)], asked, 5).rows.tolist() == [0, 1]
    assert index.holding([("acme",)], asked, 5, Between("price", None, 10.0)).rows.tolist() == [0]


@pytest.mark.parametrize("query", ["", "   ", "…!?", "🎧", "\x00", "\u200b"])
def test_a_query_without_a_word_finds_nothing(index: LexicalIndex, query: str) -> None:
    asked = index.ask(query, BOOSTS)
    assert asked.query is None
    assert index.search(asked, 5).rows.tolist() == []
    assert index.scores(asked, np.arange(N)).tolist() == [0.0] * N


@pytest.mark.parametrize("query", ["t" * 10_000, "red " * 3_000, " ".join(f"w{i}" for i in range(900)), "\ud800 red"])
def test_a_hostile_query_is_answered(index: LexicalIndex, query: str) -> None:
    assert len(index.search(index.ask(query, BOOSTS), 5).rows) <= 5


def test_edits_show_after_commit_and_refresh(tmp_path: Path) -> None:
    index = made(tmp_path)
    writer = index.writer(live=True)
    writer.remove(np.array([2]))
    writer.add(np.array([9]), ITEMS.slice(2, 1), [])
    assert rows(index.refreshed(), "running") == [2, 5]
    writer.commit()
    assert rows(index, "running") == [2, 5], "a point in time"
    assert sorted(rows(index.refreshed(), "running")) == [5, 9]
    writer.close()


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no lexical index"):
        LexicalIndex.open(tmp_path)
    made(tmp_path)
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(ArtifactError, match="is damaged"):
        LexicalIndex.open(tmp_path)


LEAVES = st.one_of(
    st.fixed_dictionaries({"brand": st.lists(st.sampled_from(["acme", "speedy", "nonesuch"]), max_size=3)}),
    st.fixed_dictionaries({"category": st.lists(st.sampled_from(["Phones", "phones > Cases", "shoes > no"]))}),
    st.fixed_dictionaries({"available": st.lists(st.booleans(), max_size=2)}),
    st.fixed_dictionaries({"odd name: é": st.lists(st.sampled_from(["x", "z"]), max_size=2)}),
    st.fixed_dictionaries({"price": st.sampled_from([{"to": 9.99}, {"from": 10}, {"from": -1, "to": 80}, 120.0])}),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: {"and": parts}),
        st.lists(inner, max_size=3).map(lambda parts: {"or": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=FILTERS)
def test_both_channels_read_a_filter_alike(index: LexicalIndex, said: dict[str, object]) -> None:
    only = parse_filter(said, KINDS)
    everything = index.ask("red iphone running case hose étui x y z shoes", BOOSTS)
    mask = Columns.of(ITEMS, KINDS).mask(only)
    every = index.search(everything, N).rows
    assert set(index.search(everything, N, only).rows.tolist()) == set(every[mask[every]].tolist())
