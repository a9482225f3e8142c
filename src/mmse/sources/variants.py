"""Variants of a product that share its `item_id`: one item with the values of all of them.

Rows are variants where their titles are alike, such as `Boot, size 38` and `Boot, size 39`. A row with the same id and
wholly another title is no variant, but a fault.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mmse.sources.duckdb_session import Session
from mmse.sources.sql import identifier, literal
from mmse.sources.value_lists import MARK, as_set

MIN_SHARED_WORDS = 0.5
"""Titles are alike if this share of the words of the shorter one is in the other, or this share of their characters."""
_MAX_CHARACTERS = 200
"""Characters of a title that are compared one by one."""
MAX_VARIANTS = 200
"""A product with more items than that is hardly one."""
COPY = "the row is a copy of an earlier row"
"""The reason of a row that loses nothing: it does not count towards the limit of bad rows."""
DUPLICATE = "item_id is a duplicate of an earlier row"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VariantCounts:
    """How many `rows` became part of an earlier one, and of how many `items` they are variants."""

    rows: int = 0
    items: int = 0


def find_variants(session: Session, columns: Sequence[str], row: str) -> VariantCounts:
    """Makes `variants`: the `line` of each row of `items_read` that is a variant, and the first one of its product.

    Other rows whose `item_id` an earlier one has get a reason, and `row`, SQL for the row as JSON. A row that is like
    the first one in all `columns` is a copy.
    """
    session.run("""
        CREATE TABLE repeated AS SELECT item_id, min(line) AS first_line FROM items_read WHERE reason IS NULL
         GROUP BY item_id HAVING count(*) > 1""")
    is_copy = " AND ".join(f"later.{name} IS NOT DISTINCT FROM first.{name}" for name in map(identifier, columns))
    session.run(f"""
        CREATE TABLE later_rows AS
        SELECT later.line, first_line, {is_copy} AS is_copy, {_are_alike("later.title", "first.title")} AS is_alike
          FROM items_read AS later JOIN repeated USING (item_id) JOIN items_read AS first ON first.line = first_line
         WHERE later.reason IS NULL AND later.line > first_line""")
    for reason, condition in ((COPY, "is_copy"), (DUPLICATE, "NOT is_alike")):
        session.run(f"""
            UPDATE items_read SET reason = {literal(reason)}, row = {row}
             WHERE reason IS NULL AND line IN (SELECT line FROM later_rows WHERE {condition})""")
    session.run("CREATE TABLE variants AS SELECT line, first_line FROM later_rows WHERE is_alike AND NOT is_copy")
    session.run("DROP TABLE repeated; DROP TABLE later_rows")
    (counts,) = session.run("SELECT count(*), count(DISTINCT first_line) FROM variants")
    return VariantCounts(*counts)


def merge_texts(session: Session, names: Sequence[str], counts: VariantCounts) -> None:
    """Gives the first row of each product the texts of all its variants in the columns `names`, each once."""
    if not counts.rows:
        return
    set_names = _merge_columns(session, names) if names else []
    log.warning(
        "items: %d rows are variants of %d items, with the same item_id and a like title; each became one item, with "
        "the first title, the lowest price, available if any is%s",
        counts.rows,
        counts.items,
        f", and all values of {', '.join(set_names)}" if set_names else "",
    )


def warn_of_groups(session: Session) -> None:
    """Warns where an `item_group` has so many items that it can hardly be one product."""
    rows = session.run(f"""
        SELECT item_group, count(*) AS n, count(*) OVER () FROM items WHERE item_group IS NOT NULL
         GROUP BY item_group HAVING n > {MAX_VARIANTS} ORDER BY n DESC, item_group LIMIT 1""")
    for name, n, n_groups in rows:
        log.warning(
            "items: %d items have the item_group %r (%d groups have more than %d), and a search shows one of each; "
            "if that column is not their product, take item_group out of [items.columns] or put it into ignore",
            n,
            name,
            n_groups,
            MAX_VARIANTS,
        )


def _merge_columns(session: Session, names: Sequence[str]) -> list[str]:
    """Merges the texts of variants; gives the columns of which a product has several then."""
    columns = [identifier(name) for name in names]
    aggregates = ", ".join(f"string_agg({name} || {literal(MARK)}, '' ORDER BY line) AS {name}" for name in columns)
    texts = ", ".join(f"{_set_text(name)} AS {name}" for name in columns)
    session.run(f"""
        CREATE TABLE variant_texts AS SELECT product AS line, {texts} FROM (
            SELECT product, {aggregates} FROM (
                SELECT items_read.*, coalesce(first_line, line) AS product
                  FROM items_read LEFT JOIN variants USING (line) WHERE reason IS NULL)
             WHERE product IN (SELECT first_line FROM variants) GROUP BY product)""")
    set_names = []
    for name, column in zip(names, columns, strict=True):
        if session.run(f"SELECT 1 FROM variant_texts WHERE contains({column}, {literal(MARK)}) LIMIT 1"):
            set_names.append(name)
        session.run(f"""
            UPDATE items_read SET {column} = variant_texts.{column} FROM variant_texts
             WHERE items_read.line = variant_texts.line AND variant_texts.{column} IS NOT NULL""")
    session.run("DROP TABLE variant_texts")
    return set_names


def merge_values(values: dict[str, str], counts: VariantCounts) -> tuple[dict[str, str], str]:
    """SQL for the `values` (SQL over `items_read`) of optional columns with those of variants, and for the rows."""
    if not counts.rows:
        return values, "(SELECT * FROM items_read WHERE reason IS NULL)"
    merged_names = {name: identifier(f"{name} of all variants") for name in values}
    aggregates = "".join(f", {_of_variants(name, value)} AS {merged_names[name]}" for name, value in values.items())
    rows = f"""(
        SELECT items_read.* EXCLUDE (line), product.* FROM items_read JOIN (
            SELECT coalesce(first_line, line) AS line{aggregates}
              FROM items_read LEFT JOIN variants USING (line) WHERE reason IS NULL
             GROUP BY coalesce(first_line, line)) AS product USING (line))"""
    return merged_names, rows


def _of_variants(name: str, value: str) -> str:
    """SQL for one value of all variants: the lowest price, available if any is, else the first one's."""
    usual = f"arg_min({value}, line)"
    return {"price": f"min({value})", "available": f"bool_or({value})"}.get(name, usual)


def _set_text(text: str) -> str:
    """SQL for the same values, each once; without a mark where there is only one."""
    values = as_set(text)
    return (
        f"CASE WHEN len({values}) > 1 THEN array_to_string({values}, {literal(MARK)}) || {literal(MARK)} "
        f"ELSE ({values})[1] END"
    )


def _are_alike(a: str, b: str) -> str:
    """SQL: the titles `a` and `b` (SQL) have much in common."""
    words_a, words_b = _words(a), _words(b)
    n_words = f"least(len({words_a}), len({words_b}))"
    shares_words = f"{n_words} > 0 AND len(list_intersect({words_a}, {words_b})) >= {MIN_SHARED_WORDS} * {n_words}"
    start_a, start_b = f"left({a}, {_MAX_CHARACTERS})", f"left({b}, {_MAX_CHARACTERS})"
    max_edits = f"{1 - MIN_SHARED_WORDS} * greatest(length({start_a}), length({start_b}))"
    return f"(({shares_words}) OR levenshtein({start_a}, {start_b}) <= {max_edits})"


def _words(title: str) -> str:
    words = f"regexp_split_to_array(lower({title}), '[^\\p{{L}}\\p{{N}}]+')"
    return f"list_distinct(list_filter({words}, lambda word: word <> ''))"
