"""One DuckDB connection for one run of a stage: bounded memory, a spill folder, errors in the user's words."""

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
from mmse.sources.tables import Table, literal, unreadable


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
        """What exceeds the memory limit goes to `folder`."""
        self.run(f"SET temp_directory = {literal(str(folder))}")

    def run(self, sql: str, *, reading: Table | None = None) -> list[tuple[Any, ...]]:
        """All rows that `sql` gives; `reading` is the user's table that a failure would be about."""
        rows: list[tuple[Any, ...]] = self._wait(lambda: self.connection.execute(sql).fetchall(), reading)
        return rows

    def arrow(self, sql: str) -> pa.Table:
        """What `sql` gives, as an Arrow table."""
        return self._wait(lambda: self.connection.sql(sql).to_arrow_table(), None)

    def take(self, name: str, table: pa.Table) -> None:
        """Makes `table` the DuckDB table `name`, replacing a former one."""
        self.connection.register("taken", table)
        self.run(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM taken")
        self.connection.unregister("taken")

    def close(self) -> None:
        """Ends the connection; spilled data is removed."""
        self._worker.shutdown()
        self.connection.close()

    def _wait(self, work: Any, reading: Table | None) -> Any:  # noqa: ANN401 - what DuckDB gives
        future = self._worker.submit(work)
        try:
            return future.result()
        except duckdb.Error as error:
            raise _translated(error, reading) from error
        except BaseException:
            self.connection.interrupt()
            with contextlib.suppress(duckdb.Error):
                future.result()
            raise


@contextlib.contextmanager
def session(*, memory_limit: str, threads: int | None) -> Iterator[Session]:
    """A `Session` that is closed at the end."""
    opened = Session(memory_limit=memory_limit, threads=threads)
    try:
        yield opened
    finally:
        opened.close()


def _translated(error: duckdb.Error, reading: Table | None) -> Exception:
    said = str(error)
    if "No space left" in said or "Disk quota" in said or "max_temp_directory_size" in said:
        return OSError(errno.ENOSPC, "No space left on device")
    if isinstance(error, duckdb.OutOfMemoryException):
        return UsageError(
            f"DuckDB ran out of the memory it may use: {said.splitlines()[0]}.",
            "Raise memory_limit in [mine] of shop.toml, or lower threads there.",
        )
    if reading is not None and isinstance(error, duckdb.IOException | duckdb.InvalidInputException | duckdb.Error):
        return unreadable(reading.name, reading.files, error)
    return error
