"""Where a process keeps files for its own use: on a disk with room, or in memory where no disk has any."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from shutil import rmtree
from typing import final

MEMORY = Path("/dev/shm")  # noqa: S108  the folder in memory that Linux has


def scratch_parents() -> list[Path]:
    """The folders in which a process may make one of its own, the better one first."""
    parents = [MEMORY] if MEMORY.is_dir() else []
    try:
        return [Path(tempfile.gettempdir()), *parents]
    except FileNotFoundError:  # every disk is full, or may not be written
        return parents


def make_scratch(parents: list[Path], prefix: str) -> Path:
    """A new folder in the first of `parents` that takes one; raises `OSError` where none does."""
    error: OSError = FileNotFoundError("There is no folder for temporary files.")
    for parent in parents:
        try:
            return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError as refusal:
            error = refusal
    raise error


@final
class LinkFolder:
    """A folder of links to the files of another, which may not be written; removed when nobody uses it any more.

    For a library that makes lock files beside what it reads.
    """

    def __init__(self, source: Path) -> None:
        self.path = make_scratch(scratch_parents(), "mmse-links-")
        weakref.finalize(self, rmtree, self.path, ignore_errors=True)
        for file in source.iterdir():
            if not file.name.endswith(".lock"):
                (self.path / file.name).symlink_to(file.resolve())
