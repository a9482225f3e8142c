"""The live catalogue: edits come in and are durable, both channels show them at once, and searches never wait.

    catalogue = Catalogue.open(run, writable=True)
    catalogue.apply([Upsert({"item_id": "i1", "title": "Red kettle", "price": 20.0}), Delete("i2")])
    found = catalogue.snapshot().search_vectors(query_vectors, k=10)

Stage folders are never written to: `run/live/` has all that edits need (`mmse.live.places`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, final

import numpy as np

from mmse.config import require
from mmse.errors import ArtifactError, MmseError, UsageError
from mmse.live import carry, journal, places
from mmse.live.base import Base, open_folded, require_unchanged
from mmse.live.changes import Changes
from mmse.live.compaction import Made, fold
from mmse.live.edits import Edit, checked
from mmse.live.embedder import Embedder
from mmse.live.generation import Generation, advanced, opened, rebased, replayed
from mmse.live.journal import Appender, Header
from mmse.live.snapshot import Snapshot
from mmse.model.encoder import Encoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveConfig:
    """When edits are folded into the base by themselves: past `fold_rows` changed rows and `fold_share` of all rows.

    Both, because folding costs as much as the catalogue is large; `automatic` false leaves it to `compact`.
    """

    automatic: bool = True
    fold_rows: int = 10_000
    fold_share: float = 0.05

    def __post_init__(self) -> None:
        require(self.fold_rows >= 1, "fold_rows", self.fold_rows, "at least 1 row")
        require(0 <= self.fold_share <= 1, "fold_share", self.fold_share, "a share from 0 to 1")


@dataclass(eq=False)
class _Call:
    """A caller of `apply` that waits for its edits to be taken in."""

    edits: list[Edit]
    version: int = 0
    failure: BaseException | None = None
    done: bool = False

    def end(self, version: int, failure: BaseException | None = None) -> None:
        self.version, self.failure, self.done = version, failure, True


@final
class Catalogue:
    """A run's items with all edits; one writer at a time in all processes, any number of readers."""

    def __init__(
        self, run: Path, embedder: Embedder, generation: Generation, config: LiveConfig, lock: IO[str] | None
    ) -> None:
        self.run, self.config = run, config
        self._embedder = embedder
        self._generation = generation
        self._snapshot, self._scratch = generation.snapshot, generation.scratch
        self._lock = lock
        writes = lock is not None and generation.journaled
        self._appender = Appender(places.journal(run, generation.number), generation.read_to) if writes else None
        self._waiting: list[_Call] = []
        self._queue, self._commit, self._fold = threading.Lock(), threading.Lock(), threading.Lock()
        self._touched: set[int] | None = None
        self._folder: threading.Thread | None = None
        self._fold_again_at = 0

    @classmethod
    def open(
        cls, run: Path, *, writable: bool = False, config: LiveConfig = LiveConfig(), encoder: Encoder | None = None
    ) -> Catalogue:
        """The catalogue of a run folder with every edit that was ever acknowledged.

        `encoder` is the run's own, where it is open already. Raises `ArtifactError` where a stage folder or the journal
        is missing or damaged, or where edits wait for stage folders that have been made again since; and `UsageError`
        where another process writes.
        """
        lock = places.lock(run) if writable else None
        try:
            embedder = Embedder(run, encoder or Encoder.open(run / "model"))
            generation = opened(run, embedder)
            if writable:
                places.sweep(run, generation.number)
            return cls(run, embedder, generation, config, lock)
        except BaseException:
            if lock:
                lock.close()
            raise

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def encoder(self) -> Encoder:
        """The run's model."""
        return self._embedder.encoder

    def snapshot(self) -> Snapshot:
        """The catalogue as it is now; it stays so, whatever is applied afterwards."""
        return self._snapshot

    def apply(self, edits: Sequence[Edit]) -> int:
        """Takes in all of `edits` or none, and gives the version that has them: on the disk, and seen by every search.

        May be called from many threads: those that wait for one commit are taken in together by the next. Raises
        `UsageError` for an edit that does not fit, and `OutputError` where the disk refuses; then nothing has changed.
        """
        if self._lock is None:
            raise UsageError(f"The catalogue of {self.run} is open for reading.", "Open it with writable=True.")
        call = _Call(checked(edits, self._snapshot.base.schema))
        with self._queue:
            self._waiting.append(call)
        with self._commit:
            if not call.done:
                with self._queue:
                    calls, self._waiting = self._waiting, []
                self._take(calls)
        assert call.done
        if call.failure is not None:
            raise call.failure
        self._fold_if_due()
        return call.version

    def refresh(self) -> int:
        """Takes in what the writer has acknowledged since, and gives the version; the writer itself has it already."""
        with self._commit:
            if self._lock is None:
                now, generation = places.newest(self.run), self._generation
                try:
                    if generation.journaled and now == generation.number:
                        self._read_on()
                    elif now is not None:
                        self._adopt(opened(self.run, self._embedder))
                except (FileNotFoundError, ArtifactError):  # folded, or made again, while it was read
                    self._adopt(opened(self.run, self._embedder))
            return self._snapshot.version

    def compact(self) -> bool:
        """Folds the edits into a new base, while searches and edits go on; false where there was nothing to fold.

        Raises `OutputError` where the disk refuses; the catalogue is as before then.
        """
        if self._lock is None:
            raise UsageError(f"The catalogue of {self.run} is open for reading.", "Open it with writable=True.")
        with self._fold:
            return self._folded()

    def close(self) -> None:
        """Waits for a folding that is under way and lets go of lock and files; snapshots taken before stay usable."""
        with self._fold, self._commit:
            if self._scratch is not None:
                self._scratch.close()
            if self._appender is not None:
                self._appender.close()
            if self._lock is not None:
                self._lock.close()
            self._scratch = self._appender = self._lock = None

    def _take(self, calls: Sequence[_Call]) -> None:
        """Commits the edits of `calls`, which all share one write to the disk; each that does not fit fails alone."""
        before, end = self._snapshot, 0
        try:
            appender = self._ready()
            end = appender.end
            changes, taken = self._fitting(calls)
            if not taken:
                return
            version = before.version + len(taken)
            after, self._scratch = advanced(self.run, self._embedder, before, self._scratch, changes, version)
            if self._touched is not None:
                self._touched.update(changes.rows)
            appender.append([call.edits for call in taken])
            self._snapshot = after
        except BaseException as error:
            self._take_back(before, end)
            for call in calls:
                if not call.done:
                    call.end(before.version, error)
            return
        for place, call in enumerate(taken):
            call.end(before.version + place + 1)

    def _fitting(self, calls: Sequence[_Call]) -> tuple[Changes, list[_Call]]:
        """What the calls change that fit, and these; the others are ended."""
        changes, taken = Changes(self._snapshot), list[_Call]()
        for call in calls:
            try:
                changes.take(call.edits)
                taken.append(call)
            except UsageError as error:
                call.end(self._snapshot.version, error)
        return changes, taken

    def _ready(self) -> Appender:
        """The journal, which the first edit makes; raises `UsageError` where the catalogue was closed meanwhile."""
        if self._lock is None:
            raise UsageError(f"The catalogue of {self.run} was closed.", "Open it again.")
        if self._appender is None:
            number, origin = self._generation.number, self._snapshot.base.origin
            header = Header(journal.SCHEMA_VERSION, number, origin, None, self._snapshot.version)
            self._appender = journal.create(places.journal(self.run, number), header)
        return self._appender

    def _take_back(self, before: Snapshot, end: int) -> None:
        """After a failure: `before` is in force, and the words of what failed are forgotten with their folder."""
        self._snapshot = before
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
        if self._appender is not None and end:
            self._appender.take_back(end)

    def _fold_if_due(self) -> None:
        snapshot = self._snapshot
        due = max(self.config.fold_rows, self.config.fold_share * snapshot.n_rows, self._fold_again_at)
        if not self.config.automatic or snapshot.changed < due:
            return
        with self._queue:
            if self._folder is None or not self._folder.is_alive():
                self._folder = threading.Thread(target=self._fold_aside, name="mmse-fold")
                self._folder.start()

    def _fold_aside(self) -> None:
        try:
            with self._fold:
                self._folded()
            self._fold_again_at = 0
        except (MmseError, OSError) as error:
            self._fold_again_at = self._snapshot.changed + self.config.fold_rows
            log.warning("the edits of %s could not be folded, which is tried again later: %s", self.run, error)

    def _folded(self) -> bool:
        with self._commit:
            before, appender = self._snapshot, self._appender
            if appender is None or before.changed == 0:
                return False
            cut, self._touched = appender.end, set()
        number = self._generation.number + 1
        try:
            made_of = Made(before.base.origin, carry.waiting(self.run, number - 1, cut))
            fold(before, places.base(self.run, number), made_of, self._embedder.attributes)
            require_unchanged(self.run, before.base)
            base = open_folded(places.base(self.run, number))
            with self._commit:
                self._switch(base, number, before.version, appender.tail(cut))
        finally:
            with self._commit:
                self._touched = None
            places.sweep(self.run, self._generation.number)
        return True

    def _switch(self, base: Base, number: int, version: int, tail: bytes) -> None:
        """Puts the generation `number` in force: what the journal says after `version` goes on top of `base`."""
        assert self._touched is not None
        rows = np.array(sorted(self._touched), np.int64)
        snapshot, scratch = rebased(self.run, self._embedder, self._snapshot, base, rows)
        header = Header(journal.SCHEMA_VERSION, number, base.origin, base.fingerprint, version)
        try:
            appender = journal.create(places.journal(self.run, number), header, tail)
        except BaseException:
            if scratch is not None:
                scratch.close()
            raise
        former, words = self._appender, self._scratch
        self._generation = Generation(number, True, snapshot, scratch, appender.end)
        self._snapshot, self._scratch, self._appender = snapshot, scratch, appender
        if former is not None:
            former.close()
        if words is not None:
            words.close()

    def _read_on(self) -> None:
        generation = self._generation
        read = journal.read(places.journal(self.run, generation.number), generation.read_to)
        if read.batches:
            self._snapshot, self._scratch = replayed(
                self.run, self._embedder, self._snapshot, self._scratch, read.calls
            )
        self._generation = replace(generation, read_to=read.end)

    def _adopt(self, generation: Generation) -> None:
        if self._scratch is not None:
            self._scratch.close()
        self._generation, self._snapshot, self._scratch = generation, generation.snapshot, generation.scratch
