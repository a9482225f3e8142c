"""The final order of hits: a plain sort, and what boosts, buries, caps, lead and pins make of it."""

from __future__ import annotations

import math
import time
import timeit
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmse.ranking.patterns import Pattern
from mmse.ranking.rerank import rerank
from mmse.ranking.rules import Boost, Bury, PinnedItem, RuleEffects, RuleHead
from mmse.schema.filters import Filter, OneOf

BRANDS = ["acme", "bolt", "core"]
NO_RULES = RuleEffects("tent")


@dataclass(frozen=True)
class Shelf:
    """Items in rows, with scores, and with a value of each column (None: without)."""

    numbers: np.ndarray
    scores: np.ndarray
    columns: dict[str, list[Any]]

    def rows(self, item_ids: Sequence[str]) -> np.ndarray:
        return np.array([int(item[1:]) if item[1:].isdecimal() else -1 for item in item_ids], np.int64)

    def values(self, column: str, rows: np.ndarray) -> list[Any]:
        value_of = dict(zip(self.numbers.tolist(), self.columns[column], strict=True))
        return [value_of[row] for row in rows.tolist()]

    def match_filter(self, filter: Filter, rows: np.ndarray) -> np.ndarray:
        assert isinstance(filter, OneOf)
        return np.array([value in filter.values for value in self.values(filter.column, rows)], bool)


def scored(scores: Sequence[float], brands: str = "", rows: Sequence[int] = ()) -> Shelf:
    """Items i0, i1, … with the first letters of their brands (`-`: none), in rows of those numbers."""
    names = [None if letter == "-" else BRANDS["abc".index(letter)] for letter in brands.ljust(len(scores), "-")]
    return Shelf(np.array(rows or range(len(scores)), np.int64), np.array(scores, np.float32), {"brand": [*names]})


Ranking = list[tuple[int, tuple[str, ...]]]


def rank(shelf: Shelf, effects: RuleEffects, k: int, **options: Any) -> Ranking:
    """The row of each hit, and what moved it."""
    order, moved_by = rerank(shelf, shelf.numbers, shelf.scores, effects, k, **options)
    assert all(moved_by.values())
    return [(int(shelf.numbers[index]), moved_by.get(index, ())) for index in order.tolist()]


def head(name: str) -> RuleHead:
    return RuleHead(name, Pattern("*"))


def brand(name: str) -> OneOf:
    return OneOf("brand", (name,))


def rows(ranking: Ranking) -> list[int]:
    return [row for row, _ in ranking]


def test_without_rules_it_is_a_sort_with_ties_by_row() -> None:
    ranking = rank(scored([1.0, 3.0, 1.0, 2.0], rows=[9, 4, 2, 7]), NO_RULES, 3)
    assert ranking == [(4, ()), (7, ()), (2, ())]


def test_nothing_found_and_nothing_asked() -> None:
    effects = RuleEffects("x", pins=(PinnedItem("i1", 1, "p"),))
    assert rank(scored([]), effects, 5, caps={"brand": 1}) == []
    assert rank(scored([1.0, 2.0]), effects, 0, caps={"brand": 1}) == []


def test_boosts_multiply_the_odds() -> None:
    effects = replace(NO_RULES, boosts=(Boost(head("own-brand"), brand("acme"), 1.5),))
    ranking = rank(scored([1.0, 1.2], "ab"), effects, 2, boosts=[(brand("acme"), 2.0), (brand("bolt"), 0.5)])
    assert rows(ranking) == [0, 1]
    assert ranking[0][1] == ("boost x1.5 by rule own-brand", "boost x2 by the request")
    assert ranking[1][1] == ("boost x0.5 by the request",)
    twice = rank(scored([0.0, 0.69, 0.70], "a--"), NO_RULES, 3, boosts=[(brand("acme"), 2.0)])
    assert rows(twice) == [2, 0, 1], "log 2 is .693"


def test_lead_then_the_rest_then_what_is_buried() -> None:
    buries = (Bury(head("old"), ("i0", "i77", "none"), None), Bury(head("bolts"), (), brand("bolt")))
    candidates = scored([9, 8, 7, 6, 5], "abaaa")
    lead = np.array([True, False, False, True, False])
    ranking = rank(candidates, replace(NO_RULES, buries=buries), 5, is_lead=lead)
    assert rows(ranking) == [3, 2, 4, 0, 1]
    assert [reasons for _, reasons in ranking[3:]] == [("buried by rule old",), ("buried by rule bolts",)]


def test_caps_push_back_and_drop_nothing() -> None:
    candidates = scored([9, 8, 7, 6, 5, 4], "aaab--")
    ranking = rank(candidates, NO_RULES, 6, caps={"brand": 2})
    assert rows(ranking) == [0, 1, 3, 4, 5, 2]
    assert [reasons for _, reasons in ranking] == [(), (), (), (), (), ("at most 2 per brand",)]
    assert rows(rank(candidates, NO_RULES, 3, caps={"brand": 2})) == [0, 1, 3]
    assert rows(rank(candidates, NO_RULES, 6, caps={"brand": 0})) == [4, 5, 0, 1, 2, 3]


def test_a_hit_with_several_values_counts_for_each_and_is_over_where_one_is() -> None:
    colours = [["red"], ["Red", "blue"], ["blue"], None, ["green", "blue"], ["blue"]]
    shelf = Shelf(np.arange(6), np.array([9, 8, 7, 6, 5, 4], np.float32), {"colour": colours})
    ranking = rank(shelf, NO_RULES, 6, caps={"colour": 1})
    assert rows(ranking) == [0, 2, 3, 1, 4, 5]
    assert ranking[3] == (1, ("at most 1 per colour",))
    assert rows(rank(shelf, NO_RULES, 6, caps={"colour": 2})) == [0, 1, 2, 3, 4, 5]


def test_caps_within_lead_do_not_let_others_pass() -> None:
    lead = np.array([True, True, True, False])
    assert rows(rank(scored([9, 8, 7, 6], "aaab"), NO_RULES, 4, caps={"brand": 1}, is_lead=lead)) == [0, 1, 2, 3]
    assert rows(rank(scored([9, 8, 7, 6], "aabb"), NO_RULES, 4, caps={"brand": 1}, is_lead=lead)) == [0, 2, 1, 3]


def test_two_caps_count_only_what_stands() -> None:
    candidates = scored([9, 8, 7, 6], "aabb")
    with_sellers = replace(candidates, columns={**candidates.columns, "seller": ["x", "y", "Y ", "z"]})
    ranking = rank(with_sellers, NO_RULES, 4, caps={"brand": 1, "seller": 1})
    assert rows(ranking) == [0, 2, 1, 3]  # 1 is past its brand, so 2 is its seller's first
    assert ranking[2][1] == ("at most 1 per brand",)


def test_pins_take_their_places_last() -> None:
    pins = (PinnedItem("i4", 1, "a"), PinnedItem("i5", 3, "b"), PinnedItem("gone", 2, "c"), PinnedItem("i77", 4, "d"))
    effects = replace(NO_RULES, pins=pins, buries=(Bury(head("old"), ("i5",), None),))
    ranking = rank(scored([9, 8, 7, 6, 5, 4], "aaaaaa"), effects, 6, caps={"brand": 3})
    assert rows(ranking) == [4, 0, 5, 1, 2, 3]
    assert ranking[0][1] == ("pinned to place 1 by rule a",)
    assert ranking[2][1] == ("pinned to place 3 by rule b",)
    assert ranking[3][1] == ("at most 3 per brand",)


def test_a_pin_past_the_end_stands_last_and_one_past_k_waits() -> None:
    effects = replace(NO_RULES, pins=(PinnedItem("i0", 5, "a"), PinnedItem("i1", 9, "b")))
    assert rows(rank(scored([9, 8, 7]), effects, 3)) == [2, 0, 1]
    assert rows(rank(scored([9, 8, 7, 6, 5]), effects, 3)) == [2, 3, 4]


@dataclass(frozen=True)
class Case:
    """Plain values: the checker of types draws random numbers of its own, which a strategy must not."""

    scores: list[float]
    brands: str
    rows: list[int]
    pins: dict[int, int]
    buried_items: list[int]
    factors: dict[str, float]
    caps: dict[str, int]
    lead_flags: list[bool] | None
    k: int

    @cached_property
    def candidates(self) -> Shelf:
        return scored(self.scores, self.brands, self.rows)

    @cached_property
    def lead(self) -> np.ndarray | None:
        return None if self.lead_flags is None else np.array(self.lead_flags, bool)

    @cached_property
    def effects(self) -> RuleEffects:
        return RuleEffects(
            "x",
            pins=tuple(PinnedItem(f"i{item}", position, "p") for item, position in self.pins.items()),
            buries=tuple(Bury(head("b"), (f"i{item}",), None) for item in self.buried_items),
            boosts=tuple(Boost(head("x"), brand(name), factor) for name, factor in self.factors.items()),
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n = draw(st.integers(0, 12))
    items = draw(st.lists(st.integers(0, 14), unique=True, max_size=4))
    positions = draw(st.permutations(range(1, 15)))
    return Case(
        scores=draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, -math.inf]), min_size=n, max_size=n)),
        brands=draw(st.text("abc-", min_size=n, max_size=n)),
        rows=list(draw(st.permutations(range(n)))),
        pins=dict(zip(items, positions, strict=False)),
        buried_items=draw(st.lists(st.integers(0, 14), max_size=3)),
        factors=draw(st.dictionaries(st.sampled_from(BRANDS), st.sampled_from([0.5, 3.0]))),
        caps=draw(st.dictionaries(st.just("brand"), st.integers(0, 3))),
        lead_flags=draw(st.none() | st.lists(st.booleans(), min_size=n, max_size=n)),
        k=draw(st.integers(0, 14)),
    )


@given(cases())
def test_k_different_rows_whenever_there_are_k(case: Case) -> None:
    ranking = rank(case.candidates, case.effects, case.k, caps=case.caps, is_lead=case.lead)
    n = len(case.candidates.numbers)
    assert len(ranking) == min(case.k, n)
    assert len(set(rows(ranking))) == len(ranking)
    assert set(rows(ranking)) <= set(case.candidates.numbers.tolist())


@given(cases())
def test_pins_stand_at_their_places(case: Case) -> None:
    ranking = rows(rank(case.candidates, case.effects, case.k, caps=case.caps, is_lead=case.lead))
    n = len(case.candidates.numbers)
    candidate_pins = [pin for pin in case.effects.pins if int(pin.item_id[1:]) < n]
    for pin in candidate_pins:
        row = int(pin.item_id[1:])
        n_at_or_behind = sum(candidate_pin.position >= pin.position for candidate_pin in candidate_pins)
        if pin.position <= n - n_at_or_behind + 1:  # enough other hits to come before it
            position = ranking.index(row) + 1 if row in ranking else None
            assert position == (pin.position if pin.position <= case.k else None)


@given(cases())
def test_fewer_hits_are_the_first_of_more(case: Case) -> None:
    without_pins = replace(case.effects, pins=())  # a pin past k counts towards no cap within k
    short, all_ = (
        rank(case.candidates, without_pins, k, caps=case.caps, is_lead=case.lead)
        for k in (case.k, len(case.candidates.numbers))
    )
    assert short == all_[: case.k]


@given(cases())
def test_the_order_of_candidates_does_not_matter(case: Case) -> None:
    candidates, order = case.candidates, np.argsort(case.candidates.numbers)
    columns = {name: [values[index] for index in order] for name, values in candidates.columns.items()}
    sorted_candidates = Shelf(candidates.numbers[order], candidates.scores[order], columns)
    lead = case.lead[order] if case.lead is not None else None
    expected = rank(candidates, case.effects, case.k, caps=case.caps, is_lead=case.lead)
    assert rank(sorted_candidates, case.effects, case.k, caps=case.caps, is_lead=lead) == expected


@given(cases())
def test_without_rules_it_is_a_plain_sort(case: Case) -> None:
    ranking = rank(case.candidates, NO_RULES, case.k)
    pairs = zip(case.candidates.numbers.tolist(), case.candidates.scores.tolist(), strict=True)
    assert ranking == [(row, ()) for row, _ in sorted(pairs, key=lambda p: (-p[1], p[0]))[: case.k]]


@given(cases())
def test_the_first_k_keep_the_caps_where_they_can(case: Case) -> None:
    """Against the obvious way: walk best first, hold back what is past its cap, and put it behind."""
    plain = replace(case.effects, pins=(), buries=())
    cap = case.caps.get("brand", 99)
    brands = dict(zip(case.candidates.numbers.tolist(), case.candidates.columns["brand"], strict=True))
    within_cap: list[int] = []
    over_cap: list[int] = []
    counts = Counter[str | None]()
    for row in rows(rank(case.candidates, plain, 99)):
        is_over = brands[row] is not None and counts[brands[row]] >= cap
        (over_cap if is_over else within_cap).append(row)
        counts[brands[row]] += not is_over
    assert rows(rank(case.candidates, plain, case.k, caps=case.caps)) == [*within_cap, *over_cap][: case.k]


def test_an_ordinary_request_takes_a_fraction_of_a_millisecond() -> None:
    rng = np.random.default_rng(0)
    numbers, names = rng.permutation(100_000)[:400].astype(np.int64), rng.integers(-1, 40, 400).astype(str)
    candidates = Shelf(numbers, rng.normal(size=400), {"brand": names.tolist()})
    effects = replace(NO_RULES, boosts=tuple(Boost(head(f"b{i}"), brand("1"), 1.5) for i in range(3)))
    times = timeit.repeat(
        lambda: rank(candidates, effects, 24, caps={"brand": 2}), timer=time.process_time, number=1, repeat=50
    )
    assert min(times) < 0.01  # about 0.3 ms


def test_of_each_group_the_best_is_a_hit() -> None:
    shelf, groups = scored([9, 8, 7, 6, 5]), np.array([1, 1, 2, 2, 3])
    assert [row for row, _ in rank(shelf, NO_RULES, 5, groups=groups)] == [0, 2, 4]
    assert [row for row, _ in rank(shelf, NO_RULES, 2, groups=groups)] == [0, 2]
    pinned = replace(NO_RULES, pins=(PinnedItem("i3", 1, "p"),))
    assert [row for row, _ in rank(shelf, pinned, 5, groups=groups)] == [3, 0, 4], "the pinned one is its group's hit"
    later = rank(shelf, NO_RULES, 5, groups=groups, former_rows=np.array([1], np.int64))
    assert [row for row, _ in later] == [2, 4], "a group of a former page has had its hit"


def test_a_pin_at_the_last_place_counts_for_the_cap() -> None:
    pinned = replace(NO_RULES, pins=(PinnedItem("i1", 2, "p"),))
    assert [row for row, _ in rank(scored([9, 8, 7], "aab"), pinned, 2, caps={"brand": 1})] == [2, 1]
