"""Checked rows: both tables cast to our types, with each bad row kept aside with a reason.

Items become the table `items`, numbered from 0. Events are written to one folder per shard, which a hash of the request
decides, so that each later step needs to hold only one shard of whole requests in memory.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmse.core.errors import TableError
from mmse.schema.columns import EVENT_COLUMNS, ITEM_COLUMNS, Reader
from mmse.sources import encodings, losses, values
from mmse.sources.column_rules import ACTIONS, SQL_TYPES, event_rule, item_rule
from mmse.sources.duckdb_session import Session
from mmse.sources.item_values import clean_texts, count_emptied, is_optional, optional_value
from mmse.sources.losses import UNKNOWN_ITEM, KindCount
from mmse.sources.tables import EventsConfig, ItemsConfig, Table, files_in, identifier, literal
from mmse.sources.values import CastRule

CLICKED, ORDERED, EXPLORED, CARTED, SHOWN = 1, 2, 4, 8, 16
"""The bits of `flags`: one `bit_or` merges the duplicates of a row. A row without `SHOWN` is of an item that was
retrieved only, or it tells of a click, a cart or an order alone, and another row shows the item."""
ANY_ACTION = CLICKED | ORDERED | CARTED
_BITS = {"clicked": CLICKED, "ordered": ORDERED, "carted": CARTED, "explored": EXPLORED}

_KINDS = {"orders": ORDERED, "carts": CARTED, "clicks": CLICKED, "items shown": SHOWN}
NO_POSITION = 2**31 - 1
"""The position, during mining, of an item that its row does not show: after all others."""
_MISSING_FLAGS = frozenset(f"{name} is missing" for name in ACTIONS)
_REJECTED_FOLDER = "shard=-1"
NOT_OBJECT = ("raw_line IS NULL OR json_type(raw_line) <> 'OBJECT'", "the line is not a JSON object")
"""The check of a line of a JSON table; `raw_line` is the line."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowCounts:
    """How many rows of a table were read, and how many were rejected for each reason.

    `emptied` counts the bad values of optional columns by reason, `marked_up` the texts with HTML by column, and
    `kinds` the events of each kind.
    """

    rows: int
    rejections: dict[str, int]
    emptied: dict[str, int] = field(default_factory=dict)
    marked_up: dict[str, int] = field(default_factory=dict)
    kinds: tuple[KindCount, ...] = ()


def read_items(session: Session, table: Table, config: ItemsConfig) -> RowCounts:
    """Makes the tables `items` and `rejected`.

    Items are in the order of the file; of rows with the same `item_id` the first good one stays. A bad value of an
    optional column is no value, and is counted.
    """
    item_rules = [item_rule(table, config, name) for name in table.columns]
    columns = ", ".join(identifier(rule.name) for rule in item_rules)
    optional = [name for name in table.columns if is_optional(name, config)]
    raw_columns = "".join(", " + identifier("raw_" + name) for name in optional)
    session.run("SET preserve_insertion_order = true")
    session.run(
        f"CREATE TABLE items_read AS SELECT row_number() OVER () AS line, {columns}{raw_columns}, reason, row "
        f"FROM ({_cast(table, item_rules)})",
        reading=table,
    )
    n_marked = clean_texts(session, table, config)
    session.run("""
        CREATE TABLE first_lines AS SELECT min(line) AS line FROM items_read WHERE reason IS NULL GROUP BY item_id""")
    session.run(f"""
        UPDATE items_read SET reason = 'item_id is a duplicate of an earlier row',
               row = {values.raw_row({name: identifier(name) for name in table.columns})}
         WHERE reason IS NULL AND line NOT IN (SELECT line FROM first_lines)""")
    session.run("""CREATE TABLE rejected AS
        SELECT 'items' AS "table", reason, row FROM items_read WHERE reason IS NOT NULL ORDER BY line""")
    (n_rows,) = session.run("SELECT count(*) FROM items_read")[0]
    _reject_bad_lines(session, table, is_declared=config.encoding is not None)
    counts = _count_rejected(session, table, n_rows, config.max_rejected_share)
    our_values = {name: identifier(name) for name in table.columns}
    emptied: dict[str, int] = {}
    for name in optional:
        our_values[name] = optional_value(session, table, config, name)
        emptied |= count_emptied(session, table, config, name, our_values[name])
    absent = [
        f"CAST(NULL AS {SQL_TYPES[column.type]}) AS {column.name}"
        for column in ITEM_COLUMNS
        if column.name not in table.columns
    ]
    names = [name for name in (*ITEM_COLUMNS.names, *config.extra) if name in table.columns]
    present = [f"{our_values[name]} AS {identifier(name)}" for name in names]
    session.run(f"""
        CREATE TABLE items AS
        SELECT CAST(row_number() OVER (ORDER BY line) - 1 AS INTEGER) AS item_row, {", ".join([*present, *absent])}
          FROM items_read WHERE reason IS NULL ORDER BY line""")
    session.run("SET preserve_insertion_order = false")
    session.run("DROP TABLE items_read; DROP TABLE first_lines")
    return replace(counts, emptied=emptied, marked_up=n_marked)


def read_events(session: Session, table: Table, config: EventsConfig, shards: int, target: Path) -> RowCounts:
    """Writes the good rows to `target/shard=S/`, adds the bad ones to `rejected`; `_events` has the columns."""
    names = [name for name in table.columns if Reader.MINING in EVENT_COLUMNS[name].readers]
    not_shown = "coalesce(retrieved_only, false)" if "retrieved_only" in names else ""
    event_rules = [event_rule(table, name, not_shown, empty_means_no=config.empty_means_no) for name in names]
    session.run(
        f"COPY ({_events(table, event_rules, shards)}) TO {literal(str(target))} "
        "(FORMAT parquet, PARTITION_BY (shard), COMPRESSION lz4_raw)",
        reading=table,
    )
    if (target / _REJECTED_FOLDER).exists():
        session.run(
            f"INSERT INTO rejected SELECT 'events', reason, row FROM {read_shard_files(target / _REJECTED_FOLDER)}"
        )
    _reject_bad_lines(session, table, is_declared=config.encoding is not None)
    n_rows, kinds = _count_kinds(session, target)
    counts = _count_rejected(session, table, n_rows, config.max_rejected_share)
    losses.check_kinds(table, kinds, config.max_rejected_share)
    if kinds[-1].rows == kinds[-1].rejected:
        raise TableError(f"No row of the events table ({table.source}) was shown.", "Log the rows that were shown.")
    return replace(counts, kinds=tuple(kinds))


def _count_kinds(session: Session, target: Path) -> tuple[int, list[KindCount]]:
    """The number of rows, and how many tell of each of `_KINDS`, good and rejected."""
    per_kind = ", ".join(f"count_if(flags & {bit} > 0)" for bit in _KINDS.values())
    n_rows, good, bad = 0, [0] * len(_KINDS), [0] * len(_KINDS)
    for folder in target.glob("shard=*"):
        n, *by_kind = session.run(f"SELECT count(*), {per_kind} FROM {read_shard_files(folder)}")[0]
        sums = bad if folder.name == _REJECTED_FOLDER else good
        n_rows, sums[:] = n_rows + n, [a + b for a, b in zip(sums, by_kind, strict=True)]
    return n_rows, [
        KindCount(kind, n_good + n_bad, n_bad, _explain_kind(session, target, kind) if n_bad else "")
        for kind, n_good, n_bad in zip(_KINDS, good, bad, strict=True)
    ]


def _explain_kind(session: Session, target: Path, kind: str) -> str:
    """Why rows of a kind were rejected: each reason with its count and an example."""
    rows = session.run(f"""
        SELECT reason, count(*), any_value(row) FROM {read_shard_files(target / _REJECTED_FOLDER)}
         WHERE flags & {_KINDS[kind]} > 0 GROUP BY reason ORDER BY count(*) DESC, reason""")
    return "".join(f"\n  {n} × {reason}, for example {row}" for reason, n, row in rows)


def read_shard_files(folder: Path) -> str:
    """SQL that reads one shard's Parquet files."""
    return f"read_parquet({files_in(folder, '*.parquet')}, hive_partitioning = false)"


def _events(table: Table, event_rules: list[CastRule], shards: int) -> str:
    """SQL for the rows `request_id, timestamp, query, user_id, item_row, position, flags, reason, row, shard`.

    Shard -1 holds the rejected rows.
    """
    names = {rule.name for rule in event_rules}
    not_shown = "coalesce(retrieved_only, false)" if "retrieved_only" in names else "false"
    user_id = "user_id" if "user_id" in names else "CAST(NULL AS VARCHAR)"
    flags = " + ".join(f"CASE WHEN {name} THEN {bit} ELSE 0 END" for name, bit in _BITS.items() if name in names)
    return f"""
        SELECT request_id, timestamp, query, {user_id} AS user_id, item_row,
               CASE WHEN {not_shown} THEN {NO_POSITION} ELSE coalesce(position, {NO_POSITION}) END AS position,
               CAST(CASE WHEN {not_shown} THEN 0 WHEN position IS NULL THEN {flags} ELSE {SHOWN} + {flags} END
                   AS TINYINT) AS flags, reason, row,
               CAST(CASE WHEN reason IS NOT NULL THEN -1 ELSE hash(request_id) % {shards} END AS SMALLINT) AS shard
          FROM ({_cast(table, event_rules, joins_items=True)})"""


def _cast(table: Table, table_rules: list[CastRule], *, joins_items: bool = False) -> str:
    """SQL for the table's rows with our columns, a `reason` (NULL for a good row) and the bad `row` as JSON."""
    raw_values = ", ".join(f"{rule.raw} AS {identifier('raw_' + rule.name)}" for rule in table_rules)
    raw_names = ", ".join(identifier("raw_" + rule.name) for rule in table_rules)
    our_values = ", ".join(f"{rule.value} AS {identifier(rule.name)}" for rule in table_rules)
    further = contradictions({rule.name for rule in table_rules})
    row = values.raw_row({table.columns[rule.name]: identifier("raw_" + rule.name) for rule in table_rules})
    if table.format == "json":
        raw_values, raw_names, row = f"{raw_values}, json AS raw_line", f"{raw_names}, raw_line", "raw_line"
    item_row, join = "", ""
    if joins_items:
        further = (*further, ("item_row IS NULL", UNKNOWN_ITEM))
        item_row, join = ", items.item_row", "LEFT JOIN items ON items.item_id = cast_rows.item_id"
    reason = values.reason(table_rules, further)
    if table.format == "json":
        reason = f"coalesce({values.reason([], (NOT_OBJECT,))}, {reason})"
    return f"""
        SELECT *, CASE WHEN reason IS NOT NULL THEN CAST({row} AS VARCHAR) END AS row
          FROM (SELECT *, {reason} AS reason
                  FROM (SELECT cast_rows.*{item_row}
                          FROM (SELECT {raw_names}, {our_values} FROM (SELECT {raw_values} FROM {table.scan}))
                            AS cast_rows {join}))"""


def contradictions(columns: set[str]) -> tuple[tuple[str, str], ...]:
    """Checks over two columns of a row: an item that was not shown cannot have been clicked, carted or ordered."""
    if "retrieved_only" not in columns:
        return ()
    any_action = " OR ".join(name for name in ACTIONS if name in columns)
    return ((f"retrieved_only AND ({any_action})", "retrieved_only, and yet clicked, carted or ordered"),)


def _reject_bad_lines(session: Session, table: Table, *, is_declared: bool) -> None:
    """Adds to `rejected` the CSV lines that are not rows: too many or too few columns, broken quotes, not UTF-8.

    Raises `TableError` for a file that is not UTF-8, unless `is_declared`: the shop said that it is.
    """
    if table.format != "csv":
        return
    session.run(f"""
        INSERT INTO rejected
        SELECT {literal(table.name)}, 'the line is not valid CSV: ' || lower(CAST(any_value(error_type) AS VARCHAR)),
               CAST(json_object('line', any_value(line), 'csv', any_value(csv_line)) AS VARCHAR)
          FROM {table.name}_bad_lines GROUP BY file_id, line""")
    ((n_wrong,),) = session.run(f"SELECT count(*) FROM {table.name}_bad_lines WHERE error_type = 'INVALID ENCODING'")
    if n_wrong and not is_declared:
        for file in table.files:
            encodings.check_whole(file, table.name)


def _count_rejected(session: Session, table: Table, n_rows: int, limit: float) -> RowCounts:
    """Counts the rejected rows of `table`; raises `TableError` if their share is above `limit` or no row is left."""
    reasons = session.run(f"""
        SELECT reason, count(*), any_value(row) FROM rejected WHERE "table" = {literal(table.name)}
         GROUP BY reason ORDER BY count(*) DESC, reason""")
    counts = {reason: int(count) for reason, count, _ in reasons}
    bad_lines = sum(count for reason, count in counts.items() if reason.startswith("the line is not valid CSV"))
    n_rows, n_bad = n_rows + bad_lines, sum(counts.values())
    if n_rows == 0:
        raise TableError(f"The {table.name} table has no rows: {table.source}.", "Give a table with rows.")
    if n_bad:
        log.warning("%s: %d of %d rows rejected: %s", table.name, n_bad, n_rows, counts)
    if n_bad / n_rows > limit or n_bad == n_rows:
        lines = "".join(f"\n  {count} × {reason}, for example {row}" for reason, count, row in reasons)
        hints = _hints(session, table, counts)
        raise TableError(
            f"{n_bad} of {n_rows} rows of the {table.name} table ({table.source}) are bad, "
            f"more than the limit of {limit:.0%}:{lines}",
            f"{hints}Mend these rows, or raise max_rejected_share in [{table.name}] of shop.toml if they may be "
            "dropped.",
        )
    return RowCounts(n_rows, counts)


def _hints(session: Session, table: Table, counts: dict[str, int]) -> str:
    """What to do about reasons that have a cure of their own, one to a line."""
    hints = []
    if UNKNOWN_ITEM in counts:
        hints.append(losses.explain_unknown_items(session, table))
    missing = [reason.removesuffix(" is missing") for reason in counts if reason in _MISSING_FLAGS]
    if missing:
        hints.append(f"If an empty {' or '.join(missing)} means no: empty_means_no = true in [events] of shop.toml.")
    return "".join(f"{hint}\n" for hint in hints)
