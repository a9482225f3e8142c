"""What was shown and what shoppers did, as it happens: rows of the events table, in Parquet that `mmse mine` reads.

One row for each item shown; a click, a cart or an order that comes later is a row of its own, with neither query nor
position, which mining joins to the row that shows the item. `mmse.serving.events.segments` has how they reach the disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import duckdb
import pyarrow as pa

from mmse.core.artifact import writable
from mmse.core.errors import OutputError, UsageError
from mmse.schema.http import Cart, Click, Exposure, Order
from mmse.serving.events import segments as journal
from mmse.serving.events.segments import Segment
from mmse.serving.observability import metrics

FLUSH_S = 0.02
"""How long what the server shows may wait for company on its way to the disk."""
SEAL_ROWS = 500_000
SEAL_S = 300.0
MOST_WAITING = 100_000
"""Exposures that wait to be written; more are dropped, and counted."""

SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string()),
        pa.field("timestamp", pa.timestamp("us")),
        pa.field("query", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("position", pa.int32()),
        pa.field("clicked", pa.bool_()),
        pa.field("carted", pa.bool_()),
        pa.field("ordered", pa.bool_()),
        pa.field("price", pa.float64()),
        pa.field("user_id", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("explored", pa.bool_()),
        pa.field("propensity", pa.float64()),
        pa.field("version", pa.string()),
        pa.field("arm", pa.string()),
        pa.field("assignments", pa.map_(pa.string(), pa.string())),
        pa.field("team", pa.string()),
        pa.field("rank_a", pa.int32()),
        pa.field("rank_b", pa.int32()),
    ]
)

Event = Exposure | Click | Cart | Order
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """Items that a request was shown, first place first; lists are by item, None where they do not apply.

    `timestamp` is in seconds since 1970, `propensities` the chances that the item stood where it did, before that was
    drawn. `teams`, `ranks_a` and `ranks_b` are of two interleaved lists.
    """

    request_id: str
    timestamp: float
    query: str
    item_ids: Sequence[str]
    first_position: int = 1
    user_id: str | None = None
    session_id: str | None = None
    version: str | None = None
    arm: str | None = None
    assignments: Mapping[str, str] = field(default_factory=dict)
    explored: Sequence[bool] | None = None
    propensities: Sequence[float | None] | None = None
    teams: Sequence[str | None] | None = None
    ranks_a: Sequence[int | None] | None = None
    ranks_b: Sequence[int | None] | None = None


@dataclass
class _Waiting:
    """What waits to be written; `written` is set once it is, or `error` says why not."""

    events: Sequence[Event | Shown]
    written: threading.Event | None = None
    error: Exception | None = None


@final
class EventLog:
    """One process's hold on the folder of events; any number of threads may append. A thread of its own writes."""

    def __init__(self, folder: Path, *, seal_rows: int = SEAL_ROWS, seal_s: float = SEAL_S) -> None:
        self.folder, self.problem = folder, ""
        self._seal_rows, self._seal_s = seal_rows, seal_s
        self._queue: deque[_Waiting] = deque()
        self._wake, self._ended = threading.Event(), threading.Event()
        self._segment: Segment | None = None
        self._writer: threading.Thread | None = None
        self._sealers: list[threading.Thread] = []
        self._lock = threading.Lock()

    def append(self, events: Sequence[Event]) -> None:
        """Puts `events` on the disk, all or none; raises `OutputError` where it refuses, `UsageError` for a bad one."""
        _check(events)
        waiting = _Waiting(events, threading.Event())
        self._put(waiting)
        assert waiting.written is not None
        waiting.written.wait()
        if waiting.error is not None:
            raise waiting.error

    def record(self, shown: Shown) -> None:
        """Lets `shown` be written within a twentieth of a second, without waiting for it.

        Where the disk refuses or cannot keep up it is dropped, counted, and `problem` says why.
        """
        if len(self._queue) >= MOST_WAITING:
            self._dropped(1, "exposures come faster than the disk takes them")
            return
        self._put(_Waiting((shown,)))

    def close(self) -> None:
        """Writes what waits, seals what was written, and ends."""
        with self._lock:
            self._ended.set()
            self._wake.set()
        if self._writer is not None:
            self._writer.join()
        for sealer in self._sealers:
            sealer.join()

    def _put(self, waiting: _Waiting) -> None:
        with self._lock:
            if self._ended.is_set():
                raise OutputError("The event log is closed: the server ends.", "Send them to the next one.")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="mmse-events", daemon=True)
                self._writer.start()
            self._queue.append(waiting)
        self._wake.set()

    def _write(self) -> None:
        self._seal_in_background()
        while True:
            self._wake.wait(self._seal_s)
            if self._queue and self._queue[0].written is None:
                self._ended.wait(FLUSH_S)
            self._wake.clear()
            ending = self._ended.is_set()  # asked after the clearing: who ends it wakes us after that, or is seen here
            self._drain()
            if self._segment is not None and (
                ending
                or self._segment.rows >= self._seal_rows
                or time.monotonic() - self._segment.begun >= self._seal_s
            ):
                self._segment.close()
                self._segment = None
                self._seal_in_background()
            if ending and not self._queue:
                return

    def _drain(self) -> None:
        together: list[_Waiting] = []
        while self._queue:
            together.append(self._queue.popleft())
        if not together:
            return
        try:
            self._append([event for one in together for event in one.events])
        except Exception as error:  # whatever it is, who waits has to be told, and searches go on
            for one in together:
                one.error = error
            lost = sum(len(one.events) for one in together if one.written is None)
            if lost:
                self._dropped(lost, getattr(error, "cause", str(error)))
        else:
            self.problem = ""
        for one in together:
            if one.written is not None:
                one.written.set()

    def _append(self, events: Sequence[Event | Shown]) -> None:
        batch = _batch(events)
        with writable(self.folder):
            if self._segment is None:
                self._segment = Segment(self.folder, SCHEMA)
            self._segment.append(batch)

    def _dropped(self, n: int, why: str) -> None:
        self.problem = f"{n} exposures or more could not be logged: {why}"
        metrics.exposures_dropped.inc(n)
        log.error("%s", self.problem)

    def _seal_in_background(self) -> None:
        """Seals what was let go of, by this process or by one that is gone."""

        def work() -> None:
            try:
                journal.seal_orphans(self.folder, SCHEMA)
            except (OSError, OutputError) as error:
                log.error("events stay in %s, to be sealed later: %s", self.folder / journal.OPEN, error)

        sealer = threading.Thread(target=work, name="mmse-seal", daemon=True)
        sealer.start()
        self._sealers = [one for one in self._sealers if one.is_alive()] + [sealer]


def export(folder: Path, out: Path) -> int:
    """Joins the events in `folder` into a table of one row for each item shown (docs/tables.md); gives its rows.

    What is not sealed yet is among them. Raises `UsageError` where there are no events.
    """
    files = journal.sealed_files(folder)
    # What is sealed while we look is in both, and merged.
    fresh = pa.Table.from_batches(journal.open_batches(folder), SCHEMA)
    if not files and not fresh.num_rows:
        raise UsageError(
            f"There are no events in {folder}.", "Serve with --log-exposures, or send some to POST /v1/events first."
        )
    sealed = f"union all by name select * from read_parquet({[str(file) for file in files]}, union_by_name = true)"
    draft = out.with_name(f".{out.name}.writing")
    with writable(out), duckdb.connect() as database:
        database.execute(f"create view told as select * from fresh {sealed if files else ''}")
        database.execute(f"create table shown as {merged('told')}")
        database.execute("copy shown to $1 (format parquet, compression zstd)", [str(draft)])
        draft.replace(out)
        rows = database.execute("select count(*) from shown").fetchone()
    assert rows is not None
    return int(rows[0])


def merged(told: str) -> str:
    """SQL for one row for each item that was shown, of the rows of `told`, which has the columns of `SCHEMA`."""
    first = ", ".join(
        f"first({name} order by timestamp, position) filter (position is not null) as {name}"
        for name in SCHEMA.names
        if name not in ("request_id", "item_id", "clicked", "carted", "ordered", "price")
    )
    return f"""
        select request_id, timestamp, query, item_id, position, clicked, carted, ordered, price,
               columns(lambda c: c not in ('request_id', 'timestamp', 'query', 'item_id', 'position', 'clicked',
                                           'carted', 'ordered', 'price'))
          from (select request_id, item_id, {first}, bool_or(clicked or carted or ordered) as clicked,
                       bool_or(carted) as carted, bool_or(ordered) as ordered, max(price) as price
                  from {told} group by request_id, item_id)
         where position is not null order by timestamp, request_id, position"""


def _check(events: Sequence[Event]) -> None:
    for number, event in enumerate(events):
        if not isinstance(event, Exposure):
            continue
        for name in ("propensities", "teams", "ranks_a", "ranks_b"):
            given = getattr(event, name)
            if given is not None and len(given) != len(event.items):
                raise UsageError(
                    f"events[{number}]: '{name}' has {len(given)} entries, 'items' has {len(event.items)}.",
                    "Give one for each item, null where there is none.",
                )
        if event.explored and max(event.explored) >= len(event.items):
            raise UsageError(
                f"events[{number}]: 'explored' names place {max(event.explored)}, 'items' has {len(event.items)}.",
                "Count places from 0.",
            )


def _batch(events: Sequence[Event | Shown]) -> pa.RecordBatch:
    now = time.time()
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for event in events:
        if isinstance(event, (Shown, Exposure)):
            of_all, by_item, n = _shown_columns(event if isinstance(event, Shown) else _shown(event, now))
        else:
            of_all, by_item, n = _done_columns(event, now), {}, 1
        for name, column in columns.items():  # column by column: a page of ten costs as much as two single rows
            column += by_item[name] if name in by_item else [of_all.get(name)] * n
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def _shown_columns(shown: Shown) -> tuple[dict[str, Any], dict[str, Sequence[Any]], int]:
    n = len(shown.item_ids)
    of_all = {
        "request_id": shown.request_id,
        "timestamp": _moment(shown.timestamp),
        "query": shown.query,
        "clicked": False,
        "carted": False,
        "ordered": False,
        "explored": False,
        "user_id": shown.user_id,
        "session_id": shown.session_id,
        "version": shown.version,
        "arm": shown.arm,
        "assignments": list(shown.assignments.items()) or None,
    }
    lists = {
        "explored": shown.explored,
        "propensity": shown.propensities,
        "team": shown.teams,
        "rank_a": shown.ranks_a,
        "rank_b": shown.ranks_b,
    }
    by_item: dict[str, Sequence[Any]] = {name: values for name, values in lists.items() if values is not None}
    by_item |= {"item_id": shown.item_ids, "position": range(shown.first_position, shown.first_position + n)}
    return of_all, by_item, n


def _done_columns(event: Click | Cart | Order, now: float) -> dict[str, Any]:
    return {
        "request_id": event.request_id,
        "item_id": event.item_id,
        "clicked": True,
        "carted": isinstance(event, Cart),
        "ordered": isinstance(event, Order),
        "price": event.price if isinstance(event, Order) else None,
        "timestamp": _moment(now if event.timestamp is None else event.timestamp),
        "explored": False,
    }


def _shown(event: Exposure, now: float) -> Shown:
    at_random = set(event.explored)
    return Shown(
        request_id=event.request_id,
        timestamp=now if event.timestamp is None else event.timestamp,
        query=event.query,
        item_ids=event.items,
        first_position=event.first_position,
        user_id=event.user_id,
        session_id=event.session_id,
        version=event.version,
        arm=event.arm,
        assignments=event.assignments,
        explored=[place in at_random for place in range(len(event.items))] if at_random else None,
        propensities=event.propensities,
        teams=event.teams,
        ranks_a=event.ranks_a,
        ranks_b=event.ranks_b,
    )


def _moment(timestamp: float) -> int:
    return round(timestamp * 1e6)
