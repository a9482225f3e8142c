"""Folders on their way: written hidden beside their target, locked while their process lives, then put in its place.

.model.writing-5f1c…e2      a folder that is being written
.model.former-9a04…71       the one that was there, for the moment in which another takes its place
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
from pathlib import Path

_TOKEN = re.compile(r"\d+|[0-9a-f]{16}")

log = logging.getLogger(__name__)


def replace_folder(source: Path, target: Path) -> None:
    """Renames the folder `source` to `target`, in place of the one that is there."""
    former = target.parent / f".{target.name}.former-{secrets.token_hex(8)}"
    if target.exists():
        target.rename(former)
    try:
        source.rename(target)
    except BaseException:
        if former.exists():
            former.rename(target)
        raise
    sync(target.parent)
    shutil.rmtree(former, ignore_errors=True)


def sweep(target: Path) -> None:
    """Removes drafts of killed runs next to `target`; puts a former folder back if its replacement never came."""
    for former in sorted(target.parent.glob(f".{target.name}.former-*")):
        if target.exists():
            shutil.rmtree(former)
        else:
            former.rename(target)
            log.warning("%s was put back: a former run was killed while replacing it", target)
    for draft in target.parent.glob(f".{target.name}.writing-*"):
        if _TOKEN.fullmatch(draft.name.rsplit("-", 1)[1]) and (lock := _lock(draft)) is not None:
            shutil.rmtree(draft)
            release(lock)


def make_draft(target: Path) -> tuple[Path, int | None]:
    """A new hidden folder next to `target`, and its lock, None where the disk has no locks of folders."""
    while True:
        folder = target.parent / f".{target.name}.writing-{secrets.token_hex(8)}"
        folder.mkdir()
        lock = _lock(folder)
        if folder.exists():  # nobody took it for that of a killed process before it was locked
            return folder, lock
        release(lock)


def _lock(folder: Path) -> int | None:
    """The lock of a folder; None where another process has it, where the disk has none, or no such folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def release(lock: int | None) -> None:
    """Gives up the lock of a draft."""
    if lock is not None:
        fcntl.flock(lock, fcntl.LOCK_UN)  # a child process that was forked meanwhile has it open as well
        os.close(lock)


def sync(path: Path) -> None:
    """Makes the content of a file, or the renames in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
