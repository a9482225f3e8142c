"""The log of what was shown and what shoppers did: a queue, and a thread that writes it to the disk.

`mmse.serving.events.rows` says what the rows are, `mmse.serving.events.segments` how they reach the disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mmse.core.artifact import explain_os_errors
from mmse.core.errors import OutputError
from mmse.serving.events import segments
from mmse.serving.events.rows import SCHEMA, Event, ExposureRecord, build_batch, check_events
from mmse.serving.events.segments import Segment
from mmse.serving.observability import metrics

FLUSH_S = 0.02
"""How long an exposure may wait for others, to be written together with them."""
SEAL_ROWS = 500_000
SEAL_S = 300.0
LOOK_S = 1.0
"""How often the writer looks whether somebody has asked for its segment to be sealed."""
MAX_PENDING = 100_000
"""Exposures that wait to be written; more are dropped, and counted."""

log = logging.getLogger(__name__)


@dataclass
class _WriteRequest:
    """Events to be written. `completion` is set once they are, or once `error` says why not; None if nobody waits."""

    events: Sequence[Event | ExposureRecord]
    completion: threading.Event | None = None
    error: Exception | None = None


@final
class EventLog:
    """One process's access to the folder of events; any number of threads may append. A thread of its own writes."""

    def __init__(self, folder: Path, *, seal_rows: int = SEAL_ROWS, seal_s: float = SEAL_S) -> None:
        self.folder, self.problem = folder, ""
        self._seal_rows, self._seal_s = seal_rows, seal_s
        self._queue: deque[_WriteRequest] = deque()
        self._wake, self._end = threading.Event(), threading.Event()
        self._segment: Segment | None = None
        self._writer: threading.Thread | None = None
        self._sealers: list[threading.Thread] = []
        self._lock = threading.Lock()

    def append(self, events: Sequence[Event]) -> None:
        """Writes `events` to the disk, all or none, and waits for it.

        Raises `OutputError` where the disk refuses, and `UsageError` where an event is wrong.
        """
        check_events(events)
        completion = threading.Event()
        request = _WriteRequest(events, completion)
        self._put(request)
        completion.wait()
        if request.error is not None:
            raise request.error

    def record(self, exposure: ExposureRecord) -> None:
        """Hands `exposure` over to be written within a twentieth of a second, without waiting for it.

        Where the disk refuses or cannot keep up it is dropped, counted, and `problem` says why.
        """
        if len(self._queue) >= MAX_PENDING:
            self._report_drop(1, "exposures come faster than the disk takes them")
            return
        self._put(_WriteRequest((exposure,)))

    def close(self) -> None:
        """Writes what waits, seals what was written, and ends."""
        with self._lock:
            self._end.set()
            self._wake.set()
        if self._writer is not None:
            self._writer.join()
        for sealer in self._sealers:
            sealer.join()

    def _put(self, request: _WriteRequest) -> None:
        with self._lock:
            if self._end.is_set():
                raise OutputError("The event log is closed: the server ends.", "Send them to the next one.")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="mmse-events", daemon=True)
                self._writer.start()
            self._queue.append(request)
        self._wake.set()

    def _write(self) -> None:
        """The writer's thread: drains the queue whenever it is woken, and seals a segment that is large or old."""
        self._seal_in_background()
        while True:
            self._wake.wait(self._seal_s if self._segment is None else min(self._seal_s, LOOK_S))
            if self._queue and self._queue[0].completion is None:
                self._end.wait(FLUSH_S)
            self._wake.clear()
            is_last = self._end.is_set()  # read after the clearing: an end that comes later wakes this thread again
            self._drain()
            if self._segment is not None and (is_last or self._is_due(self._segment)):
                self._close_segment()
                self._seal_in_background()
            if is_last and not self._queue:
                return

    def _is_due(self, segment: Segment) -> bool:
        is_full = segment.n_rows >= self._seal_rows or time.monotonic() - segment.opened_at >= self._seal_s
        return is_full or segment.is_to_be_sealed()

    def _drain(self) -> None:
        """Writes all that is in the queue at once, and wakes those who wait for it."""
        requests: list[_WriteRequest] = []
        while self._queue:
            requests.append(self._queue.popleft())
        if not requests:
            return
        try:
            self._append([event for request in requests for event in request.events])
        except Exception as error:  # whatever it is, those who wait get it, and searches go on
            for request in requests:
                request.error = error
            n_dropped = sum(len(request.events) for request in requests if request.completion is None)
            if n_dropped:
                self._report_drop(n_dropped, getattr(error, "cause", str(error)))
        else:
            self.problem = ""
        for request in requests:
            if request.completion is not None:
                request.completion.set()

    def _append(self, events: Sequence[Event | ExposureRecord]) -> None:
        batch = build_batch(events)
        with explain_os_errors(self.folder):
            try:
                self._open_segment().append(batch)
            except FileNotFoundError as error:  # what was in it is lost, what comes is not
                log.error("%s is gone, with what was logged in it since it was begun", error.filename)
                self._close_segment()
                self._open_segment().append(batch)

    def _open_segment(self) -> Segment:
        if self._segment is None:
            self._segment = Segment(self.folder, SCHEMA)
        return self._segment

    def _close_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _report_drop(self, n: int, reason: str) -> None:
        self.problem = f"{n} exposures or more could not be logged: {reason}"
        metrics.exposures_dropped.inc(n)
        log.error("%s", self.problem)

    def _seal_in_background(self) -> None:
        """Seals the segments that this process has closed, or that another one left when it ended."""

        def work() -> None:
            try:
                segments.seal_orphans(self.folder, SCHEMA)
            except (OSError, OutputError) as error:
                log.error("events stay in %s, to be sealed later: %s", self.folder / segments.OPEN_FOLDER, error)

        sealer = threading.Thread(target=work, name="mmse-seal", daemon=True)
        sealer.start()
        self._sealers = [thread for thread in self._sealers if thread.is_alive()] + [sealer]
