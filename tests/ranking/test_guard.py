"""The guard: what a query names, and that it leads where it exists and the rest of the query fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmse.core.errors import ArtifactError
from mmse.index.lexical import FIELDS, LexicalIndex
from mmse.ranking.candidates import Candidates
from mmse.ranking.guard import Guard
from mmse.schema.filters import Between, Kind

BOOSTS = dict.fromkeys(FIELDS, 1.0)
TITLES = [
    "Apple iPhone 6 silver",
    "Apple iPhone 7 silver",
    "Apple iPhone 7 gold",
    "Acme best phone case",
    "Best Buy charger",
    "Best shoes ever",
    "The best tea",
    "40 watt electric light bulb",
    "Electric water heater 50 gallon",
    "Black & Decker drill DCD771C2",
    "Acme drill",
]
BRANDS = ["Apple", "Apple", "Apple", "Acme", "Best", None, None, None, None, "Black & Decker", "Acme"]
PRICES = [float(index) for index in range(len(TITLES))]


@pytest.fixture(scope="module")
def guard() -> Guard:
    return Guard.learn(TITLES, BRANDS)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    folder = tmp_path_factory.mktemp("words")
    index = LexicalIndex.create(folder, {"price": Kind.NUMBER}, "english")
    writer = index.writer()
    writer.add(np.arange(len(TITLES)), pa.table({"title": TITLES, "brand": BRANDS, "price": PRICES}), [])
    writer.commit()
    writer.close()
    return LexicalIndex.open(folder)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("apple", [("apple",)]),
        ("silver APPLE iphone 6", [("apple",), ("iphone", "6")]),
        ("best shoes", []),
        ("black & decker drill", [("black", "decker")]),
        ("drill dcd771c2", [("dcd771c2",)]),
        ("ladder 6 ft", []),
        ("6 ft ladder", []),
        ("lumber 2x4", []),
        ("bulb 40w", []),
        ("for ages 4 to 7", [("ages", "4")]),
        ("6", []),
        ("", []),
        ("🎧", []),
    ],
)
def test_what_a_query_names(guard: Guard, query: str, names: list[tuple[str, ...]]) -> None:
    assert guard.phrases(query) == names


def lead(guard: Guard, index: LexicalIndex, query: str, rows: list[int]) -> tuple[list[int], list[int]]:
    lexical_query = index.parse(query, BOOSTS)
    at = np.array(rows)
    candidates = Candidates(
        at, np.zeros(len(at), np.float32), index.score_rows(lexical_query, at) / np.float32(lexical_query.max_score)
    )
    extra_rows, lead_mask = guard.find_leads(query, candidates, lexical_query, index, None)
    return extra_rows.tolist(), at[lead_mask].tolist()


def test_the_named_model_leads(guard: Guard, index: LexicalIndex) -> None:
    assert lead(guard, index, "iphone 6", [1, 2, 0]) == ([], [0])


def test_the_named_model_is_fetched_where_no_channel_found_it(guard: Guard, index: LexicalIndex) -> None:
    assert lead(guard, index, "iphone 6", [1, 2]) == ([0], [])


def test_a_model_that_does_not_exist_leads_nothing(guard: Guard, index: LexicalIndex) -> None:
    assert lead(guard, index, "iphone 8", [0, 1, 2]) == ([], [])


def test_a_number_alone_leads_nothing_that_fits_worse(guard: Guard, index: LexicalIndex) -> None:
    assert guard.phrases("water heater electric 40") == [("electric", "40")]
    assert lead(guard, index, "water heater electric 40", [7, 8]) == ([], [])


def test_a_filter_holds_for_what_is_fetched_too(guard: Guard, index: LexicalIndex) -> None:
    lexical_query = index.parse("iphone 6", BOOSTS)
    candidates = Candidates(np.array([1]), np.zeros(1, np.float32), np.array([0.5], np.float32))
    extra_rows, _ = guard.find_leads("iphone 6", candidates, lexical_query, index, Between("price", 0.5, None))
    assert extra_rows.tolist() == []


def test_a_query_that_names_nothing_moves_nothing(guard: Guard, index: LexicalIndex) -> None:
    assert lead(guard, index, "silver phone", [0, 1]) == ([], [])


def test_saved_and_opened(guard: Guard, tmp_path: Path) -> None:
    guard.save(tmp_path)
    assert Guard.open(tmp_path) == guard
    (tmp_path / "brands.json").write_text("[1]")
    with pytest.raises(ArtifactError, match=r"brands\.json"):
        Guard.open(tmp_path)
    (tmp_path / "brands.json").unlink()
    with pytest.raises(ArtifactError, match="mmse rank"):
        Guard.open(tmp_path)
