"""Lines of CSV that are no rows: each is set aside, also those that an open quote swallowed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from mmse.sources import encodings
from mmse.sources.csv_forms import CsvForm, row_lines
from mmse.sources.duckdb_session import Session
from mmse.sources.file_contents import open_bytes
from mmse.sources.file_readers import is_url
from mmse.sources.sql import literal
from mmse.sources.tables import Table

NOT_CSV = "the line is not valid CSV"
"""The beginning of the reason of each such line."""
OPEN_QUOTE = f"{NOT_CSV}: inside a quote that an earlier line opens"
_MAX_CHARACTERS = 2000
"""Characters of a line that are kept."""
_BATCH = 100_000


def reject_bad_lines(session: Session, table: Table) -> None:
    """Adds to `rejected` the CSV lines that are not rows: too many or too few columns, broken quotes, not UTF-8.

    Raises `TableError` for a file that is not UTF-8, unless the shop said that it is.
    """
    if not table.bad_lines:
        return
    columns = f"{literal(table.name)}, {literal(table.source)}"
    session.run(f"""
        INSERT INTO rejected
        SELECT {columns}, {literal(NOT_CSV + ": ")} || lower(CAST(min(error_type) AS VARCHAR)),
               CAST(json_object('line', any_value(line), 'csv', any_value(csv_line)) AS VARCHAR)
          FROM {table.bad_lines} GROUP BY file_id, line""")
    lines = _swallowed_lines(session, table)
    while batch := list(islice(lines, _BATCH)):
        session.create_table("swallowed", pa.table({"row": batch}))
        session.run(f"INSERT INTO rejected SELECT {columns}, {literal(OPEN_QUOTE)}, row FROM swallowed")
    ((n_wrong,),) = session.run(f"SELECT count(*) FROM {table.bad_lines} WHERE error_type = 'INVALID ENCODING'")
    if n_wrong and table.encoding is None:
        for file in table.files:
            encodings.check_whole(file, table.name)


def _swallowed_lines(session: Session, table: Table) -> Iterator[str]:
    """As JSON, each line after the first one of a row that is bad because its quote is open; DuckDB keeps its begin."""
    rows = session.run(f"""
        SELECT DISTINCT file_path, delimiter, quote, line, line_byte_position
          FROM {table.bad_lines} JOIN {table.key}_bad_scan USING (scan_id, file_id)
         WHERE error_type IN ('UNQUOTED VALUE', 'LINE SIZE OVER MAXIMUM') AND contains(csv_line, chr(10))
         ORDER BY line""")
    for file, separator, quote, number, begin in rows:
        if is_url(file):
            continue
        with open_bytes(file) as stream:
            stream.seek(begin)
            text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
            lines = row_lines(iter(text), CsvForm((), separator, quote, quote))
            for n_after, line in enumerate(islice(lines, 1, None), 1):
                if line.strip():
                    yield json.dumps({"line": number + n_after, "csv": line.rstrip("\r\n")[:_MAX_CHARACTERS]})
