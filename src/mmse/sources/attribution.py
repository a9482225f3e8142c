"""Clicks, carts and orders that name no request are joined to the last one that showed the item to the same shopper.

Nobody knows which search led to an order: this is the rule of most shops, and `attribution_hours` is its window.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmse.sources.tables import Table

NO_PAGE = "no request showed the item to this shopper shortly before"
"""The reason of a row that could not be joined."""


def page_columns(tables: Sequence[Table]) -> tuple[str, ...]:
    """The columns by which sources are joined to what was shown: that of the shopper, or else that of the visit."""
    keys = (shopper_key(table) for table in tables if table.is_attributed)
    derives = any(table.shows and "request_id" not in table.columns for table in tables)
    visit = ("session_id",) if derives else ()
    return tuple(dict.fromkeys((*keys, *visit)))


def attribute(table: Table, shown: str, hours: float) -> str:
    """SQL that gives `{rows}` (SQL, of the source `table`) the `request_id` of their page; `shown` is SQL for pages."""
    key = shopper_key(table)
    pages = f"""
        SELECT {key}, item_row, timestamp, min(request_id) AS request_id FROM {shown}
         WHERE {key} IS NOT NULL GROUP BY {key}, item_row, timestamp"""
    is_recent = f"known.timestamp - page.timestamp <= INTERVAL {hours * 3600:.0f} SECOND"
    return f"""
        SELECT known.* EXCLUDE (request_id), CASE WHEN {is_recent} THEN page.request_id END AS request_id
          FROM ({{rows}}) AS known ASOF LEFT JOIN ({pages}) AS page
            ON known.{key} = page.{key} AND known.item_row = page.item_row AND known.timestamp >= page.timestamp"""


def shopper_key(table: Table) -> str:
    """The column by which the rows of `table` are joined: that of the shopper, or else that of the visit."""
    return "user_id" if "user_id" in table.columns else "session_id"
