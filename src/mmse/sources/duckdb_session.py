"""One DuckDB connection for one piece of work: bounded memory, a spill folder, errors that a user understands."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mmse.core.errors import UsageError
from mmse.sources.damage import MORE_MEMORY
from mmse.sources.tables import Table, literal, unreadable_source


class Session:
    """Runs SQL; what DuckDB refuses becomes `OSError` (full disk), `UsageError` (memory) or `TableError` (input).

    DuckDB runs in a thread of its own, so that Ctrl-C reaches Python at once and interrupts the query.
    """

    def __init__(self, *, memory_limit: str, threads: int | None) -> None:
        self.connection = duckdb.connect(":memory:")
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="duckdb")
        settings = {
            "memory_limit": literal(memory_limit),
            "preserve_insertion_order": "false",
            "TimeZone": "'UTC'",
            "enable_progress_bar": "false",
        }
        if threads is not None:
            settings["threads"] = str(threads)
        for name, value in settings.items():
            self.connection.execute(f"SET {name} = {value}")

    def spill_to(self, folder: Path) -> None:
        """Writes what exceeds the memory limit to `folder`."""
        self.run(f"SET temp_directory = {literal(str(folder))}")

    def run(self, sql: str, *, reading: Table | None = None) -> list[tuple[Any, ...]]:
        """All rows that `sql` gives; `reading` is the user's table that `sql` reads, which an error then names."""
        rows: list[tuple[Any, ...]] = self._wait(lambda: self.connection.execute(sql).fetchall(), reading)
        return rows

    def arrow(self, sql: str) -> pa.Table:
        """The result of `sql` as an Arrow table."""
        return self._wait(lambda: self.connection.sql(sql).to_arrow_table(), None)

    def create_table(self, name: str, table: pa.Table) -> None:
        """Copies `table` into the DuckDB table `name`, in place of a former one."""
        self.connection.register("arrow_table", table)
        self.run(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM arrow_table")
        self.connection.unregister("arrow_table")

    def close(self) -> None:
        """Ends the connection; spilled data is removed."""
        self._worker.shutdown()
        self.connection.close()

    def _wait(self, work: Any, reading: Table | None) -> Any:  # noqa: ANN401 - the result of DuckDB
        future = self._worker.submit(work)
        try:
            return future.result()
        except duckdb.Error as error:
            raise _translate(error, reading) from error
        except BaseException:
            self.connection.interrupt()
            with contextlib.suppress(duckdb.Error):
                future.result()
            raise


@contextlib.contextmanager
def open_session(*, memory_limit: str, threads: int | None) -> Iterator[Session]:
    """A `Session` that is closed at the end."""
    session = Session(memory_limit=memory_limit, threads=threads)
    try:
        yield session
    finally:
        session.close()


def _translate(error: duckdb.Error, reading: Table | None) -> Exception:
    message = str(error)
    if "No space left" in message or "Disk quota" in message or "max_temp_directory_size" in message:
        return OSError(errno.ENOSPC, "No space left on device")
    if isinstance(error, duckdb.OutOfMemoryException) and reading is None:
        return UsageError(f"DuckDB ran out of the memory it may use: {message.splitlines()[0]}.", MORE_MEMORY)
    if reading is not None:
        return unreadable_source(reading, error)
    return error
