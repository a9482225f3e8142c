"""HTML in a shop's texts: entities become their characters, tags go, so that nobody finds an item by `amp` or `br`."""

from __future__ import annotations

import html

from mmse.sources.duckdb_session import Session
from mmse.sources.sql import identifier, literal

_INLINE = "b|i|u|s|em|strong|small|big|sup|sub|span|a|font|mark|abbr|code|tt|ins|del|bdi|wbr"
_BLOCK = "br|p|div|li|ul|ol|dl|dt|dd|h[1-6]|hr|img|table|thead|tbody|tr|td|th|center|section"
_ENTITY = "&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
_ATTRIBUTES = r"(?:\s[^<>]*)?/?>"
_HIDDEN = r"(?is)<!--.*?-->|<(?:script|style)\b[^<>]*>.*?</(?:script|style)\s*>"
_TAG = f"(?i)</?(?:{_INLINE}|{_BLOCK}){_ATTRIBUTES}|<!--|<script|<style"
MAX_ENTITIES = 500
"""More distinct entities than HTML's usual ones are left as they are; the most frequent are decoded."""


def clean_markup(session: Session, table: str, column: str) -> int:
    """Makes plain text of the texts in `column` of `table`; gives the number of rows that had tags or entities."""
    name = identifier(column)
    marked = (
        f"(contains({name}, '&') OR contains({name}, '<')) AND regexp_matches({name}, {literal(f'{_ENTITY}|{_TAG}')})"
    )
    entities = session.run(f"""
        SELECT entity, count(*) FROM (SELECT unnest(regexp_extract_all({name}, {literal(_ENTITY)})) AS entity
          FROM {table} WHERE {marked}) GROUP BY entity ORDER BY count(*) DESC, entity LIMIT {MAX_ENTITIES}""")
    ((n_rows,),) = session.run(f"SELECT count(*) FROM {table} WHERE {marked}")
    if n_rows:
        plain = _plain_text(name, [entity for entity, _ in entities])
        session.run(f"UPDATE {table} SET {name} = {plain} WHERE {marked}")
    return int(n_rows)


def _plain_text(text: str, entities: list[str]) -> str:
    """SQL for `text` (SQL) without markup. An ampersand is decoded last, so that `&amp;lt;` stays what it says."""
    for entity in sorted(entities, key=lambda entity: html.unescape(entity) == "&"):
        character = " " if html.unescape(entity) in ("\xa0", "\0") else html.unescape(entity)
        text = f"replace({text}, {literal(entity)}, {literal(character)})"
    text = f"regexp_replace({text}, {literal(_HIDDEN)}, ' ', 'g')"
    text = f"regexp_replace({text}, {literal(f'(?i)</?(?:{_INLINE}){_ATTRIBUTES}')}, '', 'g')"
    text = f"regexp_replace({text}, {literal(f'(?i)</?(?:{_BLOCK}){_ATTRIBUTES}')}, ' ', 'g')"
    return rf"trim(regexp_replace({text}, '\s+', ' ', 'g'))"
