"""How a shop's time becomes one of ours: SQL for values of any type, and what the order of day and month is in text."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from mmse.core.errors import TableError
from mmse.sources.sql import literal, literals

EARLIEST = "1995-01-01"
"""No shop logged searches before; an earlier time was counted in another unit, or is a date without its century."""
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S %z")
_NAMED_DAYS = ("%d-%b-%Y", "%d %b %Y", "%d/%b/%Y", "%d %B %Y", "%b %d %Y", "%B %d %Y", "%a %d %b %Y", "%a %b %d %Y")
_NAMED = (*(day + clock for day in _NAMED_DAYS for clock in _CLOCKS), "%d/%b/%Y:%H:%M:%S %z", "%Y%m%dT%H%M%SZ")
"""Times that name their month, and one more that can mean nothing else."""
_MARKS = "/.-"
DAY_FIRST, MONTH_FIRST = "%d/%m/%Y", "%m/%d/%Y"
_NUMBERED = r"^\s*(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})(\D|$)"
_MIN_SHARE = 0.5
_ROWS_LOOKED_AT = 1_000
_LARGEST_DAY_OF_TABLE, _SMALLEST_DAY_OF_TABLE = 73_050, 34_700
"""Days since 1899-12-30, as spreadsheets count them: 1995 to 2099."""
_UNIX_DAY = 25_569


@dataclass(frozen=True)
class TimeForm:
    """What is known of a column's times: their `pattern` of strptime, or the `order` of day and month in them.

    `order` is `DAY_FIRST`, `MONTH_FIRST`, or "" where there are no such times.
    """

    pattern: str = ""
    order: str = ""


NO_FORM = TimeForm()


def from_text(text: str, form: TimeForm) -> str:
    """SQL for the time in UTC of the SQL `text`, NULL where it is none.

    It may be ISO 8601 (UTC if it has no zone), a number (`from_number`), a day of a named month, or what `form` tells.
    """
    plain = rf"regexp_replace(regexp_replace({text}, '[,\s\p{{Z}}]+', ' ', 'g'), '^ | ?(GMT|UTC)? ?$', '', 'g')"
    patterns = list(_NAMED)
    if form.order:
        patterns += [form.order.replace("/", mark) + clock for mark in _MARKS for clock in _CLOCKS]
    number = f"TRY_CAST({text} AS DOUBLE)"
    with_point = rf"regexp_replace({text}, '(:\d\d),(\d)', '\1.\2')"
    iso, iso_of_comma = (f"CAST(TRY_CAST({iso_text} AS TIMESTAMPTZ) AS TIMESTAMP)" for iso_text in (text, with_point))
    named = f"CAST(try_strptime({plain}, [{literals(patterns)}]) AS TIMESTAMP)"
    value = f"CASE WHEN {number} IS NULL THEN coalesce({iso}, {iso_of_comma}, {named}) ELSE {from_number(number)} END"
    if form.pattern:
        return f"coalesce(CAST(try_strptime(trim({text}), {literal(form.pattern)}) AS TIMESTAMP), {value})"
    return value


def is_pattern(text: str) -> bool:
    """Whether `text` is a pattern of strptime."""
    try:
        duckdb.connect().execute(f"SELECT try_strptime('', {literal(text)})").fetchall()
    except duckdb.Error:
        return False
    return "%" in text


def from_number(number: str) -> str:
    """SQL for the time of the SQL `number`: seconds, ms, µs or ns since 1970, told by its size.

    1e11 s would be the year 5138, and 1e11 ms is 1973. What would be a day of 1970 may be days as spreadsheets count
    them (46266.5), or digits (20260901); what would be far in the future, digits (20260901080000).
    """
    scale = (
        f"CASE WHEN abs({number}) < 1e11 THEN 1e6 WHEN abs({number}) < 1e14 THEN 1e3 "
        f"WHEN abs({number}) < 1e17 THEN 1 ELSE 1e-3 END"
    )
    digits = f"CAST(TRY_CAST({number} AS BIGINT) AS VARCHAR)"
    seconds = f"round(({number} - {_UNIX_DAY}) * 86400, 3) * 1e6"
    return (
        f"CASE WHEN {number} BETWEEN {_SMALLEST_DAY_OF_TABLE} AND {_LARGEST_DAY_OF_TABLE} "
        f"THEN make_timestamp(TRY_CAST({seconds} AS BIGINT)) "
        f"WHEN {number} BETWEEN 19950101 AND 21001231 THEN try_strptime({digits}, '%Y%m%d') "
        f"WHEN {number} BETWEEN 1995010100 AND 2100123123 THEN try_strptime({digits}, '%Y%m%d%H') "
        f"WHEN {number} BETWEEN 199501010000 AND 210012312359 THEN try_strptime({digits}, '%Y%m%d%H%M') "
        f"WHEN {number} BETWEEN 19950101000000 AND 21001231235959 THEN try_strptime({digits}, '%Y%m%d%H%M%S') "
        f"ELSE make_timestamp(TRY_CAST(CASE WHEN isfinite({number}) THEN {number} * {scale} END AS BIGINT)) END"
    )


def find_order(connection: duckdb.DuckDBPyConnection, text: str, scan: str, source: str) -> str:
    """The order of day and month in times such as 01/09/2026, "" where there are none; `text` is SQL in `scan`.

    It is told by all values. Raises `TableError` where most of the first ones are such times and nothing tells.
    """
    numbered = literal(_NUMBERED)
    first_rows = f"(SELECT CAST({text} AS VARCHAR) AS text FROM {scan} LIMIT {_ROWS_LOOKED_AT})"
    is_numbered = f"regexp_matches(text, {numbered})"
    (share, example) = connection.execute(
        f"SELECT avg(CAST({is_numbered} AS INTEGER)), any_value(text) FILTER ({is_numbered}) FROM {first_rows}"
    ).fetchall()[0]
    if not example:
        return ""
    numbers = (f"max(TRY_CAST(regexp_extract(text, {numbered}, {n}) AS INTEGER))" for n in (1, 2))
    (first, second) = connection.execute(
        f"SELECT {', '.join(numbers)} FROM (SELECT CAST({text} AS VARCHAR) AS text FROM {scan})"
    ).fetchall()[0]
    if first > 12 >= second:
        return DAY_FIRST
    if second > 12 >= first:
        return MONTH_FIRST
    if share < _MIN_SHARE:
        return ""
    mixture = "some begin with the day and others with the month" if first > 12 else "nothing tells which comes first"
    raise TableError(
        f"The times of {source}, such as {example}, may begin with the day or with the month: {mixture}.",
        f'Say it: time_format = "{DAY_FIRST} …" or "{MONTH_FIRST} …" in [events] of shop.toml, with the whole form '
        "(docs/tables.md).",
    )
