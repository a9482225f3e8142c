"""Several values of an item in one column: lists of Parquet and JSON, JSON in text, texts with a separator.

While items are read, the values of a list stand in one text, each followed by `MARK`, which no value has. So a column
with lists is told from one with texts alone, and what cleans texts cleans their values. `as_set` takes them apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from mmse.sources.duckdb_session import Session
from mmse.sources.sql import identifier, literal
from mmse.sources.tables import Table

MARK = "\x1f"
"""The unit separator of ASCII. In a shop's own text it is a blank."""
_JSON_LIST = r'(?s)\s*\[\s*(["\[{].*)?\]\s*'
_QUOTATION = r"""(?:'[^'"\\]*'|"[^"\\]*")"""
_QUOTATION_LIST = rf"[\[({{]\s*{_QUOTATION}(?:\s*,\s*{_QUOTATION})*\s*,?\s*[\])}}]"
"""A list, tuple or set as Python prints it; in Postgres' braces, too."""
_BARE = r"""(?:"[^"\\]*"|[^,"'\[\]{}()\\]*)"""
_BARE_LIST = rf"\{{{_BARE}(?:,{_BARE})*\}}|\[{_BARE}(?:,{_BARE})*\]"
"""A list with few quotes or none, as Postgres and Hive print it; only a whole column of them tells it from a text."""
_BARE_VALUE = r"""(?:"[^"\\]*"|[^,"\[\]{}]+)"""
_END = f"|| {literal(MARK)}"


def list_text(table: Table, name: str, level_mark: str) -> tuple[str, str]:
    """SQL for the text of an item's column, and its type; a list within a list is one value, with `level_mark`."""
    column = table.shop_columns[name]
    if column.type == "VARCHAR[]":
        return f"{_join(column.sql, f'replace(value, {literal(MARK)}, chr(32))')}", "VARCHAR"
    if column.type.endswith("[]"):
        return _join_json(f"to_json({column.sql})", level_mark), "VARCHAR"
    if column.path:
        member = f"json_extract({identifier(table.document)}, {literal(column.path)})"
        list_sql, plain = _join_json(member, level_mark), _plain(column.sql)
        cases = f"WHEN 'ARRAY' THEN {list_sql} WHEN 'OBJECT' THEN coalesce({_name(member)}, {plain}) ELSE {plain}"
        return f"CASE json_type({member}) {cases} END", "VARCHAR"
    if column.type.startswith(("STRUCT", "MAP")):
        member = f"to_json({column.sql})"
        return f"coalesce({_name(member)}, CAST({member} AS VARCHAR))", "VARCHAR"
    return (_plain(column.sql), column.type) if column.type == "VARCHAR" else (column.sql, column.type)


def read_lists_in_text(session: Session, name: str, level_mark: str) -> None:
    """Reads texts of the column `name` in `items_read` that are lists in JSON, or as Python and databases print them.

    Of an object in JSON the name counts.
    """
    column = identifier(name)
    begins = f"left(ltrim({column}), 1) IN ('[', '{{', '(')"
    if not session.run(f"SELECT 1 FROM items_read WHERE {begins} LIMIT 1"):
        return
    is_object = f"starts_with({column}, '{{') AND json_valid({column})"
    named = f"CASE WHEN {is_object} THEN {_name(column)} END"
    session.run(f"UPDATE items_read SET {column} = {named} WHERE {named} IS NOT NULL")
    is_list = (
        f"starts_with(ltrim({column}), '[') AND CASE WHEN regexp_full_match({column}, {literal(_JSON_LIST)}) "
        f"AND json_valid({column}) THEN json_type({column}) = 'ARRAY' ELSE false END"
    )
    list_sql = _join_json(f"CAST({column} AS JSON)", level_mark)
    session.run(
        f"UPDATE items_read SET {column} = {list_sql} WHERE trim({column}) <> '[]' AND coalesce({is_list}, false)"
    )
    _read_quoted_lists(session, column)
    _read_bare_lists(session, column)
    if has_lists(session, name):
        session.run(f"UPDATE items_read SET {column} = {literal(MARK)} WHERE trim({column}) IN ('[]', '{{}}', '()')")


def _read_quoted_lists(session: Session, column: str) -> None:
    matches = f"regexp_full_match(trim({column}), {literal(_QUOTATION_LIST)})"
    is_list = f"left(ltrim({column}), 1) IN ('[', '{{', '(') AND {matches}"
    values = f"list_transform(regexp_extract_all(trim({column}), {literal(_QUOTATION)}), lambda value: value[2:-2])"
    session.run(f"UPDATE items_read SET {column} = {_join(values, _plain('value'))} WHERE {is_list}")


def _read_bare_lists(session: Session, column: str) -> None:
    is_text = f"{column} <> '' AND NOT contains({column}, {literal(MARK)})"
    is_list = f"left({column}, 1) IN ('[', '{{') AND regexp_full_match({column}, {literal(_BARE_LIST)})"
    ((n_texts, n_lists, n_several),) = session.run(f"""
        SELECT count(*), count_if({is_list}), count_if(contains({column}, ',')) FROM items_read WHERE {is_text}""")
    if n_lists == n_texts and n_several:
        values = f"regexp_extract_all({column}, {literal(_BARE_VALUE)})"
        text = _plain("""trim(value, '" ')""")
        session.run(f"UPDATE items_read SET {column} = {_join(values, text)} WHERE {is_text}")


def split_texts(session: Session, name: str, separator: str) -> None:
    """Makes lists of the texts of the column `name` in `items_read` by what stands between their values."""
    column = identifier(name)
    session.run(f"""
        UPDATE items_read SET {column} = replace({column}, {literal(separator)}, {literal(MARK)}) {_END}
         WHERE {column} IS NOT NULL AND NOT contains({column}, {literal(MARK)})""")


def has_lists(session: Session, name: str) -> bool:
    """Whether any value of the column `name` in `items_read` is a list."""
    return bool(session.run(f"SELECT 1 FROM items_read WHERE contains({identifier(name)}, {literal(MARK)}) LIMIT 1"))


def count_values(session: Session, name: str) -> Mapping[str, int]:
    """How many items have each single value of the column `name` in `items_read`."""
    rows = session.run(f"""
        SELECT value, count(*) FROM (SELECT unnest({as_set(identifier(name))}) AS value FROM items_read
         WHERE reason IS NULL) GROUP BY value""")
    return {str(value): int(n) for value, n in rows}


def as_set(text: str) -> str:
    """SQL for the different values in the text `text` (SQL), in order; NULL where there is none."""
    values = f"list_transform(string_split({text}, {literal(MARK)}), lambda value: trim(value))"
    different = "list_filter(found, lambda value, place: value <> '' AND list_position(found, value) = place)"
    return f"nullif(list_transform([{values}], lambda found: {different})[1], [])"


def shown_text(name: str) -> str:
    """SQL for a text of `items_read` as a person reads it."""
    return f"replace(rtrim({identifier(name)}, {literal(MARK)}), {literal(MARK)}, ', ')"


def join_set(values: str) -> str:
    """SQL for the text of a list of values (SQL); NULL for NULL."""
    return f"array_to_string({values}, {literal(MARK)}) {_END}"


def _name(member: str) -> str:
    """SQL for what an object of JSON is called; NULL where it has no name."""
    return _plain(f"coalesce({member} ->> '$.name', {member} ->> '$.title')")


def _plain(text: str) -> str:
    return f"replace({text}, {literal(MARK)}, chr(32))"


def _join(values: str, value: str) -> str:
    """SQL for the text of a list; `value` is SQL for one of its `values`, named `value`."""
    return join_set(f"list_transform({values}, lambda value: {value})")


def _join_json(array: str, level_mark: str) -> str:
    """SQL for the text of a JSON array; of an object among its values the name counts."""
    levels = "list_transform(from_json(value, '[\"JSON\"]'), lambda level: level ->> '$')"
    name = f"coalesce({_name('value')}, value ->> '$')"
    text = (
        f"CASE json_type(value) WHEN 'ARRAY' THEN array_to_string({levels}, {literal(level_mark)}) "
        f"WHEN 'OBJECT' THEN {name} ELSE value ->> '$' END"
    )
    return _join(f"from_json({array}, '[\"JSON\"]')", _plain(text))
