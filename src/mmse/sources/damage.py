"""Files that DuckDB cannot open, or not read to the end: which of them, why, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from mmse.core.errors import TableError
from mmse.sources.file_contents import DAMAGED

MORE_MEMORY = "Raise memory_limit in [mine] of shop.toml, or lower threads there."

FileProbe = Callable[[duckdb.DuckDBPyConnection, str], None]
"""Opens or reads one file through a connection, and raises as DuckDB does."""


def name_file(table: str, files: Sequence[str], error: Exception, probe: FileProbe) -> TableError:
    """The `TableError` for the first of `files` that `probe` raises for; `error` is what DuckDB said of them all.

    Of several, each is probed through a connection of its own, since the one that met the damage may be good for
    nothing else.
    """
    for file in files if len(files) > 1 else ():
        try:
            with duckdb.connect() as connection:
                probe(connection, file)
        except (duckdb.Error, *DAMAGED) as file_error:
            files, error = [file], file_error
            break
    if "extension" in str(error):
        return TableError(
            f"{files[0]} needs a DuckDB extension that could not be installed: {str(error).splitlines()[0]}.",
            "Give this machine network access once, or download the file and name the copy in shop.toml.",
        )
    return unreadable(table, files, error)


def unreadable(table: str, files: Sequence[str], error: Exception) -> TableError:
    """The `TableError` for `files` that DuckDB could not read to the end."""
    message = str(error).split("\n")[0].removesuffix(".")
    if "CSV Parser state machine" in message:
        message = "some lines end in CR LF and others in LF"
    bad_file = next((file for file in files if Path(file).name in message), None)
    source = bad_file or (files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more")
    cure = "Write that file again (it may be cut short or of another format) or take it out of the source."
    if "Out of Memory" in message:
        cure = f"{MORE_MEMORY} A small file that takes so much is damaged: write it again."
    return TableError(f"The {table} table cannot be read from {source}: {message}.", cure)
