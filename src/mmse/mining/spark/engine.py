"""The steps of mining on Spark; `mmse.mining.duckdb_engine` has the same on one machine.

    files → checked in partitions → shuffled by request → merged shard by shard → cut → rows of the dataset
                                                                             └──→ rules in Spark's SQL

The folder that is written lies where all machines of the cluster see it under one path.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mmse.core.progress import Progress
from mmse.mining.config import MineConfig
from mmse.mining.examination import ExaminationCurve
from mmse.mining.log_engine import MiningEngine, SplitShares
from mmse.mining.requests import MergeCounts
from mmse.mining.spark.hadoop_files import open_event_files
from mmse.mining.spark.spark_sql import SparkSql, file_path, literal_path, spark_schema
from mmse.mining.spark.tasks import KeyRule, MergeTask, PartitionRule, ShardRule, WriteTask
from mmse.mining.spark.time_cut import cut_log
from mmse.mining.split import Slices
from mmse.mining.work_folder import WorkFolder
from mmse.schema.user_ids import SALT_VARIABLE
from mmse.sources.attribution import attribute, shopper_key
from mmse.sources.casting import SHOWN, EventsForm, EventWriter, select_events
from mmse.sources.column_rules import event_rule
from mmse.sources.duckdb_session import Session
from mmse.sources.file_readers import is_url
from mmse.sources.sql import identifier, literal
from mmse.sources.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_SHOP_ROW, _PAGE_ROW = "shop_row", "page_row"
_PAGE_KEY, _BUCKET = "mmse_page_key", "mmse_bucket"
_PARTITIONS = "spark.sql.shuffle.partitions"
_PAGE_COLUMNS = "item_row INTEGER, timestamp TIMESTAMP, request_id VARCHAR"


Shard = TypeVar("Shard")
T = TypeVar("T")


class SparkEngine:
    """Everything that grows with the log is done by the workers of `spark`; `session` has the items."""

    def __init__(self, spark: SparkSession, session: Session, work: WorkFolder, config: MineConfig) -> None:
        work = WorkFolder(work.path.resolve())
        self._spark, self._session, self._work, self._config = spark, session, work, config
        self.sql = SparkSql(spark, work.path)
        self._parallelism = 1

    @property
    def event_writer(self) -> EventWriter:
        """Casts in each partition, and shuffles by shard."""
        return self._write_events

    def open_checked_events(self) -> None:
        """Names the files of the shards."""
        self.sql.open_events(file for folder in self._work.event_folders() for file in folder.glob("*.parquet"))

    def merge_shards(self, progress: Progress, *, filters: bool) -> MergeCounts:
        """Merges the shards in tasks, and deletes the events when all are merged."""
        left_out = self._write_left_out() if filters else None
        folders = self._work.event_folders()
        task = MergeTask(self._work.events, self._work.requests, left_out, self._config.memory_limit)
        progress("requests", 0, 1)
        counts = self._run(task.__call__, [int(folder.name.removeprefix("shard=")) for folder in folders])
        for folder in folders:
            shutil.rmtree(folder)
        self.sql.open_requests(self._work.requests)
        return sum(counts, MergeCounts())

    def cut(self, shares: SplitShares) -> Slices:
        """Counts the times until the boundaries are known to the microsecond."""
        return cut_log(self.sql, shares)

    def map_shards(self, name: str, rule: str, *, uses: str = "") -> None:
        """Runs the rule in a task for each shard."""
        tables = {}
        if uses:
            tables[uses] = str(self._work.path / f"{uses}.parquet")
            self.sql.write(f"SELECT * FROM {uses}", Path(tables[uses]))
        partition_rule = PartitionRule(rule, "", {}, tables, self._config.memory_limit)
        shards = self._work.shards()
        task = ShardRule(partition_rule, self._work.requests)
        numbers = self._spark.sparkContext.parallelize([(shard,) for shard in shards], len(shards))
        frame = self._spark.createDataFrame(numbers, "shard string")
        schema = spark_schema(task.describe(shards[0]))
        self.sql.keep(name, frame.mapInArrow(task.__call__, schema))

    def write_shards(self, slices: Slices, curve: ExaminationCurve, dataset: Path, progress: Progress) -> None:
        """Writes the shards in tasks."""
        progress("dataset", 0, 1)
        dataset = dataset.resolve()
        task = WriteTask(self._work.requests, slices, curve, dataset)
        self._run(task.__call__, list(enumerate(self._work.shards())))
        self.sql.open_rows(dataset, slices.periods)

    def _run(self, task: Callable[[Shard], T], shards: Sequence[Shard]) -> list[T]:
        """What the task gives for each shard, which is small."""
        return list(self._spark.sparkContext.parallelize(shards, len(shards)).map(task).collect())

    def _write_left_out(self) -> dict[str, str]:
        """Writes what is left out where the tasks read it."""
        files = {name: str(self._work.path / f"{name}.parquet") for name in ("guest_id", "left_request")}
        for name, path in files.items():
            self.sql.write(f"SELECT * FROM {name}", Path(path))
        return files

    def _write_events(self, session: Session, table: Table, form: EventsForm, target: Path) -> None:
        self._parallelism = max(form.shards, self._spark.sparkContext.defaultParallelism)
        if _PARTITIONS not in self._config.spark:
            self._spark.conf.set(_PARTITIONS, str(self._parallelism))
        source = SourceRows(self._spark, session, table, self._work.path)
        if table.is_attributed:
            rows = self._attribute(source, form)
        else:
            sql = select_events(source.table, form)
            rows = self._map_rows(source, sql, _describe(session, select_events(table, form)))
        parts = self._work.path / f"parts-{table.key}"
        by_shard = rows.repartitionById(form.shards + 1, rows["shard"].cast("int") + 1)
        by_shard.write.partitionBy("shard").option("compression", "lz4_raw").parquet(f"file://{parts}")
        for number, file in enumerate(sorted(parts.glob("shard=*/*.parquet"))):
            folder = target / file.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            file.replace(folder / f"{table.key}_{number}.parquet")
        shutil.rmtree(parts)

    def _map_rows(self, source: SourceRows, sql: str, types: Mapping[str, str]) -> DataFrame:
        """What `sql` of DuckDB makes of each partition of the source."""
        rule = self._rule(source, sql)
        return source.frame(sql).mapInArrow(rule.__call__, spark_schema(types))

    def _attribute(self, source: SourceRows, form: EventsForm) -> DataFrame:
        """The rows of a source that names no request, joined to what was shown: both are shuffled by the shopper.

        Shoppers are put into buckets, each of which DuckDB joins in the memory of a worker.
        """
        key = shopper_key(source.table)
        sql = select_events(source.table, form, attribute(source.table, _PAGE_ROW, form.attribution_hours))
        self._session.run(f"CREATE OR REPLACE TABLE {_PAGE_ROW} ({key} VARCHAR, {_PAGE_COLUMNS})")
        types = _describe(self._session, sql.replace(_SHOP_ROW, source.files_scan))
        self.open_checked_events()
        bucket = f"pmod(hash({{}}), {self._parallelism}) AS {_BUCKET}"
        pages = self._spark.sql(
            f"SELECT {key}, item_row, timestamp, request_id, {bucket.format(key)} FROM log_event "
            f"WHERE flags & {SHOWN} > 0 AND {key} IS NOT NULL"
        )
        rows = self._add_key(source, source.frame(sql), key).selectExpr("*", bucket.format(_PAGE_KEY))
        join = self._rule(source, sql)
        buckets = rows.groupBy(_BUCKET).cogroup(pages.groupBy(_BUCKET))
        return buckets.applyInArrow(
            lambda left, right: join.join(left, right), spark_schema(types)
        )  # two arguments are counted

    def _add_key(self, source: SourceRows, rows: DataFrame, key: str) -> DataFrame:
        """The rows with their shopper as text."""
        from pyspark.sql.types import StructType

        cast = event_rule(source.table, key)
        sql = f"SELECT row_no, {cast.value} FROM (SELECT row_no, {cast.raw} AS raw_{key} FROM {source.table.scan})"
        rule = KeyRule(self._rule(source, sql), _PAGE_KEY)
        return rows.mapInArrow(rule.__call__, StructType([*rows.schema.fields]).add(_PAGE_KEY, "string"))

    def _rule(self, source: SourceRows, sql: str) -> PartitionRule:
        """The SQL as a rule for partitions of the source's rows, with the rows of the items by their ids."""
        items = self._work.path / "items.parquet"
        if not items.exists():
            self._session.run(f"COPY (SELECT item_id, item_row FROM items) TO {literal(str(items))} (FORMAT parquet)")
        memory_limit, salt = self._config.memory_limit, salt_statements(self._session)
        return PartitionRule(sql, _SHOP_ROW, source.columns(sql), {"items": str(items)}, memory_limit, salt)


class SourceRows:
    """The rows of one source of the events, as Spark reads them.

    Parquet is read where it lies. Files of another format are copied to `work` as Parquet, by one process.
    """

    def __init__(self, spark: SparkSession, session: Session, table: Table, work: Path) -> None:
        self._spark = spark
        self._types = _describe(session, f"SELECT * FROM {table.files_scan}")
        self.files_scan = table.files_scan
        self.table = replace(table, scan=table.scan.replace(table.files_scan, _SHOP_ROW))
        self._paths = [literal_path(file) if is_url(file) else file_path(Path(file).resolve()) for file in table.files]
        if table.format != "parquet":
            copy = work / f"source-{table.key}.parquet"
            session.run(f"COPY (FROM {table.files_scan}) TO {literal(str(copy))} (FORMAT parquet)", reading=table)
            self._paths = [file_path(copy)]

    def columns(self, sql: str) -> dict[str, str]:
        """SQL for each column that `sql` uses, of the type that DuckDB itself reads."""
        names = [name for name in self._types if identifier(name) in sql] or list(self._types)[:1]
        return {name: _as_type(identifier(name), self._types[name]) for name in names}

    def frame(self, sql: str) -> DataFrame:
        """The columns that `sql` uses."""
        names = ["`" + name.replace("`", "``") + "`" for name in self.columns(sql)]
        return self._spark.read.option("mergeSchema", "true").parquet(*self._paths).select(*names)


def _as_type(column: str, type_: str) -> str:
    """SQL for a value that came through Spark, which has no nanoseconds and no unsigned numbers."""
    return f"make_timestamp_ns({column})" if type_ == "TIMESTAMP_NS" else f"CAST({column} AS {type_})"


def _describe(session: Session, sql: str) -> Mapping[str, str]:
    return {row[0]: row[1] for row in session.run(f"DESCRIBE {sql}")}


def salt_statements(session: Session) -> tuple[str, ...]:
    """What sets the salt of ids for a worker, where the session has one."""
    ((salt,),) = session.run(f"SELECT getvariable({literal(SALT_VARIABLE)})")
    return () if salt is None else (f"SET VARIABLE {SALT_VARIABLE} = {literal(salt)}",)


def spark_engine(spark: SparkSession) -> MiningEngine:
    """Mining on a session of Spark."""
    return MiningEngine("spark", partial(open_event_files, spark), partial(SparkEngine, spark))
