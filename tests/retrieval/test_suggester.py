"""Completions: what begins so, by any word, with a slip, and in which order."""

from __future__ import annotations

import time

import pytest

from mmse.retrieval.suggester import MAX_SUGGESTIONS, Suggester, Suggestion

QUERIES = {"wireless headphones": 90, "wired headphones": 20, "headphones": 200, "dog food": 50, "café table": 9}
BRANDS = {"Headway": 30, "Bosch": 12, "headphones": 5}
CATEGORIES = {"Audio": 70, "Audio > Headphones": 60, "Audio > Turntables": 4}


@pytest.fixture(scope="module")
def suggester() -> Suggester:
    return Suggester(QUERIES, BRANDS, CATEGORIES)


def texts(suggester: Suggester, typed: str, k: int = 9) -> list[str]:
    return [suggestion.text for suggestion in suggester.suggest(typed, k)]


def test_queries_come_first_then_names_each_once(suggester: Suggester) -> None:
    assert texts(suggester, "head") == ["headphones", "Headway", "wireless headphones", "wired headphones"]
    assert suggester.suggest("bos", 5) == [Suggestion("Bosch", "brand")]
    assert suggester.suggest("turn", 5) == [Suggestion("Turntables", "category")]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("WIREL", ["wireless headphones"]),
        ("wireless ", ["wireless headphones"]),
        ("cafe", ["café table"]),
        ("table", ["café table"]),
        ("wirless", ["wireless headphones"]),
        ("hedphones", ["headphones", "wireless headphones", "wired headphones"]),
        ("dgo foo", ["dog food"]),
        ("xyz", []),
        ("", []),
        ("  ", []),
        ("🎧", []),
        ("h" * 500, []),
    ],
)
def test_what_is_completed(suggester: Suggester, typed: str, expected: list[str]) -> None:
    assert texts(suggester, typed) == expected


def test_no_more_than_were_asked_for(suggester: Suggester) -> None:
    assert len(texts(suggester, "head", 2)) == 2
    many = Suggester({f"tent number {number}": number for number in range(500)}, {}, {})
    assert texts(many, "tent", 999) == [f"tent number {number}" for number in range(499, 499 - MAX_SUGGESTIONS, -1)]


def test_nothing_known() -> None:
    assert Suggester({}, {}, {}).suggest("tent", 5) == []


def test_a_letter_takes_milliseconds() -> None:
    suggester = Suggester({f"{a} {b} tent {a * b}": a for a in range(70) for b in range(70)}, {}, {})
    durations = []
    for typed in [f"tnet {number}" for number in range(40)]:
        start = time.process_time()
        suggester.suggest(typed, 8)
        durations.append(time.process_time() - start)
    assert sorted(durations)[20] < 0.05  # about 3 ms
