"""Exploration: chances that are exact, and nothing twice."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmse.retrieval.explore import explore, explored_places


@given(st.integers(0, 30), st.integers(1, 12), st.floats(0.01, 0.9), st.text(max_size=5), st.sets(st.integers(0, 11)))
def test_nothing_twice_and_what_is_fixed_stays(n: int, page: int, share: float, seed: str, fixed: set[int]) -> None:
    slots = explore(n, page, share, seed, fixed)
    places = [slot.place for slot in slots]
    assert len(places) == len(set(places)) == min(n, page)
    for place, slot in enumerate(slots):
        assert slot.explored == (slot.place >= page) == (place in explored_places(slots))
        assert slot.place == place or slot.explored
        assert slot.propensity == 1 or place not in fixed


def test_chances_are_what_they_say() -> None:
    draws, n, page, share = 40_000, 8, 3, 0.3
    seen: Counter[tuple[int, int]] = Counter()
    said = {}
    for seed in range(draws):
        for place, slot in enumerate(explore(n, page, share, str(seed), fixed={1})):
            seen[place, slot.place] += 1
            said[place, slot.place] = slot.propensity
    assert len(said) == 1 + 2 * (1 + n - page)
    for key, chance in said.items():
        assert seen[key] / draws == pytest.approx(chance, abs=5 * (chance * (1 - chance) / draws) ** 0.5 + 1e-12)
    assert sum(chance for (place, _), chance in said.items() if place == 0) == pytest.approx(1)


def test_without_enough_behind_the_page_nothing_is_drawn() -> None:
    assert all(slot.propensity == 1 for slot in explore(5, 3, 0.9, "x"))
    assert explore(0, 3, 0.5, "x") == []
