"""One row for each item of a request, where a log tells of it in several: they are merged to the furthest stage.

The experiments and the server's own log are merged here, in SQL. Mining, which reads far larger logs, follows the same
rule on integers (`mmse.mining.requests`); a test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmse.sources.sql import identifier

_KEYS = ("request_id", "item_id")
_RULES = {
    "timestamp": "min(timestamp) FILTER (position IS NOT NULL)",
    "position": "min(position)",
    "clicked": "bool_or(clicked OR coalesce(carted, false) OR ordered)",
    "carted": "bool_or(coalesce(carted, false))",
    "ordered": "bool_or(ordered)",
    "explored": "bool_or(coalesce(explored, false))",
    "price": "CASE WHEN count(price) > 0 THEN coalesce(max(price) FILTER (price >= 0), 0) "
    "+ coalesce(min(price) FILTER (price < 0), 0) END",
}


def merge_rows(relation: str, columns: Iterable[str]) -> str:
    """SQL for `columns` of each request and item that `relation`, an events table, shows: that has a position.

    What was carted or ordered was clicked, too. The position is the smallest; the price is the highest, less the
    largest refund (a price below 0); the item was explored if any row says so. The timestamp, and the value of any
    other column, is that of the earliest row that shows the item; a row without a value is passed over.
    """
    values = ", ".join(_value(name) for name in columns)
    return f"SELECT {values} FROM {relation} GROUP BY {', '.join(_KEYS)} HAVING count(position) > 0"


def _value(name: str) -> str:
    column = identifier(name)
    if name in _KEYS:
        return column
    earliest = f"arg_min({column}, (timestamp, position)) FILTER (position IS NOT NULL)"
    return f"{_RULES.get(name, earliest)} AS {column}"
