"""The files of the two tables that a shop brings: where they are, which column is which, and how they are opened.

DuckDB reads Parquet, CSV and JSON Lines from a file, a folder, a glob or a URL; `mmse.sources.readers` has further
kinds of sources. `mmse.schema.columns` has the columns of the tables.
"""

from __future__ import annotations

import codecs
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from mmse.core.artifact import fingerprint_of_files
from mmse.core.errors import TableError, UsageError
from mmse.schema.columns import EVENT_COLUMNS, ITEM_COLUMNS
from mmse.sources import encodings
from mmse.sources.config import EventsConfig as EventsConfig
from mmse.sources.config import ItemsConfig as ItemsConfig
from mmse.sources.damage import name_file, unreadable
from mmse.sources.file_contents import DAMAGED, check_content
from mmse.sources.file_locations import hint_no_log, locate
from mmse.sources.file_readers import FILE_READERS, common_format, format_of, is_url
from mmse.sources.mapping import (
    MappedValue,
    ShopColumn,
    extract_once,
    find_rare_member,
    find_value,
    member,
    occurs,
    path_of,
)
from mmse.sources.missing_columns import missing_column
from mmse.sources.readers import READERS
from mmse.sources.relation import Relation, SourceFiles
from mmse.sources.sql import identifier as identifier
from mmse.sources.sql import literal as literal
from mmse.sources.text_copies import CopiesFolder
from mmse.sources.times import NO_FORM, TimeForm, find_order

log = logging.getLogger(__name__)

FileFinder = Callable[[str, Path, str], list[str]]
"""Gives the files of a source, which may be relative to a folder, of the table of that name."""
ACTIONS = ("clicked", "carted", "ordered")
"""The flags of what a shopper did with an item."""


@dataclass(frozen=True)
class Table:
    """A table, or one source of it, whose files exist and have the columns that are required.

    `source` names it in messages, `key` in SQL. `scan` is SQL for its rows, and `files_scan` the part of it that reads
    the files. `shop_columns` has the shop's column for each of ours that the shop has, `rare_columns` for those that no
    row has which was looked at in large files of JSON. `document` is the column of `scan` that holds a whole row as
    JSON, if there is one;
    `bad_lines` names the table of the lines of CSV that are no rows. `n_rows` is known for Parquet, otherwise `None`.
    `copies` keeps the files as UTF-8 as long as the table is used, where they have another encoding. The other fields
    are those of the config.
    """

    name: str
    source: str
    files: tuple[str, ...]
    format: str
    scan: str
    shop_columns: Mapping[str, ShopColumn]
    n_rows: int | None
    key: str
    document: str = ""
    bad_lines: str = ""
    copies: tuple[CopiesFolder | None, ...] = ()
    encoding: str | None = None
    max_rejected_share: float = 0.05
    empty_means_no: bool = False
    time_form: TimeForm = NO_FORM
    first_position: int = 1
    rare_columns: Mapping[str, ShopColumn] = field(default_factory=dict)
    files_scan: str = ""

    @property
    def columns(self) -> dict[str, str]:
        """The shop's name of each column that it has, by ours."""
        return {name: column.label for name, column in self.shop_columns.items()}

    @property
    def types(self) -> dict[str, str]:
        """DuckDB's type of the shop's values, by our column."""
        return {name: column.type for name, column in self.shop_columns.items()}

    def column(self, name: str) -> str:
        """SQL for the shop's value of our column `name`, as it is in the file; CSV and JSON hold text."""
        return self.shop_columns[name].sql

    @property
    def shows(self) -> bool:
        """Whether rows say where an item stood; one that does not tells of a click, a cart or an order alone."""
        return "position" in self.shop_columns

    @property
    def is_attributed(self) -> bool:
        """Whether its rows are joined to the requests that showed their items, as they name none."""
        return not self.shows and "request_id" not in self.shop_columns

    def fingerprint(self) -> str:
        """Changes when a file changes: its path, size or time of change; of a URL, only its text counts."""
        if is_url(self.files[0]):
            return hashlib.blake2b("\n".join(self.files).encode(), digest_size=16).hexdigest()
        return fingerprint_of_files([Path(file) for file in self.files])

    def n_bytes(self) -> int | None:
        """The size of all files, `None` for URLs."""
        return None if is_url(self.files[0]) else sum(Path(file).stat().st_size for file in self.files)


def open_items(connection: duckdb.DuckDBPyConnection, config: ItemsConfig, base: Path) -> Table:
    """The items table of `config`; raises `TableError` where a required or declared column is missing."""
    source = _open_source(connection, config, base, "items", "items")
    names = [name for name in (*ITEM_COLUMNS.names, *config.extra) if name not in config.ignore]
    required = {*ITEM_COLUMNS.required_names, *config.extra}
    return source.as_table(connection, names, required, config.columns)


def open_events(
    connection: duckdb.DuckDBPyConnection, config: EventsConfig, base: Path, find_files: FileFinder = locate
) -> Table:
    """The events table of `config`, which has one source; raises `TableError` where a required column is missing."""
    if config.sources:
        raise UsageError("The events have several sources here.", "Give one table: a file with all of its columns.")
    source = _open_source(connection, config, base, "events", "events", find_files)
    return source.as_table(connection, EVENT_COLUMNS.names, {*EVENT_COLUMNS.required_names}, config.columns)


def open_event_sources(
    connection: duckdb.DuckDBPyConnection, config: EventsConfig, base: Path, find_files: FileFinder = locate
) -> tuple[Table, ...]:
    """The events table, source by source: first those that show items, last those that are joined to them.

    `find_files` gives the files of a source.
    Raises `TableError` where a source lacks what its rows need, or where no source shows items.
    """
    if not config.sources:
        return (open_events(connection, config, base, find_files),)
    tables = [_open_part(connection, config, base, number, find_files) for number in range(len(config.sources))]
    if not any(table.shows for table in tables):
        raise TableError(
            f"No source of the events table shows items: {', '.join(table.source for table in tables)}.",
            "Map position in the source of what was shown; where nobody knows it, position = 1 (docs/tables.md).",
        )
    return tuple(sorted(tables, key=lambda table: (table.is_attributed, not table.shows)))


def fingerprint(tables: Sequence[Table]) -> str:
    """Changes when a file of one of `tables` changes."""
    if len(tables) == 1:
        return tables[0].fingerprint()
    return hashlib.blake2b("\n".join(table.fingerprint() for table in tables).encode(), digest_size=16).hexdigest()


def unreadable_source(table: Table, error: Exception) -> TableError:
    """The `TableError` for a table whose rows DuckDB could not read to the end, with the file where that is."""

    def read_all(connection: duckdb.DuckDBPyConnection, file: str) -> None:
        relation = FILE_READERS[table.format](connection, SourceFiles([file], table.name, table.key))
        connection.execute(f"SELECT bit_xor(hash(shop_row)) FROM {relation.scan} AS shop_row")

    is_named = table.format not in ("parquet", "json") or isinstance(error, duckdb.OutOfMemoryException)
    return (
        unreadable(table.name, table.files, error) if is_named else name_file(table.name, table.files, error, read_all)
    )


@dataclass(frozen=True)
class _OpenSource:
    """The rows of a source, before its columns are looked up; `table` has all but these."""

    table: Table
    relation: Relation

    def as_table(
        self,
        connection: duckdb.DuckDBPyConnection,
        names: Iterable[str],
        required: set[str],
        columns: Mapping[str, MappedValue],
        usual: Mapping[str, MappedValue] | None = None,
    ) -> Table:
        """The table with those of our columns `names` that the shop has.

        It must have the `required` ones and all that `columns` maps; it may have what `usual` maps.
        """
        if not self.relation.types:
            raise TableError(
                f"{self.table.files[0]} of the {self.table.name} table has no rows.",
                f"Give a table with rows.{hint_no_log(self.table.name)}",
            )
        found, rare = dict[str, ShopColumn](), dict[str, ShopColumn]()
        is_sample = self.relation.has_sample_of_columns
        for name in dict.fromkeys((*(name for name in names if name in required), *names)):
            value = columns.get(name, (usual or {}).get(name, name))
            column = find_value(connection, self.relation, value)
            if column is None and name not in columns and value != name:
                value, column = name, find_value(connection, self.relation, name)
            if column is None and is_sample and (name in required or name in columns):
                column = find_rare_member(connection, self.relation, path_of(value) or name)
            if column is not None:
                found[name] = column
                _warn_of_words(connection, self, name, value, column)
            elif name in required or name in columns:
                raise missing_column(
                    self.table.name,
                    self.table.files[0],
                    self.table.format,
                    name,
                    path_of(value) or name,
                    list(self.relation.types),
                )
            elif is_sample:
                rare[name] = member(self.relation, name, [name])
        scan, shop_columns = extract_once(self.table.scan, self.table.document, found)
        table = replace(self.table, scan=scan, shop_columns=shop_columns, rare_columns=rare)
        time, form = shop_columns.get("timestamp"), table.time_form
        if time is None or time.type != "VARCHAR" or form.pattern:
            return table
        try:
            order = find_order(connection, time.sql, scan, table.source)
        except duckdb.Error as error:
            raise unreadable_source(table, error) from error
        return replace(table, time_form=replace(form, order=order))


def _open_source(
    connection: duckdb.DuckDBPyConnection,
    config: ItemsConfig | EventsConfig,
    base: Path,
    name: str,
    key: str,
    find_files: FileFinder = locate,
) -> _OpenSource:
    files = find_files(config.source, base, name)
    file_format = config.format or common_format(files, name)
    copies = _copy_texts(files, file_format, config.encoding, name)
    read_files = files if copies is None else sorted(str(path) for path in copies.path.glob("*/*"))

    def open_file(connection: duckdb.DuckDBPyConnection, file: str) -> None:
        READERS[file_format](connection, SourceFiles([file], name, key, config.csv))

    try:
        relation = READERS[file_format](connection, SourceFiles(read_files, name, key, config.csv))
        files_scan = relation.scan
        relation = _keep_rows(connection, relation, config, name)
    except (duckdb.Error, *DAMAGED) as error:
        raise name_file(name, read_files, error, open_file) from error
    table = Table(
        name,
        config.source,
        tuple(files),
        file_format,
        relation.scan,
        {},
        relation.n_rows,
        key,
        relation.document,
        relation.bad_lines,
        (copies, relation.copies),
        config.encoding,
        config.max_rejected_share,
        isinstance(config, EventsConfig) and config.empty_means_no,
        TimeForm((isinstance(config, EventsConfig) and config.time_format) or ""),
        config.first_position if isinstance(config, EventsConfig) else 1,
        files_scan=files_scan,
    )
    return _OpenSource(table, relation)


def _open_part(
    connection: duckdb.DuckDBPyConnection, config: EventsConfig, base: Path, number: int, find_files: FileFinder
) -> Table:
    """One of several sources. What it needs depends on what its rows tell: what was shown, or what was taken."""
    part = config.sources[number]
    source = _open_source(connection, config.of_source(part), base, "events", f"events_{number}", find_files)
    table = source.as_table(connection, EVENT_COLUMNS.names, {"item_id"}, part.columns, config.columns)
    same = [i for i, other in enumerate(config.sources) if other.source == part.source]
    if len(same) > 1:
        table = replace(table, source=f"{table.source}, number {same.index(number) + 1}")
    _check_part(table)
    return table


def _check_part(table: Table) -> None:
    """Raises `TableError` where the rows of a source lack what joins them to a request."""
    has = table.shop_columns
    shopper = [name for name in ("user_id", "session_id") if name in has]
    if not table.shows and not any(name in has for name in ACTIONS):
        problem = "neither shows items (position) nor tells of clicks, carts or orders"
        cure = 'Map position, or say what each row is: clicked = true; or {column = "…", is = "…"}.'
    elif table.shows and not {"timestamp", "query"} <= has.keys():
        problem = f"shows items and has no {' and no '.join(n for n in ('timestamp', 'query') if n not in has)}"
        cure = "Map it, or leave position out of a source that does not show items."
    elif "request_id" not in has and (not shopper or "timestamp" not in has):
        problem = "has no request_id, and without one its rows need timestamp and user_id or session_id to be joined by"
        cure = "Map request_id; or map timestamp and user_id or session_id."
    else:
        return
    names = ", ".join(f"{ours} = {shop}" for ours, shop in table.columns.items())
    raise TableError(f"{table.source} of the events table {problem}; it has: {names}.", cure)


def _keep_rows(
    connection: duckdb.DuckDBPyConnection, relation: Relation, config: ItemsConfig | EventsConfig, table: str
) -> Relation:
    """The rows that `only` of the config names; raises `TableError` where there are none."""
    if not isinstance(config, EventsConfig) or config.only is None:
        return relation
    condition = find_value(connection, relation, config.only)
    if condition is None:
        raise TableError(
            f"{config.source} of the {table} table has no column '{path_of(config.only)}', which only names; it has: "
            f"{', '.join(relation.types)}.",
            f"Correct only in [{table}] of shop.toml.",
        )
    if not occurs(connection, relation, condition.sql):
        raise TableError(
            f"No row of {config.source} of the {table} table has {condition.label}; found: "
            f"{_list_values(connection, relation, config.only)}.",
            f"Correct only in [{table}] of shop.toml.",
        )
    return replace(relation, scan=f"(SELECT * FROM {relation.scan} WHERE {condition.sql})", n_rows=None)


def _warn_of_words(
    connection: duckdb.DuckDBPyConnection, source: _OpenSource, name: str, value: MappedValue, column: ShopColumn
) -> None:
    """Warns of a comparison that no row meets, with the values that there are."""
    if not isinstance(value, dict) or occurs(connection, source.relation, column.sql):
        return
    log.warning(
        "No row of %s has %s, so that %s is always false; found: %s",
        source.table.source,
        column.label,
        name,
        _list_values(connection, source.relation, value),
    )


def _list_values(connection: duckdb.DuckDBPyConnection, relation: Relation, value: MappedValue) -> str:
    """Some values of the column that `value` compares."""
    column = find_value(connection, relation, path_of(value) or "")
    assert column is not None
    rows = connection.execute(f"SELECT DISTINCT CAST({column.sql} AS VARCHAR) FROM {relation.scan} LIMIT 10").fetchall()
    return ", ".join(sorted(str(text) for (text,) in rows))


def _copy_texts(files: list[str], format_: str, encoding: str | None, table: str) -> CopiesFolder | None:
    """A folder with the text files as UTF-8 if another `encoding` is declared; else they are checked to be UTF-8."""
    kinds = {file: format_ if format_ in FILE_READERS else format_of(file) for file in files if not is_url(file)}
    texts = [file for file, kind in kinds.items() if kind != "parquet"]
    for file in texts:
        if kinds[file] in ("csv", "json"):
            check_content(file, str(kinds[file]), table)
        if encoding is None:
            encodings.check_head(file, table)
    if not texts or encoding is None or codecs.lookup(encoding).name == "utf-8":
        return None
    folder = CopiesFolder()
    for number, file in enumerate(texts):
        encodings.copy_as_utf8(file, encoding, table, folder.path_of(file, number))
    return folder
