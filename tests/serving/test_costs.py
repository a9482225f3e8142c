"""What one request may ask for, and in which parts a large one is answered."""

from __future__ import annotations

from typing import Any

import pytest

from mmse.schema.filters import And, Between, Filter, Not, OneOf, Or
from mmse.schema.http import MAX_OFFSET
from mmse.schema.search import Search
from mmse.serving.costs import MAX_REQUEST_COST, MAX_SEARCH_COST, check_costs, search_cost, split_by_cost
from mmse.serving.failures import RequestError

RANGES: Filter = Or(tuple(Between("price", float(n), n + 1.0) for n in range(100)))


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"k": 300}, 2.0),
        ({"k": 300, "explain": True}, 3.0),
        ({"k": 300, "offset": 400}, 3.0),
        ({"k": 300, "sort": "price"}, 3.0),
        ({"k": 300, "facets": ("brand", "price")}, 3.0),
        ({"k": 300, "filter": RANGES}, 4.0),
        ({"k": 300, "filter": And((Not(RANGES), OneOf("brand", ("a", "b"))))}, 4.002),
        ({"k": 300, "boosts": ((RANGES, 2.0), (RANGES, 2.0))}, 6.0),
    ],
)
def test_a_search_costs_what_it_asks_for(fields: dict[str, Any], cost: float) -> None:
    assert search_cost(Search("drill", **({"explain": False} | fields))) == pytest.approx(cost)


def test_what_a_page_of_a_shop_asks_for_is_within_the_limits() -> None:
    page = search_cost(Search("drill", 100, explain=True, facets=("brand", "price", "category")))
    check_costs([page] * 64)
    check_costs([search_cost(Search("drill", 100, offset=MAX_OFFSET, explain=True, facets=("brand", "price")))])
    check_costs([search_cost(Search("drill", 1_000, explain=True, facets=("brand",) * 16))])


@pytest.mark.parametrize(
    ("costs", "subject"), [([MAX_SEARCH_COST + 1], "The search"), ([MAX_REQUEST_COST / 16] * 17, "The request")]
)
def test_too_much_is_refused(costs: list[float], subject: str) -> None:
    with pytest.raises(RequestError, match=f"{subject} takes as much work") as refusal:
        check_costs(costs)
    assert refusal.value.code == "too_costly"


def test_a_batch_is_answered_in_parts_of_bounded_cost() -> None:
    assert split_by_cost([1.0] * 10, max_searches=8) == [slice(0, 8), slice(8, 10)]
    assert split_by_cost([10.0, 6.0, 1.0, 20.0, 0.0], max_searches=8) == [slice(0, 2), slice(2, 3), slice(3, 5)]
    assert split_by_cost([1.0], max_searches=8) == [slice(0, 1)]
