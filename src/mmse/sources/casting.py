"""Checked rows: both tables cast to our types, with each bad row kept aside with a reason.

Items become the table `items`, numbered from 0. Events are written to one folder per shard, which a hash of the request
decides, so that each later step needs to hold only one shard of whole requests in memory.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from mmse.core.errors import TableError
from mmse.schema.columns import EVENT_COLUMNS, ITEM_COLUMNS, Reader
from mmse.schema.value_forms import ValueForms
from mmse.sources import losses, values
from mmse.sources.attribution import NO_PAGE, attribute, page_columns
from mmse.sources.bad_lines import NOT_CSV, reject_bad_lines
from mmse.sources.column_rules import SPREADSHEET_LOSS, SQL_TYPES, event_rule, item_rule
from mmse.sources.duckdb_session import Session
from mmse.sources.file_locations import files_in, hint_no_log
from mmse.sources.item_forms import read_forms, read_lists, set_values
from mmse.sources.item_values import clean_texts, count_emptied, is_optional, optional_value
from mmse.sources.losses import UNKNOWN_ITEM, KindCount
from mmse.sources.sql import identifier, literal, literals
from mmse.sources.tables import ACTIONS, ItemsConfig, Table
from mmse.sources.value_lists import shown_text
from mmse.sources.values import CastRule
from mmse.sources.variants import COPY, VariantCounts, find_variants, merge_texts, merge_values, warn_of_groups

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
NO_ACTION = "it tells of no click, cart or order"
"""The reason of a row that neither shows an item nor tells of what a shopper did with it."""
HEADER_AGAIN = "the line names the columns once more"
"""The reason of a header within a CSV file, as of files that were put together."""
RARE_COLUMN = " is a column that few rows have"
"""The reason of a row with a column that no row has which was looked at before."""
NOT_OBJECT = ("raw_line IS NULL OR json_type(raw_line) <> 'OBJECT'", "the line is not a JSON object")
"""The check of a line of a JSON table; `raw_line` is the line."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowCounts:
    """How many rows of a table were read, and how many were rejected for each reason.

    `emptied` counts the bad values of optional columns by reason, `marked_up` the texts with HTML by column,
    `kinds` the events of each kind, and `sources` the rows of each source, where there are several. `forms` says how
    the items' texts are to be read, `variants` counts the items' rows that became part of an earlier one.
    """

    rows: int
    rejections: dict[str, int]
    emptied: dict[str, int] = field(default_factory=dict)
    marked_up: dict[str, int] = field(default_factory=dict)
    kinds: tuple[KindCount, ...] = ()
    sources: dict[str, RowCounts] = field(default_factory=dict)
    forms: ValueForms = field(default_factory=ValueForms)
    variants: VariantCounts = field(default_factory=VariantCounts)


def read_items(
    session: Session, table: Table, config: ItemsConfig, *, max_rejected_share: float | None = None
) -> RowCounts:
    """Makes the tables `items` and `rejected`; `max_rejected_share` of the rows counts in place of that of `config`.

    Items are in the order of the file. Variants of a product that share its `item_id` become one item; of other rows
    with the same `item_id` the first good one stays. A bad value of an optional column is no value, and is counted.
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
    read_lists(session, table, config)
    n_marked = clean_texts(session, table, config)
    forms = read_forms(session, table, config)
    row = {name: shown_text(name) if name in config.several_names else identifier(name) for name in table.columns}
    variants = find_variants(session, [*table.columns, *("raw_" + name for name in optional)], values.raw_row(row))
    merge_texts(session, [name for name in config.several_names if name in table.columns], variants)
    session.run(f"""CREATE TABLE rejected AS
        SELECT 'items' AS "table", {literal(table.source)} AS source, reason, row FROM items_read
         WHERE reason IS NOT NULL ORDER BY line""")
    (n_rows,) = session.run("SELECT count(*) FROM items_read")[0]
    reject_bad_lines(session, table)
    row_limit = config.max_rejected_share if max_rejected_share is None else max_rejected_share
    counts = _count_rejected(session, table, n_rows, row_limit)
    our_values = {name: identifier(name) for name in table.columns}
    emptied: dict[str, int] = {}
    for name in optional:
        our_values[name] = optional_value(session, table, config, name)
        emptied |= count_emptied(session, table, config, name, our_values[name])
    merged_values, rows = merge_values({name: our_values[name] for name in optional}, variants)
    our_values |= merged_values | set_values(session, table, config)
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
          FROM {rows} ORDER BY line""")
    warn_of_groups(session)
    session.run("SET preserve_insertion_order = false")
    session.run("DROP TABLE items_read; DROP TABLE variants")
    return replace(counts, emptied=emptied, marked_up=n_marked, forms=forms, variants=variants)


@dataclass(frozen=True)
class EventsForm:
    """How the rows of the events are written: into how many shards, with which columns that join sources.

    What names no request belongs to a request that is at most `attribution_hours` older. Rows before `first_day`,
    such as 2026-11-29, are not read.
    """

    shards: int
    page_keys: Sequence[str]
    attribution_hours: float
    first_day: str | None = None


@runtime_checkable
class EventWriter(Protocol):
    """Writes the checked rows of one source to `target/shard=S/KEY_*.parquet`, KEY being that of the table."""

    def __call__(self, session: Session, table: Table, form: EventsForm, target: Path) -> None:
        """Rejected rows go to shard -1; `select_events` has the columns."""
        ...


def write_events(session: Session, table: Table, form: EventsForm, target: Path) -> None:
    """Has DuckDB write the rows; those that name no request are joined to the ones that are written already."""
    pages = ""
    if table.is_attributed:
        written = f"read_parquet({files_in(target, 'shard=[0-9]*/*.parquet')}, hive_partitioning = false)"
        pages = attribute(table, f"(SELECT * FROM {written} WHERE flags & {SHOWN} > 0)", form.attribution_hours)
    session.run(
        f"COPY ({select_events(table, form, pages)}) TO {literal(str(target))} (FORMAT parquet, PARTITION_BY (shard), "
        f"COMPRESSION lz4_raw, OVERWRITE_OR_IGNORE, FILENAME_PATTERN '{table.key}_{{i}}')",
        reading=table,
    )


def read_events(
    session: Session,
    tables: Sequence[Table],
    shards: int,
    target: Path,
    *,
    attribution_hours: float = 24.0,
    first_day: str | None = None,
    write: EventWriter = write_events,
) -> RowCounts:
    """Writes the good rows to `target/shard=S/`, adds the bad ones to `rejected`; `select_events` has the columns.

    `tables` are the sources of the rows. Those that name no request come after those that show items, and are joined
    to them.
    """
    form = EventsForm(shards, page_columns(tables), attribution_hours, first_day)
    counts = {}
    for table in tables:
        write(session, table, form, target)
        counts[table.source] = _count_events(session, table, target)
    n_rows, kinds = _count_kinds(session, target)
    losses.check_kinds(tables, kinds, min(table.max_rejected_share for table in tables))
    if kinds[-1].rows == kinds[-1].rejected:
        sources = ", ".join(table.source for table in tables)
        raise TableError(f"No row of the events table ({sources}) was shown.", "Log the rows that were shown.")
    if len(counts) == 1:
        return replace(*counts.values(), kinds=tuple(kinds))
    rejections = Counter[str]()
    for source in counts.values():
        rejections.update(source.rejections)
    n_rows = sum(source.rows for source in counts.values())
    return RowCounts(n_rows, dict(rejections), kinds=tuple(kinds), sources=counts)


def _count_events(session: Session, table: Table, target: Path) -> RowCounts:
    """Counts the rows of one source, and adds its bad ones to `rejected`."""
    if list(target.glob(f"{_REJECTED_FOLDER}/{table.key}_*.parquet")):
        session.run(
            f"INSERT INTO rejected SELECT 'events', {literal(table.source)}, reason, row "
            f"FROM {_read_source_files(target, '-1', table)}"
        )
    reject_bad_lines(session, table)
    n_rows = 0
    if list(target.glob(f"shard=*/{table.key}_*.parquet")):
        ((n_rows,),) = session.run(f"SELECT count(*) FROM {_read_source_files(target, '*', table)}")
    return _count_rejected(session, table, n_rows, table.max_rejected_share)


def _read_source_files(target: Path, shard: str, table: Table) -> str:
    """SQL for what was written of one source."""
    return f"read_parquet({files_in(target, f'shard={shard}/{table.key}_*.parquet')}, hive_partitioning = false)"


def _count_kinds(session: Session, target: Path) -> tuple[int, list[KindCount]]:
    """The number of rows, and how many tell of each of `_KINDS`, good and rejected."""
    per_kind = ", ".join(f"coalesce(count_if(flags & {bit} > 0), 0)" for bit in _KINDS.values())
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


def select_events(table: Table, form: EventsForm, pages: str = "") -> str:
    """SQL for the rows `request_id, timestamp, query, user_id, item_row, position, flags, reason, row, shard`.

    Shard -1 holds the rejected rows; the columns by which sources are joined come before it. With `pages`, a join that
    finds the request of each row, rows have no request of their own.
    """
    page_keys = form.page_keys
    names = [name for name in table.columns if Reader.MINING in EVENT_COLUMNS[name].readers or name in page_keys]
    not_shown = "coalesce(retrieved_only, false)" if "retrieved_only" in names else "false"
    rules = [
        event_rule(table, name, not_shown if "retrieved_only" in names else "", empty_means_no=table.empty_means_no)
        for name in names
    ]
    flags = " + ".join(f"CASE WHEN {name} THEN {bit} ELSE 0 END" for name, bit in _BITS.items() if name in names) or "0"
    further_columns = "".join(f", {name}" for name in page_keys if name != "user_id")
    absent = _absent_columns(table, page_keys)
    return f"""
        SELECT request_id, timestamp, query, user_id, item_row,
               CASE WHEN {not_shown} THEN {NO_POSITION} ELSE coalesce(position, {NO_POSITION}) END AS position,
               CAST(CASE WHEN {not_shown} THEN 0 WHEN position IS NULL THEN {flags} ELSE {SHOWN} + {flags} END
                   AS TINYINT) AS flags, reason, row{further_columns},
               CAST(CASE WHEN reason IS NOT NULL THEN -1 ELSE hash(request_id) % {form.shards} END AS SMALLINT) AS shard
          FROM ({_cast(_begin_at(table, form.first_day), rules, joins_items=True, pages=pages, absent=absent)})
         {_is_since("timestamp", form.first_day)}"""


def _begin_at(table: Table, first_day: str | None) -> Table:
    """The table without the rows before `first_day`, where its files have times that tell what to skip."""
    if first_day is None or table.types["timestamp"] not in ("TIMESTAMP", "TIMESTAMP_NS"):
        return table
    return replace(table, scan=f"(SELECT * FROM {table.scan} {_is_since(table.column('timestamp'), first_day)})")


def _is_since(time: str, first_day: str | None) -> str:
    """SQL for the condition on rows that are read; a row without a time is, so that it is rejected."""
    return f"WHERE ({time} >= TIMESTAMP {literal(first_day)} OR {time} IS NULL)" if first_day else ""


def _absent_columns(table: Table, page_keys: Sequence[str]) -> str:
    """SQL for the columns that every source has in mining and this one lacks: empty, or made from others."""
    types = {"request_id": "VARCHAR", "timestamp": "TIMESTAMP", "query": "VARCHAR", "user_id": "VARCHAR"}
    types |= {"position": "INTEGER"} | dict.fromkeys(page_keys, "VARCHAR")
    columns = {name: f"CAST(NULL AS {type_})" for name, type_ in types.items() if name not in table.columns}
    if "request_id" in columns and table.shows:  # the same shopper, visit, query and time, as in derived_events
        by = [name for name in ("user_id", "session_id") if name in table.columns]
        parts = [f"coalesce({name}, '')" for name in by]
        columns["request_id"] = f"md5(concat_ws(chr(31), {', '.join(parts)}, query, CAST(timestamp AS VARCHAR)))"
    return "".join(f", {sql} AS {name}" for name, sql in columns.items())


def _cast(
    table: Table, table_rules: list[CastRule], *, joins_items: bool = False, pages: str = "", absent: str = ""
) -> str:
    """SQL for the table's rows with our columns, a `reason` (NULL for a good row) and the bad `row` as JSON."""
    raw_values = ", ".join(f"{rule.raw} AS {identifier('raw_' + rule.name)}" for rule in table_rules)
    raw_names = ", ".join(identifier("raw_" + rule.name) for rule in table_rules)
    our_values = ", ".join(f"{rule.value} AS {identifier(rule.name)}" for rule in table_rules)
    further = contradictions({rule.name for rule in table_rules})
    if table.name == "items" and table.bad_lines:
        is_header = (f"{identifier('raw_' + name)} = {literal(table.columns[name])}" for name in ("item_id", "title"))
        further = (*further, (" AND ".join(is_header), HEADER_AGAIN))
    if table.rare_columns:
        paths = literals(column.path for column in table.rare_columns.values())
        raw_values += f", json_extract_string({identifier(table.document)}, [{paths}]) AS rare_members"
        raw_names += ", rare_members"
        is_there = (f"rare_members[{number}] IS NOT NULL" for number in range(1, len(table.rare_columns) + 1))
        further = (*further, *zip(is_there, (name + RARE_COLUMN for name in table.rare_columns), strict=True))
    row = values.raw_row({table.columns[rule.name]: identifier("raw_" + rule.name) for rule in table_rules})
    if table.document:
        raw_values, raw_names = f"{raw_values}, {identifier(table.document)} AS raw_line", f"{raw_names}, raw_line"
        row = "raw_line"
    cast_rows = f"SELECT {raw_names}, {our_values}{absent} FROM (SELECT {raw_values} FROM {table.scan})"
    if joins_items:
        further = (*further, ("item_row IS NULL", UNKNOWN_ITEM), *_action_checks(table))
        cast_rows = f"""
            SELECT cast_rows.*, items.item_row FROM ({cast_rows}) AS cast_rows
              LEFT JOIN items ON items.item_id = cast_rows.item_id"""
    if pages:
        further = (*further, ("request_id IS NULL", NO_PAGE))
        cast_rows = pages.format(rows=cast_rows)
    reason = values.reason(table_rules, further)
    if table.document:
        reason = f"coalesce({values.reason([], (NOT_OBJECT,))}, {reason})"
    return f"""
        SELECT *, CASE WHEN reason IS NOT NULL THEN CAST({row} AS VARCHAR) END AS row
          FROM (SELECT *, {reason} AS reason FROM ({cast_rows}))"""


def _action_checks(table: Table) -> tuple[tuple[str, str], ...]:
    """A row of a source that shows nothing tells of what a shopper did."""
    if table.shows:
        return ()
    actions = " OR ".join(f"coalesce({name}, false)" for name in ACTIONS if name in table.columns)
    return ((f"NOT ({actions})", NO_ACTION),)


def contradictions(columns: set[str]) -> tuple[tuple[str, str], ...]:
    """Checks over two columns of a row: an item that was not shown cannot have been clicked, carted or ordered."""
    if "retrieved_only" not in columns:
        return ()
    any_action = " OR ".join(name for name in ACTIONS if name in columns)
    return ((f"retrieved_only AND ({any_action})", "retrieved_only, and yet clicked, carted or ordered"),)


def _count_rejected(session: Session, table: Table, n_rows: int, limit: float) -> RowCounts:
    """Counts the rejected rows of `table`; raises `TableError` if their share is above `limit` or no row is left."""
    reasons = session.run(f"""
        SELECT reason, count(*), any_value(row) FROM rejected
         WHERE "table" = {literal(table.name)} AND source = {literal(table.source)}
         GROUP BY reason ORDER BY count(*) DESC, reason""")
    counts = {reason: int(count) for reason, count, _ in reasons}
    bad_lines = sum(count for reason, count in counts.items() if reason.startswith(NOT_CSV))
    n_rows, n_bad = n_rows + bad_lines, sum(counts.values())
    if n_rows == 0:
        raise TableError(
            f"The {table.name} table has no rows: {table.source}.", f"Give a table with rows.{hint_no_log(table.name)}"
        )
    if n_bad:
        log.warning("%s: %d of %d rows rejected: %s", table.name, n_bad, n_rows, counts)
    if n_bad - counts.get(COPY, 0) > limit * n_rows or n_bad == n_rows:
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
    if NO_ACTION in counts:
        hints.append('Name the rows that are to be read: only = {column = "…", is = ["…"]}.')
    if NO_PAGE in counts:
        hints.append(
            "Clicks and orders without a request_id belong to the last request that showed the item to the same "
            "shopper; attribution_hours in [events] says how long before."
        )
    hints += filter(None, map(hint_of, counts))
    return "".join(f"{hint}\n" for hint in dict.fromkeys(hints))


def hint_of(reason: str) -> str:
    """How shop.toml can say what the values mean that are bad for `reason`; "" where it cannot."""
    name, _, fault = reason.partition(" is ")
    if reason in _MISSING_FLAGS:
        return "If an empty value means no: empty_means_no = true in [events] of shop.toml."
    if fault == "not true or false":
        return f'If it counts or names actions, compare it: {name} = {{column = "…", above = 0}}, or {{…, is = "…"}}.'
    if fault == "not a time":
        return 'If the times have one form, say it: time_format = "%d/%m/%Y %H:%M" in [events] of shop.toml.'
    if reason.endswith(RARE_COLUMN):
        rare = reason.removesuffix(RARE_COLUMN)
        return f'To read it, name it: {rare} = "{rare}" in [events.columns] or [items.columns] of shop.toml.'
    if reason.endswith(SPREADSHEET_LOSS):
        return "A spreadsheet shows long numbers as 4.00638E+12 and saves what it shows: export that column as text."
    if reason == "position is below 1":
        return "If the log counts positions from 0: first_position = 0 in [events] of shop.toml."
    return ""
