"""The journal: the only durable truth of edits, in a file that is only ever appended to.

A frame is a mark, a length, two checksums and a body; the first holds the header, each further one what one commit
took in, however many callers it was for. It is on the disk before anybody is told that it is. Since a frame is begun
only when the one before is on the disk, a broken frame with nothing after it is one that nobody was told of: it is
dropped. A broken frame that has whole ones after it, or bytes in it that a write cannot leave, is damage.

Who appends locks the file until the frame is on the disk or taken back, so that who reads sees neither.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

import msgspec

from mmse import __version__
from mmse.catalogue.edits import Edit
from mmse.core import locks
from mmse.core.artifact import sync, writable
from mmse.core.errors import ArtifactError, OutputError, UsageError

SCHEMA_VERSION = 1
MARK = b"\xf5mj\n"
MOST_BYTES = 1 << 30
"""Of one commit: four billion is where the length would overflow, and no shop has a batch like that."""

_HEAD = Struct("<4sIII")  # mark, length, checksum of the body, checksum of these
_SECTOR = 512


class Header(msgspec.Struct, frozen=True):
    """What the edits belong to.

    `origin` is the fingerprint of the run's stage folders, `base` that of the folded base they go on top of (None:
    the run itself). `version` counts the calls taken in before the first of this journal, `n_rows` the rows then.
    """

    schema_version: int
    generation: int
    origin: str
    base: str | None
    version: int
    mmse: str = __version__


class Batch(msgspec.Struct, frozen=True):
    """What one commit took in: the edits of each call, and when (seconds since 1970)."""

    calls: list[list[Edit]]
    at: float


@dataclass(frozen=True)
class Read:
    """A stretch of a journal: its batches, where each ends, and where the next will begin."""

    batches: list[Batch]
    end: int

    @property
    def calls(self) -> list[list[Edit]]:
        """The edits of each call, in order."""
        return [call for batch in self.batches for call in batch.calls]


def create(path: Path, header: Header, tail: bytes = b"") -> int:
    """Writes a journal with `header` and the frames `tail`, whole on the disk or not there; gives where it ends."""
    draft = path.with_name(f".{path.name}.writing")
    content = _frame(msgspec.msgpack.encode(header)) + tail
    with writable(path):
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        try:
            sync(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return len(content)


@contextlib.contextmanager
def appended(path: Path, end: int, calls: Sequence[Sequence[Edit]]) -> Iterator[int]:
    """Puts what one commit took in on the disk, at byte `end` of a journal, and gives where it ends then.

    For who has the turn to write and has read to `end`: what lies past it, a frame that a killed writer left torn, is
    cut off. What was appended is taken back where the block raises. Raises `OutputError` where the disk is full or
    refuses, and `UsageError` where it is too much at once; then the journal is as it was.
    """
    frame = _frame(msgspec.msgpack.encode(Batch([list(call) for call in calls], time.time())))
    with _refused(path):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        locks.wait(file, path)
        with _refused(path):
            if os.fstat(file).st_size != end:
                _cut(file, end)
        try:
            with _refused(path):
                written = 0
                while written < len(frame):
                    written += os.write(file, frame[written:])
                os.fsync(file)
            yield end + len(frame)
        except BaseException:
            with contextlib.suppress(OSError):  # then the next writer cuts it, where it is torn
                _cut(file, end)
            raise
    finally:
        os.close(file)


def frames(edits: Sequence[Edit], per_frame: int = 10_000) -> bytes:
    """`edits` as the batches of a journal, for one that is written as a whole."""
    parts = [list(edits[start : start + per_frame]) for start in range(0, len(edits), per_frame)]
    return b"".join(_frame(msgspec.msgpack.encode(Batch([part], time.time()))) for part in parts)


def read_header(path: Path) -> tuple[Header, int]:
    """The header of a journal and where the first batch begins; raises `ArtifactError` where it is damaged."""
    with path.open("rb") as file:
        start = file.read(_HEAD.size)
        length = _HEAD.unpack(start)[1] if len(start) == _HEAD.size else 0
        body = _body(start + file.read(min(length, MOST_BYTES)), 0)
    try:
        if body is None:
            raise ValueError("it does not begin with a header")
        header = msgspec.msgpack.decode(body, type=Header)
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
    return header, _HEAD.size + len(body)


def read(path: Path, start: int, end: int | None = None) -> Read:
    """The batches from byte `start` to before `end` (None: the end of the file), without a torn one at the end.

    Raises `ArtifactError` naming the damaged byte.
    """
    with path.open("rb") as file:
        locks.wait(file.fileno(), path, shared=True)
        file.seek(start)
        data = file.read() if end is None else file.read(end - start)
    batches: list[Batch] = []
    at = 0
    while at < len(data):
        body = _body(data, at)
        if body is None:
            if _torn(data, at):
                break
            raise _damage(path, start + at, "its content is not what was written")
        try:
            batches.append(msgspec.msgpack.decode(body, type=Batch))
        except msgspec.MsgspecError as error:
            raise _damage(path, start + at, str(error)) from error
        at += _HEAD.size + len(body)
    return Read(batches, start + at)


def tail(path: Path, start: int, end: int) -> bytes:
    """The frames from byte `start` to before `end`, as they stand in the file."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _cut(file: int, end: int) -> None:
    os.ftruncate(file, end)
    os.fsync(file)


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        with writable(path):
            yield
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}.", "Look after that disk.") from error


def _frame(body: bytes) -> bytes:
    if len(body) > MOST_BYTES:
        raise UsageError(f"These edits take {len(body):,} bytes, at most {MOST_BYTES:,}.", "Apply them in parts.")
    start = _HEAD.pack(MARK, len(body), zlib.crc32(body), 0)
    return start[:12] + zlib.crc32(start[:12]).to_bytes(4, "little") + body


def _body(data: bytes, at: int) -> bytes | None:
    """The body of the frame at byte `at`; None where there is no whole one."""
    head = data[at : at + _HEAD.size]
    if len(head) < _HEAD.size:
        return None
    mark, length, checksum, own = _HEAD.unpack(head)
    if mark != MARK or own != zlib.crc32(head[:12]):
        return None
    body = data[at + _HEAD.size : at + _HEAD.size + length]
    return body if len(body) == length and zlib.crc32(body) == checksum else None


def _torn(data: bytes, at: int) -> bool:
    """Whether the broken frame at `at` was cut short while written: by a kill, or by a power cut that left a hole."""
    after = data.find(MARK, at + 1)
    while after >= 0:
        if _body(data, after) is not None:
            return False
        after = data.find(MARK, after + 1)
    head = data[at : at + _HEAD.size]
    if len(head) < _HEAD.size:
        return True
    mark, length, _, own = _HEAD.unpack(head)
    short = mark == MARK and own == zlib.crc32(head[:12]) and at + _HEAD.size + length > len(data)
    return short or bytes(_SECTOR) in data[at:] or not any(head)


def _damage(path: Path, at: int, why: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is damaged at byte {at}: {why}.",
        f"Restore it from a backup; or keep the edits before that byte and lose the others: truncate -s {at} {path}",
    )
