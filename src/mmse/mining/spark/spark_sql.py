"""The rules of mining in Spark's own SQL, with what DuckDB has and Spark lacks as functions."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.dataset.contract import slice_names
from mmse.dataset.folder import ROWS_SCHEMA
from mmse.mining.log_sql import TableFunction
from mmse.mining.spark.tasks import FunctionOfBatches
from mmse.sources.sql import literal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_TYPES: Mapping[str, str] = {
    "VARCHAR": "string",
    "BIGINT": "bigint",
    "INTEGER": "int",
    "SMALLINT": "smallint",
    "TINYINT": "tinyint",
    "DOUBLE": "double",
    "FLOAT": "float",
    "BOOLEAN": "boolean",
    "TIMESTAMP": "timestamp_ntz",
}
"""Spark's name of each type of DuckDB that the rules give."""
_ARROW_TYPES = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.int16(): "SMALLINT",
    pa.int8(): "TINYINT",
    pa.float32(): "FLOAT",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us"): "TIMESTAMP",
}
_REQUESTS = pa.schema([ROWS_SCHEMA.field(name) for name in ("request_id", "timestamp", "query", "user_id")])


def spark_schema(types: Mapping[str, str]) -> str:
    """Spark's words for columns by DuckDB's types."""
    return ", ".join(f"`{name}` {_TYPES[type_]}" for name, type_ in types.items())


def schema_of(schema: pa.Schema) -> str:
    """Spark's words for the columns of an Arrow table."""
    return spark_schema({field.name: _ARROW_TYPES[field.type] for field in schema})


def file_path(path: Path) -> str:
    """The path of a file as Spark reads it."""
    return literal_path(f"file://{path}")


def literal_path(path: str) -> str:
    """A path that Spark takes literally, also where it has signs of a pattern."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


class SparkSql:
    """Rules in Spark; `work` is a folder that all its machines see, for what is written in parts."""

    def __init__(self, spark: SparkSession, work: Path) -> None:
        self._spark, self._work = spark, work
        self._frames: dict[str, DataFrame] = {}
        _register_functions(spark)

    def define(self, name: str, sql: str) -> None:
        """Keeps the result in the memory of the workers, and what does not fit on their disks."""
        self.keep(name, self._spark.sql(sql))

    def keep(self, name: str, frame: DataFrame) -> None:
        """Keeps a data frame by name."""
        former = self._frames.pop(name, None)
        self._frames[name] = frame.persist()
        frame.createOrReplaceTempView(name)
        if former is not None:
            former.unpersist()

    def map(self, name: str, sql: str, function: TableFunction, schema: pa.Schema) -> None:
        """Keeps what the function makes of each batch."""
        rule = FunctionOfBatches(function, schema)
        self.keep(name, self._spark.sql(sql).mapInArrow(rule.__call__, schema_of(schema)))

    def drop(self, name: str) -> None:
        """Frees what is kept."""
        self._spark.catalog.dropTempView(name)
        if name in self._frames:
            self._frames.pop(name).unpersist()

    def arrow(self, sql: str) -> pa.Table:
        """The result, collected."""
        return self._spark.sql(sql).toArrow()

    def write(self, sql: str, path: Path) -> int:
        """Has the workers write the parts, and joins these row group by row group."""
        parts = self._work / f"parts-{uuid.uuid4().hex}"
        self._spark.sql(sql).write.parquet(f"file://{parts}")
        n_rows = _join_parts(sorted(parts.glob("part-*.parquet")), path)
        shutil.rmtree(parts)
        return n_rows

    def open_rows(self, dataset: Path, n_periods: int) -> None:
        """Names the rows of a dataset folder `dataset_row`."""
        frame = None
        for number, name in enumerate(slice_names(n_periods)):
            files = (dataset / name).glob("*.parquet")
            rows = self._read(files, ROWS_SCHEMA).selectExpr(f"{number} AS slice", "*")
            frame = rows if frame is None else frame.unionAll(rows)
        assert frame is not None
        frame.createOrReplaceTempView("dataset_row")

    def open_requests(self, folder: Path) -> None:
        """Names the requests of all shards `log_request`."""
        self._read(folder.glob("requests-*.parquet"), _REQUESTS).createOrReplaceTempView("log_request")

    def open_events(self, files: Iterable[Path]) -> None:
        """Names the good rows of the log `log_event`."""
        paths = sorted(map(file_path, files))
        self._spark.read.parquet(*paths).createOrReplaceTempView("log_event")

    def _read(self, files: Iterable[Path], schema: pa.Schema) -> DataFrame:
        return self._spark.read.schema(schema_of(schema)).parquet(*sorted(map(file_path, files)))


def _join_parts(parts: list[Path], path: Path) -> int:
    """Writes the rows of `parts`, one after the other, to `path`; gives their number."""
    n_rows = 0
    schema = pa.schema([field.with_nullable(True) for field in pq.read_schema(parts[0]).remove_metadata()])
    with pq.ParquetWriter(path, schema) as writer:
        for part in parts:
            file = pq.ParquetFile(part)
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group).cast(schema)
                writer.write_table(rows)
                n_rows += rows.num_rows
    return n_rows


def _register_functions(spark: SparkSession) -> None:
    """Functions of DuckDB for the session; those that Spark cannot express run in DuckDB."""
    from pyspark.sql.functions import arrow_udf

    spark.sql(
        "CREATE OR REPLACE TEMPORARY FUNCTION epoch_us(moment TIMESTAMP_NTZ) RETURNS BIGINT "
        "RETURN unix_micros(CAST(moment AS TIMESTAMP_LTZ))"
    )
    spark.udf.register("jaro_winkler_similarity", arrow_udf(_similarity, "double"))
    spark.udf.register("regexp_matches", arrow_udf(_matches, "boolean"))


def _similarity(left: pa.Array, right: pa.Array) -> pa.Array:
    return _in_duckdb("jaro_winkler_similarity(a, b)", left, right)


def _matches(text: pa.Array, pattern: pa.Array) -> pa.Array:
    constant = literal(str(pattern[0])) if len(pattern) else "''"  # a pattern by row would be compiled row by row
    return _in_duckdb(f"regexp_matches(a, {constant})", text, pattern)


def _in_duckdb(sql: str, a: pa.Array, b: pa.Array) -> pa.Array:
    """What `sql` of DuckDB makes of two columns, row by row."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("pair", pa.table({"a": a, "b": b}))
        return connection.sql(f"SELECT {sql} AS value FROM pair").to_arrow_table()["value"].combine_chunks()
