"""Locks between processes: waited for in turn, up to a limit, and let go of by the system when a process is killed.

A folder's `lock` is reached through its `queue`, which whoever waits next holds. So one that lets go and wants the lock
again at once comes after those that wait, and one who wants it alone is not kept out by many that share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mmse.core.artifact import writable
from mmse.core.errors import OutputError

LIMIT_S = 60.0
_LOOK_EVERY_S = 0.001

LOCK, QUEUE = "lock", "queue"


@contextlib.contextmanager
def turn(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds the lock of `folder`, alone or with others that share it; raises `OutputError` past the limit."""
    until = time.monotonic() + LIMIT_S
    with contextlib.ExitStack() as ours:
        with _opened(folder / QUEUE) as queue:
            wait(queue, folder / QUEUE, until=until)
            lock = ours.enter_context(_opened(folder / LOCK))
            wait(lock, folder / LOCK, shared=shared, until=until)
        yield


@contextlib.contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Holds the lock `path`, which is false where another holds it."""
    with _opened(path) as file:
        yield _taken(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def alone(path: Path, *, limit_s: float | None = None) -> Iterator[None]:
    """Holds the lock `path`; raises `OutputError` past the limit."""
    with _opened(path) as file:
        wait(file, path, until=None if limit_s is None else time.monotonic() + limit_s)
        yield


def wait(file: int, path: Path, *, shared: bool = False, until: float | None = None) -> None:
    """Takes the lock of an open file, which is let go of when it is closed."""
    until = time.monotonic() + LIMIT_S if until is None else until
    while not _taken(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
        if time.monotonic() > until:
            raise OutputError(
                f"Another process has kept {path} locked for too long.",
                f"Try again; if it hangs, end it, which loses nothing: `fuser -v {path}` names it.",
            )
        time.sleep(_LOOK_EVERY_S)


def _taken(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    with writable(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield file
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file as well
        os.close(file)
