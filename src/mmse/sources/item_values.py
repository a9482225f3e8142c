"""The values of items that were read: plain text out of HTML, numbers by a decimal mark, bad ones empty.

All of it is done on the table `items_read`, so that a column can be judged as a whole and the files are read once.
"""

from __future__ import annotations

import logging

from mmse.core.errors import TableError
from mmse.schema.columns import ITEM_COLUMNS, ColumnType
from mmse.sources import losses, numbers, values
from mmse.sources.duckdb_session import Session
from mmse.sources.markup import clean_markup
from mmse.sources.tables import ItemsConfig, Table, identifier, literal

_MAX_EXAMPLE = 60
"""Characters of a bad vector that a message shows."""

log = logging.getLogger(__name__)


def is_optional(name: str, config: ItemsConfig) -> bool:
    """Whether a bad value of the item column `name` is emptied; any text is a good one."""
    column = ITEM_COLUMNS.get(name)
    return name in (*config.numeric, *config.vectors) or (
        column is not None and column.type in (ColumnType.NUMBER, ColumnType.FLAG)
    )


def clean_texts(session: Session, table: Table, config: ItemsConfig) -> dict[str, int]:
    """Makes plain text of HTML in the items' texts; gives how many values of each column had any."""
    texts = [name for name in table.columns if name != "item_id" and not is_optional(name, config)]
    counts = {name: clean_markup(session, "items_read", name) for name in texts}
    counts = {name: n for name, n in counts.items() if n}
    if counts:
        log.warning("items: HTML tags and entities made plain text, values by column: %s", counts)
    if counts.get("title"):
        session.run(f"""
            UPDATE items_read SET reason = 'title is empty',
                   row = {values.raw_row({name: identifier(name) for name in table.columns})}
             WHERE reason IS NULL AND trim(title) = ''""")
    return counts


def optional_value(session: Session, table: Table, config: ItemsConfig, name: str) -> str:
    """SQL for the value of an optional column in `items_read`; a column of text tells its decimal mark as a whole."""
    if name in config.vectors:
        length = _vector_length(session, table, name)
        is_good = f"{values.is_whole_vector(name)} AND len({identifier(name)}) = {length}"
        return f"CASE WHEN {is_good} THEN {identifier(name)} END"
    if table.types[name] != "VARCHAR" or ITEM_COLUMNS.get(name) == ITEM_COLUMNS["available"]:
        return identifier(name)
    raw = identifier("raw_" + name)
    marks = config.decimal_mark or numbers.find_marks(session, "items_read", raw)
    if not marks:
        _warn_of_thousands(session, name, raw)
    return numbers.number_of(raw, marks)


def _warn_of_thousands(session: Session, name: str, raw: str) -> None:
    """Warns of numbers such as `1.800` in a column that does not tell its decimal mark."""
    ((n, example),) = session.run(f"""
        SELECT count(*), min({raw}) FROM items_read
         WHERE reason IS NULL AND {numbers.is_ambiguous(raw)} AND contains({raw}, '.')""")
    if n:
        log.warning(
            "items: %d values of %s, such as %r, may be thousands, and no other value of the column tells; the point "
            'is taken for the decimal mark: decimal_mark = "," in [items] if that is wrong, "." if it is right',
            n,
            name,
            example,
        )


def count_emptied(session: Session, table: Table, config: ItemsConfig, name: str, value: str) -> dict[str, int]:
    """How many values of an optional column are bad, by reason; raises `TableError` where most are."""
    type_, raw = table.types[name], identifier("raw_" + name)
    example = f"CAST(any_value({raw}) AS VARCHAR)"
    is_flag = name in ITEM_COLUMNS and ITEM_COLUMNS[name].type is ColumnType.FLAG
    reason = literal(f"{name} is not {'true or false' if is_flag else 'a number'}")
    if type_ == "VARCHAR" and not is_flag:
        two = literal(f"{name} may be two numbers, by its decimal mark")
        reason = f"CASE WHEN {numbers.is_ambiguous(raw)} THEN {two} ELSE {reason} END"
    if name in config.vectors:
        reason = _vector_fault(session, table, name)
        example = f"'row ' || min(line) || ': ' || left(CAST(arg_min({raw}, line) AS VARCHAR), {_MAX_EXAMPLE})"
    rows = session.run(f"""
        SELECT {reason} AS fault, count(*), {example} FROM items_read
         WHERE reason IS NULL AND {values.fault(name, type_, value)} GROUP BY fault ORDER BY fault""")
    if not rows:
        return {}
    ((n_values,),) = session.run(f"SELECT count(*) FROM items_read WHERE reason IS NULL AND {raw} IS NOT NULL")
    losses.check_column(
        table, name, n_values, {fault: (n, example) for fault, n, example in rows}, config.max_rejected_share
    )
    for fault, n, example in rows:
        log.warning("items: %d of %d values left empty: %s, for example %r", n, n_values, fault, example)
    return {fault: int(n) for fault, n, _ in rows}


def _vector_length(session: Session, table: Table, name: str) -> int:
    """How many numbers most vectors of the column `name` have; raises `TableError` where it has none."""
    whole = f"reason IS NULL AND {values.is_whole_vector(name)}"
    ((length,),) = session.run(f"SELECT mode(len({identifier(name)})) FROM items_read WHERE {whole}")
    if length is None:
        raise TableError(
            f"No row of the items table ({table.source}) has a list of finite numbers in the column "
            f"'{table.columns[name]}', which is in vectors.",
            f"Bring lists of numbers, such as [0.1, 0.2], or take {name} out of vectors in [items] of shop.toml.",
        )
    return int(length)


def _vector_fault(session: Session, table: Table, name: str) -> str:
    """SQL for what is wrong with a vector."""
    length = _vector_length(session, table, name)
    expectation = literal(f" numbers, expected {length} as in most rows")
    other_length = f"{literal(f'{name} has ')} || len({identifier(name)}) || {expectation}"
    no_list = literal(f"{name} is not a list of finite numbers, such as [0.1, 0.2]")
    return f"CASE WHEN {values.is_whole_vector(name)} THEN {other_length} ELSE {no_list} END"
