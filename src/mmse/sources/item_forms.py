"""How the items' texts hold paths and several values: declared or found from whole columns, and made our form.

A path is `a > b > c`. A column whose values are lists becomes a set: a list of texts for each item.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from mmse.core.errors import TableError
from mmse.schema.columns import ITEM_COLUMNS, ColumnType
from mmse.schema.value_forms import PATH_SEPARATOR, ValueForms
from mmse.sources import losses
from mmse.sources.column_rules import level_mark
from mmse.sources.config import ItemsConfig
from mmse.sources.duckdb_session import Session
from mmse.sources.path_forms import are_levels, find_list_separator, find_path_separator
from mmse.sources.sql import identifier, literal
from mmse.sources.tables import Table
from mmse.sources.value_lists import MARK, as_set, count_values, has_lists, join_set, read_lists_in_text, split_texts

CATEGORY = "category"

log = logging.getLogger(__name__)


def read_lists(session: Session, table: Table, config: ItemsConfig) -> None:
    """Reads texts of `items_read` that are lists or objects in JSON; raises `TableError` for objects without a name."""
    for name in _names(table, config):
        read_lists_in_text(session, name, level_mark(name))
    for name in table.columns:
        if name in ITEM_COLUMNS and ITEM_COLUMNS[name].type is ColumnType.TEXT:
            _check_objects(session, table, name)


def _check_objects(session: Session, table: Table, name: str) -> None:
    """Raises `TableError` where most values of a column are objects in JSON, of which a member should be read."""
    column = identifier(name)
    ((n_values, n_objects, example),) = session.run(f"""
        SELECT count(*), coalesce(count_if(is_object), 0), any_value(value) FILTER (is_object)
          FROM (SELECT {column} AS value, starts_with({column}, '{{') AND json_valid({column}) AS is_object
                  FROM items_read WHERE {column} IS NOT NULL)""")
    if n_objects > losses.MOST * n_values and losses.has_members(example):
        shop = table.columns[name]
        raise TableError(
            f"The values of '{shop}' ({name}) in the items table ({table.source}) are objects, such as "
            f"{example[:200]}.",
            losses.name_member(name, shop, example),
        )


def read_forms(session: Session, table: Table, config: ItemsConfig) -> ValueForms:
    """Makes paths and lists in `items_read` ours; gives the shop's forms of them."""
    names = _names(table, config)
    forms = ValueForms(config.path_separator, {name: mark for name, mark in config.list_separators.items() if mark})
    if CATEGORY in names:
        forms = _read_categories(session, config, forms)
    for name in names:
        if name in forms.list_separators and name != CATEGORY:
            split_texts(session, name, forms.list_separators[name])
    return forms


def set_values(session: Session, table: Table, config: ItemsConfig) -> dict[str, str]:
    """SQL for the values of the columns of `items_read` that have sets."""
    names = [name for name in _names(table, config) if has_lists(session, name)]
    if names:
        log.warning("items: these columns have lists, and an item is found by each of its values: %s", ", ".join(names))
    return {name: as_set(identifier(name)) for name in names}


def _names(table: Table, config: ItemsConfig) -> list[str]:
    return [name for name in config.several_names if name in table.columns]


def _read_categories(session: Session, config: ItemsConfig, forms: ValueForms) -> ValueForms:
    """Makes each category a path, or each of several; gives the forms with what was found."""
    if not has_lists(session, CATEGORY):
        mark = forms.list_separators.get(CATEGORY)
        if CATEGORY not in config.list_separators:
            mark = find_list_separator(count_values(session, CATEGORY))
        if mark:
            split_texts(session, CATEGORY, mark)
            forms = replace(forms, list_separators={**forms.list_separators, CATEGORY: mark})
            log.warning(
                "items: %r stands between several categories of an item; list_separators = {category = …} in [items] "
                'says what does, "" that nothing does',
                mark,
            )
    elif _have_levels(session, config):
        _join_levels(session)
    mark = forms.path_separator or find_path_separator(count_values(session, CATEGORY))
    if mark:
        _split_paths(session, mark)
        example = session.run(f"SELECT any_value({_first(CATEGORY)}) FROM items_read WHERE contains(category, '>')")
        log.warning("items: %r stands between the levels of a category, such as %r", mark, example[0][0])
    return replace(forms, path_separator=mark)


def _have_levels(session: Session, config: ItemsConfig) -> bool:
    """Whether the lists of categories have the levels of one path each."""
    if config.category_lists is not None:
        return config.category_lists == "levels"
    lists = session.run(f"""
        SELECT {as_set(CATEGORY)} AS categories, count(*) FROM items_read WHERE category IS NOT NULL
         GROUP BY categories HAVING categories IS NOT NULL""")
    has_levels = are_levels({tuple(categories): n for categories, n in lists})
    log.warning(
        "items: a list of categories has %s; category_lists in [items] says which it is",
        "the levels of one path" if has_levels else "several paths",
    )
    return has_levels


def _join_levels(session: Session) -> None:
    text = f"rtrim({CATEGORY}, {literal(MARK)})"
    session.run(f"""
        UPDATE items_read SET {CATEGORY} = nullif(replace({text}, {literal(MARK)}, {literal(PATH_SEPARATOR)}), '')
         WHERE contains({CATEGORY}, {literal(MARK)})""")


def _split_paths(session: Session, mark: str) -> None:
    """Makes paths of the texts, or values of lists, whose levels are apart by `mark`."""
    levels = f"list_transform(string_split(value, {literal(mark)}), lambda level: trim(level))"
    path = f"array_to_string(list_filter({levels}, lambda level: level <> ''), {literal(PATH_SEPARATOR)})"
    path = f"CASE WHEN contains(value, '>') THEN value ELSE {path} END"
    values = f"list_transform({as_set(CATEGORY)}, lambda value: {path})"
    is_list = f"contains({CATEGORY}, {literal(MARK)})"
    session.run(f"""
        UPDATE items_read SET {CATEGORY} = CASE WHEN {is_list} THEN {join_set(values)} ELSE ({values})[1] END
         WHERE contains({CATEGORY}, {literal(mark)})""")


def _first(name: str) -> str:
    return f"({as_set(identifier(name))})[1]"
