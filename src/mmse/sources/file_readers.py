"""Readers of files as they are: Parquet, CSV and JSON."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from mmse.core.errors import TableError
from mmse.sources import encodings
from mmse.sources.relation import Relation, SourceFiles, SourceReader, describe
from mmse.sources.sql import identifier, literal, literals

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"\s*\"?sep=.\"?\s*$", re.IGNORECASE)
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def read_parquet(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Rows of Parquet files; a column that one of them lacks is empty there."""
    files = _file_list(source.files)
    scan = f"read_parquet({files}, union_by_name = true, hive_partitioning = false)"
    types = describe(connection, scan)
    ((n_rows,),) = connection.execute(f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({files})").fetchall()
    return Relation(scan, types, int(n_rows))


def read_csv(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Rows of CSV files, all columns as text; the header line tells the separator.

    Files that follow one another may have other columns; a column that one of them lacks is empty there.
    """
    parts: list[str] = []
    headers = [_UNKNOWN_HEADER if is_url(file) else _read_header(file) for file in source.files]
    for header in dict.fromkeys(headers):
        files = [file for file, its_header in zip(source.files, headers, strict=True) if its_header == header]
        parts.append(_scan_csv(files, header, source.key))
    scan = parts[0] if len(parts) == 1 else f"(FROM {' UNION ALL BY NAME FROM '.join(parts)})"
    return Relation(scan, describe(connection, scan), bad_lines=_bad_lines(source.key))


def read_json(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Objects of JSON files, one in a line or all in one array; the keys are those of the whole files."""
    files = _file_list(source.files)
    scan = f"read_ndjson_objects({files}, ignore_errors = true)"
    if _is_array(source.files[0]):
        scan = f"read_json_objects({files}, format = 'array')"
    keys = connection.execute(f"SELECT DISTINCT unnest(json_keys(json)) FROM {scan}").fetchall()
    return Relation(scan, {row[0]: "VARCHAR" for row in keys}, document="json")


FILE_READERS: dict[str, SourceReader] = {"parquet": read_parquet, "csv": read_csv, "json": read_json}


def read_files(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Rows of files of whatever format their names say."""
    return FILE_READERS[common_format(source.files, source.table)](connection, source)


def common_format(files: Sequence[str], table: str) -> str:
    """The format of all `files`; raises `TableError` where they have several."""
    formats = {format_of(file): file for file in files}
    if None in formats or len(formats) != 1:
        odd = formats.get(None)
        unpack = " (unpack it)" if odd and odd.lower().endswith((".zip", ".7z", ".tar.gz", ".tgz")) else ""
        found = f"found {', '.join(sorted(str(f) for f in formats))} together"
        reason = f"{odd} is none of these{unpack}" if odd else found
        raise TableError(
            f"The {table} table should be Parquet, CSV or JSON Lines ({', '.join(FORMATS)}, or .gz of the last "
            f"four): {reason}.",
            "Name files of one format in source.",
        )
    return str(next(iter(formats)))


def format_of(name: str) -> str | None:
    """The format that the ending of a file's name tells, `None` for an unknown one."""
    path = urlsplit(name).path if is_url(name) else name
    return FORMATS.get(Path(path.lower().removesuffix(".gz")).suffix)


def is_url(source: str) -> bool:
    """Whether `source` is a URL and not a path."""
    return bool(_URL.match(source))


def _file_list(files: Sequence[str]) -> str:
    return f"[{literals(files)}]"


@dataclass(frozen=True)
class _CsvHeader:
    """What the beginning of a CSV file says: its columns, their separator, and the lines before them."""

    names: tuple[str, ...]
    delimiter: str
    n_lines_before: int = 0


_UNKNOWN_HEADER = _CsvHeader((), ",")


def _scan_csv(files: Sequence[str], header: _CsvHeader, key: str) -> str:
    """SQL for the rows of `files`, which have one header: a few bad lines mislead DuckDB's own detection, or end it."""
    types = ", ".join(f"{identifier(name)}: 'VARCHAR'" for name in header.names)
    columns = f"auto_detect = false, columns = {{{types}}}" if header.names else "all_varchar = true"
    skip = f", skip = {header.n_lines_before}" if header.n_lines_before else ""
    return (
        f"read_csv({_file_list(files)}, header = true, {columns}, delim = {literal(header.delimiter)}{skip}, "
        "quote = '\"', escape = '\"', comment = '', strict_mode = true, hive_partitioning = false, "
        f"store_rejects = true, rejects_table = '{_bad_lines(key)}', rejects_scan = '{key}_bad_scan')"
    )


def _bad_lines(key: str) -> str:
    return f"{key}_bad_lines"


def _read_header(file: str) -> _CsvHeader:
    """The header of `file`; columns without a name, as pandas writes its index, are numbered."""
    with _text(file) as text:
        first, second = text.readline(), text.readline()
    is_separator = _SEPARATOR_LINE.match(first) is not None  # what a spreadsheet writes for itself
    delimiter = _delimiter(file, second if is_separator else first)
    with _text(file) as text:
        names = next(csv.reader(text.readlines(1 << 20)[is_separator:], delimiter=delimiter), [])
    if len(names) == 1 and _delimiter_count(second) and not is_separator:
        raise TableError(
            f"The first line of {file} has one column, {names[0]!r}, and the second has more: "
            f"{second.strip()[:100]!r}.",
            "Remove what stands above the line that names the columns.",
        )
    names = [name if name.strip() else f"unnamed {number}" for number, name in enumerate(names, 1)]
    if not names or len(set(names)) < len(names) or all(name.startswith("unnamed ") for name in names):
        raise TableError(
            f"The first line of {file} should name its columns, each once; found: {', '.join(names) or 'nothing'}.",
            "Write a header line with a name for each column.",
        )
    return _CsvHeader(tuple(names), delimiter, int(is_separator))


def _is_array(file: str) -> bool:
    """Whether a JSON file is one array of objects, and not an object a line."""
    if is_url(file):
        return False
    return encodings.read_head(file).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _delimiter(file: str, header: str) -> str:
    """The separator of the header line: the most frequent one in it of tab, comma, semicolon and bar."""
    if file.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    return max(_DELIMITERS, key=_unquoted(header).count)


def _delimiter_count(line: str) -> int:
    return max(_unquoted(line).count(delimiter) for delimiter in _DELIMITERS)


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _text(file: str) -> io.TextIOWrapper:
    raw = gzip.GzipFile(file) if file.endswith(".gz") else Path(file).open("rb")  # noqa: SIM115 - the wrapper closes it
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")
