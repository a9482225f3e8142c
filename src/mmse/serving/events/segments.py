"""Rows on their way into Parquet: appended to a segment, synced, and sealed into a file that never changes again.

    events/
      _open/20261126T101500-5f1c…e2.rows            a stream that one process appends to
      2026-11-26/20261126T100000-9a04…71.parquet    a sealed segment

A segment has a name of random bytes, made where no such file exists: servers in containers share process ids and
clocks. It is locked as long as its process lives. A process that wants all rows sealed writes `_open/seal`; those that
append look at it every second, and then go on in a new segment. Whoever looks next seals the segment of a process that
was killed: the Parquet file is named after the segment and put into place before the segment is removed. Where a file
of that name is there already, the segment is removed only if that file has its rows; so no row is there twice, and none
is lost, at whatever moment a process is killed. What is no whole batch of a segment, where a process was killed or the
disk has changed a byte, is kept in `_open/torn-SEGMENT-BYTE`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import time
from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.artifact import explain_os_errors, rename_exclusively, write_file
from mmse.core.drafts import sync
from mmse.serving.events.sealed_file import write_sealed
from mmse.serving.events.stream import StreamContent, decode, decode_arrow, encode_batch, encode_schema

OPEN_FOLDER = "_open"
DRAFT = ".writing"
_TORN = "torn-"
_MAX_KEPT = 16 << 20
"""How many bytes of a torn segment are kept aside."""
_STREAM, _FORMER_STREAM = ".rows", ".arrows"
_SEAL_REQUEST = "seal"

log = logging.getLogger(__name__)


@final
class Segment:
    """A stream that this process appends to; one thread at a time."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Opens a new segment of the log in `folder`; raises `OSError` where it cannot be written."""
        open_folder = folder / OPEN_FOLDER
        open_folder.mkdir(parents=True, exist_ok=True)
        self._request = _read_request(folder)
        self.path, self._file = _create_locked(open_folder)
        self.n_rows, self.opened_at, self._size = 0, time.monotonic(), 0
        try:
            self._write(encode_schema(schema))
            sync(open_folder)
        except BaseException:
            self.path.unlink(missing_ok=True)
            self.close()
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Writes rows to the disk, all or none; raises `OSError` where the disk refuses."""
        self._write(encode_batch(batch))
        self.n_rows += batch.num_rows

    def is_to_be_sealed(self) -> bool:
        """Whether somebody has asked since its beginning that all rows be sealed."""
        return _read_request(self.path.parent.parent) != self._request

    def close(self) -> None:
        """Releases the segment: from then on anybody may seal it."""
        os.close(self._file)

    def _write(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while len(view):
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
            if os.fstat(self._file).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "Somebody has removed it", str(self.path))
        except BaseException:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += len(data)


def seal_orphans(folder: Path, schema: pa.Schema) -> int:
    """Seals the segments that nobody appends to; gives how many. Any number of threads and processes may do so at once.

    Raises `OutputError` where the disk refuses; the segment stays then.
    """
    n_sealed = 0
    for segment in open_segments(folder):
        try:
            file = os.open(segment, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_open_file(file, segment):  # nobody has sealed it between the opening and the lock
                _seal(segment, schema)
                n_sealed += 1
        except BlockingIOError:
            continue
        finally:
            os.close(file)
    return n_sealed


def request_seal(folder: Path) -> None:
    """Asks every process that appends to the log in `folder` to close its segment, for the one that calls to seal."""
    if (folder / OPEN_FOLDER).is_dir():
        write_file(folder / OPEN_FOLDER / _SEAL_REQUEST, secrets.token_bytes(8))


def is_in_use(segment: Path) -> bool:
    """Whether a living process appends to a segment."""
    with contextlib.suppress(FileNotFoundError), segment.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def open_segments(folder: Path) -> list[Path]:
    """The segments that are not sealed yet, of living processes and of dead ones."""
    return sorted(path for end in (_STREAM, _FORMER_STREAM) for path in (folder / OPEN_FOLDER).glob(f"*{end}"))


def read_segment(segment: Path, schema: pa.Schema) -> StreamContent:
    """What a segment holds, and where it holds no whole rows, which is logged."""
    data = segment.read_bytes()
    content = decode_arrow(data) if segment.suffix == _FORMER_STREAM else decode(data, schema)
    for gap in content.gaps:
        log.warning("%s has no whole rows from byte %d to %d", segment, gap.start, gap.end)
    return content


def torn_files(folder: Path) -> list[Path]:
    """What was kept of segments that were torn."""
    return sorted((folder / OPEN_FOLDER).glob(f"{_TORN}*"))


def read_open_batches(folder: Path, schema: pa.Schema) -> list[pa.RecordBatch]:
    """The rows that are not sealed yet, of living processes and of dead ones."""
    batches: list[pa.RecordBatch] = []
    for segment in open_segments(folder):
        try:
            batches += read_segment(segment, schema).batches
        except FileNotFoundError:
            continue  # sealed since the listing
    return batches


def sealed_files(folder: Path) -> list[Path]:
    """The Parquet files of the log, oldest first."""
    return sorted(path for path in folder.glob("*/*.parquet") if not path.name.startswith("."))


def _read_request(folder: Path) -> bytes:
    """The newest wish that all be sealed, as bytes that nobody else wrote; empty where there was none."""
    try:
        return (folder / OPEN_FOLDER / _SEAL_REQUEST).read_bytes()
    except OSError:
        return b""


def _create_locked(open_folder: Path) -> tuple[Path, int]:
    """A new file under a name that nobody has, and its descriptor, which holds its lock."""
    while True:
        path = open_folder / f"{_new_stem()}{_STREAM}"
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(file)
            raise
        if _is_open_file(file, path):
            return path, file
        os.close(file)  # before it was locked, somebody took the empty file for that of a dead process


def _new_stem() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(8)}"


def _is_open_file(file: int, path: Path) -> bool:
    """Whether the open `file` is the one that stands at `path`."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def _seal(segment: Path, schema: pa.Schema) -> None:
    """Makes a Parquet file of a segment, unless it has no row or a file with its rows, and removes the segment."""
    content = read_segment(segment, schema)
    if content.batches:
        rows = pa.Table.from_batches(content.batches, schema)
        target = _target_of(segment)
        with explain_os_errors(target):
            if target.exists() and not _holds(target, rows):
                log.warning("%s holds other rows than %s, which gets a name of its own", target, segment)
                target = target.with_stem(_new_stem())
            if not target.exists():
                _put_sealed(rows, target)
    for gap in content.gaps:
        if gap.is_torn and not content.batches:
            continue  # its process was killed before it began
        torn_file = segment.with_name(f"{_TORN}{segment.stem}-{gap.start}")
        log.warning("They are kept in %s", torn_file)
        with contextlib.suppress(OSError):
            torn_file.write_bytes(segment.read_bytes()[gap.start : min(gap.end, gap.start + _MAX_KEPT)])
    segment.unlink()


def _target_of(segment: Path) -> Path:
    stem = segment.stem
    return segment.parent.parent / f"{stem[:4]}-{stem[4:6]}-{stem[6:8]}" / f"{stem}.parquet"


def draft_of(target: Path) -> Path:
    """A new hidden name beside a sealed file, for what is to take its place."""
    return target.with_name(f".{target.stem}-{secrets.token_hex(4)}{DRAFT}")


def _put_sealed(rows: pa.Table, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    draft = draft_of(target)
    try:
        write_sealed(rows, draft)
        rename_exclusively(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    sync(target.parent)


def _holds(file: Path, rows: pa.Table) -> bool:
    """Whether a Parquet file has these rows, as it has where a process was killed before it removed their segment."""
    try:
        return bool(pq.read_table(file).equals(rows))
    except (OSError, pa.ArrowException):
        return False
