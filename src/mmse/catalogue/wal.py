"""The write-ahead log of edits, their only durable record: a file that is only ever appended to.

The first frame (`mmse.core.frames`) holds the header. Each further one holds one commit, of however many callers. It is
on the disk before any of them is told so. So a broken frame at the end was never acknowledged, unless the file was cut.
It is dropped, which is said, and its bytes are kept aside. A broken frame that has whole ones after it, or bytes in it
that an interrupted write cannot leave, is damage.

A writer locks the file until its frame is on the disk or removed again, so that a reader sees neither.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mmse import __version__
from mmse.catalogue.edits import Edit
from mmse.core import frames, locks
from mmse.core.artifact import explain_os_errors, write_file
from mmse.core.errors import ArtifactError, OutputError, UsageError
from mmse.core.frames import HEAD, is_torn, read_body

SCHEMA_VERSION = 1
MAX_BYTES = 1 << 30
"""The size limit of one commit. The length field would overflow at four billion; no shop has a batch of that size."""

MAX_KEPT = 16 << 20
"""How many bytes of a torn commit are kept aside."""

log = logging.getLogger(__name__)


class WalHeader(msgspec.Struct, frozen=True):
    """What the edits belong to.

    `origin` is the fingerprint of the run's step folders, `base` that of the folded base that the edits were made on
    (None: the run itself). `version` counts the calls before the first one of this log.
    """

    schema_version: int
    generation: int
    origin: str
    base: str | None
    version: int
    mmse: str = __version__


class WalCommit(msgspec.Struct, frozen=True):
    """The edits of each call that one commit took, and its time (seconds since 1970)."""

    calls: list[list[Edit]]
    at: float


@dataclass(frozen=True)
class WalSlice:
    """Consecutive commits of a log, and the byte at which the next one begins.

    `n_torn` bytes follow there that are no whole commit.
    """

    commits: list[WalCommit]
    end: int
    n_torn: int = 0

    @property
    def calls(self) -> list[list[Edit]]:
        """The edits of each call, in order."""
        return [call for commit in self.commits for call in commit.calls]


def create(path: Path, header: WalHeader, tail: bytes = b"") -> int:
    """Writes a log with `header` and the frames `tail`, completely or not at all; returns its length in bytes."""
    assert not path.exists(), "the log of a generation is created once"
    content = _frame(msgspec.msgpack.encode(header)) + tail
    try:
        write_file(path, content)
    except BaseException:
        path.unlink(missing_ok=True)  # it was renamed, but the rename may not be durable
        raise
    return len(content)


@contextlib.contextmanager
def append(path: Path, end: int, calls: Sequence[Sequence[Edit]]) -> Iterator[int]:
    """Writes one commit to the disk at byte `end` of a log, and yields where the log ends then.

    The caller has the turn to write and has read up to `end`; what lies behind is a frame that a killed writer left
    torn, and is cut off. The commit is removed again where the block raises. Raises `OutputError` where the disk is
    full or refuses, and `UsageError` where the commit is too large; the log is then as it was.
    """
    frame = _frame(msgspec.msgpack.encode(WalCommit([list(call) for call in calls], time.time())))
    with _output_errors(path):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        locks.lock_file(file, path)
        with _output_errors(path):
            if os.fstat(file).st_size != end:
                _keep_torn(path, end)
                _truncate(file, end)
        try:
            with _output_errors(path):
                n_written = 0
                while n_written < len(frame):
                    n_written += os.write(file, frame[n_written:])
                os.fsync(file)
            yield end + len(frame)
        except BaseException:
            with contextlib.suppress(OSError):  # the next writer truncates it if this fails
                _truncate(file, end)
            raise
    finally:
        os.close(file)


def encode_frames(edits: Sequence[Edit], per_frame: int = 10_000) -> bytes:
    """`edits` as the commits of a log that is written in one go."""
    calls = [list(edits[start : start + per_frame]) for start in range(0, len(edits), per_frame)]
    return b"".join(_frame(msgspec.msgpack.encode(WalCommit([call], time.time()))) for call in calls)


def read_header(path: Path) -> tuple[WalHeader, int]:
    """The header of a log and the byte where the first commit begins; raises `ArtifactError` where it is damaged."""
    with path.open("rb") as file:
        head = file.read(HEAD.size)
        length = HEAD.unpack(head)[1] if len(head) == HEAD.size else 0
        body = read_body(head + file.read(min(length, MAX_BYTES)), 0)
    try:
        if body is None:
            raise ValueError("it does not begin with a header")
        header = msgspec.msgpack.decode(body, type=WalHeader)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ArtifactError(
            f"{path} is damaged at byte 0: {error}.",
            f"Restore it from a backup; or move {path.parent} away, without the edits in it.",
        ) from error
    if header.schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {header.schema_version}, this mmse reads {SCHEMA_VERSION}.",
            "Open the catalogue with the mmse that wrote it.",
        )
    return header, HEAD.size + len(body)


def read(path: Path, start: int, end: int | None = None) -> WalSlice:
    """The commits from byte `start` to before `end` (None: the end of the file), without a torn one at the end.

    Raises `ArtifactError` naming the damaged byte.
    """
    with path.open("rb") as file:
        locks.lock_file(file.fileno(), path, share=True)
        file.seek(start)
        data = file.read() if end is None else file.read(end - start)
    commits: list[WalCommit] = []
    offset = 0
    while offset < len(data):
        body = read_body(data, offset)
        if body is None:
            if is_torn(data, offset):
                break
            raise _damage_error(path, start + offset, "its content is not what was written")
        try:
            commits.append(msgspec.msgpack.decode(body, type=WalCommit))
        except msgspec.MsgspecError as error:
            raise _damage_error(path, start + offset, str(error)) from error
        offset += HEAD.size + len(body)
    return WalSlice(commits, start + offset, len(data) - offset)


def read_frames(path: Path, start: int, end: int) -> bytes:
    """The bytes of the frames from byte `start` to before `end`."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def torn_problem(path: Path, end: int, n_torn: int) -> str:
    """What the `n_torn` bytes after byte `end` of a log mean."""
    return (
        f"The last {n_torn:,} bytes of {path}, from byte {end} on, are no whole commit. Either a process was ended "
        "in the middle of an edit, which it never acknowledged; or the file was cut, and its last edits are lost."
    )


def _keep_torn(path: Path, end: int) -> None:
    """Keeps the bytes after `end`, which are about to be cut off, in a file beside the log, as far as there is room."""
    with path.open("rb") as file:
        file.seek(end)
        data = file.read(MAX_KEPT)
    if not data:
        return
    log.warning("%s They are cut off, and kept in %s.", torn_problem(path, end, len(data)), _torn_file(path, end))
    with contextlib.suppress(OSError):
        _torn_file(path, end).write_bytes(data)


def _torn_file(path: Path, end: int) -> Path:
    return path.with_name(f"torn-{path.name}-{end}")


def _truncate(file: int, end: int) -> None:
    os.ftruncate(file, end)
    os.fsync(file)


@contextlib.contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    """Turns every refusal of the operating system into an `OutputError`."""
    try:
        with explain_os_errors(path):
            yield
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}.", "Look after that disk.") from error


def _frame(body: bytes) -> bytes:
    if len(body) > MAX_BYTES:
        raise UsageError(f"These edits take {len(body):,} bytes, at most {MAX_BYTES:,}.", "Apply them in parts.")
    return frames.encode_frame(body)


def _damage_error(path: Path, offset: int, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is damaged at byte {offset}: {reason}.",
        "Restore it from a backup; or keep the edits before that byte and lose the others: "
        f"truncate -s {offset} {path}",
    )
