"""Where the files of a source are: a file, the files of a folder, those of a glob, or a URL."""

from __future__ import annotations

import glob
from pathlib import Path

from mmse.core.errors import TableError
from mmse.sources.file_readers import format_of, is_url
from mmse.sources.sql import literal


def files_in(folder: Path, pattern: str) -> str:
    """The files in `folder` that match the glob `pattern`, as a SQL string; `folder` is taken literally."""
    return literal(str(Path(glob.escape(str(folder))) / pattern))


def hint_no_log(table: str) -> str:
    """What a shop may do whose `table` of events has nothing in it, as the end of a cure."""
    return " A shop that has no log yet leaves [events] out." if table == "events" else ""


def locate(source: str, base: Path, table: str) -> list[str]:
    """The files of `source`, sorted; raises `TableError` if there are none, or if one of them is empty."""
    if is_url(source):
        return [source]
    pattern = Path(source).expanduser()
    path = base / pattern
    if path.is_dir():
        files = [
            p for p in path.rglob("*") if p.is_file() and format_of(p.name) and not _is_hidden(p.relative_to(path))
        ]
    elif path.is_file():
        files = [path]
    else:
        root = Path(pattern.anchor) if pattern.is_absolute() else base  # brackets in the base's own name match nothing
        files = [p for p in root.glob(str(pattern.relative_to(pattern.anchor))) if p.is_file()]
    if not files:
        raise TableError(
            f"No file for the {table} table: nothing matches {path}.",
            f"Set source in [{table}] of shop.toml to a Parquet, CSV or JSON Lines file, folder, glob or URL."
            f"{hint_no_log(table)}",
        )
    for file in files:
        _check_file(file, table)
    return sorted(str(file) for file in files)


def _check_file(file: Path, table: str) -> None:
    if file.stat().st_size == 0:
        raise TableError(
            f"{file} of the {table} table is empty (0 bytes).",
            f"Write it again or take it out of the source.{hint_no_log(table)}",
        )
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise TableError(
            f"{file} of the {table} table cannot be opened: {error.strerror}.", "Make it readable."
        ) from error


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)
