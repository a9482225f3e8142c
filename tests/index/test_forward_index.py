"""The words row by row: the same scores and the same phrases as the inverted index has, through every kind of edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.core.errors import ArtifactError
from mmse.index.forward_index import FILES
from mmse.index.lexical import FIELDS, LexicalIndex, LexicalQuery, Phrases

WORDS = ("red", "blue", "tent", "tents", "iphone", "6", "7", "case", "running", "shoes", "été", "跑鞋")
BOOSTS = {"title": 1.0, "brand": 0.5, "category": 0.0, "attributes": 0.25}
PHRASES: list[Phrases] = [[("iphone", "6")], [("red",)], [("running", "shoes"), ("blue",)], [("tent", "tent")]]
TEXT = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
ITEM = st.fixed_dictionaries({"title": TEXT, "brand": TEXT, "category": TEXT, "colour": TEXT})


def added(index: LexicalIndex, rows: list[int], items: list[dict[str, str]], *, live: bool = False) -> None:
    """`items` at `rows`, in place of what was there."""
    writer = index.writer(live=live)
    writer.remove(np.array(rows, np.int64))
    table = pa.Table.from_pylist(items, pa.schema([(name, pa.string()) for name in (*FIELDS[:3], "colour")]))
    writer.add(np.array(rows, np.int64), table, ["colour"])
    writer.commit()
    writer.close()


def made(folder: Path, items: list[dict[str, str]]) -> LexicalIndex:
    folder.mkdir(exist_ok=True)
    added(LexicalIndex.create(folder, {}, "english"), list(range(len(items))), items)
    return LexicalIndex.open(folder)


def many(seed: int, n: int) -> list[dict[str, str]]:
    random = np.random.default_rng(seed)
    return [
        {f: " ".join(random.choice(WORDS, random.integers(0, 40))) for f in (*FIELDS[:3], "colour")} for _ in range(n)
    ]


def agree(index: LexicalIndex, rows: np.ndarray) -> None:
    """Whatever is looked up row by row is what a search among the rows gives."""
    assert index.scores_rows_fast
    for text in ("red tent", "iphone 6 case case", "running blue shoes nonesuch", "été 跑鞋"):
        query = index.parse(text, BOOSTS)
        assert query.words is not None
        search_scores = index.score_rows(LexicalQuery(query.tantivy_query, query.max_score), rows)
        np.testing.assert_allclose(index.score_rows(query, rows), search_scores, rtol=2e-6, atol=1e-9)
    for phrases in PHRASES:
        search_scores = index._score_by_search(index._all_phrases_query(phrases), rows) > 0
        assert index.match_phrases(phrases, rows).tolist() == search_scores.tolist()


@settings(max_examples=25, deadline=None)
@given(items=st.lists(ITEM, min_size=1, max_size=12))
def test_a_row_scores_what_a_search_gives_it(tmp_path_factory: pytest.TempPathFactory, items: list[Any]) -> None:
    index = made(tmp_path_factory.mktemp("lexical"), items)
    agree(index, np.arange(len(items) + 2))


def test_long_texts_are_rounded_alike(tmp_path: Path) -> None:
    agree(made(tmp_path, many(0, 200)), np.arange(200))


def test_edits_deletes_and_new_rows_are_scored_alike(tmp_path: Path) -> None:
    index = made(tmp_path, many(1, 120))
    rows = np.random.default_rng(0).permutation(130)
    writer = index.writer(live=True)
    current = index
    for step in range(4):
        deleted_rows = np.array([step, 7 * step + 3, 119 - step])
        writer.remove(deleted_rows)
        new_rows = np.array([step, 120 + step])
        table = pa.Table.from_pylist(many(step + 2, 2))
        writer.add(new_rows, table, ["colour"])
        writer.commit()
        current = current.refresh()
        agree(current, rows)
    writer.close()
    agree(current.refresh(), rows)
    agree(index, rows[rows < 120])


def test_a_folder_that_a_live_writer_had_is_searched_instead(tmp_path: Path) -> None:
    index = made(tmp_path, many(1, 20))
    assert all((tmp_path / name).exists() for name in FILES)
    added(index, [3], many(9, 1), live=True)
    reopened_index = LexicalIndex.open(tmp_path)
    assert not reopened_index.scores_rows_fast
    query = reopened_index.parse("red tent", BOOSTS)
    assert query.words is None
    np.testing.assert_allclose(
        reopened_index.score_rows(query, np.arange(20)), index.refresh().score_rows(query, np.arange(20))
    )


def test_a_folded_index_has_the_words_of_all_rows(tmp_path: Path) -> None:
    former_index = made(tmp_path, many(1, 50))
    former_scores = former_index.score_rows(former_index.parse("red tent", BOOSTS), np.arange(50))
    added(LexicalIndex.open(tmp_path), [4, 49, 60], many(5, 3))
    new_index = LexicalIndex.open(tmp_path)
    agree(new_index, np.arange(70))
    assert new_index._row_words is not None
    assert len(new_index._row_words.forward) == 61
    np.testing.assert_array_equal(
        former_index.score_rows(former_index.parse("red tent", BOOSTS), np.arange(50)), former_scores
    )


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    made(tmp_path, many(1, 50))
    whole = (tmp_path / FILES[1]).read_bytes()
    (tmp_path / FILES[1]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="is damaged"):
        LexicalIndex.open(tmp_path)
    np.save(tmp_path / FILES[1], np.zeros(3, np.uint64))
    with pytest.raises(ArtifactError, match="does not fit"):
        LexicalIndex.open(tmp_path)


def test_an_empty_index_is_asked_for_nothing(tmp_path: Path) -> None:
    index = made(tmp_path, [])
    assert index.score_rows(index.parse("red", BOOSTS), np.arange(3)).tolist() == [0.0] * 3
    assert index.match_phrases([("red",)], np.arange(3)).tolist() == [False] * 3
