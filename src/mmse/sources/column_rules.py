"""Which rule casts each column of the two tables, by its type in the contract."""

from __future__ import annotations

from dataclasses import replace

from mmse.schema.columns import EVENT_COLUMNS, ITEM_COLUMNS, ColumnType
from mmse.schema.filters import Kind
from mmse.sources import values
from mmse.sources.sql import identifier, literal
from mmse.sources.tables import ACTIONS, ItemsConfig, Table
from mmse.sources.value_lists import MARK, list_text
from mmse.sources.values import CastRule

SQL_TYPES = {
    ColumnType.TEXT: "VARCHAR",
    ColumnType.NUMBER: "DOUBLE",
    ColumnType.WHOLE: "INTEGER",
    ColumnType.FLAG: "BOOLEAN",
    ColumnType.TIME: "TIMESTAMP",
}
"""DuckDB's type of a column after it was cast."""

SPREADSHEET_LOSS = "has lost its last digits in a spreadsheet"
_SHORT_NUMBER = r"\d([.,]\d+)?E\+\d\d"


def item_rule(table: Table, config: ItemsConfig, name: str) -> CastRule:
    """The rule for the column `name` of the items, which `table` has: one of the contract, or one that was declared."""
    raw, type_ = table.column(name), table.types[name]
    column = ITEM_COLUMNS.get(name)
    if name in config.numeric or (column and column.type is ColumnType.NUMBER):
        path = table.shop_columns[name].path
        if path:  # a number of JSON has a decimal point; an exponent keeps 1.125 from being 1125
            is_double = f"json_type({identifier(table.document)}, {literal(path)}) = 'DOUBLE'"
            raw = f"CASE WHEN {is_double} AND NOT contains(lower({raw}), 'e') THEN {raw} || 'e0' ELSE {raw} END"
        return values.optional_number(name, raw, type_)
    if name in config.vectors:
        return values.vector(name, raw, type_)
    if column and column.type is ColumnType.FLAG:
        return values.availability(name, raw, type_)
    if name in config.several_names:
        raw, type_ = list_text(table, name, level_mark(name))
    elif name != "item_id":
        raw, type_ = list_text(table, name, ", ")
        raw = f"replace(rtrim({raw}, {literal(MARK)}), {literal(MARK)}, ', ')" if type_ == "VARCHAR" else raw
    rule = values.text(name, raw, type_, is_required=column is not None and column.is_required)
    return _refuse_short_numbers(rule, type_) if name == "item_id" else rule


def _refuse_short_numbers(rule: CastRule, type_: str) -> CastRule:
    """`rule` with a check for texts such as `4.00638E+12`, as which a spreadsheet shows and saves long numbers."""
    if type_ != "VARCHAR":
        return rule
    raw = identifier(f"raw_{rule.name}")
    is_short = f"contains({raw}, 'E+') AND regexp_full_match(trim({raw}), {literal(_SHORT_NUMBER)})"
    return replace(rule, checks=((is_short, f"{rule.name} {SPREADSHEET_LOSS}"), *rule.checks))


def level_mark(name: str) -> str:
    """What stands between the values of a list within a list, which is one value of the column `name`."""
    column = ITEM_COLUMNS.get(name)
    return " > " if column and column.filter is Kind.PATH else ", "


def event_rule(table: Table, name: str, not_shown: str = "", *, empty_means_no: bool = False) -> CastRule:
    """The rule for the column `name` of the events, which `table` has.

    `not_shown` is SQL that is true for the rows of items that were retrieved only. They need no position, and they need
    not say whether the item was clicked or ordered. A row that tells of a click, a cart or an order alone needs no
    position and no query, because another row shows the item; in a table that shows nothing, that is every row. With
    `empty_means_no`, an empty flag is no.
    """
    column, raw, type_ = EVENT_COLUMNS[name], table.column(name), table.types[name]
    actions = [f"coalesce({flag}, false)" for flag in ACTIONS if flag in table.columns]
    if column.type is ColumnType.TIME:
        return _refuse_short_numbers(values.time(name, raw, type_, table.time_form), type_)
    if column.type is ColumnType.FLAG:
        return values.flag(name, raw, type_, is_required=column.is_required and not empty_means_no, unless=not_shown)
    if name == "position":
        conditions = [not_shown, *actions] if not_shown else actions
        return values.position(name, raw, type_, first=table.first_position, unless=" OR ".join(conditions))
    if column.type in (ColumnType.NUMBER, ColumnType.WHOLE):
        return values.number(name, raw, type_)
    assert column.type is ColumnType.TEXT, f"no rule casts {name}"
    unless = f"position IS NULL AND ({' OR '.join(actions)})" if name == "query" and table.shows and actions else ""
    is_required = column.is_required and (table.shows or name != "query")
    cast = values.query if name == "query" else values.text
    return cast(name, raw, type_, is_required=is_required, unless=unless)
