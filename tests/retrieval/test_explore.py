"""Exploration: exact probabilities, and no item twice."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmse.retrieval.explore import explore


@given(st.integers(0, 30), st.integers(1, 12), st.floats(0.01, 0.9), st.text(max_size=5), st.sets(st.integers(0, 11)))
def test_no_item_twice_and_fixed_slots_stay(n: int, page_size: int, share: float, seed: str, fixed: set[int]) -> None:
    slots = explore(n, page_size, share, seed, fixed)
    indices = [slot.index for slot in slots]
    assert len(indices) == len(set(indices)) == min(n, page_size)
    for position, slot in enumerate(slots):
        assert slot.explored == (slot.index >= page_size)
        assert slot.index == position or slot.explored
        assert slot.propensity == 1 or position not in fixed


def test_propensities_are_the_shares_of_many_pages() -> None:
    n_pages, n, page_size, share = 40_000, 8, 3, 0.3
    counts: Counter[tuple[int, int]] = Counter()
    propensities = {}
    for seed in range(n_pages):
        for position, slot in enumerate(explore(n, page_size, share, str(seed), fixed_slots={1})):
            counts[position, slot.index] += 1
            propensities[position, slot.index] = slot.propensity
    assert len(propensities) == 1 + 2 * (1 + n - page_size)
    for key, propensity in propensities.items():
        tolerance = 5 * (propensity * (1 - propensity) / n_pages) ** 0.5 + 1e-12
        assert counts[key] / n_pages == pytest.approx(propensity, abs=tolerance)
    assert sum(value for (position, _), value in propensities.items() if position == 0) == pytest.approx(1)


def test_without_enough_items_behind_the_page_nothing_is_explored() -> None:
    assert all(slot.propensity == 1 for slot in explore(5, 3, 0.9, "x"))
    assert explore(0, 3, 0.5, "x") == []
