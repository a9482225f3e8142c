"""A vector store in another process, which evaluates filters by itself: a DuckDB database behind a socket.

Each state is a table of its own; the next one starts as a copy of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from mmse.core.errors import ArtifactError, StoreError
from mmse.core.progress import Progress
from mmse.index.base import IndexConfig, Neighbours, check_vectors, no_neighbours
from mmse.index.columns import FilterColumns
from mmse.index.store import NO_ROWS, search_around
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf, comparison_key, comparison_path

TIMEOUT_S = 10.0
STATE_FILE = "duckdb.json"
TYPES = {Kind.NAME: "VARCHAR", Kind.PATH: "VARCHAR", Kind.NUMBER: "DOUBLE", Kind.FLAG: "BOOLEAN"}


@dataclass(frozen=True)
class Table:
    """A table on the server at `address`, which may be shared by threads and inherited by processes."""

    address: str
    name: str
    width: int
    kinds: dict[str, Kind]

    def ask(self, *statements: str, parameters: Sequence[object] = (), table: pa.Table | None = None) -> list[Any]:
        """The rows that the last of `statements` gives."""
        request = {"statements": statements, "parameters": parameters, "table": _to_bytes(table)}
        try:
            with Client(self.address) as connection:
                connection.send_bytes(msgspec.msgpack.encode(request))
                if not connection.poll(TIMEOUT_S):
                    raise TimeoutError(f"no answer within {TIMEOUT_S:.0f} s")
                answer = msgspec.msgpack.decode(connection.recv_bytes())
        except (OSError, EOFError) as error:
            raise StoreError(
                f"The vector store at {self.address} does not answer: {error or 'it hung up'}.", "Start it again."
            ) from error
        if "error" in answer:
            raise StoreError(f"The vector store at {self.address} refuses: {answer['error']}.", "See its log.")
        rows: list[Any] = answer["rows"]
        return rows


class DuckDBStore:
    """A state on a server. `[index.options] address` is its socket."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._n_rows = int(table.ask(f"SELECT count(*) FROM {table.name}")[0][0])

    @classmethod
    def create(
        cls, config: IndexConfig, width: int, kinds: Mapping[str, Kind], queries: Float32[np.ndarray, "p width"]
    ) -> DuckDBWriter:
        table = Table(str(config.options["address"]), _new_name(), width, dict(kinds))
        columns = "".join(f', "{name}" {TYPES[kind]}' for name, kind in kinds.items())
        table.ask(f"CREATE TABLE {table.name} (row BIGINT PRIMARY KEY, vector FLOAT[{width}]{columns})")
        return DuckDBWriter(table)

    @classmethod
    def open(cls, folder: Path, vectors: Float32[np.ndarray, "n width"], columns: FilterColumns) -> DuckDBStore:
        try:
            return cls(msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=Table))
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{folder} names no state: it has no {STATE_FILE}.", "Build the index again."
            ) from error

    def __len__(self) -> int:
        return self._n_rows

    def search(
        self,
        queries: Float32[np.ndarray, "q width"],
        k: int,
        filter: Filter | None = None,
        stale_rows: Int64[np.ndarray, " s"] = NO_ROWS,
    ) -> Neighbours:
        check_vectors(queries, self._table.width, "query vectors")
        condition, values = ("true", []) if filter is None else to_sql(filter, self._table.kinds)

        def search_rows(queries: Float32[np.ndarray, "q width"], k: int) -> Neighbours:
            neighbours = no_neighbours(len(queries), k)
            for index, query in enumerate(queries):
                rows = self._table.ask(
                    f"SELECT row, array_inner_product(vector, ?::FLOAT[{self._table.width}]) AS score"
                    f" FROM {self._table.name} WHERE {condition} ORDER BY score DESC, row LIMIT {k}",
                    parameters=[query.tolist(), *values],
                )
                for rank, (row, score) in enumerate(rows):
                    neighbours.ids[index, rank], neighbours.scores[index, rank] = row, score
            return neighbours

        return search_around(stale_rows, search_rows, queries, k, len(self))

    def writer(self) -> DuckDBWriter:
        table = Table(self._table.address, _new_name(), self._table.width, self._table.kinds)
        table.ask(f"CREATE TABLE {table.name} AS SELECT * FROM {self._table.name}")
        return DuckDBWriter(table)


class DuckDBWriter:
    """Fills a table that no state names before it is published."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def upsert(
        self,
        rows: Int64[np.ndarray, " m"],
        vectors: Float32[np.ndarray, "m width"],
        items: pa.Table,
        progress: Progress | None = None,
    ) -> None:
        self.delete(rows)
        flat_vectors = pa.array(np.ascontiguousarray(vectors).ravel())
        columns = {"row": pa.array(rows), "vector": pa.FixedSizeListArray.from_arrays(flat_vectors, self._table.width)}
        columns |= {name: read_column(items, name, kind) for name, kind in self._table.kinds.items()}
        self._table.ask(f"INSERT INTO {self._table.name} SELECT * FROM uploaded", table=pa.table(columns))

    def delete(self, rows: Int64[np.ndarray, " m"]) -> None:
        statement = f"DELETE FROM {self._table.name} WHERE row IN (SELECT row FROM uploaded)"
        self._table.ask(statement, table=pa.table({"row": pa.array(rows)}))

    def publish(self, folder: Path) -> Mapping[str, Any]:
        self._table.ask("CHECKPOINT")
        (folder / STATE_FILE).write_bytes(msgspec.json.encode(self._table))
        return {"table": self._table.name}


def to_sql(filter: Filter, kinds: Mapping[str, Kind]) -> tuple[str, list[object]]:
    """`filter` as a condition and the values of its marks; an item without a value meets no condition on it."""
    if isinstance(filter, Between):
        low, high = (-np.inf if filter.low is None else filter.low), (np.inf if filter.high is None else filter.high)
        return f'coalesce("{filter.column}" BETWEEN ? AND ?, false)', [low, high]
    if isinstance(filter, OneOf):
        return _match_values(filter, kinds[filter.column])
    if isinstance(filter, Not):
        condition, values = to_sql(filter.part, kinds)
        return f"NOT {condition}", values
    parts = [to_sql(part, kinds) for part in filter.parts]
    word, end = (" AND ", "true") if isinstance(filter, And) else (" OR ", "false")
    return f"({word.join([*(condition for condition, _ in parts), end])})", [v for _, values in parts for v in values]


def read_column(items: pa.Table, name: str, kind: Kind) -> pa.Array:
    """A column in the form in which filters compare."""
    values = items[name].to_pylist() if name in items.column_names else [None] * len(items)
    if kind in (Kind.NAME, Kind.PATH):
        form = comparison_key if kind is Kind.NAME else comparison_path
        return pa.array([(form(value) or None) if value is not None else None for value in values], pa.string())
    return pa.array(values, pa.float64() if kind is Kind.NUMBER else pa.bool_())


def _match_values(filter: OneOf, kind: Kind) -> tuple[str, list[object]]:
    column, values = f'"{filter.column}"', list(filter.values)
    conditions = [f"{column} = ?" for _ in values]
    if kind is Kind.PATH:
        conditions += [f"starts_with({column}, ? || ' > ')" for _ in values]
        values *= 2
    return f"coalesce({' OR '.join(conditions)}, false)", list(values)


def _new_name() -> str:
    return f"state_{uuid.uuid4().hex}"


def _to_bytes(table: pa.Table | None) -> bytes:
    if table is None:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())
