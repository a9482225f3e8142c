"""Rows on their way into Parquet: appended to a segment, synced, and sealed into a file that never changes again.

    events/
      _open/20261126T101500-4711-0001.arrows       an Arrow stream that one process appends to
      2026-11-26/20261126T100000-4711-0000.parquet a sealed one

A segment is locked for as long as its process lives; what a killed one left is sealed by the next that looks. The file
is named after the segment and renamed into place before the segment goes, so no row is there twice whenever a process
is killed; a batch that was torn at the end is left out.
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

from mmse.core.artifact import sync, writable

OPEN = "_open"
_STREAM = ".arrows"

log = logging.getLogger(__name__)
_numbers = iter(range(10**9))
_numbering = threading.Lock()


@final
class Segment:
    """A stream that this process appends to; one thread at a time."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Begins a segment of the log in `folder`; raises `OSError` where it cannot be written."""
        place = folder / OPEN
        place.mkdir(parents=True, exist_ok=True)
        with _numbering:
            number = next(_numbers)
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{number:04}{_STREAM}"
        self.path, self.rows, self.begun = place / name, 0, time.monotonic()
        draft, self._end = place / f".{name}", 0
        self._file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._write(schema.serialize())
            draft.rename(self.path)  # locked before anybody can take it for a dead one's
            sync(place)
        except BaseException:
            self.close()
            draft.unlink(missing_ok=True)
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Puts rows on the disk, all or none; raises `OSError` where it refuses."""
        self._write(batch.serialize())
        self.rows += batch.num_rows

    def close(self) -> None:
        """Lets go of it: anybody may seal it now."""
        os.close(self._file)

    def _write(self, data: pa.Buffer) -> None:
        try:
            view = memoryview(data)
            while len(view):
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except BaseException:
            os.ftruncate(self._file, self._end)
            os.lseek(self._file, self._end, os.SEEK_SET)
            raise
        self._end += data.size


def seal_orphans(folder: Path, schema: pa.Schema) -> int:
    """Seals the segments that nobody appends to; gives how many. Any number of threads and processes may look at once.

    Raises `OutputError` where the disk refuses; the segment stays then.
    """
    sealed = 0
    for segment in sorted((folder / OPEN).glob(f"*{_STREAM}")):
        try:
            file = os.open(segment, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if segment.exists():  # nobody sealed it between our two looks
                _seal(segment, schema)
                sealed += 1
        except BlockingIOError:
            continue
        finally:
            os.close(file)
    return sealed


def batches_of(segment: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a segment, up to where a killed process tore it; raises nothing for what is torn, but says so."""
    data = segment.read_bytes()
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as stream:
            yield from stream
    except (pa.ArrowInvalid, OSError) as error:
        log.warning("%s was torn by the end of its process: %s. What stands before that is kept.", segment, error)


def open_batches(folder: Path) -> list[pa.RecordBatch]:
    """The rows that are not sealed yet, of living processes and of dead ones."""
    found: list[pa.RecordBatch] = []
    for segment in sorted((folder / OPEN).glob(f"*{_STREAM}")):
        try:
            found += batches_of(segment)
        except FileNotFoundError:
            continue  # sealed since
    return found


def sealed_files(folder: Path) -> list[Path]:
    """The Parquet files of the log, oldest first."""
    return sorted(path for path in folder.glob("*/*.parquet") if not path.name.startswith("."))


def _seal(segment: Path, schema: pa.Schema) -> None:
    """Makes a segment a Parquet file, unless it has no row or is one already, and removes it."""
    folder, stamp = segment.parent.parent, segment.stem
    place = folder / f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}" / f"{stamp}.parquet"
    if not place.exists() and (batches := list(batches_of(segment))):
        with writable(place):
            place.parent.mkdir(exist_ok=True)
            draft = place.with_name(f".{place.name}.writing")
            pq.write_table(pa.Table.from_batches(batches, schema), draft, compression="zstd")
            with draft.open("rb") as written:
                os.fsync(written.fileno())
            draft.replace(place)
            sync(place.parent)
    segment.unlink()
