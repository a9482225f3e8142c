"""Checked rows: the shop's tables cast to our types, bad rows kept aside with a reason each.

Items become a table `items` numbered from 0; events are written apart by a hash of their request, so that
each later step holds one shard of whole requests in memory and no more.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mmse.core.errors import TableError
from mmse.sources import values as rules
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import EventsConfig, ItemsConfig, Table, files_in, identifier, literal
from mmse.sources.values import Rule

CLICKED, ORDERED, EXPLORED, CARTED, SHOWN = 1, 2, 4, 8, 16
"""The bits of `flags`: duplicates of a row are merged with one `bit_or`. Without `SHOWN` it was retrieved only, or the
row tells of a click, a cart or an order alone, and another shows the item."""
TAKEN = CLICKED | ORDERED | CARTED

NOWHERE = 2**31 - 1
"""The position, while mining, of an item that its row does not show: behind every other."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """How many rows of a table were read, and how many were rejected for each reason."""

    rows: int
    rejected: dict[str, int]


REJECTED = "shard=-1"


def read_items(session: Session, table: Table, config: ItemsConfig) -> Checked:
    """Makes the table `items` (in file order, a duplicate `item_id` keeps its first row) and `rejected`."""
    item_rules = [_item_rule(table, config, name) for name in table.columns]
    columns = ", ".join(identifier(rule.name) for rule in item_rules)
    session.run("SET preserve_insertion_order = true")
    session.run(
        f"CREATE TABLE items_read AS SELECT row_number() OVER () AS line, {columns}, reason, row "
        f"FROM ({_cast(table, item_rules)})",
        reading=table,
    )
    session.run("""
        CREATE TABLE first_lines AS SELECT min(line) AS line FROM items_read WHERE reason IS NULL GROUP BY item_id""")
    session.run(f"""
        UPDATE items_read SET reason = 'item_id is a duplicate of an earlier row',
               row = {rules.raw_row({name: identifier(name) for name in table.columns})}
         WHERE reason IS NULL AND line NOT IN (SELECT line FROM first_lines)""")
    absent = [f"CAST(NULL AS {_ITEM_TYPES[name]}) AS {name}" for name in _ITEM_TYPES if name not in table.columns]
    present = [identifier(name) for name in (*_ITEM_TYPES, *config.extra) if name in table.columns]
    session.run(f"""
        CREATE TABLE items AS
        SELECT CAST(row_number() OVER (ORDER BY line) - 1 AS INTEGER) AS item_row, {", ".join([*present, *absent])}
          FROM items_read WHERE reason IS NULL ORDER BY line""")
    session.run("""CREATE TABLE rejected AS
        SELECT 'items' AS "table", reason, row FROM items_read WHERE reason IS NOT NULL ORDER BY line""")
    session.run("SET preserve_insertion_order = false")
    (rows,) = session.run("SELECT count(*) FROM items_read")[0]
    session.run("DROP TABLE items_read; DROP TABLE first_lines")
    _take_bad_lines(session, table)
    return _weigh(session, table, rows, config.max_rejected_share)


def read_events(session: Session, table: Table, config: EventsConfig, shards: int, out: Path) -> Checked:
    """Writes the good rows to `out/shard=S/`, adds the bad ones to `rejected`; see `_events` for the columns."""
    hidden = "coalesce(retrieved_only, false)" if "retrieved_only" in table.columns else ""
    event_rules = [event_rule(table, name, hidden) for name in _EVENT_READ if name in table.columns]
    session.run(
        f"COPY ({_events(table, event_rules, shards)}) TO {literal(str(out))} "
        "(FORMAT parquet, PARTITION_BY (shard), COMPRESSION lz4_raw)",
        reading=table,
    )
    if (out / REJECTED).exists():
        session.run(f"INSERT INTO rejected SELECT 'events', reason, row FROM {shard_files(out / REJECTED)}")
    _take_bad_lines(session, table)
    good = f"count_if(reason IS NULL AND flags & {SHOWN} > 0)"
    counted = [session.run(f"SELECT count(*), {good} FROM {shard_files(folder)}")[0] for folder in out.glob("shard=*")]
    rows, shown = (sum(one[column] for one in counted) for column in range(2))
    checked = _weigh(session, table, rows, config.max_rejected_share)
    if not shown:
        raise TableError(f"No row of the events table ({table.source}) was shown.", "Log the rows that were shown.")
    return checked


def shard_files(folder: Path) -> str:
    """SQL that reads one shard's Parquet files."""
    return f"read_parquet({files_in(folder, '*.parquet')}, hive_partitioning = false)"


def _events(table: Table, event_rules: list[Rule], shards: int) -> str:
    """Rows `request_id, timestamp, query, user_id, item_row, position, flags, reason, row, shard`.

    Shard -1 holds the rejected rows.
    """
    has = {rule.name for rule in event_rules}
    hidden = "coalesce(retrieved_only, false)" if "retrieved_only" in has else "false"
    user_id = "user_id" if "user_id" in has else "CAST(NULL AS VARCHAR)"
    bits = {"clicked": CLICKED, "ordered": ORDERED, "carted": CARTED, "explored": EXPLORED}
    said = " + ".join(f"CASE WHEN {name} THEN {bit} ELSE 0 END" for name, bit in bits.items() if name in has)
    return f"""
        SELECT request_id, timestamp, query, {user_id} AS user_id, item_row,
               CASE WHEN {hidden} THEN {NOWHERE} ELSE coalesce(position, {NOWHERE}) END AS position,
               CAST(CASE WHEN {hidden} THEN 0 WHEN position IS NULL THEN {said} ELSE {SHOWN} + {said} END AS TINYINT)
                   AS flags, reason, row,
               CAST(CASE WHEN reason IS NOT NULL THEN -1 ELSE hash(request_id) % {shards} END AS SMALLINT) AS shard
          FROM ({_cast(table, event_rules, joins_items=True)})"""


def _cast(table: Table, table_rules: list[Rule], *, joins_items: bool = False) -> str:
    """SQL for the table's rows with our columns, a `reason` (NULL for a good row) and the bad `row` as JSON."""
    raws = ", ".join(f"{table.column(rule.name)} AS {identifier('raw_' + rule.name)}" for rule in table_rules)
    raw_names = ", ".join(identifier("raw_" + rule.name) for rule in table_rules)
    values = ", ".join(f"{rule.value} AS {identifier(rule.name)}" for rule in table_rules)
    further = _contradictions({rule.name for rule in table_rules})
    whole = ""
    first: tuple[tuple[str, str], ...] = ()
    if table.format == "json":
        raws, raw_names = f"{raws}, json AS raw_whole", f"{raw_names}, raw_whole"
        first = (("raw_whole IS NULL OR json_type(raw_whole) <> 'OBJECT'", "the line is not a JSON object"),)
        whole = "raw_whole"
    row = whole or rules.raw_row({table.columns[rule.name]: identifier("raw_" + rule.name) for rule in table_rules})
    item_row, join = "", ""
    if joins_items:
        further = (*further, ("item_row IS NULL", "item_id is not in the items table"))
        item_row, join = ", items.item_row", "LEFT JOIN items ON items.item_id = cast_rows.item_id"
    reason = rules.reason(table_rules, further)
    if first:
        reason = f"coalesce({rules.reason([], first)}, {reason})"
    return f"""
        SELECT *, CASE WHEN reason IS NOT NULL THEN CAST({row} AS VARCHAR) END AS row
          FROM (SELECT *, {reason} AS reason
                  FROM (SELECT cast_rows.*{item_row}
                          FROM (SELECT {raw_names}, {values} FROM (SELECT {raws} FROM {table.scan})) AS cast_rows
                          {join}))"""


def _contradictions(columns: set[str]) -> tuple[tuple[str, str], ...]:
    """What two columns of one row say that cannot be, and the reason: what was not shown cannot have been taken."""
    if "retrieved_only" not in columns:
        return ()
    taken = " OR ".join(name for name in ("clicked", "ordered", "carted") if name in columns)
    return ((f"retrieved_only AND ({taken})", "retrieved_only, and yet clicked, carted or ordered"),)


def _take_bad_lines(session: Session, table: Table) -> None:
    """CSV lines that are not rows at all (too many or too few columns, broken quotes, not UTF-8)."""
    if table.format != "csv":
        return
    session.run(f"""
        INSERT INTO rejected
        SELECT {literal(table.name)}, 'the line is not valid CSV: ' || lower(CAST(any_value(error_type) AS VARCHAR)),
               CAST(json_object('line', any_value(line), 'csv', any_value(csv_line)) AS VARCHAR)
          FROM {table.name}_bad_lines GROUP BY file_id, line""")


def _weigh(session: Session, table: Table, rows: int, limit: float) -> Checked:
    """Counts the rejected rows of `table`; raises `TableError` past `limit`, or where no row is left."""
    found = session.run(f"""
        SELECT reason, count(*), any_value(row) FROM rejected WHERE "table" = {literal(table.name)}
         GROUP BY reason ORDER BY count(*) DESC, reason""")
    counts = {reason: int(count) for reason, count, _ in found}
    bad_lines = sum(count for reason, count in counts.items() if reason.startswith("the line is not valid CSV"))
    rows, bad = rows + bad_lines, sum(counts.values())
    if rows == 0:
        raise TableError(f"The {table.name} table has no rows: {table.source}.", "Give a table with rows.")
    if bad:
        log.warning("%s: %d of %d rows rejected: %s", table.name, bad, rows, counts)
    if bad / rows > limit or bad == rows:
        lines = "".join(f"\n  {count} × {reason}, for example {row}" for reason, count, row in found)
        raise TableError(
            f"{bad} of {rows} rows of the {table.name} table ({table.source}) are bad, "
            f"more than the limit of {limit:.0%}:{lines}",
            f"Mend these rows, or raise max_rejected_share in [{table.name}] of shop.toml if they may be dropped.",
        )
    return Checked(rows, counts)


_ITEM_TYPES = {
    "item_id": "VARCHAR",
    "title": "VARCHAR",
    "category": "VARCHAR",
    "brand": "VARCHAR",
    "seller": "VARCHAR",
    "price": "DOUBLE",
    "available": "BOOLEAN",
    "rating": "DOUBLE",
}
_EVENT_READ = (
    "request_id",
    "timestamp",
    "query",
    "item_id",
    "position",
    "clicked",
    "ordered",
    "user_id",
    "carted",
    "retrieved_only",
    "explored",
)


def _item_rule(table: Table, config: ItemsConfig, name: str) -> Rule:
    raw, type_ = table.column(name), table.types[name]
    if name in ("price", "rating") or name in config.numeric:
        return rules.number(name, raw, type_)
    if name == "available":
        return rules.flag(name, raw, type_, required=False)
    return rules.text(name, raw, type_, required=name in ("item_id", "title"))


def event_rule(table: Table, name: str, hidden: str) -> Rule:
    """`hidden` is SQL for the rows of items that were not shown: they need no position, and no word of clicks.

    Nor do rows that tell of a click, a cart or an order need a position and a query: another row shows the item.
    """
    raw, type_ = table.column(name), table.types[name]
    done = [f"coalesce({flag}, false)" for flag in ("clicked", "ordered", "carted") if flag in table.columns]
    if name == "timestamp":
        return rules.time(name, raw, type_)
    if name == "position":
        return rules.position(name, raw, type_, unless=" OR ".join(filter(None, [hidden, *done])))
    if name in ("clicked", "ordered", "carted", "retrieved_only", "explored"):
        return rules.flag(name, raw, type_, required=name in ("clicked", "ordered"), unless=hidden)
    unless = f"position IS NULL AND ({' OR '.join(done)})" if name == "query" and "position" in table.columns else ""
    return rules.text(name, raw, type_, required=name != "user_id", unless=unless)
