"""What shoppers saw and did, as it comes in: JSON Lines, on the disk before anybody is told that it is.

    events/
      20261125T221633-4711-0001.jsonl      one file a process, a new one every `ROTATE_BYTES`

`export` joins them into the events table that `mmse mine` reads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, final

import duckdb
import msgspec

from mmse.api import Click, Exposure, Order
from mmse.artifact import writable
from mmse.errors import UsageError

ROTATE_BYTES = 64 * 1024 * 1024

Event = Exposure | Click | Order


@final
class EventLog:
    """One process's hold on the folder of events; any number of threads may append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._number = 0

    def append(self, events: Sequence[Event]) -> None:
        """Puts `events` on the disk, all or none; raises `OutputError` where it refuses."""
        now = time.time()
        lines = b"".join(msgspec.json.encode(_stamped(event, now)) + b"\n" for event in events)
        with self._lock, writable(self.folder):
            file = self._current()
            end = file.tell()
            try:
                file.write(lines)
                os.fsync(file.fileno())
            except BaseException:
                file.seek(end)
                file.truncate(end)
                raise

    def close(self) -> None:
        """Ends the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def _current(self) -> IO[bytes]:
        if self._file is not None and self._file.tell() >= ROTATE_BYTES:
            self._file.close()
            self._file = None
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._number += 1
            at = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
            name = f"{at}-{os.getpid()}-{self._number:04}.jsonl"
            self._file = (self.folder / name).open("xb", buffering=0)
        assert self._file is not None
        return self._file


def export(folder: Path, out: Path) -> int:
    """Joins the events in `folder` into a table of one row for each item shown (docs/tables.md); gives its rows.

    A line that a killed process left torn is left out. Raises `UsageError` where there are no events.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not any(file.stat().st_size for file in files):
        raise UsageError(f"There are no events in {folder}.", "Send some to POST /v1/events first.")
    draft = out.with_name(f".{out.name}.writing")
    with writable(out), duckdb.connect() as database:
        database.execute(_LINES, [[str(file) for file in files]])
        database.execute(_TABLE)
        database.execute("copy shown to $1 (format parquet, compression zstd)", [str(draft)])
        draft.replace(out)
        rows = database.execute("select count(*) from shown").fetchone()
    assert rows is not None
    return int(rows[0])


_LINES = """
create table lines as select * from read_json($1, format = 'newline_delimited', ignore_errors = true, columns = {
    type: 'varchar', request_id: 'varchar', timestamp: 'double', query: 'varchar', items: 'varchar[]',
    first_position: 'integer', user_id: 'varchar', arm: 'varchar', version: 'varchar', item_id: 'varchar',
    price: 'double'})
"""
_TABLE = """
create table shown as
with done as (
    select request_id, item_id, bool_or(type = 'click') as clicked, bool_or(type = 'order') as ordered,
           max(price) as price
    from lines where type in ('click', 'order') group by all
), each as (
    select request_id, timestamp, query, user_id, arm, version, unnest(items) as item_id,
           (generate_subscripts(items, 1) + coalesce(first_position, 1) - 1)::integer as position
    from lines where type = 'exposure' and request_id is not null
), placed as (
    select * from each
    qualify row_number() over (partition by request_id, item_id order by timestamp, position) = 1
)
select placed.request_id, make_timestamp((placed.timestamp * 1e6)::bigint) as timestamp, placed.query, placed.item_id,
       placed.position, coalesce(done.clicked or done.ordered, false) as clicked,
       coalesce(done.ordered, false) as ordered, placed.user_id, placed.arm, placed.version, done.price
from placed left join done using (request_id, item_id)
order by placed.timestamp, placed.request_id, placed.position
"""


def _stamped(event: Event, now: float) -> Event:
    return event if event.timestamp is not None else msgspec.structs.replace(event, timestamp=now)
