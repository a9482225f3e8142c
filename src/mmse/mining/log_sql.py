"""SQL over the rows of a log, in the words that DuckDB and Spark share, so that each rule is written once.

An engine names two relations: `log_request`, the requests of the log (`request_id, timestamp, query, user_id`), and
`dataset_row`, the rows of the dataset (`mmse.dataset.folder.ROWS_SCHEMA`) with the number of their `slice`. Beside
standard SQL both have `epoch_us`, `regexp_matches` and `jaro_winkler_similarity`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.dataset.contract import select_rows
from mmse.sources.duckdb_session import Session
from mmse.sources.sql import literal

TableFunction = Callable[[pa.Table], pa.Table]
"""What makes rows of rows, by itself for each part of a table, however it is cut."""


@runtime_checkable
class LogSql(Protocol):
    """Runs SQL where the rows of the log are."""

    def define(self, name: str, sql: str) -> None:
        """Keeps the result of `sql` as the relation `name`, in place of a former one."""
        ...

    def map(self, name: str, sql: str, function: TableFunction, schema: pa.Schema) -> None:
        """Keeps what `function` makes of the result of `sql`, with the columns of `schema`, as the relation `name`."""
        ...

    def drop(self, name: str) -> None:
        """Forgets the relation `name`."""
        ...

    def arrow(self, sql: str) -> pa.Table:
        """The result of `sql`, which is small."""
        ...

    def write(self, sql: str, path: Path) -> int:
        """Writes the result of `sql`, in its order, as one Parquet file; gives the number of rows."""
        ...


def rows_of(sql: LogSql, query: str) -> list[tuple[Any, ...]]:
    """The rows of the small result of `query`."""
    table = sql.arrow(query)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def moment(microseconds: int) -> str:
    """SQL for the time that many microseconds after the beginning of 1970."""
    time = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=microseconds)
    return f"TIMESTAMP '{time:%Y-%m-%d %H:%M:%S.%f}'"


class DuckDbSql:
    """Rules in DuckDB, out of core."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def define(self, name: str, sql: str) -> None:
        """Keeps the result as a table."""
        self._session.run(f"CREATE OR REPLACE TABLE {name} AS {sql}")

    def map(self, name: str, sql: str, function: TableFunction, schema: pa.Schema) -> None:
        """Keeps what `function` makes of the whole result as a table."""
        self._session.create_table(name, function(self._session.arrow(sql)).cast(schema))

    def drop(self, name: str) -> None:
        """Drops the table."""
        self._session.run(f"DROP TABLE IF EXISTS {name}")

    def arrow(self, sql: str) -> pa.Table:
        """The result as Arrow has it."""
        return self._session.arrow(sql)

    def write(self, sql: str, path: Path) -> int:
        """Writes the result as DuckDB does."""
        self._session.run(f"COPY ({sql}) TO {literal(str(path))} (FORMAT parquet)")
        return int(pq.read_metadata(path).num_rows)

    def open_rows(self, dataset: Path, n_periods: int) -> None:
        """Names the rows of a dataset folder `dataset_row`."""
        self._session.run(f"CREATE OR REPLACE VIEW dataset_row AS {select_rows(dataset, n_periods)}")

    def open_requests(self, requests: str) -> None:
        """Names `requests`, SQL, `log_request`."""
        self._session.run(f"CREATE OR REPLACE VIEW log_request AS SELECT * FROM {requests}")
