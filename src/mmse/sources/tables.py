"""The files of the two tables that a shop brings: where they are, which column is which, and how they are opened.

DuckDB reads Parquet, CSV and JSON Lines from a file, a folder, a glob or a URL. Names and values from outside enter SQL
only through `identifier` and `literal`. `mmse.schema.columns` has the columns of the tables.
"""

from __future__ import annotations

import codecs
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
from mmse.schema.columns import EVENT_COLUMNS, ITEM_COLUMNS, MADE_BY_MINING, TableColumns
from mmse.sources import encodings

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class ItemsConfig:
    """`[items]` of shop.toml.

    `source` is a file, folder, glob or URL, relative to shop.toml; `columns` maps our name to the shop's;
    `text`, `categorical` and `numeric` name further columns to keep, `vectors` columns of lists of numbers, such as of
    pictures, `ignore` columns to leave out. `decimal_mark` is what stands before the decimals of a number, `None` to
    find it from the whole column. `encoding` is that of CSV and JSON files, `None` for UTF-8. Mining stops if a larger
    share of the rows than `max_rejected_share` is bad.
    """

    source: str = "items.parquet"
    columns: dict[str, str] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    decimal_mark: str | None = None
    encoding: str | None = None
    max_rejected_share: float = 0.05

    def __post_init__(self) -> None:
        _check(self.source, self.max_rejected_share)
        _check_encoding(self.encoding)
        require(self.decimal_mark in (None, ".", ","), "decimal_mark", self.decimal_mark, '"." or ","')
        for name in self.ignore:
            optional = [name for name in ITEM_COLUMNS.names if name not in ITEM_COLUMNS.required_names]
            require(name in optional, "ignore", name, f"one of {', '.join(optional)}")
        for name in self.extra:
            require(name not in MADE_BY_MINING, "columns", name, f"another name: mine makes {name} itself")
            require(
                not re.search(r'["\x00]', name) and bool(name), "columns", name, "a column name without quotation marks"
            )
        overlap = set(self.numeric) & {*self.text, *self.categorical}
        require(not overlap, "numeric", sorted(overlap), "columns that are not also text or categorical")
        self._check_vectors()
        names = (*ITEM_COLUMNS.names, *self.extra)
        _check_mapping(self.columns, names, "name further columns in text, categorical, numeric or vectors")

    def _check_vectors(self) -> None:
        expectation = "columns that are not also text, categorical, numeric or of the contract"
        overlap = set(self.vectors) & {*self.text, *self.categorical, *self.numeric, *ITEM_COLUMNS.names}
        require(not overlap, "vectors", sorted(overlap), expectation)
        for name in self.vectors:
            require("." not in name, "vectors", name, "a name without a dot; [items.columns] maps it to the shop's")

    @property
    def extra(self) -> tuple[str, ...]:
        """The declared columns that are not in the contract, each once, in the order of their declaration."""
        names = dict.fromkeys((*self.text, *self.categorical, *self.numeric, *self.vectors))
        return tuple(name for name in names if name not in ITEM_COLUMNS)


@dataclass(frozen=True)
class EventsConfig:
    """`[events]` of shop.toml: one row per item shown; the fields are those of `ItemsConfig`.

    With `empty_means_no`, a row that does not say whether its item was clicked or ordered says no.
    """

    source: str = "events/*.parquet"
    columns: dict[str, str] = field(default_factory=dict)
    empty_means_no: bool = False
    encoding: str | None = None
    max_rejected_share: float = 0.05

    def __post_init__(self) -> None:
        _check(self.source, self.max_rejected_share)
        _check_encoding(self.encoding)
        _check_mapping(self.columns, EVENT_COLUMNS.names, "use a known name")


@dataclass(frozen=True)
class Table:
    """A table whose files exist and have the columns that are required.

    `scan` is SQL for its rows. For each column that the shop has, `columns` maps our name to the shop's, and `types`
    maps our name to DuckDB's type. `format` is parquet, csv or json. `n_rows` is known for Parquet, otherwise `None`.
    `copies` keeps the files as UTF-8 as long as the table is used, where they have another encoding.
    """

    name: str
    source: str
    files: tuple[str, ...]
    format: str
    scan: str
    columns: Mapping[str, str]
    types: Mapping[str, str]
    n_rows: int | None
    copies: encodings.CopiesFolder | None = None

    def column(self, name: str) -> str:
        """SQL for the shop's column behind our `name`, as it is in the file; CSV and JSON hold text."""
        if self.format == "json":
            return f"(json ->> {literal(json_path(self.columns[name]))})"
        return identifier(self.columns[name])

    def fingerprint(self) -> str:
        """Changes when a file changes: its path, size or time of change; of a URL, only its text counts."""
        if _is_url(self.files[0]):
            return hashlib.blake2b("\n".join(self.files).encode(), digest_size=16).hexdigest()
        return fingerprint_of_files([Path(file) for file in self.files])

    def n_bytes(self) -> int | None:
        """The size of all files, `None` for URLs."""
        return None if _is_url(self.files[0]) else sum(Path(file).stat().st_size for file in self.files)


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a quoted SQL string."""
    return "'" + text.replace("'", "''") + "'"


def files_in(folder: Path, pattern: str) -> str:
    """The files in `folder` that match the glob `pattern`, as a SQL string; `folder` is taken literally."""
    return literal(str(Path(glob.escape(str(folder))) / pattern))


def open_items(connection: duckdb.DuckDBPyConnection, config: ItemsConfig, base: Path) -> Table:
    """The items table of `config`; raises `TableError` where a required or declared column is missing."""
    return _open(connection, "items", config, ITEM_COLUMNS, config.extra, base)


def open_events(connection: duckdb.DuckDBPyConnection, config: EventsConfig, base: Path) -> Table:
    """The events table of `config`; raises `TableError` where a required column is missing."""
    return _open(connection, "events", config, EVENT_COLUMNS, (), base)


def unreadable(table: str, files: Iterable[str], error: Exception) -> TableError:
    """The `TableError` for files that DuckDB opened and could not read to the end."""
    files, message = list(files), str(error).split("\n")[0].removesuffix(".")
    if "CSV Parser state machine" in message:
        message = "some lines end in CR LF and others in LF"
    bad_file = next((file for file in files if Path(file).name in message), None)
    source = bad_file or (files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more")
    return TableError(
        f"The {table} table cannot be read from {source}: {message}.",
        "Write that file again (it may be cut short or of another format) or take it out of the source.",
    )


def locate(source: str, base: Path, table: str) -> list[str]:
    """The files of `source`, sorted; raises `TableError` if there are none, or if one of them is empty."""
    if _is_url(source):
        return [source]
    pattern = Path(source).expanduser()
    path = base / pattern
    if path.is_dir():
        files = [p for p in path.rglob("*") if p.is_file() and _format(p.name) and not _is_hidden(p.relative_to(path))]
    elif path.is_file():
        files = [path]
    else:
        root = Path(pattern.anchor) if pattern.is_absolute() else base  # brackets in the base's own name match nothing
        files = [p for p in root.glob(str(pattern.relative_to(pattern.anchor))) if p.is_file()]
    if not files:
        raise TableError(
            f"No file for the {table} table: nothing matches {path}.",
            f"Set source in [{table}] of shop.toml to a Parquet, CSV or JSON Lines file, folder, glob or URL.",
        )
    for file in files:
        _check_file(file, table)
    return sorted(str(file) for file in files)


def _open(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    config: ItemsConfig | EventsConfig,
    contract: TableColumns,
    extra: tuple[str, ...],
    base: Path,
) -> Table:
    """The table `name`, which must have the required columns of `contract` and the `extra` ones of the shop."""
    files = locate(config.source, base, name)
    format_ = _one_format(files, name)
    copies = _copy_texts(files, format_, config.encoding, name)
    read_files = files if copies is None else sorted(str(path) for path in copies.path.glob("*/*"))
    scan = _scan(read_files, format_, name)
    try:
        shop_types = _shop_types(connection, scan, format_)
        n_rows = _count_rows(connection, read_files, format_)
    except duckdb.Error as error:
        raise _find_unreadable(connection, read_files, format_, name, error) from error
    required_columns = (*contract.required_names, *extra)
    columns = {}
    ignored = config.ignore if isinstance(config, ItemsConfig) else ()
    for column in dict.fromkeys((*required_columns, *contract.names)):
        if column in ignored:
            continue
        shop_column = config.columns.get(column, column)
        if shop_column in shop_types:
            columns[column] = shop_column
        elif column in required_columns or column in config.columns:
            raise _missing_column(name, files[0], column, shop_column, list(shop_types))
    types = {column: shop_types[shop_column] for column, shop_column in columns.items()}
    return Table(name, config.source, tuple(files), format_, scan, columns, types, n_rows, copies)


def _copy_texts(files: list[str], format_: str, encoding: str | None, table: str) -> encodings.CopiesFolder | None:
    """A folder with the text files as UTF-8 if another `encoding` is declared; else they are checked to be UTF-8."""
    if format_ == "parquet" or _is_url(files[0]):
        return None
    if encoding is None:
        for file in files:
            encodings.check_head(file, table)
    if encoding is None or codecs.lookup(encoding).name == "utf-8":
        return None
    folder = encodings.CopiesFolder()
    for number, file in enumerate(files):
        part = folder.path / f"{number:06d}"
        part.mkdir()
        encodings.copy_as_utf8(file, encoding, table, part / re.sub(r"(?i)\.gz$", "", Path(file).name))
    return folder


def _scan(files: list[str], format_: str, table: str) -> str:
    file_list = _file_list(files)
    if format_ == "parquet":
        return f"read_parquet({file_list}, union_by_name = true, hive_partitioning = false)"
    if format_ == "json":
        if _is_array(files[0]):
            return f"read_json_objects({file_list}, format = 'array')"
        return f"read_ndjson_objects({file_list}, ignore_errors = true)"
    delimiter = "," if _is_url(files[0]) else _delimiter(files[0])
    return (
        f"read_csv({file_list}, header = true, {_csv_columns(files, delimiter, table)}, delim = {literal(delimiter)}, "
        "quote = '\"', escape = '\"', comment = '', strict_mode = true, "
        "hive_partitioning = false, store_rejects = true, "
        f"rejects_table = '{table}_bad_lines', rejects_scan = '{table}_bad_scan')"
    )


def _file_list(files: list[str]) -> str:
    return "[" + ", ".join(literal(file) for file in files) + "]"


def _csv_columns(files: list[str], delimiter: str, table: str) -> str:
    """The columns of the header line, all as text: a few bad lines mislead DuckDB's own detection, or end it."""
    if _is_url(files[0]):
        return "all_varchar = true"
    header = _header(files[0], delimiter)
    for file in files[1:]:
        if _header(file, delimiter) != header:
            raise TableError(
                f"{file} of the {table} table has another header line than {files[0]}.",
                "Write both with the same columns in the same order.",
            )
    types = ", ".join(f"{identifier(name)}: 'VARCHAR'" for name in header)
    return f"auto_detect = false, columns = {{{types}}}"


def _header(file: str, delimiter: str) -> list[str]:
    with _text(file) as text:
        names = next(csv.reader(text, delimiter=delimiter), [])
    if not names or len(set(names)) < len(names) or "" in names:
        raise TableError(
            f"The first line of {file} should name its columns, each once; found: {', '.join(names) or 'nothing'}.",
            "Write a header line with a name for each column.",
        )
    return names


def _shop_types(connection: duckdb.DuckDBPyConnection, scan: str, format_: str) -> dict[str, str]:
    """DuckDB's type of each column of the files, by the shop's name."""
    if format_ == "json":
        keys = f"SELECT DISTINCT unnest(json_keys(json)) FROM {scan}"
        return {row[0]: "VARCHAR" for row in connection.execute(keys).fetchall()}
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()}


def _is_array(file: str) -> bool:
    """Whether a JSON file is one array of objects, and not an object a line."""
    if _is_url(file):
        return False
    return encodings.read_head(file).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _count_rows(connection: duckdb.DuckDBPyConnection, files: list[str], format_: str) -> int | None:
    if format_ != "parquet":
        return None
    count = f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({_file_list(files)})"
    (rows,) = connection.execute(count).fetchall()[0]
    return int(rows)


def _find_unreadable(
    connection: duckdb.DuckDBPyConnection, files: list[str], format_: str, table: str, error: duckdb.Error
) -> TableError:
    """The `TableError` for the first file that DuckDB cannot open; `error` is what it said of all of them."""
    for file in files:
        try:
            _shop_types(connection, _scan([file], format_, table), format_)
            _count_rows(connection, [file], format_)
        except duckdb.Error as file_error:
            if "extension" in str(file_error):
                return TableError(
                    f"{file} needs a DuckDB extension that could not be installed: {str(file_error).splitlines()[0]}.",
                    "Give this machine network access once, or download the file and name the copy in shop.toml.",
                )
            return unreadable(table, [file], file_error)
    return unreadable(table, files, error)


def _missing_column(table: str, file: str, column: str, shop_column: str, shop_columns: list[str]) -> TableError:
    by_lower_case = {name.lower(): name for name in shop_columns}
    close = difflib.get_close_matches(shop_column.lower(), list(by_lower_case), n=1, cutoff=0.5)
    nearest = f" The nearest is '{by_lower_case[close[0]]}'." if close else ""
    example = by_lower_case[close[0]] if close else "the shop's name"
    mapping = "" if column == shop_column else f" (mapped to {column})"
    return TableError(
        f"{file} has no column '{shop_column}'{mapping}; it has: {', '.join(shop_columns) or 'none'}.{nearest}",
        f'Say which column it is in shop.toml: [{table}.columns] {column} = "{example}".',
    )


def _one_format(files: list[str], table: str) -> str:
    formats = {_format(file): file for file in files}
    if None in formats or len(formats) != 1:
        odd = formats.get(None)
        reason = f"{odd} is none of these" if odd else f"found {', '.join(sorted(str(f) for f in formats))} together"
        raise TableError(
            f"The {table} table should be Parquet, CSV or JSON Lines ({', '.join(FORMATS)}, or .gz of the last "
            f"four): {reason}.",
            "Name files of one format in source.",
        )
    return str(next(iter(formats)))


def _format(name: str) -> str | None:
    path = urlsplit(name).path if _is_url(name) else name
    return FORMATS.get(Path(path.lower().removesuffix(".gz")).suffix)


def _delimiter(file: str) -> str:
    """The separator of the header line: the most frequent one in it of tab, comma, semicolon and bar."""
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


def _check_encoding(encoding: str | None) -> None:
    known = encoding is None or encodings.is_known(encoding)
    require(known, "encoding", encoding, 'an encoding such as "utf-8", "windows-1252" or "utf-16"')


def _check_mapping(columns: Mapping[str, str], names: tuple[str, ...], cure: str) -> None:
    for name in columns:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" (nearest: {close[0]})" if close else ""
        require(name in names, "columns", name, f"one of {', '.join(names)}{hint}; or {cure}")


def json_path(key: str) -> str:
    """The path of the member `key` of a JSON object."""
    return '$."' + key.replace('"', '\\"') + '"'


def _is_url(source: str) -> bool:
    return bool(_URL.match(source))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)
