"""Filters as they are written: what they mean, and what is said of those that mean nothing."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmse.core.errors import UsageError
from mmse.schema.filters import (
    EXAMPLE,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_PARTS,
    MAX_TEXT,
    And,
    Between,
    Filter,
    Kind,
    Not,
    OneOf,
    Or,
    comparison_key,
    comparison_path,
    parse_filter,
    parse_terms,
    path_prefixes,
)

KINDS = {"category": Kind.PATH, "brand": Kind.NAME, "seller": Kind.NAME, "price": Kind.NUMBER, "available": Kind.FLAG}
BOSCH = OneOf("brand", ("bosch",))


@pytest.mark.parametrize(
    ("value", "means"),
    [
        ({}, And(())),
        ({"brand": "Bosch"}, BOSCH),
        ({"brand": [" BOSCH ", "bosch", "Makita"]}, OneOf("brand", ("bosch", "makita"))),
        ({"brand": []}, OneOf("brand", ())),
        ({"brand": "🔨 Tools™"}, OneOf("brand", ("🔨 tools™",))),
        ({"category": "Tools>Drills >  "}, OneOf("category", ("tools > drills",))),
        ({"available": True}, OneOf("available", (True,))),
        ({"available": [True, False, True]}, OneOf("available", (True, False))),
        ({"available": ["in stock", 1, "https://schema.org/InStock"]}, OneOf("available", (True,))),
        ({"available": [0, "out_of_stock", "No"]}, OneOf("available", (False,))),
        ({"price": 20}, Between("price", 20.0, 20.0)),
        ({"price": {"from": 1, "to": 2.5}}, Between("price", 1.0, 2.5)),
        ({"price": {"to": 2}}, Between("price", None, 2.0)),
        ({"price": {"from": 2, "to": None}}, Between("price", 2.0, None)),
        ({"price": [1, 2]}, Or((Between("price", 1.0, 1.0), Between("price", 2.0, 2.0)))),
        ({"brand": "Bosch", "price": 1}, And((BOSCH, Between("price", 1.0, 1.0)))),
        ({"not": {"brand": "Bosch"}}, Not(BOSCH)),
        ({"not": {}}, Not(And(()))),
        ({"or": []}, Or(())),
        ({"and": [{"brand": "Bosch"}, {}]}, And((BOSCH, And(())))),
        ({"or": [{"brand": "Bosch"}, {"not": {"available": False}}]}, Or((BOSCH, Not(OneOf("available", (False,)))))),
    ],
)
def test_what_a_filter_means(value: object, means: Filter) -> None:
    assert parse_filter(value, KINDS) == means


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"barnd": "Bosch"}, r"no column 'barnd' to filter by.\nDid you mean 'brand'\?"),
        ({"🔨": 1}, r"no column '🔨' .*\nColumns that can be filtered: category, brand, seller, price, available"),
        ({"not": {"Brand ": "x"}}, "no column 'Brand '"),
        ([], r"A filter is an object of columns and values, found \[\]"),
        ("brand=Bosch", "A filter is an object"),
        (None, "found None"),
        ({"not": [{"brand": "x"}]}, "A filter is an object"),
        ({"or": {"brand": "x"}}, r"'or' in a filter takes a list of filters, found \{'brand'"),
        ({"and": "brand"}, "'and' in a filter takes a list of filters, found 'brand'"),
        ({"or": ["brand"]}, "A filter is an object"),
        ({"brand": 3}, "'brand' in a filter takes text or a list of texts, found 3"),
        ({"brand": None}, "'brand' in a filter takes text"),
        ({"brand": ["x", ["y"]]}, r"found \['y'\]"),
        ({"brand": {"from": 1}}, "'brand' in a filter takes text"),
        ({"category": True}, "'category' in a filter takes text"),
        ({"available": "perhaps"}, "'available' in a filter takes true or false, found 'perhaps'"),
        ({"available": [1, 2]}, "takes true or false, found 2"),
        ({"available": None}, "takes true or false, found None"),
        ({"price": "cheap"}, "'price' in a filter takes a finite number, found 'cheap'"),
        ({"price": True}, "takes a finite number, found True"),
        ({"price": float("nan")}, "takes a finite number, found nan"),
        ({"price": {"from": float("inf")}}, "takes a finite number, found inf"),
        ({"price": 10**400}, "takes a finite number, found 1000"),
        ({"price": [1, None]}, r"takes a number or .*, found None"),
        ({"price": None}, 'takes a number or {"from": …, "to": …}, found None'),
        ({"price": {}}, r"found \{\}"),
        ({"price": {"min": 1}}, r"found \{'min': 1\}"),
        ({"price": {"from": 2, "to": 1}}, "'price' is asked to lie from 2.0 to 1.0: nothing can.\nSwap the two ends"),
        ({"brand": [["x" * 200]]}, "x…"),
    ],
)
def test_what_is_said_of_a_wrong_filter(value: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_filter(value, KINDS)


def test_no_column_at_all() -> None:
    with pytest.raises(UsageError, match="Columns that can be filtered: none"):
        parse_filter({"brand": "x"}, {})


def nested(depth: int, inner: dict[str, Any]) -> dict[str, Any]:
    return nested(depth - 1, {"not": inner}) if depth else inner


def test_nested_too_deep() -> None:
    parse_filter(nested(MAX_DEPTH, {"brand": "x"}), KINDS)
    with pytest.raises(UsageError, match=f"nested more than {MAX_DEPTH} deep"):
        parse_filter(nested(MAX_DEPTH + 1, {"brand": "x"}), KINDS)
    with pytest.raises(UsageError, match=f"nested more than {MAX_DEPTH} deep"):
        parse_filter(nested(900, {}), KINDS)


def test_too_many_values() -> None:
    brands = [f"b{i}" for i in range(MAX_CONDITIONS)]
    parse_filter({"brand": brands}, KINDS)
    parse_filter({"price": list(range(MAX_CONDITIONS))}, KINDS)
    for value in (
        {"brand": [*brands, "one more"]},
        {"brand": brands, "not": {"price": 1}},
        {"price": list(range(1001))},
    ):
        with pytest.raises(UsageError, match="has 1001 values to compare with, at most 1000"):
            parse_filter(value, KINDS)


def test_the_example_is_one() -> None:
    assert parse_terms([EXAMPLE], KINDS) is not None


@pytest.mark.parametrize(
    ("terms", "means"),
    [
        ([], None),
        (["brand=Bosch"], BOSCH),
        ([" brand = Bosch "], BOSCH),
        (["brand=a=b"], OneOf("brand", ("a=b",))),
        (["brand="], OneOf("brand", ("",))),
        (["category=Tools > Drills"], OneOf("category", ("tools > drills",))),
        (["available= True"], OneOf("available", (True,))),
        (["available=false"], OneOf("available", (False,))),
        (["available=in stock"], OneOf("available", (True,))),
        (["available=0"], OneOf("available", (False,))),
        (["price=10"], Between("price", 10.0, 10.0)),
        (["price=10..20.5"], Between("price", 10.0, 20.5)),
        (["price=..20"], Between("price", None, 20.0)),
        (["price=-5.."], Between("price", -5.0, None)),
        (["brand=Bosch", "price=..20"], And((BOSCH, Between("price", None, 20.0)))),
        ([' {"not": {"brand": "Bosch"}}'], Not(BOSCH)),
        (["brand=🔨"], OneOf("brand", ("🔨",))),
    ],
)
def test_terms_of_a_command_line(terms: list[str], means: Filter | None) -> None:
    assert parse_terms(terms, KINDS) == means


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("brand", "The filter 'brand' has no '='.\nWrite column=value"),
        ("", "The filter '' has no '='"),
        ("barnd=Bosch", r"no column 'barnd' to filter by.\nDid you mean 'brand'\?"),
        ("price=cheap", "'price' in a filter takes a number, or two with '..' between them, found 'cheap'"),
        ("price=1..2..3", "takes a number, or two with '..'"),
        ("price=", "takes a number, or two"),
        ("price=..", r"takes a number or .*, found \{\}"),
        ("price=nan", "takes a finite number, found nan"),
        ("price=20..10", "lie from 20.0 to 10.0: nothing can"),
        ("available=maybe", "takes true or false, found 'maybe'"),
        ('{"brand": "Bosch"', r"is not valid JSON: .*\nSuch as"),
        ("{brand: Bosch}", "is not valid JSON"),
        ("{" * 100_000, "is not valid JSON"),
        ('{"price": NaN}', "takes a finite number, found nan"),
        ('{"price": 1' + "0" * 5000 + "}", "is not valid JSON"),
        ('{"not": ' * 100_000, "is not valid JSON"),
    ],
)
def test_what_is_said_of_a_wrong_term(term: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_terms([term], KINDS)


def test_forms_in_which_texts_are_compared() -> None:
    assert comparison_key("  BoSCH\t") == "bosch"
    assert comparison_key("A  b\u00a0C") == "a b c"
    assert comparison_key("STRASSE") == comparison_key("Straße") == "strasse"
    assert comparison_key("İSTANBUL ÇAY") == comparison_key("istanbul çay") == "istanbul çay"
    assert comparison_key("Cafe\u0301") == comparison_key("CAFÉ") == "café"
    assert comparison_key("ΟΔΟΣ") == comparison_key("οδός".replace("ό", "ο")), "the last sigma"
    assert comparison_key("Citroën") != comparison_key("Citroen"), "another letter is another name"
    assert comparison_path("A>b >  C d>>") == "a > b > c d"
    assert path_prefixes("a > b > c") == ["a", "a > b", "a > b > c"]
    assert path_prefixes("") == path_prefixes(comparison_path(" > ")) == []


@given(st.text())
def test_forms_are_stable(text: str) -> None:
    assert comparison_key(comparison_key(text)) == comparison_key(text)
    assert comparison_path(comparison_path(text)) == comparison_path(text)
    assert path_prefixes(comparison_path(text))[-1:] == ([comparison_path(text)] if comparison_path(text) else [])


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["and", "or", "not", "from", "to", *KINDS]) | st.text(max_size=3), inner)
    ),
    max_leaves=15,
)


@given(PLAIN)
def test_any_plain_value_is_a_filter_or_a_usage_error(value: object) -> None:
    with contextlib.suppress(UsageError):
        parse_filter(value, KINDS)


@given(st.text() | st.sampled_from(list(KINDS)).flatmap(lambda name: st.text().map(lambda text: f"{name}={text}")))
def test_any_term_is_a_filter_or_a_usage_error(term: str) -> None:
    with contextlib.suppress(UsageError):
        parse_terms([term], KINDS)


@pytest.mark.parametrize("joint", ["and", "or"])
def test_a_filter_of_very_many_parts_is_refused_before_it_is_read(joint: str) -> None:
    with pytest.raises(UsageError, match="more than 6,000 parts"):
        parse_filter({joint: [{}] * 60_000}, KINDS)
    most_ranges = [{"not": {"price": {"from": n, "to": n + 1}}} for n in range(MAX_CONDITIONS)]
    assert len(most_ranges) * 5 < MAX_PARTS
    parse_filter({joint: most_ranges}, KINDS)


def test_a_value_of_a_filter_has_a_longest_length() -> None:
    parse_filter({"brand": "b" * MAX_TEXT}, KINDS)
    with pytest.raises(UsageError, match="2,001 characters"):
        parse_filter({"brand": ["b", "b" * (MAX_TEXT + 1)]}, KINDS)
