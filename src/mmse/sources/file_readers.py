"""Readers of files as they are: Parquet, CSV and JSON."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Sequence
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
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def read_parquet(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Rows of Parquet files; a column that one of them lacks is empty there."""
    files = _file_list(source.files)
    scan = f"read_parquet({files}, union_by_name = true, hive_partitioning = false)"
    types = describe(connection, scan)
    ((n_rows,),) = connection.execute(f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({files})").fetchall()
    return Relation(scan, types, int(n_rows))


def read_csv(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Rows of CSV files, all columns as text; the header line tells the separator."""
    delimiter = "," if is_url(source.files[0]) else _delimiter(source.files[0])
    bad_lines = f"{source.key}_bad_lines"
    scan = (
        f"read_csv({_file_list(source.files)}, header = true, {_csv_columns(source, delimiter)}, "
        f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', comment = '', strict_mode = true, "
        "hive_partitioning = false, store_rejects = true, "
        f"rejects_table = '{bad_lines}', rejects_scan = '{source.key}_bad_scan')"
    )
    return Relation(scan, describe(connection, scan), bad_lines=bad_lines)


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
        reason = f"{odd} is none of these" if odd else f"found {', '.join(sorted(str(f) for f in formats))} together"
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


def _csv_columns(source: SourceFiles, delimiter: str) -> str:
    """The columns of the header line, all as text: a few bad lines mislead DuckDB's own detection, or end it."""
    files = source.files
    if is_url(files[0]):
        return "all_varchar = true"
    header = _header(files[0], delimiter)
    for file in files[1:]:
        if _header(file, delimiter) != header:
            raise TableError(
                f"{file} of the {source.table} table has another header line than {files[0]}.",
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


def _is_array(file: str) -> bool:
    """Whether a JSON file is one array of objects, and not an object a line."""
    if is_url(file):
        return False
    return encodings.read_head(file).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


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
