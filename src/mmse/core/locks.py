"""Locks between processes: taken in turn, waited for up to a limit, and released by the system if a process is killed.

The next process in turn holds the `queue` of a folder while it waits for the folder's `lock`. So a process that
releases the lock and wants it again comes after those that wait already, and a process that wants the lock alone is not
starved by many that share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mmse.core.artifact import explain_os_errors
from mmse.core.errors import OutputError

LIMIT_S = 60.0
_RETRY_EVERY_S = 0.001

LOCK, QUEUE = "lock", "queue"


@contextlib.contextmanager
def take_turn(folder: Path, *, share: bool = False) -> Iterator[None]:
    """Holds the lock of `folder`, alone or with others that share it; raises `OutputError` past the limit."""
    deadline = time.monotonic() + LIMIT_S
    with contextlib.ExitStack() as stack:
        with _open_lock(folder / QUEUE) as queue:
            lock_file(queue, folder / QUEUE, deadline=deadline)
            lock = stack.enter_context(_open_lock(folder / LOCK))
            lock_file(lock, folder / LOCK, share=share, deadline=deadline)
        yield


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Holds the lock file `path` and yields true, or yields false where another process holds it."""
    with _open_lock(path) as descriptor:
        yield _try_flock(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def try_lock_folder(folder: Path) -> Iterator[bool]:
    """Holds a folder itself and yields true, or yields false where another process holds it; leaves no file.

    The folder is made where it is absent, and then removed where it is empty in the end. Where it may not be written,
    or its disk has no locks of folders, this yields true.
    """
    with contextlib.ExitStack() as stack:
        try:
            is_free = stack.enter_context(_open_folder(folder))
        except OSError:
            is_free = True
        yield is_free


@contextlib.contextmanager
def lock(path: Path, *, limit_s: float | None = None) -> Iterator[None]:
    """Holds the lock file `path`; raises `OutputError` past the limit."""
    with _open_lock(path) as descriptor:
        lock_file(descriptor, path, deadline=None if limit_s is None else time.monotonic() + limit_s)
        yield


def lock_file(descriptor: int, path: Path, *, share: bool = False, deadline: float | None = None) -> None:
    """Takes the lock of an open file, which is released when the file is closed; raises `OutputError` past `deadline`.

    `deadline` is a time of `time.monotonic`; None is `LIMIT_S` from now.
    """
    deadline = time.monotonic() + LIMIT_S if deadline is None else deadline
    while not _try_flock(descriptor, fcntl.LOCK_SH if share else fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            raise OutputError(
                f"Another process has kept {path} locked for too long.",
                f"Try again. If that process hangs, end it, which loses nothing: `fuser -v {path}` names it.",
            )
        time.sleep(_RETRY_EVERY_S)


def _try_flock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _open_folder(folder: Path) -> Iterator[bool]:
    """Makes and opens a folder, and yields whether its lock could be taken."""
    while True:
        is_new = not folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            is_free = _try_flock(descriptor, fcntl.LOCK_EX)
            if not folder.is_dir() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
                continue  # its holder has removed it meanwhile
            try:
                yield is_free
            finally:
                if is_free:
                    with contextlib.suppress(OSError):  # it is not empty
                        if is_new:
                            folder.rmdir()
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    with explain_os_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child process that was forked meanwhile has the file open as well
        os.close(descriptor)
