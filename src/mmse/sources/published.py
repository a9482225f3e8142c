"""The mechanism behind published formats: each is a declaration of SQL for our columns over one JSON object of a file.

In the SQL, `{name}` is the member of that name of the object `doc` as text, `{entry:name}` that of an entry of a list.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from mmse.sources.file_contents import read_head
from mmse.sources.file_readers import FILE_READERS, common_format, format_of, is_url
from mmse.sources.relation import Relation, SourceFiles, SourceReader, describe
from mmse.sources.sql import identifier, json_path, literal
from mmse.sources.text_copies import CopiesFolder
from mmse.sources.xml_forms import copy_as_json_lines as copy_xml

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFormat:
    """A published format of items or events.

    `columns` is SQL for each column of ours, and of further ones. `signs` are members that tell files of this format.
    `entries` is SQL for a list, of which every entry is a row: `entry`, and `place`, from 1. Rows that do not meet
    `condition` are not read; those that meet `unread` are worth a warning, which says `unread_because`. Of rows with
    the same `latest_of` only the one with the highest `timestamp` counts.
    """

    table: str
    source: str
    signs: tuple[str, ...]
    columns: Mapping[str, str]
    entries: str = ""
    condition: str = "true"
    unread: str = ""
    unread_because: str = ""
    latest_of: str = ""


def reader_of(form: PublishedFormat) -> SourceReader:
    """A reader of that format."""

    def read(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
        documents, copies = _documents(connection, source)
        if form.unread:
            _warn_of_unread(connection, source, documents, form)
        condition = f"coalesce({_sql(form.condition)}, false)"
        rows = f"SELECT doc, row_number() OVER () AS number FROM {documents} WHERE {condition}"
        if form.entries:
            entry = "{'entry': entry, 'place': place}"
            hits = f"unnest(list_transform({_sql(form.entries)}, lambda entry, place: {entry}))"
            rows = f"SELECT doc, number, hit.* FROM (SELECT *, {hits} AS hit FROM ({rows}))"
        columns = ", ".join(f"{_sql(sql)} AS {identifier(name)}" for name, sql in form.columns.items())
        latest = ""
        if form.latest_of:
            order = f"TRY_CAST({_sql('{timestamp}')} AS BIGINT) DESC NULLS LAST"
            latest = f" QUALIFY row_number() OVER (PARTITION BY {_sql(form.latest_of)} ORDER BY {order}) = 1"
        in_order = " ORDER BY number" if form.table == "items" else ""
        scan = f"(SELECT {columns} FROM ({rows}){latest}{in_order})"
        return Relation(scan, describe(connection, scan), copies=copies)

    return read


def _documents(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> tuple[str, CopiesFolder | None]:
    """SQL for each row of the files as one JSON object, `doc`, and the copies that keep them."""
    folder = None
    files = list(source.files)
    for number, file in enumerate(files):
        if not is_url(file) and read_head(file).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
            folder = folder or CopiesFolder()
            files[number] = str(folder.path_of(file, number).with_suffix(".jsonl"))
            copy_xml(file, source.table, Path(files[number]))
    is_unknown = all(format_of(file) is None for file in files)
    format_ = "csv" if is_unknown else common_format(files, source.table)
    relation = FILE_READERS[format_](connection, SourceFiles(files, source.table, source.key, source.csv))
    return relation.as_documents(), folder or relation.copies


def _sql(template: str) -> str:
    """The SQL of `template`, with its members as text."""

    def member(match: re.Match[str]) -> str:
        document, name = ("entry", match[1][6:]) if match[1].startswith("entry:") else ("doc", match[1])
        return f"({document} ->> {literal(json_path(name))})"

    return re.sub(r"\{([^{}]+)\}", member, template)


def _warn_of_unread(
    connection: duckdb.DuckDBPyConnection, source: SourceFiles, documents: str, form: PublishedFormat
) -> None:
    ((n,),) = connection.execute(f"SELECT count(*) FROM {documents} WHERE {_sql(form.unread)}").fetchall()
    if n:
        log.warning("Not read of %s: %d %s", source.files[0], n, form.unread_because)
