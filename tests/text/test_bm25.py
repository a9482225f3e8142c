from __future__ import annotations

import math
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.text.bm25 import K1, B, Bm25
from mmse.text.normalise import words

TITLES = ["red running shoes", "blue shoes", "red red wine glass", "", "laptop"]


def slow_score(query: str, titles: list[str], row: int) -> float:
    """BM25 as its definition reads, word by word."""
    title_words = [words(title) for title in titles]
    mean_length = sum(map(len, title_words)) / len(title_words)
    score = 0.0
    for word in words(query):
        n_with = sum(word in title for title in title_words)
        times = title_words[row].count(word)
        idf = math.log(1 + (len(title_words) - n_with + 0.5) / (n_with + 0.5))
        score += idf * times / (times + K1 * (1 - B + B * len(title_words[row]) / mean_length)) if times else 0.0
    return score


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("Wi-Fi 6E, 2.5GBASE-T_router!", ["wi", "fi", "6e", "2", "5gbase", "t", "router"]),
        ("Größe ÉCLAIR кошка 42", ["größe", "éclair", "кошка", "42"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("e\u0301clair", ["e\u0301clair"]),
        (" \t\n", []),
    ],
)
def test_words_are_lower_cased_and_keep_their_marks(text: str, truth: list[str]) -> None:
    assert words(text) == truth


def test_every_ascii_character_is_read_as_among_those_of_other_scripts() -> None:
    texts = [chr(code) for code in range(128)] + [f"a{chr(code)}9_B" for code in range(128)]
    for text in texts:
        assert [*words(text), "é"] == words(f"{text} é")


def test_scores_are_those_of_the_definition() -> None:
    queries = ["red shoes", "red red", "Laptop!", "nothing here"]
    result = Bm25.build(TITLES).search(queries, 4)
    for index, query in enumerate(queries):
        scores = [slow_score(query, TITLES, row) for row in range(len(TITLES))]
        truth = [row for row in sorted(range(len(TITLES)), key=lambda row: (-scores[row], row)) if scores[row] > 0]
        assert result.rows[index].tolist() == (truth + [-1] * 4)[:4]
        np.testing.assert_allclose(result.scores[index][: len(truth)], [scores[row] for row in truth], rtol=1e-5)


def test_equal_scores_stand_in_order_of_rows_also_at_the_cut() -> None:
    result = Bm25.build(["same title"] * 10).search(["title"], 3)
    assert result.rows.tolist() == [[0, 1, 2]]


def test_pair_scores_agree_with_search() -> None:
    index = Bm25.build(TITLES)
    queries = ["red shoes", "glass red"]
    result = index.search(queries, 4)
    np.testing.assert_allclose(index.pair_scores(queries, result.rows), result.scores, rtol=1e-6)


@pytest.mark.parametrize(("titles", "queries"), [([], ["a"]), (["", ""], ["a"]), (["a"], []), (["a"], [""])])
def test_nothing_to_find_gives_empty_rows(titles: list[str], queries: list[str]) -> None:
    result = Bm25.build(titles).search(queries, 3)
    assert result.rows.shape == (len(queries), 3)
    assert (result.rows == -1).all()
    assert (result.scores == 0).all()


@settings(deadline=None, max_examples=30)
@given(
    titles=st.lists(st.text("ab ", max_size=12), min_size=1, max_size=20),
    query=st.text("abc ", max_size=8),
    k=st.integers(1, 25),
)
def test_any_texts_score_as_defined(titles: list[str], query: str, k: int) -> None:
    result = Bm25.build(titles).search([query], k)
    rows = result.rows[0][result.rows[0] >= 0]
    scores = np.array([slow_score(query, titles, row) for row in range(len(titles))])
    assert len(rows) == min(k, int((scores > 0).sum()))
    np.testing.assert_allclose(result.scores[0][: len(rows)], np.sort(scores)[::-1][: len(rows)], rtol=1e-4)


def test_blocks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Bm25.build(TITLES)
    whole = index.search(TITLES, 3)
    monkeypatch.setattr("mmse.text.bm25.BLOCK_POSTINGS", 1)
    assert (index.search(TITLES, 3).rows == whole.rows).all()


def test_recall_on_human_grades_is_the_known_one(judged_data: Path) -> None:
    folder = judged_data / "homedepot"
    with duckdb.connect() as database:
        items = database.execute(f"SELECT item_id::VARCHAR, title FROM '{folder}/items.csv.gz'").fetchall()
        judged_queries = database.execute(
            f"SELECT query, list(item_id::VARCHAR) FROM '{folder}/judgements.csv.gz' "
            "WHERE split = 'dev' AND relevance >= 2.5 GROUP BY query ORDER BY query"
        ).fetchall()
    assert len(judged_queries) == 940
    row_of = {item_id: row for row, (item_id, _) in enumerate(items)}
    result = Bm25.build([title for _, title in items]).search([query for query, _ in judged_queries], 100).rows
    for k, truth in ((10, 0.430), (100, 0.708)):
        recalls = [
            len({row_of[item] for item in relevant} & set(rows[:k].tolist())) / len(relevant)
            for (_, relevant), rows in zip(judged_queries, result, strict=True)
        ]
        assert np.mean(recalls) == pytest.approx(truth, abs=0.001)
