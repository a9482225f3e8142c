"""Terms: what two spellings of one thing have in common, and what two things have not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmse.text.codes import code_key, codes, padded_key, unpadded_form
from mmse.text.exclusions import split_exclusions
from mmse.text.terms import fold, main_terms, terms


@pytest.mark.parametrize(
    ("spellings", "term"),
    [
        (['55"', "55 inch", "55in", "55-inch", "55 IN.", "55 inches", "55″"], "55in"),
        (["1,5 l", "1.5l", "1.5 L", "1,50 litre", "1.5 Liter"], "1.5l"),
        (['1/2"', "1/2 in.", "½ inch", "½in", "half inch", "half an inch"], "1/2in"),
        (['1-1/2"', "1 1/2 in.", "1½ inch"], "1-1/2in"),
        (["2x4x8", "2 x 4 x 8", "2×4×8", "2 in. x 4 in. x 8 ft.", "2*4*8"], "2x4x8"),
        (["10 mm", "10mm", "10-mm", "10 millimetres"], "10mm"),
        (["10,000 mAh", "10000mah"], "10000mah"),
        (["6'", "6 ft", "6 feet", "6-foot"], "6ft"),
        (["t-shirt", "tshirt", "T-SHIRT"], "tshirt"),
        (["wi-fi", "WiFi"], "wifi"),
        (["men's", "mens"], "mens"),
        (["Café", "cafe", "CAFÉ", "Cafe\u0301"], "cafe"),
        (["Straße", "STRASSE", "strasse"], "strasse"),
        (["ｍｕｇ", "mug!", "(Mug)"], "mug"),
        (["跑鞋", "跑鞋!", "跑 鞋"], "跑鞋"),
        (["M8x20", "m8 x 20", "M8×20"], "m8x20"),
        (["m8", "M8x20 zinc"], "m8"),
        (["20 mm", "M8x20"], "20mm"),
        (["forza 4", "forza4"], "forza"),
    ],
)
def test_spellings_of_one_term(spellings: list[str], term: str) -> None:
    for spelling in spellings:
        assert term in terms(spelling), (spelling, terms(spelling))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('1/2" pipe', '1-1/2" elbow'),
        ("1,5 l", "15 l"),
        ("1.5 v", "15 v"),
        ("2x4", "2x4x8"),
        ("AA", "AAA"),
        ("1/2", "12"),
        ("dcd 771", "dcd771c2"),
        ("家用 蓝牙", "用蓝"),
    ],
)
def test_what_is_not_the_same(one: str, other: str) -> None:
    assert not set(terms(one)) & set(terms(other)) - {"pipe", "elbow"}


def test_a_measure_is_its_unit_too() -> None:
    assert main_terms("10 mm drill") == ["10mm", "drill"]
    assert main_terms("10 cm drill") == ["10cm", "drill"]


def test_words_keep_their_order_and_further_forms_stand_behind() -> None:
    assert terms("Red T-Shirt, 2 in 1") == ["red", "t", "shirt", "2", "in", "1", "tshirt"]
    assert terms("4 ft. x 8 ft. plywood") == ["4x8", "plywood", "4ft", "8ft"]
    assert terms("NOR.0707-60") == ["nor", "0707", "60", "nor070760"]
    assert terms("iPhone 6 made in the EU") == ["iphone", "6", "made", "in", "the", "eu"]
    assert terms("") == terms(" …!? ") == []


def test_scripts_without_blanks_give_pairs() -> None:
    assert terms("运动跑鞋") == ["运动", "动跑", "跑鞋"]
    assert terms("红 red鞋") == ["红", "red", "鞋"]


@given(st.text())
def test_any_text_has_terms(text: str) -> None:
    found = terms(text)
    assert all(term and not any(map(str.isspace, term)) for term in found)
    assert fold(fold(text)) == fold(text)


def test_what_may_be_a_code() -> None:
    assert codes("Lamp NOR.0707-60 (9960001W), 42-315") == ["nor070760", "9960001w", "42315"]
    assert codes("ISBN 978-3-16-148410-0 4006381333931") == ["9783161484100", "4006381333931"]
    assert codes('10mm 55" 2x4x8 1500w 1/2 2023 iPhone 15 h7') == []
    assert code_key(" ISD-TN 450 ") == "isdtn450"
    assert codes("Part 0017") == ["0017"]
    assert padded_key("0017") == unpadded_form("17")
    assert padded_key("17") is padded_key("00") is padded_key("017a") is None


@pytest.mark.parametrize(
    ("query", "rest", "words"),
    [
        ("paint -solvent", "paint", ["solvent"]),
        ("paint not black -red", "paint", ["black", "red"]),
        ("paint without solvent", "paint without solvent", ["solvent"]),
        ("farbe ohne blei", "farbe ohne blei", ["blei"]),
        ("t-shirt wd -40 -", "t-shirt wd -40 -", []),
        ("no show socks", "no show socks", []),
        ("solvent free paint", "solvent free paint", ["solvent"]),
        ("Sugar-Free gum", "Sugar-Free gum", ["sugar"]),
        ("shower free standing", "shower free standing", []),
        ("free shipping", "free shipping", []),
        ("-tent", "-tent", []),
        ("Paint", "Paint", []),
    ],
)
def test_what_a_query_excludes(query: str, rest: str, words: list[str]) -> None:
    text, exclusions = split_exclusions(query)
    assert (text, [exclusion.word for exclusion in exclusions]) == (rest, words)


def test_what_says_that_it_lacks_a_word_is_not_excluded() -> None:
    (exclusion,) = split_exclusions("farbe ohne blei")[1]
    assert exclusion.phrases == (("ohne", "blei"), ("without", "blei"), ("no", "blei"), ("blei", "free"))


@pytest.mark.parametrize("part", ["t", "1", "日本語", "a1b2", "a-", "m8x20 "])
def test_a_long_text_takes_no_time(part: str) -> None:
    text = part * (10_000 // len(part))
    begin = time.process_time()
    terms(text)
    assert time.process_time() - begin < 0.5, "it took more than a second while it grew with the square of the length"
