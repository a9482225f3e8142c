"""Rows on their way into Parquet: appended to a segment, synced, and sealed into a file that never changes again.

    events/
      _open/20261126T101500-4711-0001.arrows       an Arrow stream that one process appends to
      2026-11-26/20261126T100000-4711-0000.parquet a sealed segment

A segment is locked as long as its process lives. Whoever looks next seals the segment of a process that was killed: the
Parquet file is named after the segment and renamed into place before the segment is removed, so no row is there twice
at whatever moment a process is killed. A batch that was torn at the end is left out.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.artifact import explain_os_errors, sync

OPEN_FOLDER = "_open"
_STREAM = ".arrows"

log = logging.getLogger(__name__)
_numbers = iter(range(10**9))
_numbers_lock = threading.Lock()


@final
class Segment:
    """A stream that this process appends to; one thread at a time."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Opens a new segment of the log in `folder`; raises `OSError` where it cannot be written."""
        open_folder = folder / OPEN_FOLDER
        open_folder.mkdir(parents=True, exist_ok=True)
        with _numbers_lock:
            number = next(_numbers)
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{number:04}{_STREAM}"
        self.path, self.n_rows, self.opened_at = open_folder / name, 0, time.monotonic()
        draft, self._size = open_folder / f".{name}", 0
        self._file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._write(schema.serialize())
            draft.rename(self.path)  # locked before anybody can take it for the segment of a dead process
            sync(open_folder)
        except BaseException:
            self.close()
            draft.unlink(missing_ok=True)
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Writes rows to the disk, all or none; raises `OSError` where the disk refuses."""
        self._write(batch.serialize())
        self.n_rows += batch.num_rows

    def close(self) -> None:
        """Releases the segment: from then on anybody may seal it."""
        os.close(self._file)

    def _write(self, data: pa.Buffer) -> None:
        try:
            view = memoryview(data)
            while len(view):
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except BaseException:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += data.size


def seal_orphans(folder: Path, schema: pa.Schema) -> int:
    """Seals the segments that nobody appends to; gives how many. Any number of threads and processes may do so at once.

    Raises `OutputError` where the disk refuses; the segment stays then.
    """
    n_sealed = 0
    for segment in sorted((folder / OPEN_FOLDER).glob(f"*{_STREAM}")):
        try:
            file = os.open(segment, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if segment.exists():  # nobody has sealed it between the opening and the lock
                _seal(segment, schema)
                n_sealed += 1
        except BlockingIOError:
            continue
        finally:
            os.close(file)
    return n_sealed


def read_batches(segment: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a segment, up to where a killed process tore it; a torn end is logged, and raises nothing."""
    data = segment.read_bytes()
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as stream:
            yield from stream
    except (pa.ArrowInvalid, OSError) as error:
        log.warning("%s was torn by the end of its process: %s. What stands before that is kept.", segment, error)


def read_open_batches(folder: Path) -> list[pa.RecordBatch]:
    """The rows that are not sealed yet, of living processes and of dead ones."""
    batches: list[pa.RecordBatch] = []
    for segment in sorted((folder / OPEN_FOLDER).glob(f"*{_STREAM}")):
        try:
            batches += read_batches(segment)
        except FileNotFoundError:
            continue  # sealed since the listing
    return batches


def sealed_files(folder: Path) -> list[Path]:
    """The Parquet files of the log, oldest first."""
    return sorted(path for path in folder.glob("*/*.parquet") if not path.name.startswith("."))


def _seal(segment: Path, schema: pa.Schema) -> None:
    """Makes a Parquet file of a segment, unless it has no row or there is one already, and removes the segment."""
    folder, stem = segment.parent.parent, segment.stem
    target = folder / f"{stem[:4]}-{stem[4:6]}-{stem[6:8]}" / f"{stem}.parquet"
    if not target.exists() and (batches := list(read_batches(segment))):
        with explain_os_errors(target):
            target.parent.mkdir(exist_ok=True)
            draft = target.with_name(f".{target.name}.writing")
            pq.write_table(pa.Table.from_batches(batches, schema), draft, compression="zstd")
            sync(draft)
            draft.replace(target)
            sync(target.parent)
    segment.unlink()
