"""Readers of files as they are: Parquet, CSV and JSON."""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from mmse.core.errors import TableError
from mmse.sources.bulk_lines import is_bulk
from mmse.sources.csv_forms import CsvConfig, CsvForm, find_form
from mmse.sources.file_contents import is_gzip, read_head
from mmse.sources.json_forms import are_lines
from mmse.sources.json_samples import are_large, sample_objects
from mmse.sources.relation import Relation, SourceFiles, SourceReader, describe
from mmse.sources.sql import identifier, literal, literals
from mmse.sources.text_copies import (
    CopiesFolder,
    copy_as_json_lines,
    copy_as_plain_csv,
    copy_bulk_documents,
    copy_with_line_feeds,
    copy_without_mark,
    has_several_line_ends,
)

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
FORM_BYTES = 1 << 20
"""So much of a file tells how it is written."""
_LINES = "read_ndjson_objects({}, ignore_errors = true)"
_BESIDE_SOURCE = ("sort", "found", "fields")
"""Members of a document of a search engine beside those that begin with `_`."""
_SOURCE_MEMBERS = """CASE
    WHEN json_type(json, '$._source') IS NULL THEN json
    WHEN json_type(json, '$._source') <> 'OBJECT' OR NOT json_exists(json, '$._id')
        OR json_exists(json, '$._source._id') THEN json -> '$._source'
    WHEN json_array_length(json_keys(json, '$._source')) = 0 THEN json_object('_id', json -> '$._id')
    ELSE CAST('{"_id":' || (json -> '$._id') || ',' || (json -> '$._source')[2:] AS JSON) END"""
"""SQL for a document's members; its `_id` is often nowhere else."""
_ODD_ENDINGS = {
    (".zip", ".7z", ".tar.gz", ".tgz", ".zst", ".bz2", ".xz"): "unpack it",
    (".xlsx", ".xls", ".xlsm", ".ods"): "a spreadsheet: save it as CSV UTF-8",
}
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def read_parquet(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Rows of Parquet files. A column that one of them lacks is empty there; bytes are text, as Impala writes it."""
    files = _file_list(source.files)
    options = "union_by_name = true, hive_partitioning = false"
    scan = f"read_parquet({files}, {options})"
    types = describe(connection, scan)
    if any("BLOB" in type_ for type_ in types.values()):
        scan = f"read_parquet({files}, {options}, binary_as_string = true)"
        types = describe(connection, scan)
    ((n_rows,),) = connection.execute(f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({files})").fetchall()
    return Relation(scan, types, int(n_rows))


def read_csv(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Rows of CSV files, all columns as text; `mmse.sources.csv_forms` finds how each is written.

    Files that follow one another may have other columns; a column that one of them lacks is empty there.
    """
    files, forms, folder = _plain_csv(source.files, source.csv)
    kinds = [(form, not is_url(file) and is_gzip(file)) for file, form in zip(files, forms, strict=True)]
    parts = [
        _scan_csv(
            [file for file, file_kind in zip(files, kinds, strict=True) if file_kind == kind],
            kind[0],
            source,
            is_gzip_file=kind[1],
        )
        for kind in dict.fromkeys(kinds)
    ]
    scan = parts[0] if len(parts) == 1 else f"(FROM {' UNION ALL BY NAME FROM '.join(parts)})"
    return Relation(scan, describe(connection, scan), bad_lines=_bad_lines(source.key), copies=folder)


def read_json(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Objects of JSON files, one in a line or all in one array.

    The keys are those of the whole files, or of large ones those that parts of them have
    (`mmse.sources.json_samples`). Files of another form are copied as lines (`mmse.sources.json_forms`).
    """
    files, folder = _json_files(source.files)
    are_arrays = {_is_array(file) for file in files}
    if are_arrays == {False}:
        return replace(_read_objects(connection, files, _LINES), copies=folder)
    if are_arrays == {True}:
        with contextlib.suppress(duckdb.Error):
            return replace(_read_objects(connection, files, "read_json_objects({}, format = 'array')"), copies=folder)
    folder = folder or CopiesFolder()
    copies = [str(folder.path_of(file, len(files) + number)) for number, file in enumerate(files)]
    for file, copy in zip(files, copies, strict=True):
        copy_as_json_lines(file, Path(copy))
    return replace(_read_objects(connection, copies, _LINES), copies=folder)


def _json_files(files: Sequence[str]) -> tuple[list[str], CopiesFolder | None]:
    """Each file, or a copy of it that is lines of objects without a mark, and where the copies are."""
    plain, folder = list(files), None
    for number, file in enumerate(files):
        if is_url(file) or _is_array(file):
            continue
        head = read_head(file, FORM_BYTES)
        text = head.decode("utf-8-sig", "replace")
        is_lines, has_actions = are_lines(text, is_end=len(head) < FORM_BYTES), is_bulk(text)
        if is_lines and not has_actions and not head.startswith(codecs.BOM_UTF8):
            continue
        folder = folder or CopiesFolder()
        plain[number] = str(folder.path_of(file, number))
        if has_actions:
            copy_bulk_documents(file, Path(plain[number]))
        elif is_lines:
            copy_without_mark(file, Path(plain[number]))
        else:
            copy_as_json_lines(file, Path(plain[number]))
    return plain, folder


def _read_objects(connection: duckdb.DuckDBPyConnection, files: Sequence[str], function: str) -> Relation:
    """Objects that a `function` of DuckDB reads; of the documents of a search engine, what stands in `_source`."""
    are_gzip = {not is_url(file) and is_gzip(file) for file in files}
    compression = f", compression = '{'gzip' if are_gzip == {True} else 'none'}'" if len(are_gzip) == 1 else ""
    scan = function.format(_file_list(files) + ("" if is_url(files[0]) else compression))
    is_large = function == _LINES and are_large(files) and are_gzip == {False}
    keys = _sample_keys(files) if is_large else _keys_of(connection, scan)
    if "_source" in keys and all(key.startswith("_") or key in _BESIDE_SOURCE for key in keys):
        scan = f"(SELECT {_SOURCE_MEMBERS} AS json FROM {scan})"
        keys = _sample_keys(files, within="_source") if is_large else _keys_of(connection, scan)
    return Relation(scan, dict.fromkeys(keys, "VARCHAR"), document="json", has_sample_of_columns=is_large)


def _keys_of(connection: duckdb.DuckDBPyConnection, scan: str) -> list[str]:
    return [key for (key,) in connection.execute(f"SELECT DISTINCT unnest(json_keys(json)) FROM {scan}").fetchall()]


def _sample_keys(files: Sequence[str], within: str = "") -> list[str]:
    """The keys in parts of large files, of the objects themselves or of their members `within`."""
    rows = list(sample_objects(files))
    objects = (row.get(within, row) if within else row for row in rows)
    keys = dict.fromkeys(key for row in objects if isinstance(row, dict) for key in row)
    return list(keys | dict.fromkeys(["_id"] if within and any("_id" in row for row in rows) else []))


FILE_READERS: dict[str, SourceReader] = {"parquet": read_parquet, "csv": read_csv, "json": read_json}


def read_files(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """Rows of files of whatever format their names say."""
    return FILE_READERS[common_format(source.files, source.table)](connection, source)


def common_format(files: Sequence[str], table: str) -> str:
    """The format of all `files`; raises `TableError` where they have several."""
    formats = {format_of(file): file for file in files}
    if None in formats or len(formats) != 1:
        odd = formats.get(None)
        unpack = next((f" ({what})" for ends, what in _ODD_ENDINGS.items() if odd and odd.lower().endswith(ends)), "")
        found = f"found {', '.join(sorted(str(f) for f in formats))} together"
        reason = f"{odd} is none of these{unpack}" if odd else found
        raise TableError(
            f"The {table} table should be Parquet, CSV or JSON Lines ({', '.join(FORMATS)}, or .gz of the last "
            f"four): {reason}.",
            "Name files of one format in source"
            + (', or say what they are: format = "csv", "json" or "parquet".' if odd else "."),
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


def _scan_csv(files: Sequence[str], form: CsvForm, source: SourceFiles, *, is_gzip_file: bool) -> str:
    """SQL for the rows of `files`, which have one form: a few bad lines mislead DuckDB's own detection, or end it."""
    types = ", ".join(f"{identifier(name)}: 'VARCHAR'" for name in form.names)
    columns = f"auto_detect = false, columns = {{{types}}}" if form.names else "all_varchar = true"
    skip = f", skip = {form.n_lines_before}" if form.n_lines_before else ""
    compression = f", compression = '{'gzip' if is_gzip_file else 'none'}'" if form.names else ""
    return (
        f"read_csv({_file_list(files)}, header = {str(form.has_header).lower()}, {columns}, "
        f"delim = {literal(form.separator)}{skip}{compression}, nullstr = [{literals(('', *source.csv.nulls))}], "
        f"quote = {literal(form.quote)}, escape = {literal(form.escape)}, comment = '', strict_mode = true, "
        f"hive_partitioning = false, store_rejects = true, rejects_table = '{_bad_lines(source.key)}', "
        f"rejects_scan = '{source.key}_bad_scan')"
    )


def _bad_lines(key: str) -> str:
    return f"{key}_bad_lines"


def _plain_csv(files: Sequence[str], config: CsvConfig) -> tuple[list[str], list[CsvForm], CopiesFolder | None]:
    """Each file, or a copy of it that DuckDB reads, the form of each, and where the copies are."""
    plain, forms, folder = list(files), list[CsvForm](), None
    for number, file in enumerate(files):
        if is_url(file):
            forms.append(
                CsvForm(separator=config.separator or ",", quote='"' if config.quote is None else config.quote)
            )
            continue
        if has_several_line_ends(file):
            folder = folder or CopiesFolder()
            plain[number] = str(folder.path_of(file, number))
            copy_with_line_feeds(file, Path(plain[number]))
        head = read_head(plain[number], FORM_BYTES)
        text, is_end = head.decode("utf-8-sig", "replace"), len(head) < FORM_BYTES
        form = find_form(file, text if is_end else text[: text.rfind("\n") + 1] or text, config, is_end=is_end)
        if form.escape == "\\":
            folder = folder or CopiesFolder()
            copy = str(folder.path_of(file, len(files) + number))
            copy_as_plain_csv(plain[number], form, Path(copy))
            plain[number], form = copy, replace(form, escape=form.quote)
        forms.append(form)
    return plain, forms, folder


def _is_array(file: str) -> bool:
    """Whether a JSON file is one array of objects, and not an object a line."""
    return not is_url(file) and read_head(file).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
