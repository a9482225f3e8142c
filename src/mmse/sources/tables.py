"""The two tables a shop brings: where they lie, what their columns are called, and how they are opened.

Parquet, CSV and JSON Lines are read by DuckDB from a file, a folder, a glob or a URL. Names and values that
come from outside enter SQL only through `identifier` and `literal`.
"""

from __future__ import annotations

import csv
import difflib
import glob
import gzip
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from mmse.core.artifact import fingerprint_of_files
from mmse.core.config import require
from mmse.core.errors import TableError

ITEM_REQUIRED = ("item_id", "title")
ITEM_KNOWN = (*ITEM_REQUIRED, "category", "brand", "seller", "price", "available", "rating")
EVENT_REQUIRED = ("request_id", "timestamp", "query", "item_id", "position", "clicked", "ordered")
EVENT_KNOWN = (
    *EVENT_REQUIRED,
    "user_id",
    "carted",
    "retrieved_only",
    "explored",
    "session_id",
    "price",
    "propensity",
    "version",
    "arm",
    "assignments",
    "team",
    "rank_a",
    "rank_b",
)

FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json"}
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_MADE_BY_MINE = ("item_row", "first_seen")


@dataclass(frozen=True)
class ItemsConfig:
    """`[items]` of shop.toml.

    `source` is a file, folder, glob or URL, relative to shop.toml; `columns` maps our name to the shop's;
    `text`, `categorical` and `numeric` name further columns to keep; past `max_rejected_share` of bad rows
    the stage stops.
    """

    source: str = "items.parquet"
    columns: dict[str, str] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    max_rejected_share: float = 0.05

    def __post_init__(self) -> None:
        _check(self.source, self.max_rejected_share)
        for name in self.extra:
            require(name not in _MADE_BY_MINE, "columns", name, f"another name: mine makes {name} itself")
            require(
                not re.search(r'["\x00]', name) and bool(name), "columns", name, "a column name without quotation marks"
            )
        both = set(self.numeric) & {*self.text, *self.categorical}
        require(not both, "numeric", sorted(both), "columns that are not also text or categorical")
        _check_mapping(self.columns, (*ITEM_KNOWN, *self.extra), "name further columns in text, categorical or numeric")

    @property
    def extra(self) -> tuple[str, ...]:
        """The declared columns past the known ones, each once, in the order declared."""
        declared = dict.fromkeys((*self.text, *self.categorical, *self.numeric))
        return tuple(name for name in declared if name not in ITEM_KNOWN)


@dataclass(frozen=True)
class EventsConfig:
    """`[events]` of shop.toml: one row per item shown; the fields are those of `ItemsConfig`."""

    source: str = "events/*.parquet"
    columns: dict[str, str] = field(default_factory=dict)
    max_rejected_share: float = 0.05

    def __post_init__(self) -> None:
        _check(self.source, self.max_rejected_share)
        _check_mapping(self.columns, EVENT_KNOWN, "use a known name")


@dataclass(frozen=True)
class Table:
    """A table that was found and has its columns.

    `scan` is SQL that gives the rows, `columns` maps our name to the shop's for each column present, `types`
    our name to DuckDB's type; `format` is parquet, csv or json; `rows` is known ahead for Parquet alone.
    """

    name: str
    source: str
    files: tuple[str, ...]
    format: str
    scan: str
    columns: Mapping[str, str]
    types: Mapping[str, str]
    rows: int | None

    def column(self, name: str) -> str:
        """SQL for the shop's column behind our `name`, as the table holds it; CSV and JSON hold text."""
        if self.format == "json":
            return f"(json ->> {literal(_json_path(self.columns[name]))})"
        return identifier(self.columns[name])

    def fingerprint(self) -> str:
        """Changes when a file does (path, size, time of change); of a URL only its text is known."""
        if _is_url(self.files[0]):
            return hashlib.blake2b("\n".join(self.files).encode(), digest_size=16).hexdigest()
        return fingerprint_of_files([Path(file) for file in self.files])

    def bytes(self) -> int | None:
        """The size of all files, `None` for URLs."""
        return None if _is_url(self.files[0]) else sum(Path(file).stat().st_size for file in self.files)


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a quoted SQL string."""
    return "'" + text.replace("'", "''") + "'"


def files_in(folder: Path, pattern: str) -> str:
    """The files in `folder` that match the glob `pattern`, as a SQL string; the folder's own name is no pattern."""
    return literal(str(Path(glob.escape(str(folder))) / pattern))


def open_items(connection: duckdb.DuckDBPyConnection, config: ItemsConfig, base: Path) -> Table:
    """The items table of `config`, its required and declared columns checked; raises `TableError`."""
    required = (*ITEM_REQUIRED, *config.extra)
    return _open(connection, "items", config.source, config.columns, required, ITEM_KNOWN, base)


def open_events(connection: duckdb.DuckDBPyConnection, config: EventsConfig, base: Path) -> Table:
    """The events table of `config`, its required columns checked; raises `TableError`."""
    return _open(connection, "events", config.source, config.columns, EVENT_REQUIRED, EVENT_KNOWN, base)


def unreadable(table: str, files: Iterable[str], error: Exception) -> TableError:
    """The `TableError` for files that DuckDB opened and could not read to the end."""
    said = str(error).split("\n")[0].removesuffix(".")
    if "CSV Parser state machine" in said:
        said = "some lines end in CR LF and others in LF"
    named = next((file for file in files if Path(file).name in said), None)
    files = list(files)
    where = named or (files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more")
    return TableError(
        f"The {table} table cannot be read from {where}: {said}.",
        "Write that file again (it may be cut short or of another format) or take it out of the source.",
    )


def locate(source: str, base: Path, table: str) -> list[str]:
    """The files of `source`, sorted; raises `TableError` where there is none, or one is empty."""
    if _is_url(source):
        return [source]
    given = Path(source).expanduser()
    path = base / given
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and _format(p.name) and not _hidden(p.relative_to(path))]
    elif path.is_file():
        found = [path]
    else:
        root = Path(given.anchor) if given.is_absolute() else base  # a base with brackets in its name is no pattern
        found = [p for p in root.glob(str(given.relative_to(given.anchor))) if p.is_file()]
    if not found:
        raise TableError(
            f"No file for the {table} table: nothing matches {path}.",
            f"Set source in [{table}] of shop.toml to a Parquet, CSV or JSON Lines file, folder, glob or URL.",
        )
    for file in found:
        _check_file(file, table)
    return sorted(str(file) for file in found)


def _open(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: str,
    mapping: Mapping[str, str],
    required: tuple[str, ...],
    known: tuple[str, ...],
    base: Path,
) -> Table:
    files = locate(source, base, name)
    format_ = _one_format(files, name)
    scan = _scan(files, format_, name)
    try:
        found = _columns(connection, scan, format_)
        rows = _rows(connection, files, format_)
    except duckdb.Error as error:
        raise _first_bad(connection, files, format_, name, error) from error
    columns = {}
    for ours in dict.fromkeys((*required, *known)):
        theirs = mapping.get(ours, ours)
        if theirs in found:
            columns[ours] = theirs
        elif ours in required or ours in mapping:
            raise _missing(name, files, ours, theirs, list(found))
    types = {ours: found[theirs] for ours, theirs in columns.items()}
    return Table(name, source, tuple(files), format_, scan, columns, types, rows)


def _scan(files: list[str], format_: str, table: str) -> str:
    listed = "[" + ", ".join(literal(file) for file in files) + "]"
    if format_ == "parquet":
        return f"read_parquet({listed}, union_by_name = true, hive_partitioning = false)"
    if format_ == "json":
        return f"read_ndjson_objects({listed}, ignore_errors = true)"
    delimiter = "," if _is_url(files[0]) else _delimiter(files[0])
    return (
        f"read_csv({listed}, header = true, {_csv_columns(files, delimiter, table)}, delim = {literal(delimiter)}, "
        "quote = '\"', escape = '\"', comment = '', strict_mode = true, "
        "hive_partitioning = false, store_rejects = true, "
        f"rejects_table = '{table}_bad_lines', rejects_scan = '{table}_bad_scan')"
    )


def _csv_columns(files: list[str], delimiter: str, table: str) -> str:
    """Columns from the header, all text: DuckDB's own guess gives up on, or is misled by, a few bad lines."""
    if _is_url(files[0]):
        return "all_varchar = true"
    header = _header(files[0], delimiter)
    for file in files[1:]:
        if _header(file, delimiter) != header:
            raise TableError(
                f"{file} of the {table} table has another header line than {files[0]}.",
                "Write both with the same columns in the same order.",
            )
    named = ", ".join(f"{identifier(name)}: 'VARCHAR'" for name in header)
    return f"auto_detect = false, columns = {{{named}}}"


def _header(file: str, delimiter: str) -> list[str]:
    with _text(file) as text:
        names = next(csv.reader(text, delimiter=delimiter), [])
    if not names or len(set(names)) < len(names) or "" in names:
        raise TableError(
            f"The first line of {file} should name its columns, each once; found: {', '.join(names) or 'nothing'}.",
            "Write a header line with a name for each column.",
        )
    return names


def _columns(connection: duckdb.DuckDBPyConnection, scan: str, format_: str) -> dict[str, str]:
    if format_ == "json":
        sample = f"SELECT DISTINCT unnest(json_keys(json)) FROM (SELECT json FROM {scan} LIMIT 10000)"
        return {row[0]: "VARCHAR" for row in connection.execute(sample).fetchall()}
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()}


def _rows(connection: duckdb.DuckDBPyConnection, files: list[str], format_: str) -> int | None:
    if format_ != "parquet":
        return None
    listed = "[" + ", ".join(literal(file) for file in files) + "]"
    (rows,) = connection.execute(f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({listed})").fetchall()[0]
    return int(rows)


def _first_bad(
    connection: duckdb.DuckDBPyConnection, files: list[str], format_: str, table: str, error: duckdb.Error
) -> TableError:
    for file in files:
        try:
            _columns(connection, _scan([file], format_, table), format_)
            _rows(connection, [file], format_)
        except duckdb.Error as one:
            if "extension" in str(one):
                return TableError(
                    f"{file} needs a DuckDB extension that could not be installed: {str(one).splitlines()[0]}.",
                    "Give this machine network access once, or download the file and name the copy in shop.toml.",
                )
            return unreadable(table, [file], one)
    return unreadable(table, files, error)


def _missing(table: str, files: list[str], ours: str, theirs: str, found: list[str]) -> TableError:
    lowered = {name.lower(): name for name in found}
    close = difflib.get_close_matches(theirs.lower(), list(lowered), n=1, cutoff=0.5)
    nearest = f" The nearest is '{lowered[close[0]]}'." if close else ""
    example = lowered[close[0]] if close else "the shop's name"
    mapped = "" if ours == theirs else f" (mapped to {ours})"
    return TableError(
        f"{files[0]} has no column '{theirs}'{mapped}; it has: {', '.join(found) or 'none'}.{nearest}",
        f'Say which column it is in shop.toml: [{table}.columns] {ours} = "{example}".',
    )


def _one_format(files: list[str], table: str) -> str:
    formats = {_format(file): file for file in files}
    if None in formats or len(formats) != 1:
        odd = formats.get(None)
        found = f"{odd} is none of these" if odd else f"found {', '.join(sorted(str(f) for f in formats))} together"
        raise TableError(
            f"The {table} table should be Parquet, CSV or JSON Lines ({', '.join(FORMATS)}, or .gz of the last "
            f"four): {found}.",
            "Name files of one format in source.",
        )
    return str(next(iter(formats)))


def _format(name: str) -> str | None:
    path = urlsplit(name).path if _is_url(name) else name
    return FORMATS.get(Path(path.lower().removesuffix(".gz")).suffix)


def _delimiter(file: str) -> str:
    """The separator of the header line: the one of tab, comma, semicolon and bar that it holds most of."""
    if file.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    with _text(file) as text:
        header = re.sub(r'"[^"]*"', "", text.readline())
    return max(",;\t|", key=header.count)


def _text(file: str) -> io.TextIOWrapper:
    raw = gzip.GzipFile(file) if file.endswith(".gz") else Path(file).open("rb")  # noqa: SIM115 - the wrapper closes it
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")


def _check_file(file: Path, table: str) -> None:
    if file.stat().st_size == 0:
        raise TableError(
            f"{file} of the {table} table is empty (0 bytes).", "Write it again or take it out of the source."
        )
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise TableError(
            f"{file} of the {table} table cannot be opened: {error.strerror}.", "Make it readable."
        ) from error


def _check(source: str, max_rejected_share: float) -> None:
    require(bool(source.strip()), "source", source, "a file, a folder, a glob or a URL")
    require(0 <= max_rejected_share <= 1, "max_rejected_share", max_rejected_share, "a share between 0 and 1")


def _check_mapping(columns: Mapping[str, str], known: tuple[str, ...], cure: str) -> None:
    for name in columns:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" (nearest: {close[0]})" if close else ""
        require(name in known, "columns", name, f"one of {', '.join(known)}{hint}; or {cure}")


def _json_path(key: str) -> str:
    return '$."' + key.replace('"', '\\"') + '"'


def _is_url(source: str) -> bool:
    return bool(_URL.match(source))


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)
