"""What a search costs, in searches for ten hits: so that a queue bounds work, not the number of requests."""

from __future__ import annotations

from collections.abc import Sequence

from mmse.schema.filters import Between, Filter, Not, OneOf
from mmse.schema.search import Search
from mmse.serving.failures import RequestError

MAX_SEARCH_COST = 32.0
MAX_REQUEST_COST = 320.0
"""Half a second to two of one core: what one request may ask for."""
HEAVY_COST = 4.0
"""Searches that cost more wait in a lane of their own."""
TURN_COST = 16.0
"""What is answered in one turn of the loop, unless one search costs more."""
_HITS = 300
_SKIPPED = 400
_FACETS = 2
_RANGES = 50
_VALUES = 1_000
"""How many of each take as long as a search for ten hits; an explained hit counts twice."""


def search_cost(search: Search) -> float:
    """What `search` costs."""
    cost = 1.0 + search.k * (1 + search.explain) / _HITS + search.offset / _SKIPPED + len(search.facets) / _FACETS
    if search.sort is not None:
        cost += 1.0
    if search.filter is not None:
        cost += _filter_cost(search.filter)
    return cost + sum(_filter_cost(condition) for condition, _ in search.boosts)


def check_costs(costs: Sequence[float]) -> None:
    """Raises `RequestError` where one of the searches of a request, or all of them together, ask for too much."""
    for subject, cost, limit in (
        ("The search", max(costs, default=0.0), MAX_SEARCH_COST),
        ("The request", sum(costs), MAX_REQUEST_COST),
    ):
        if cost > limit:
            raise RequestError(
                "too_costly",
                f"{subject} takes as much work as {cost:.0f} searches for ten hits, at most {limit:.0f} are allowed.",
                "Ask for fewer hits, facets, explanations or ranges of numbers, or for fewer searches at once.",
            )


def split_by_cost(costs: Sequence[float], max_searches: int) -> list[slice]:
    """The parts in which the searches of a batch are answered: a turn of the loop each, others' turns in between."""
    parts, start, part_cost = list[slice](), 0, 0.0
    for index, cost in enumerate(costs):
        if index > start and (index - start == max_searches or (cost and part_cost + cost > TURN_COST)):
            parts.append(slice(start, index))
            start, part_cost = index, 0.0
        part_cost += cost
    return [*parts, slice(start, len(costs))]


def _filter_cost(condition: Filter) -> float:
    if isinstance(condition, OneOf):
        return len(condition.values) / _VALUES
    if isinstance(condition, Between):
        return 1 / _RANGES
    return _filter_cost(condition.part) if isinstance(condition, Not) else sum(map(_filter_cost, condition.parts))
