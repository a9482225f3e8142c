"""The lexical channel: exact words, either way of scoring an item, and the same filters as the columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmse.core.errors import ArtifactError
from mmse.index.columns import FilterColumns
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.schema.filters import Between, Filter, Kind, parse_filter

BOOSTS = dict.fromkeys(FIELDS, 1.0)
KINDS = {
    "brand": Kind.NAME,
    "category": Kind.PATH,
    "price": Kind.NUMBER,
    "available": Kind.FLAG,
    "odd name: é": Kind.NAME,
    "tags": Kind.NAME,
    "places": Kind.PATH,
}
ITEMS = pa.table(
    {
        "title": ["Red iPhone 6 case", "iPhone 7 case", "Running shoes", "Garden hose 6 m", "Étui d'été", "跑鞋 red"],
        "brand": ["Acme", "acme ", "Speedy", None, "Acme", ""],
        "category": ["Phones > Cases", "Phones>Cases > Clear", "Shoes", None, "Phones", "Shoes > Running"],
        "price": [9.99, 19.99, 80.0, None, 9.99, 120.0],
        "available": [True, False, True, None, True, False],
        "odd name: é": ["x", "y", None, "x", "X", "z"],
        "tags": [["new", "Sale"], ["sale ", "SALE"], [], None, ["new", ""], ["old", "sale"]],
        "places": [["a > b", "c"], ["A", "a > b > d"], ["c > e", "c"], None, [" > "], ["e"]],
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


def rows(index: LexicalIndex, query: str, filter: Filter | None = None) -> list[int]:
    hit_rows: list[int] = index.search(index.parse(query, BOOSTS), 10, filter).rows.tolist()
    return hit_rows


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
    query = index.parse("red iphone case acme", BOOSTS)
    matches = index.search(query, N)
    assert matches.is_complete
    scores = index.score_rows(query, np.arange(N))
    np.testing.assert_allclose(scores[matches.rows], matches.scores, rtol=1e-6)
    assert set(np.flatnonzero(scores)) == set(matches.rows.tolist())
    np.testing.assert_allclose(index.score_rows(query, np.array([3, 1, 0])), scores[[3, 1, 0]])
    assert not index.search(query, 2).is_complete


def test_a_boost_of_zero_leaves_a_field_out(index: LexicalIndex) -> None:
    title = {"title": 1.0, "brand": 0.0, "category": 0.0, "attributes": 0.0}
    assert index.search(index.parse("acme", title), 5).rows.tolist() == []
    twice = {field: 2.0 for field in FIELDS}
    single, double = (index.score_rows(index.parse("case", b), np.array([0])) for b in (BOOSTS, twice))
    np.testing.assert_allclose(double, 2 * single, rtol=1e-6)


def test_no_item_scores_more_than_the_most(index: LexicalIndex) -> None:
    for query in ("iphone", "red iphone 6 case", "shoes shoes running", "case nonesuch"):
        parsed_query = index.parse(query, BOOSTS)
        assert parsed_query.max_score > 0
    assert index.parse("iphone nonesuch", BOOSTS).max_score > index.parse("iphone", BOOSTS).max_score, (
        "an unknown word weighs, too"
    )


def test_a_phrase_may_be_met_by_what_stands_for_it(index: LexicalIndex) -> None:
    assert rows(index, "sneakers") == []
    query = index.parse("sneakers", BOOSTS, [("sneakers", ["running shoes", "pumps"])])
    assert index.search(query, 5).rows.tolist()[0] == 2
    query_without_phrase = index.parse("red case", BOOSTS, [("sneakers", ["running shoes"])])
    np.testing.assert_allclose(
        index.score_rows(query_without_phrase, np.arange(N)),
        index.score_rows(index.parse("red case", BOOSTS), np.arange(N)),
    )


def test_items_that_hold_phrases(index: LexicalIndex) -> None:
    assert index.match_phrases([("iphone", "6")], np.arange(N)).tolist() == [True, False, False, False, False, False]
    assert index.match_phrases([("acme",), ("iphone", "7")], np.arange(N)).tolist() == [False, True, *[False] * 4]
    query = index.parse("case", BOOSTS)
    assert index.search_phrases([("acme",)], query, 5).rows.tolist() == [0, 1]
    assert index.search_phrases([("acme",)], query, 5, Between("price", None, 10.0)).rows.tolist() == [0]


@pytest.mark.parametrize("query", ["", "   ", "…!?", "🎧", "\x00", "\u200b"])
def test_a_query_without_a_word_finds_nothing(index: LexicalIndex, query: str) -> None:
    parsed_query = index.parse(query, BOOSTS)
    assert parsed_query.tantivy_query is None
    assert index.search(parsed_query, 5).rows.tolist() == []
    assert index.score_rows(parsed_query, np.arange(N)).tolist() == [0.0] * N


@pytest.mark.parametrize("query", ["t" * 10_000, "red " * 3_000, " ".join(f"w{i}" for i in range(900)), "\ud800 red"])
def test_a_hostile_query_is_answered(index: LexicalIndex, query: str) -> None:
    assert len(index.search(index.parse(query, BOOSTS), 5).rows) <= 5


def test_edits_show_after_commit_and_refresh(tmp_path: Path) -> None:
    index = made(tmp_path)
    writer = index.writer(live=True)
    writer.remove(np.array([2]))
    writer.add(np.array([9]), ITEMS.slice(2, 1), [])
    assert rows(index.refresh(), "running") == [2, 5]
    writer.commit()
    assert rows(index, "running") == [2, 5], "a point in time"
    assert sorted(rows(index.refresh(), "running")) == [5, 9]
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
    st.fixed_dictionaries({"tags": st.lists(st.sampled_from(["new", "SALE", "old", ""]), max_size=3)}),
    st.fixed_dictionaries({"places": st.lists(st.sampled_from(["a", "a > b", "c", "e", "c > e", "b"]), max_size=3)}),
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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filter_json=FILTERS)
def test_both_channels_read_a_filter_alike(index: LexicalIndex, filter_json: dict[str, object]) -> None:
    condition = parse_filter(filter_json, KINDS)
    all_words = index.parse("red iphone running case hose étui x y z shoes", BOOSTS)
    mask = FilterColumns.from_table(ITEMS, KINDS).mask(condition)
    every = index.search(all_words, N).rows
    assert set(index.search(all_words, N, condition).rows.tolist()) == set(every[mask[every]].tolist())


def test_a_code_in_an_attribute_is_found(tmp_path: Path) -> None:
    index = LexicalIndex.create(tmp_path, {}, "english")
    writer = index.writer()
    items = pa.table({"item_id": ["a1", "b2"], "title": ["Lamp", "Lamp"], "mpn": ["NOR.0707-60", "NOR.0707-80"]})
    writer.add(np.arange(2), items, ["mpn"])
    writer.commit()
    writer.close()
    opened = LexicalIndex.open(tmp_path)
    for query, found in {"nor070760": [0], "NOR 0707 80": [1], "nor0707": [0, 1], "lamp": None}.items():
        match = opened.find_codes(query, 10)
        assert (None if match is None else match.rows.tolist()) == found, query
