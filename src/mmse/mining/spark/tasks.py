"""What Spark's workers do with one partition: DuckDB runs the rules of mining on it, as it does on one machine.

Nothing here knows of Spark. What a task writes is beside its target until it is whole, since Spark may run it again.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from mmse.mining.examination import ExaminationCurve
from mmse.mining.log_sql import TableFunction
from mmse.mining.requests import MergeCounts, read_shard, write_rows
from mmse.mining.shards import write_shard
from mmse.mining.split import Slices
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.sql import identifier, literal

BATCH_ROWS = 65_536
Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class PartitionRule:
    """SQL of DuckDB over the rows of a partition, named `name`, and over `tables`: Parquet files by name.

    The rows have the `columns`, SQL by name. `setup` comes before the SQL.
    """

    sql: str
    name: str
    columns: dict[str, str]
    tables: dict[str, str]
    memory_limit: str
    setup: tuple[str, ...] = field(default=(), repr=False)

    def __call__(self, batches: Batches) -> Batches:
        """The result for one partition, batch by batch; a partition without rows gives none."""
        head = next(batches, None)
        if head is None:
            return
        reader = pa.RecordBatchReader.from_batches(head.schema, itertools.chain([head], batches))
        with self.open() as session:
            self.name_rows(session, reader)
            yield from session.connection.sql(self.sql).to_arrow_reader(BATCH_ROWS)

    def join(self, rows: pa.Table, pages: pa.Table) -> pa.Table:
        """The result for `rows` with the table `page_row`."""
        with self.open() as session:
            session.connection.register("page_row", pages)
            self.name_rows(session, rows)
            return session.arrow(self.sql)

    def name_rows(self, session: Session, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Lets the SQL see `rows` as Spark gives them."""
        session.connection.register("partition_row", rows)
        columns = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in self.columns.items())
        session.run(f"CREATE TEMP VIEW {self.name} AS SELECT {columns} FROM partition_row")

    @contextlib.contextmanager
    def open(self) -> Iterator[Session]:
        """DuckDB with the tables."""
        with open_worker_session(self.memory_limit) as session:
            for statement in self.setup:
                session.run(statement)
            for name, path in self.tables.items():
                session.run(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({literal(path)})")
            yield session


@dataclass(frozen=True)
class KeyRule:
    """Adds to rows what `rule` gives for them, as the column `name`: `row_no`, from 0 in the batch, and a text.

    Rows of which the rule gives nothing are left out.
    """

    rule: PartitionRule
    name: str

    def __call__(self, batches: Batches) -> Batches:
        """The rows with their key."""
        rule = replace(self.rule, columns={**self.rule.columns, "row_no": "row_no"})
        for batch in batches:
            row_no = pa.array(range(batch.num_rows), pa.int64())
            with rule.open() as session:
                rule.name_rows(session, pa.Table.from_batches([batch.append_column("row_no", row_no)]))
                keys = session.arrow(rule.sql)
            rows = batch.take(keys.column(0).combine_chunks())
            yield rows.append_column(self.name, keys.column(1).combine_chunks())


@dataclass(frozen=True)
class FunctionOfBatches:
    """A function of tables for each batch of a partition."""

    function: TableFunction
    schema: pa.Schema

    def __call__(self, batches: Batches) -> Batches:
        """What the function makes of each batch."""
        for batch in batches:
            yield from self.function(pa.Table.from_batches([batch])).cast(self.schema).to_batches()


@contextlib.contextmanager
def open_worker_session(memory_limit: str) -> Iterator[Session]:
    """DuckDB for one task: one thread, and a folder of its own for what exceeds the memory limit."""
    with (
        tempfile.TemporaryDirectory(prefix="mmse-task-") as folder,
        open_session(memory_limit=memory_limit, threads=1) as session,
    ):
        session.spill_to(Path(folder))
        yield session


@dataclass(frozen=True)
class MergeTask:
    """Merges the events of one shard below `events` into `requests`; `left_out` has files of what is left out."""

    events: Path
    requests: Path
    left_out: dict[str, str] | None
    memory_limit: str

    def __call__(self, shard: int) -> MergeCounts:
        """What the shard's rows said more than once."""
        with (
            open_worker_session(self.memory_limit) as session,
            _whole_files(self.requests, self.requests.parent) as folder,
        ):
            for name, path in (self.left_out or {}).items():
                session.run(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({literal(path)})")
            source = self.events / f"shard={shard}"
            counts, rows = read_shard(session, source, folder, filters=self.left_out is not None)
            return counts + write_rows(rows, folder / f"rows-{shard}.parquet")


@dataclass(frozen=True)
class ShardRule:
    """SQL of DuckDB over `shard_request` and `shard_row`, the files of a shard below `requests`, and over `tables`."""

    rule: PartitionRule
    requests: Path

    def __call__(self, batches: Batches) -> Batches:
        """The results for the shards that the batches name."""
        for batch in batches:
            for shard in batch.column(0).to_pylist():
                with self._for_shard(shard).open() as session:
                    yield from session.connection.sql(self.rule.sql).to_arrow_reader(BATCH_ROWS)

    def describe(self, shard: str) -> dict[str, str]:
        """DuckDB's type of each column of the result."""
        with self._for_shard(shard).open() as session:
            return {row[0]: row[1] for row in session.run(f"DESCRIBE {self.rule.sql}")}

    def _for_shard(self, shard: str) -> PartitionRule:
        tables = {f"shard_{name}": str(self.requests / f"{name}s-{shard}.parquet") for name in ("request", "row")}
        return replace(self.rule, tables={**self.rule.tables, **tables})


@dataclass(frozen=True)
class WriteTask:
    """Writes the rows of one shard into each slice of the dataset."""

    requests: Path
    slices: Slices
    curve: ExaminationCurve
    dataset: Path

    def __call__(self, numbered_shard: tuple[int, str]) -> int:
        """The number of the shard."""
        number, shard = numbered_shard
        with _whole_files(self.dataset, self.requests.parent) as folder:
            write_shard(self.requests, shard, number, self.slices, self.curve, folder)
        return number


@contextlib.contextmanager
def _whole_files(target: Path, work: Path) -> Iterator[Path]:
    """A folder in `work` whose files are moved to `target` at the end, each whole, in place of another try's."""
    folder = work / f"task-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            path = target / file.relative_to(folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            file.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
