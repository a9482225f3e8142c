"""Where a process keeps files for its own use: on a disk with room, or in memory where no disk has any.

A folder of a process has a file that it keeps locked. What a killed process left is removed by the next one that makes
a folder of the same name: its file is there, and nobody has the lock. So it is for containers that share a disk, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO, final

MEMORY = Path("/dev/shm")  # noqa: S108  the folder in memory that Linux has
_OWNER_LOCK = "held"


def scratch_parents() -> list[Path]:
    """The folders in which a process may make one of its own, the better one first."""
    parents = [MEMORY] if MEMORY.is_dir() else []
    try:
        return [Path(tempfile.gettempdir()), *parents]
    except FileNotFoundError:  # every disk is full, or may not be written
        return parents


def make_owned_folder(parent: Path, prefix: str) -> tuple[Path, IO[str]]:
    """A new folder of this process in `parent`, and the open file whose lock says that it is in use.

    First it removes those of that prefix which killed processes left. Raises `OSError` where it cannot be made.
    """
    for folder in parent.glob(f"{prefix}*"):
        remove_abandoned(folder)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            owner_lock = (folder / _OWNER_LOCK).open("w", encoding="utf-8")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        fcntl.flock(owner_lock, fcntl.LOCK_EX)
        if (folder / _OWNER_LOCK).exists():
            return folder, owner_lock
        owner_lock.close()  # another process swept the folder away before the file was locked


def remove_abandoned(folder: Path) -> None:
    """Removes a folder of this user that no process uses any more.

    One that is just being made has no lock file yet, and is left alone.
    """
    with contextlib.suppress(OSError):  # somebody uses it, or was quicker; a leftover does no harm
        stat = folder.lstat()
        if folder.is_symlink() or stat.st_uid != os.getuid():
            return
        with (folder / _OWNER_LOCK).open("r+", encoding="utf-8") as owner_lock:
            fcntl.flock(owner_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)


@final
class ScratchFolder:
    """A folder for files of one kind (`name`), removed at the end of a `with`, or when nothing uses this any more."""

    def __init__(self, name: str, parents: list[Path] | None = None) -> None:
        """Makes it in the first of `parents` that takes one; raises `OSError` where none does."""
        error: OSError = FileNotFoundError("There is no folder for temporary files.")
        for parent in scratch_parents() if parents is None else parents:
            try:
                self.path, owner_lock = make_owned_folder(parent, f"mmse-{name}-")
            except OSError as refusal:
                error = refusal
            else:
                self._remove = weakref.finalize(self, remove_owned, self.path, owner_lock)
                return
        raise error

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self._remove()


@final
class LinkFolder:
    """A folder of links to the files of another, which may not be written; removed when nobody uses it any more.

    For a library that makes lock files beside what it reads.
    """

    def __init__(self, source: Path) -> None:
        self._scratch = ScratchFolder("links")
        self.path = self._scratch.path / "files"
        self.path.mkdir()
        for file in source.iterdir():
            if not file.name.endswith(".lock"):
                (self.path / file.name).symlink_to(file.resolve())


def remove_owned(folder: Path, owner_lock: IO[str]) -> None:
    """Removes a folder that `make_owned_folder` made."""
    shutil.rmtree(folder, ignore_errors=True)
    owner_lock.close()
