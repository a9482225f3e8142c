"""What to say of a column that a file does not have: those that it has, the nearest, and what to write."""

from __future__ import annotations

import difflib

from mmse.core.errors import TableError

_MAX_NAMES = 40
_NO_HEADER = " A file whose first line is a row already needs names of its columns: csv = {names = […]}."


def missing_column(
    table: str, file: str, format_: str, column: str, shop_column: str, shop_columns: list[str]
) -> TableError:
    """The error for `shop_column`, which should be our `column` of `table` and is not among those of `file`."""
    by_lower_case = {name.lower(): name for name in shop_columns}
    close = difflib.get_close_matches(shop_column.lower(), list(by_lower_case), n=1, cutoff=0.5)
    nearest = f" The nearest is '{by_lower_case[close[0]]}'." if close else ""
    example = by_lower_case[close[0]] if close else "the shop's name"
    mapping = "" if column == shop_column else f" (mapped to {column})"
    names = ", ".join(shop_columns[:_MAX_NAMES]) + (", …" if len(shop_columns) > _MAX_NAMES else ".")
    return TableError(
        f"{file} has no column '{shop_column}'{mapping}; it has: {names}{nearest}",
        f'Say which column it is in shop.toml: [{table}.columns] {column} = "{example}".'
        + (_NO_HEADER if format_ == "csv" and any(map(_is_value, shop_columns)) else ""),
    )


def _is_value(name: str) -> bool:
    """Whether what should be a column's name is a number, as in a file without a header line."""
    return name.strip().replace(".", "", 1).isdigit()
