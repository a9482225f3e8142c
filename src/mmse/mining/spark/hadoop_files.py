"""Files of Hadoop's file systems (HDFS, object stores), as Spark reaches them: listed, and opened by DuckDB as well.

The driver looks at such files with DuckDB to learn their columns, as it looks at files on its own disk; the rows
themselves are read by Spark. Bytes come through the JVM, tens of megabytes in a second.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from mmse.core.errors import TableError
from mmse.mining.spark.cluster import first_line
from mmse.sources.config import EventsConfig
from mmse.sources.duckdb_session import Session
from mmse.sources.file_locations import locate
from mmse.sources.file_readers import format_of, is_url
from mmse.sources.tables import Table, open_event_sources

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def open_event_files(spark: SparkSession, session: Session, config: EventsConfig, base: Path) -> tuple[Table, ...]:
    """The sources of the events; one that is a URL may be any path that Hadoop knows, a folder or a pattern, too."""
    sources = [part.source for part in config.sources] or [config.source]
    for scheme in {urlsplit(source).scheme for source in sources if is_url(source)}:
        session.connection.register_filesystem(HadoopFileSystem(spark, scheme))

    def find_files(source: str, base: Path, table: str) -> list[str]:
        return find_hadoop_files(spark, source, table) if is_url(source) else locate(source, base, table)

    return open_event_sources(session.connection, config, base, find_files)


def find_hadoop_files(spark: SparkSession, source: str, table: str) -> list[str]:
    """The files of `source`, sorted; raises `TableError` where there are none, or Hadoop does not reach them."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    cure = (
        f"Correct source in [{table}] of shop.toml; a file system that Spark has to be told of needs its settings in "
        "[mine.spark], such as spark.jars.packages."
    )
    try:
        path = _java(spark).org.apache.hadoop.fs.Path(source)
        system = path.getFileSystem(spark._jsc.hadoopConfiguration())
        files = [file for status in system.globStatus(path) or [] for file in _files_below(system, status)]
    except (Py4JJavaError, PySparkException) as error:
        raise TableError(f"Spark does not reach {source} of the {table} table: {first_line(error)}.", cure) from error
    if not files:
        raise TableError(f"No file for the {table} table: there is nothing at {source}.", cure)
    return sorted(files)


def _files_below(system: Any, status: Any) -> Iterator[str]:  # noqa: ANN401 - objects of the JVM
    """The paths of a file, or of the files of a folder whose endings tell a format."""
    if status.isFile():
        yield str(status.getPath().toString())
        return
    for child in system.listStatus(status.getPath()):
        name = str(child.getPath().getName())
        if not name.startswith((".", "_")) and (child.isDirectory() or format_of(name)):
            yield from _files_below(system, child)


def _java(spark: SparkSession) -> Any:  # noqa: ANN401 - the packages of the JVM
    return spark._jvm


class HadoopFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The files of one scheme, for reading."""

    cachable = False

    def __init__(self, spark: SparkSession, scheme: str) -> None:
        super().__init__()
        self.spark, self.protocol = spark, scheme

    def url(self, path: str) -> str:
        """The whole path of a file."""
        return path if is_url(path) else f"{self.protocol}://{path}"

    def hadoop(self, path: str) -> tuple[Any, Any]:
        """The path as Hadoop has it, and its file system."""
        hadoop_path = _java(self.spark).org.apache.hadoop.fs.Path(self.url(path))
        return hadoop_path, hadoop_path.getFileSystem(self.spark._jsc.hadoopConfiguration())

    def info(self, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - as fsspec has it
        """Name, size and type of a file; raises `FileNotFoundError` where there is none."""
        hadoop_path, system = self.hadoop(path)
        if not system.exists(hadoop_path):
            raise FileNotFoundError(path)
        status = system.getFileStatus(hadoop_path)
        return {"name": path, "size": status.getLen(), "type": "file" if status.isFile() else "directory"}

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:  # noqa: ANN401 - as fsspec has it
        """What a folder has, or the file itself."""
        hadoop_path, system = self.hadoop(path)
        paths = [str(status.getPath().toString()) for status in system.listStatus(hadoop_path)]
        return [self.info(name) for name in paths] if detail else paths

    def glob(self, path: str, **options: Any) -> list[Any]:  # noqa: ANN401 - as fsspec has it
        """The files of a pattern; a path that there is has no pattern in it."""
        return [self._strip_protocol(path)] if self.exists(path) else list(super().glob(path, **options))

    def modified(self, path: str) -> Any:  # noqa: ANN401 - as fsspec has it
        """When the file was changed, as fsspec has it."""
        hadoop_path, system = self.hadoop(path)
        return dt.datetime.fromtimestamp(system.getFileStatus(hadoop_path).getModificationTime() / 1e3, dt.UTC)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> HadoopFile:  # noqa: ANN401 - as fsspec has it
        assert mode == "rb", mode
        return HadoopFile(self, path, mode, cache_type="readahead", block_size=4 << 20)


class HadoopFile(AbstractBufferedFile):  # type: ignore[misc]
    """One file of a `HadoopFileSystem`."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        hadoop_path, system = self.fs.hadoop(self.path)
        stream = system.open(hadoop_path)
        try:
            stream.seek(start)
            content = _java(self.fs.spark).org.apache.commons.io.IOUtils.toByteArray(stream, end - start)
            return bytes(content)
        finally:
            stream.close()
