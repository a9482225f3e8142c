"""A merchandiser's rules: what a file may hold, the errors for a wrong one, and the effects on a query."""

from __future__ import annotations

import re
import time
import timeit
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmse.core.errors import UsageError
from mmse.ranking.patterns import Pattern, PatternIndex
from mmse.ranking.rule_checks import find_warnings
from mmse.ranking.rule_file import MAX_RULES, read_rules, write_rule
from mmse.ranking.rules import PinnedItem, RuleEffects, Rules
from mmse.schema.filters import Kind, OneOf

KINDS = {"brand": Kind.NAME, "category": Kind.PATH, "price": Kind.NUMBER, "available": Kind.FLAG}
TIME = datetime(2026, 7, 1, 12, tzinfo=UTC)
ALL = """
[[pin]]
name = "summer-tents"
query = "Tent"
items = ["i1", "i2"]
from = 2026-06-01
until = 2026-08-31
note = "until the stock is sold"
[[pin]]
name = "any-tent"
query = "* tent *"
place = 2
items = ["i3", "i1", "i4"]
[[bury]]
name = "old-stock"
query = "* tent"
items = ["i9"]
[[bury]]
name = "gone"
query = "*"
where = { available = false }
[[boost]]
name = "own-brand"
query = "*"
where = { brand = "Acme" }
factor = 1.5
[[synonym]]
name = "sofa"
words = ["sofa", "couch", "day bed"]
[[synonym]]
name = "trainers"
when = "trainers"
also = ["sneakers", "running shoes"]
[[synonym]]
name = "cell"
query = "phone *"
words = ["cell", "battery"]
[[redirect]]
name = "returns"
query = "return policy"
url = "https://shop.example/returns"
[[redirect]]
name = "tents"
query = "tnet *"
to = "tent"
"""


def pin(name: str, query: str, *items: str, place: int = 1, lines: str = "") -> str:
    return f'[[pin]]\nname = "{name}"\nquery = "{query}"\nitems = {list(items)}\nplace = {place}\n{lines}\n'


def redirect(name: str, query: str, to: str) -> str:
    return f'[[redirect]]\nname = "{name}"\nquery = "{query}"\nto = "{to}"\n'


def refused(text: str) -> str:
    with pytest.raises(UsageError) as error_info:
        read_rules(text, KINDS, "rules.toml")
    assert error_info.value.cause.startswith("rules.toml")
    assert error_info.value.cure
    return str(error_info.value)


@pytest.fixture(scope="module")
def rules() -> Rules:
    return read_rules(ALL, KINDS)


def test_what_applies_to_a_query(rules: Rules) -> None:
    effects = rules.apply("  TENT ", TIME)
    assert effects.query == "  TENT "
    assert effects.rules == ("summer-tents", "any-tent", "old-stock", "gone", "own-brand")
    assert effects.pins == (
        PinnedItem("i1", 1, "summer-tents"),
        PinnedItem("i2", 2, "summer-tents"),
        PinnedItem("i3", 3, "any-tent"),
        PinnedItem("i4", 4, "any-tent"),
    )
    assert [bury.items for bury in effects.buries] == [("i9",), ()]
    assert effects.buries[1].condition == OneOf("available", (False,))
    assert [(boost.condition, boost.factor) for boost in effects.boosts] == [(OneOf("brand", ("acme",)), 1.5)]
    assert effects.redirect_url is None
    assert effects.expansions == ()


def test_a_rule_sleeps_out_of_its_dates(rules: Rules) -> None:
    def is_active(*moment: int) -> bool:
        return "summer-tents" in rules.apply("tent", datetime(*moment, tzinfo=UTC)).rules  # type: ignore[misc,arg-type]

    assert not is_active(2026, 5, 31, 23, 59, 59)
    assert is_active(2026, 6, 1)
    assert is_active(2026, 8, 31, 23, 59, 59)
    assert not is_active(2026, 9, 1)


def test_a_moment_may_have_an_hour() -> None:
    rules = read_rules(pin("a", "x", "i", lines="from = 2026-01-01T10:00:00\nuntil = 2026-01-01T13:00:00+02:00"), KINDS)
    hours = [h for h in range(24) if rules.apply("x", datetime(2026, 1, 1, h, tzinfo=UTC)).rules]
    assert hours == [10, 11]


def test_synonyms_both_ways_one_way_and_for_some_queries(rules: Rules) -> None:
    def expansions(query: str) -> dict[str, tuple[str, ...]]:
        return dict(rules.apply(query, TIME).expansions)

    assert expansions("red Couch, cheap") == {"couch": ("sofa", "day bed")}
    assert expansions("day-bed or sofa") == {"day bed": ("sofa", "couch"), "sofa": ("couch", "day bed")}
    assert expansions("trainers") == {"trainers": ("sneakers", "running shoes")}
    assert expansions("sneakers") == {}
    assert expansions("phone cell") == {"cell": ("battery",)}
    assert expansions("solar cell") == {}
    assert expansions("sofas") == {}
    assert rules.apply("couch", TIME).rules[-1] == "sofa"


def test_synonyms_of_one_phrase_come_together_and_do_not_flood_a_search() -> None:
    synonyms = [write_rule("synonym", {"name": f"s{i}", "words": [f"w{i}", "x", f"v{i}"]}) for i in range(40)]
    rules = read_rules("\n".join(synonyms), KINDS)
    [(phrase, alternatives)] = rules.apply("x", TIME).expansions
    assert phrase == "x"
    assert len(alternatives) == 80
    assert len(rules.apply(" ".join(f"w{i}" for i in range(40)), TIME).expansions) == 16


def test_redirects(rules: Rules) -> None:
    effects = rules.apply("Return Policy", TIME)
    assert effects.redirect_url == "https://shop.example/returns"
    assert effects.rules[0] == "returns"
    assert rules.apply("tnet", TIME).query == "tent"
    assert rules.apply("tnet red", TIME).rules == ("tents", *rules.apply("tent", TIME).rules)
    assert rules.apply("tnet red", TIME).pins == rules.apply("tent", TIME).pins


def test_redirects_are_followed_and_one_to_the_query_itself_is_none() -> None:
    rules = read_rules(redirect("a", "x", "y") + redirect("b", "y", "z") + redirect("c", "* z *", "z"), KINDS)
    assert rules.apply("x", TIME).query == "z"
    assert rules.apply("x", TIME).rules == ("a", "b")
    assert rules.apply("z", TIME) == RuleEffects("z")
    assert rules.apply("z z", TIME).rules == ("c",)


@pytest.mark.parametrize(
    "text",
    [
        redirect("a", "x", "y") + redirect("b", "y", "x"),
        redirect("a", "x", "y") + redirect("b", "y", "z") + redirect("c", "z", "x"),
        redirect("a", "tent *", "red tent") + redirect("b", "* tent", "tent shop"),
        redirect("a", "x", "y") + redirect("b", "y", "x").replace("[[redirect]]", "[[redirect]]\nuntil = 2020-01-01"),
    ],
)
def test_redirects_in_a_circle_are_refused(text: str) -> None:
    assert "redirects lead in a circle: " in refused(text)


def test_no_rules() -> None:
    for text in ("", "\n# nothing yet\n", "pin = []"):
        rules = read_rules(text, KINDS)
        assert len(rules) == 0
        assert rules.apply("Tent", TIME) == RuleEffects("Tent")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[pin]", "not valid TOML: "),
        (ALL[:-4], "not valid TOML: "),
        ("a = " + "[" * 100_000, "not valid TOML: "),
        ("a = " + "1" * 10_000, "not valid TOML: "),
        ("a = '\ud800'", "not valid TOML: "),
        ("\x00", "not valid TOML: "),
        ("[[pni]]", "there is no rule of kind 'pni'.\nDid you mean 'pin'?"),
        ("[pin]\nname = 'a'", "'pin' is {'name': 'a'}, expected a table.\nBegin each rule with a line [[pin]]"),
        ("pin = 3", "'pin' is 3, expected a table."),
        ("pin = [3]", "'pin' is [3], expected a table."),
        ("[[pin]]\nquery = 'x'\nitems = ['i']", "rules.toml, pin 1: 'name' is missing, expected text"),
        (pin("A b", "x", "i"), "pin 'A b': 'name' is 'A b', expected up to 80 small letters"),
        (pin("a" * 200, "x", "i"), "expected up to 80 small letters"),
        (pin("a", "x", "i", lines="itmes = 3"), "pin 'a': there is no key 'itmes'.\nDid you mean 'items'?"),
        (pin("a", "x", "i", lines="factor = 3"), "pin 'a': there is no key 'factor'.\n"),
        ("[[pin]]\nname = 'a'\nitems = ['i']", "pin 'a': 'query' is missing"),
        (pin("a", " ", "i"), "'query' is ' ', expected text"),
        (pin("a", "ten*", "i"), "'query' is 'ten*', expected `*` as a word of its own"),
        (pin("a", "x" * 3000, "i"), "expected at most 2,000 characters"),
        (pin("a", "x"), "'items' is [], expected a list of texts"),
        ("[[pin]]\nname = 'a'\nquery = 'x'", "'items' is missing"),
        (pin("a", "x", "i").replace("'i'", "3"), "'items' is 3, expected a list of texts"),
        (pin("a", "x", "i", "i"), "expected each of them once"),
        (pin("a", "x", *map(str, range(1001))), "expected at most 1,000 of them"),
        (pin("a", "x", "i", place=0), "'place' is 0, expected a whole number from 1 to 1,000"),
        (pin("a", "x", "i").replace("place = 1", "place = true"), "'place' is True"),
        (pin("a", "x", "i").replace("place = 1", "place = 1.5"), "'place' is 1.5"),
        (pin("a", "x", "i", lines="from = '2026-01-01'"), "'from' is '2026-01-01', expected a date without quotation"),
        (pin("a", "x", "i", lines="from = 2026-01-02\nuntil = 2026-01-01"), "expected a date not before 'from'"),
        (pin("a", "x", "i", lines="note = 3"), "'note' is 3, expected text"),
        (pin("a", "x", "i") + pin("a", "y", "i"), "two rules have the name 'a'"),
        ("[[bury]]\nname = 'a'\nquery = 'x'", "expected 'items' or 'where', found neither"),
        ("[[bury]]\nname = 'a'\nquery = 'x'\nwhere = {}", "'where' is {}, expected a condition"),
        ("[[bury]]\nname = 'a'\nquery = 'x'\nwhere = {brnad = 'x'}", "a', 'where': There is no column 'brnad'"),
        ("[[boost]]\nname = 'a'\nquery = 'x'\nfactor = 2", "'where' is missing"),
        ("[[boost]]\nname = 'a'\nquery = 'x'\nwhere = 'Acme'\nfactor = 2", "A filter is an object"),
        ("[[boost]]\nname = 'a'\nquery = 'x'\nwhere = {price = 2026-01-01}\nfactor = 2", "'price' in a filter takes"),
        ("[[synonym]]\nname = 'a'\nwords = ['x']", "expected two different phrases or more"),
        ("[[synonym]]\nname = 'a'\nwords = ['x', 'X!']", "expected two different phrases or more"),
        ("[[synonym]]\nname = 'a'\nwords = ['x', 'a b c d e f']", "is 'a b c d e f', expected phrases of 1 to 5 words"),
        ("[[synonym]]\nname = 'a'\nwords = ['x', '!']", "is '!', expected phrases of 1 to 5 words"),
        ("[[synonym]]\nname = 'a'\nwords = ['x', 'y']\nalso = ['z']", "'also' is ['z'], expected 'when' beside it"),
        ("[[synonym]]\nname = 'a'\nwhen = 'x'", "'also' is missing"),
        ("[[synonym]]\nname = 'a'\nwhen = 'x'\nalso = ['x']", "'also' is ['x'], expected a list of other phrases"),
        ("[[synonym]]\nname = 'a'\nwhen = 'x'\nwords = ['x', 'y']", "expected 'words' or 'when', found both"),
        ("[[redirect]]\nname = 'a'\nquery = 'x'", "expected 'to' or 'url', found neither"),
        (redirect("a", "x", "X"), "'to' is 'X', expected another query"),
        (redirect("a", "x", "y *"), "'to' is 'y *', expected another query"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, message: str) -> None:
    assert message in refused(text)


@pytest.mark.parametrize("factor", ["0", "-1", "nan", "inf", "true", "'2'", "1" + "0" * 400])
def test_factors(factor: str) -> None:
    text = f"[[boost]]\nname = 'a'\nquery = '*'\nwhere = {{brand = 'x'}}\nfactor = {factor}"
    assert "'factor' is " in refused(text)
    assert "expected a finite number above 0" in refused(text)


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "ftp://x", "//x", "https://", "https://[x", "/returns", "https://a b", "https://a\\nb"],
)
def test_urls(url: str) -> None:
    assert "expected an address that begins with https://" in refused(
        f'[[redirect]]\nname = "a"\nquery = "x"\nurl = "{url}"'
    )


def test_pins_of_one_query_to_one_place() -> None:
    two = pin("a", "* tent", "i1", "i2", lines="from = 2026-01-01\nuntil = 2026-01-31")
    message = refused(two + pin("b", "*  Tent", "i3", place=2, lines="from = 2026-01-31"))
    assert "'a' and 'b' both pin to place 2 of '* tent'" in message
    assert "both pin to place 2" in refused(two + pin("b", "* tent", "i3", place=2))
    assert len(read_rules(two + pin("b", "* tent", "i3", place=3), KINDS)) == 2
    assert len(read_rules(two + pin("b", "* tent", "i3", place=2, lines="from = 2026-02-01"), KINDS)) == 2


def test_warnings() -> None:
    text = pin("a", "tent", "i1", "i8", "i9") + pin("b", "* tent", "i2", place=3) + pin("c", "* tents", "i2")
    warnings = find_warnings(read_rules(text, KINDS), {"i1", "i2"}.__contains__)
    assert warnings[0] == "a: the catalogue has no item 'i8' and 1 more."
    assert "'tent' fits '* tent' of b, too, and both pin to place 3" in warnings[1]
    assert len(warnings) == 2


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    with pytest.raises(UsageError, match=r"no file .*rules\.toml"):
        read_rules(path, KINDS)
    path.write_bytes(b"\xef\xbb\xbf" + pin("größe", "zelt ⛺", "i").replace("\n", "\r\n").encode())
    assert read_rules(path, KINDS).apply("Zelt ⛺", TIME).rules == ("größe",)
    path.write_bytes(b"# fine\n# \xff")
    with pytest.raises(UsageError, match=r"not UTF-8 \(at line 2\)"):
        read_rules(path, KINDS)
    path.write_text("[[pin]]\nname = 3")
    with pytest.raises(UsageError, match=re.escape(f"{path}, pin 1: 'name' is 3")):
        read_rules(path, KINDS)


def many(n: int) -> str:
    """Exact and wild patterns, synonyms and redirects, `n` in all."""
    kinds = [
        lambda i: pin(f"p{i}", f"red tent {i}", f"i{i}"),
        lambda i: pin(f"q{i}", f"* tent w{i} *", f"i{i}"),
        lambda i: f'[[synonym]]\nname = "s{i}"\nwords = ["sofa{i}", "couch {i}"]\n',
        lambda i: redirect(f"r{i}", f"go {i}", f"red tent {i}"),
    ]
    return "\n".join(kinds[i % 4](i // 4) for i in range(n))


def test_ten_thousand_rules_are_fast_and_one_more_is_refused() -> None:
    rules = read_rules(many(MAX_RULES), KINDS)
    assert len(rules) == MAX_RULES
    queries = ["red tent 7", "big tent w8 sofa9", "go 12", "nothing of the kind"]
    assert [len(rules.apply(query, TIME).rules) for query in queries] == [1, 2, 2, 0]
    times = timeit.repeat(
        lambda: [rules.apply(query, TIME) for query in queries], timer=time.process_time, number=1, repeat=25
    )
    assert min(times) / len(queries) < 0.002  # about 0.06 ms
    assert "10,001 rules, at most 10,000" in refused(many(MAX_RULES + 1))


@pytest.mark.parametrize(
    "query", ["", "*", "x" * 10_000, "tent " * 2_000, "⛺" * 9_999, "\ud800 tent", "\x00", "a\u200db"]
)
def test_hostile_queries(rules: Rules, query: str) -> None:
    start = time.process_time()
    assert rules.apply(query, TIME).query == query
    assert time.process_time() - start < 0.5


def test_a_hostile_pattern_is_linear() -> None:
    pattern = Pattern.parse("* a " * 400 + "b")
    start = time.process_time()
    assert not pattern.matches(" ".join(["a"] * 1_000))
    assert time.process_time() - start < 0.1


WORD = st.sampled_from(["a", "b", "*", "aa"])
TEXTS = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


def slow_match(pattern: list[str], query: list[str]) -> bool:
    if not pattern:
        return not query
    if pattern[0] == "*":
        return any(slow_match(pattern[1:], query[i:]) for i in range(len(query) + 1))
    return bool(query) and query[0] == pattern[0] and slow_match(pattern[1:], query[1:])


@given(TEXTS, st.lists(st.sampled_from(["a", "b", "aa"]), max_size=6))
def test_patterns_match_as_the_obvious_way_does(text: str, query: list[str]) -> None:
    assert Pattern.parse(text).matches(" ".join(query)) == slow_match(text.split(), query)


@given(st.lists(TEXTS, max_size=8), st.lists(st.sampled_from(["a", "b", "aa"]), max_size=6).map(" ".join))
def test_the_index_finds_the_patterns_that_match(texts: list[str], query: str) -> None:
    patterns = [Pattern.parse(text) for text in texts]
    assert PatternIndex(patterns).find(query) == [n for n, p in enumerate(patterns) if p.matches(query)]


VALUES = st.recursive(
    st.text() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4))
def test_a_written_rule_reads_back(values: dict[str, object]) -> None:
    text = write_rule("pin", values)
    assert tomllib.loads(f"# before\n{text}")["pin"] == [values]


def test_a_written_rule_looks_as_a_person_writes_it() -> None:
    values = {"name": "a", "where": {"brand": ["x", 'y"']}, "factor": 1.5, "from": date(2026, 6, 1)}
    assert write_rule("boost", values) == (
        '[[boost]]\nname = "a"\nwhere = { brand = ["x", "y\\""] }\nfactor = 1.5\nfrom = 2026-06-01\n'
    )


@given(st.text(max_size=200) | st.lists(st.sampled_from([*ALL.splitlines()]), max_size=12).map("\n".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_rules(text, KINDS)
    except UsageError:
        refused(text)
