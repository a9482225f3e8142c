"""Languages of a catalogue: found where they are sure, stemmed all, and English where nothing tells."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mmse.index.base import IndexConfig
from mmse.index.documents import prepare_text, stem_item_word
from mmse.index.languages import find_codes, find_languages, make_analyzer

GERMAN = [
    f"{brand} {thing}" for brand in ("Walz", "Lind") for thing in ("Bürostuhl schwarz", "Regenjacke für Damen")
] * 8
ENGLISH = [
    f"{brand} {thing}" for brand in ("Walz", "Lind") for thing in ("Black office chair", "Rain jacket for women")
] * 8
CHINESE = ["华美黑色手机壳", "青松大容量充电宝", "海蓝防水运动鞋"] * 8


def guess(text: str) -> tuple[str, float]:
    """German where a text has an umlaut; unsure of single texts, and of what is neither."""
    words = text.split()
    code = "de" if any(letter in text for letter in "äöü") else "xx" if "?" in text else "en"
    return code, 0.99 if len(words) > 4 and code != "xx" else 0.3


def test_a_language_is_found_where_a_share_of_the_texts_is_surely_of_it() -> None:
    assert find_codes(["red shoe"] * 40, guess) == ["en"]
    assert find_codes(["red shoe"] * 30 + ["grüne Hüte"] * 10, guess) == ["en", "de"]
    assert find_codes(["red shoe"] * 99 + ["grüne Hüte"], guess) == ["en"]
    assert find_codes(["red shoe"] * 30 + ["XR?5 ??"] * 30, guess) == ["en"]
    assert find_codes(["red shoe"] * 19, guess) == [], "too few"


@pytest.mark.parametrize(
    ("titles", "language"),
    [
        (GERMAN, "german"),
        (ENGLISH, "english"),
        (ENGLISH + GERMAN, "english, german"),
        (CHINESE, "none"),
        (["XR-5000", "?", None, ""] * 20, "english"),
        ([], "english"),
    ],
)
def test_the_languages_of_titles(titles: list[str | None], language: str) -> None:
    assert find_languages(pa.table({"title": pa.array(titles, pa.string())}), ["title", "category"]) == language


def test_each_column_is_looked_at() -> None:
    table = pa.table({"title": ENGLISH, "category": GERMAN})
    assert find_languages(table, ["title"]) == "english"
    assert find_languages(table, ["title", "category"]) == "english, german"


def test_two_languages_stem_the_words_of_both() -> None:
    stem = make_analyzer("english, german").analyze
    for one, other in [("shoe", "shoes"), ("battery", "batteries"), ("schraube", "schrauben"), ("stuhl", "stuhle")]:
        assert stem(one) == stem(other), (one, other)
    assert make_analyzer("english").analyze("schraube") != make_analyzer("english").analyze("schrauben")
    assert make_analyzer("none").analyze("shoes") == ["shoes"]


@pytest.mark.parametrize("language", ["none", "english", "english, german"])
def test_the_stems_of_an_item_s_word_are_those_of_its_language(language: str) -> None:
    for word in ("Shoes", "Schrauben", "10cm", "café"):
        expected = frozenset(make_analyzer(language).analyze(prepare_text(word)))
        assert stem_item_word(language, word) == stem_item_word(language, word) == expected


@pytest.mark.parametrize("language", ["klingon", "english, klingon", "auto, english", "none, english", ""])
def test_a_language_that_there_is_not(language: str) -> None:
    with pytest.raises(ValueError, match="language"):
        IndexConfig(language=language)


@pytest.mark.parametrize("language", ["auto", "none", "german", "english, german", "english,german"])
def test_languages_that_there_are(language: str) -> None:
    assert IndexConfig(language=language).language == language
