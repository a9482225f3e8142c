"""Facets: counts of values in the shop's spelling, and a small histogram of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmse.index.facets import BINS, MAX_VALUES, count_values
from mmse.schema.filters import Kind
from mmse.schema.search import Facet


def test_names_are_counted_whatever_their_case() -> None:
    assert count_values(Kind.NAME, ["Acme", "acme ", "Bosch", None, "", " ACME"]) == Facet(
        counts={"Acme": 3, "Bosch": 1}
    )


def test_a_path_counts_at_each_of_its_levels() -> None:
    facet = count_values(Kind.PATH, ["Tools > Drills", "tools>saws", "Tools", "Garden", None, " > "])
    assert facet.counts == {"Tools": 3, "Garden": 1, "Tools > Drills": 1, "tools > saws": 1}


def test_an_item_counts_once_for_each_of_its_values() -> None:
    names = count_values(Kind.NAME, [["Red", "white"], ["red", "RED ", ""], [], None])
    assert names.counts == {"Red": 2, "white": 1}
    paths = count_values(Kind.PATH, [["Home > Pans", "home>Lamps", "Sale"], ["Sale", " > "], ["Home"]])
    assert paths.counts == {"Home": 2, "Sale": 2, "Home > Pans": 1, "home > Lamps": 1}


def test_flags() -> None:
    assert count_values(Kind.FLAG, [True, False, True, None]).counts == {"true": 2, "false": 1}


def test_only_the_commonest_values_are_told() -> None:
    facet = count_values(Kind.NAME, ["often", "often", *(f"v{i:02}" for i in range(80))])
    assert len(facet.counts) == MAX_VALUES
    assert list(facet.counts)[:2] == ["often", "v00"]


def test_numbers_have_two_ends_and_ten_steps() -> None:
    assert count_values(Kind.NUMBER, [0.0, 0.9, 1.0, 10.0, None, float("nan")]) == Facet(
        low=0.0, high=10.0, bins=(2, 1, 0, 0, 0, 0, 0, 0, 0, 1)
    )
    assert count_values(Kind.NUMBER, [3, 3]) == Facet(low=3.0, high=3.0, bins=(2, *[0] * 9))
    assert count_values(Kind.NUMBER, [None]) == Facet()


@given(st.lists(st.floats(-1e300, 1e300), min_size=1))
def test_every_number_is_in_one_step(numbers: list[float]) -> None:
    facet = count_values(Kind.NUMBER, numbers)
    assert (facet.low, facet.high) == (min(numbers), max(numbers))
    assert len(facet.bins) == BINS
    assert sum(facet.bins) == len(numbers)
