"""The final order of hits: a plain sort, and what boosts, buries, caps, lead and pins make of it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmse.ranking.patterns import Pattern
from mmse.ranking.rerank import Placed, Scored, arrange
from mmse.ranking.rules import Applied, Boost, Bury, Head, PinnedItem
from mmse.schema.filters import And, Filter, OneOf

BRANDS = ["acme", "bolt", "core"]
NO_RULES = Applied("tent")


def scored(scores: Sequence[float], brands: str = "", rows: Sequence[int] = ()) -> Scored:
    """Items i0, i1, … with the first letters of their brands (`-`: none), in rows of those numbers."""
    numbers = np.array(rows or range(len(scores)), np.int64)
    codes = np.array([" abc".find(b) - 1 if b != "-" else -1 for b in brands.ljust(len(scores), "-")], np.int32)

    def holds(said: Filter) -> np.ndarray:
        assert isinstance(said, OneOf)
        return np.isin(codes, [BRANDS.index(str(value)) for value in said.values])

    def row_of(item: str) -> int | None:
        return int(item[1:]) if item[1:].isdecimal() else None

    return Scored(numbers, np.array(scores, np.float32), holds, lambda column: codes, row_of)


def head(name: str) -> Head:
    return Head(name, Pattern("*"))


def brand(name: str) -> OneOf:
    return OneOf("brand", (name,))


def rows(placed: list[Placed]) -> list[int]:
    return [hit.row for hit in placed]


def test_without_rules_it_is_a_sort_with_ties_by_row() -> None:
    placed = arrange(scored([1.0, 3.0, 1.0, 2.0], rows=[9, 4, 2, 7]), NO_RULES, 3)
    assert placed == [Placed(4, 3.0, ()), Placed(7, 2.0, ()), Placed(2, 1.0, ())]


def test_nothing_found_and_nothing_asked() -> None:
    pinned = Applied("x", pins=(PinnedItem("i1", 1, "p"),))
    assert arrange(scored([]), pinned, 5, caps={"brand": 1}) == []
    assert arrange(scored([1.0, 2.0]), pinned, 0, caps={"brand": 1}) == []


def test_boosts_multiply_the_odds() -> None:
    applied = replace(NO_RULES, boosts=(Boost(head("own-brand"), brand("acme"), 1.5),))
    placed = arrange(scored([1.0, 1.2], "ab"), applied, 2, boosts=[(brand("acme"), 2.0), (brand("bolt"), 0.5)])
    assert rows(placed) == [0, 1]
    assert math.isclose(placed[0].score, 1 + math.log(3), rel_tol=1e-6)
    assert placed[0].moved_by == ("boost x1.5 by rule own-brand", "boost x2 by the request")
    assert placed[1].moved_by == ("boost x0.5 by the request",)


def test_lead_then_the_rest_then_what_is_buried() -> None:
    buries = (Bury(head("old"), ("i0", "i77", "none"), None), Bury(head("bolts"), (), brand("bolt")))
    found = scored([9, 8, 7, 6, 5], "abaaa")
    lead = np.array([True, False, False, True, False])
    placed = arrange(found, replace(NO_RULES, buries=buries), 5, lead=lead)
    assert rows(placed) == [3, 2, 4, 0, 1]
    assert [hit.moved_by for hit in placed[3:]] == [("buried by rule old",), ("buried by rule bolts",)]


def test_caps_push_back_and_drop_nothing() -> None:
    found = scored([9, 8, 7, 6, 5, 4], "aaab--")
    placed = arrange(found, NO_RULES, 6, caps={"brand": 2})
    assert rows(placed) == [0, 1, 3, 4, 5, 2]
    assert [hit.moved_by for hit in placed] == [(), (), (), (), (), ("at most 2 per brand",)]
    assert rows(arrange(found, NO_RULES, 3, caps={"brand": 2})) == [0, 1, 3]
    assert rows(arrange(found, NO_RULES, 6, caps={"brand": 0})) == [4, 5, 0, 1, 2, 3]


def test_caps_within_lead_do_not_let_others_pass() -> None:
    lead = np.array([True, True, True, False])
    assert rows(arrange(scored([9, 8, 7, 6], "aaab"), NO_RULES, 4, caps={"brand": 1}, lead=lead)) == [0, 1, 2, 3]
    assert rows(arrange(scored([9, 8, 7, 6], "aabb"), NO_RULES, 4, caps={"brand": 1}, lead=lead)) == [0, 2, 1, 3]


def test_two_caps_count_only_what_stands() -> None:
    found = scored([9, 8, 7, 6], "aabb")
    sellers = np.array([0, 1, 1, 2])
    both = replace(found, codes=lambda column: sellers if column == "seller" else found.codes(column))
    placed = arrange(both, NO_RULES, 4, caps={"brand": 1, "seller": 1})
    assert rows(placed) == [0, 2, 1, 3]  # 1 is past its brand, so 2 is its seller's first
    assert placed[2].moved_by == ("at most 1 per brand",)


def test_pins_take_their_places_last() -> None:
    pins = (PinnedItem("i4", 1, "a"), PinnedItem("i5", 3, "b"), PinnedItem("gone", 2, "c"), PinnedItem("i77", 4, "d"))
    applied = replace(NO_RULES, pins=pins, buries=(Bury(head("old"), ("i5",), None),))
    placed = arrange(scored([9, 8, 7, 6, 5, 4], "aaaaaa"), applied, 6, caps={"brand": 3})
    assert rows(placed) == [4, 0, 5, 1, 2, 3]
    assert placed[0].moved_by == ("pinned to place 1 by rule a",)
    assert placed[2].moved_by == ("pinned to place 3 by rule b",)
    assert placed[3].moved_by == ("at most 3 per brand",)


def test_a_pin_past_the_end_stands_last_and_one_past_k_waits() -> None:
    applied = replace(NO_RULES, pins=(PinnedItem("i0", 5, "a"), PinnedItem("i1", 9, "b")))
    assert rows(arrange(scored([9, 8, 7]), applied, 3)) == [2, 0, 1]
    assert rows(arrange(scored([9, 8, 7, 6, 5]), applied, 3)) == [2, 3, 4]


@dataclass(frozen=True)
class Case:
    """Plain values: the checker of types draws random numbers of its own, which a strategy must not."""

    scores: list[float]
    brands: str
    rows: list[int]
    pins: dict[int, int]
    buried: list[int]
    factors: dict[str, float]
    caps: dict[str, int]
    led: list[bool] | None
    k: int

    @cached_property
    def found(self) -> Scored:
        return scored(self.scores, self.brands, self.rows)

    @cached_property
    def lead(self) -> np.ndarray | None:
        return None if self.led is None else np.array(self.led, bool)

    @cached_property
    def applied(self) -> Applied:
        return Applied(
            "x",
            pins=tuple(PinnedItem(f"i{item}", place, "p") for item, place in self.pins.items()),
            buries=tuple(Bury(head("b"), (f"i{item}",), None) for item in self.buried),
            boosts=tuple(Boost(head("x"), brand(name), factor) for name, factor in self.factors.items()),
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n = draw(st.integers(0, 12))
    items = draw(st.lists(st.integers(0, 14), unique=True, max_size=4))
    places = draw(st.permutations(range(1, 15)))
    return Case(
        scores=draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, -math.inf]), min_size=n, max_size=n)),
        brands=draw(st.text("abc-", min_size=n, max_size=n)),
        rows=list(draw(st.permutations(range(n)))),
        pins=dict(zip(items, places, strict=False)),
        buried=draw(st.lists(st.integers(0, 14), max_size=3)),
        factors=draw(st.dictionaries(st.sampled_from(BRANDS), st.sampled_from([0.5, 3.0]))),
        caps=draw(st.dictionaries(st.just("brand"), st.integers(0, 3))),
        led=draw(st.none() | st.lists(st.booleans(), min_size=n, max_size=n)),
        k=draw(st.integers(0, 14)),
    )


@given(cases())
def test_k_different_rows_whenever_there_are_k(case: Case) -> None:
    placed = arrange(case.found, case.applied, case.k, caps=case.caps, lead=case.lead)
    n = len(case.found.rows)
    assert len(placed) == min(case.k, n)
    assert len(set(rows(placed))) == len(placed)
    assert set(rows(placed)) <= set(case.found.rows.tolist())


@given(cases())
def test_pins_stand_at_their_places(case: Case) -> None:
    placed = rows(arrange(case.found, case.applied, case.k, caps=case.caps, lead=case.lead))
    n = len(case.found.rows)
    there = [pin for pin in case.applied.pins if int(pin.item_id[1:]) < n]
    for pin in there:
        row = int(pin.item_id[1:])
        beyond = sum(other.place >= pin.place for other in there)
        if pin.place <= n - beyond + 1:  # enough others to stand before it
            assert (placed.index(row) + 1 if row in placed else None) == (pin.place if pin.place <= case.k else None)


@given(cases())
def test_fewer_hits_are_the_first_of_more(case: Case) -> None:
    without_pins = replace(case.applied, pins=())  # a pin past k counts towards no cap within k
    few, all_ = (
        arrange(case.found, without_pins, k, caps=case.caps, lead=case.lead) for k in (case.k, len(case.found.rows))
    )
    assert few == all_[: case.k]


@given(cases())
def test_the_order_of_candidates_does_not_matter(case: Case) -> None:
    order = np.argsort(case.found.rows)
    there = case.found
    sorted_ = Scored(
        there.rows[order],
        there.scores[order],
        lambda said: there.holds(said)[order],
        lambda column: there.codes(column)[order],
        there.row_of,
    )
    lead = case.lead[order] if case.lead is not None else None
    once = arrange(there, case.applied, case.k, caps=case.caps, lead=case.lead)
    assert arrange(sorted_, case.applied, case.k, caps=case.caps, lead=lead) == once


@given(cases())
def test_without_rules_it_is_a_plain_sort(case: Case) -> None:
    placed = arrange(case.found, NO_RULES, case.k)
    pairs = zip(case.found.rows.tolist(), case.found.scores.tolist(), strict=True)
    assert [(hit.row, hit.score) for hit in placed] == sorted(pairs, key=lambda p: (-p[1], p[0]))[: case.k]
    assert all(hit.moved_by == () for hit in placed)


@given(cases())
def test_the_first_k_keep_the_caps_where_they_can(case: Case) -> None:
    """Against the obvious way: walk best first, hold back what is past its cap, and put it behind."""
    plain = replace(case.applied, pins=(), buries=())
    cap = case.caps.get("brand", 99)
    codes = dict(zip(case.found.rows.tolist(), case.found.codes("brand").tolist(), strict=True))
    kept: list[int] = []
    held: list[int] = []
    taken: Counter[int] = Counter()
    for row in rows(arrange(case.found, plain, 99)):
        past = codes[row] >= 0 and taken[codes[row]] >= cap
        (held if past else kept).append(row)
        taken[codes[row]] += not past
    assert rows(arrange(case.found, plain, case.k, caps=case.caps)) == [*kept, *held][: case.k]


def test_an_ordinary_request_takes_a_fraction_of_a_millisecond() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.permutation(100_000)[:400].astype(np.int64)
    mask, codes = rng.random(400) < 0.3, rng.integers(-1, 40, 400)
    found = Scored(numbers, rng.normal(size=400), lambda said: mask, lambda column: codes, lambda item: None)
    applied = replace(NO_RULES, boosts=tuple(Boost(head(f"b{i}"), And(()), 1.5) for i in range(3)))
    start = time.perf_counter()
    for _ in range(50):
        arrange(found, applied, 24, caps={"brand": 2})
    assert (time.perf_counter() - start) / 50 < 0.01  # about 0.3 ms on an idle core
