"""What a reader gives: rows that DuckDB reads from the files of one source, and which columns they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import duckdb

from mmse.sources.csv_forms import CsvConfig
from mmse.sources.extended_json import plain_value
from mmse.sources.sql import identifier, json_path, literal
from mmse.sources.text_copies import CopiesFolder


@dataclass(frozen=True)
class SourceFiles:
    """The files of one source of the table `table` (`items`, `events`); `key` names the source in SQL.

    `csv` is what shop.toml says of how CSV is written.
    """

    files: Sequence[str]
    table: str
    key: str
    csv: CsvConfig = field(default_factory=CsvConfig)


@dataclass(frozen=True)
class Relation:
    """Rows: `scan` is SQL for them, `types` has DuckDB's type of each column by the shop's name.

    `n_rows` is known for Parquet, otherwise `None`. `document` is the column that holds a row as one JSON object, if
    the columns are its members. `bad_lines` is the table in which DuckDB keeps the lines of CSV that are no rows.
    `copies` keeps the files that are read in place of the shop's, where there are such. Where it
    `has_sample_of_columns`, rows that were not looked at may have others.
    """

    scan: str
    types: Mapping[str, str]
    n_rows: int | None = None
    document: str = ""
    bad_lines: str = ""
    copies: CopiesFolder | None = None
    has_sample_of_columns: bool = False

    def as_documents(self) -> str:
        """SQL for each row as one JSON object, `doc`, whatever the files are."""
        if self.document:
            return f"(SELECT {identifier(self.document)} AS doc FROM {self.scan})"
        return f"(SELECT to_json(shop_row) AS doc FROM (FROM {self.scan}) AS shop_row)"

    def as_columns(self) -> str:
        """SQL for the rows with a column for each of `types`, whatever the files are."""
        if not self.document:
            return self.scan
        document = identifier(self.document)
        members = {name: plain_value(f"({document} ->> {literal(json_path(name))})") for name in self.types}
        columns = (f"{value} AS {identifier(name)}" for name, value in members.items())
        return f"(SELECT {', '.join(columns)} FROM {self.scan})"


@runtime_checkable
class SourceReader(Protocol):
    """Opens the files of one source; an error of DuckDB means that a file cannot be read."""

    def __call__(self, connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
        """The rows of the files."""
        ...


def describe(connection: duckdb.DuckDBPyConnection, scan: str) -> dict[str, str]:
    """DuckDB's type of each column of `scan`."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()}
