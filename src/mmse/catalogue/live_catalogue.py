"""The live catalogue: edits come in and are durable, both channels show them at once, and searches never wait.

    catalogue = Catalogue.open(run, writable=True)
    catalogue.apply([Upsert({"item_id": "i1", "title": "Red kettle", "price": 20.0}), Delete("i2")])
    found = catalogue.snapshot().search_vectors(query_vectors, k=10)

Any number of processes may have it open and write in turn: each commit first takes in what the others wrote. Stage
folders are never written to: `run/live/` has all that edits need (`mmse.catalogue.layout`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import numpy as np

from mmse.catalogue import layout as places
from mmse.catalogue import transfer
from mmse.catalogue import wal as journal
from mmse.catalogue.base import Base, open_folded, require_unchanged
from mmse.catalogue.changes import Changes
from mmse.catalogue.compaction import Made, fold
from mmse.catalogue.edits import Edit, checked, id_of
from mmse.catalogue.embedder import Embedder
from mmse.catalogue.generation import Generation, advanced, opened, rebased, replayed, taken
from mmse.catalogue.snapshot import Snapshot
from mmse.catalogue.wal import Header, Read
from mmse.core.config import require
from mmse.core.errors import ArtifactError, MmseError, UsageError
from mmse.model.encoder import Encoder

Compacted = Literal["folded", "nothing", "busy"]
"""What folding came to; busy: another process folds at this moment."""

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
    """A run's items with all edits, for any number of threads; other processes may have it open as well."""

    def __init__(
        self, run: Path, embedder: Embedder, generation: Generation, config: LiveConfig, *, writable: bool
    ) -> None:
        self.run, self.config = run, config
        self._embedder = embedder
        self._generation = generation
        self._writable, self._closed = writable, False
        self._waiting: list[_Call] = []
        self._queue, self._commit, self._fold = threading.Lock(), threading.Lock(), threading.Lock()
        self._folder: threading.Thread | None = None
        self._fold_again_at = 0

    @classmethod
    def open(
        cls, run: Path, *, writable: bool = False, config: LiveConfig = LiveConfig(), encoder: Encoder | None = None
    ) -> Catalogue:
        """The catalogue of a run folder with every edit that was ever acknowledged.

        `encoder` is the run's own, where it is open already. Raises `ArtifactError` where a stage folder or the journal
        is missing or damaged, or where edits wait for stage folders that have been made again since; and `OutputError`
        where it is to be `writable` and its folder is not.
        """
        embedder = Embedder(run, encoder or Encoder.open(run / "model"))
        catalogue = cls(run, embedder, opened(run, embedder), config, writable=writable)
        if writable:
            try:
                places.make(run)
                with places.folding(run) as mine:
                    if mine:
                        places.sweep(run)
            except BaseException:
                catalogue.close()
                raise
        return catalogue

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
        return self._generation.snapshot

    def apply(self, edits: Sequence[Edit]) -> int:
        """Takes in all of `edits` or none, and gives the version that has them: on the disk, and seen by every search.

        May be called from many threads: those that wait for one commit are taken in together by the next. Raises
        `UsageError` for an edit that does not fit, and `OutputError` where the disk refuses or another process writes
        for too long; then nothing has changed.
        """
        self._require_writable()
        call = _Call(checked(edits, self.snapshot().base.schema))
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
        """Takes in what other processes have written since, and gives the version; cheap where that is nothing.

        Waits for a commit of this process that is under way. Raises `ArtifactError` where the journal is damaged, or
        the stage folders were made again and edits have been made on the new ones; the catalogue stays as it was.
        """
        with self._commit:
            if not self._closed:
                self._catch_up()
            return self.snapshot().version

    def compact(self) -> Compacted:
        """Folds the edits into a new base, while searches and edits go on in all processes.

        Raises `OutputError` where the disk refuses; the catalogue is as before then.
        """
        self._require_writable()
        return self._compacted(least=1.0)

    def close(self) -> None:
        """Waits for a folding that is under way and lets go of the files; snapshots taken before stay usable."""
        with self._fold, self._commit:
            self._closed = True
            self._forget_words()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def _require_writable(self) -> None:
        if self._closed:
            raise UsageError(f"The catalogue of {self.run} was closed.", "Open it again.")
        if not self._writable:
            raise UsageError(f"The catalogue of {self.run} is open for reading.", "Open it with writable=True.")

    def _take(self, calls: Sequence[_Call]) -> None:
        """Commits the edits of `calls`, which all share one write to the disk; each that does not fit fails alone."""
        try:
            self._require_writable()
            self._catch_up()  # before the turn: another base takes a while to open, many edits a while to embed
            with places.turn(self.run):
                self._write(calls, self._unread())
        except BaseException as error:
            for call in calls:
                if not call.done:
                    call.end(self.snapshot().version, error)

    def _write(self, calls: Sequence[_Call], unread: Read) -> None:
        """In turn: what the calls change goes to the journal, on top of what is `unread` there, embedded together."""
        generation = self._generation
        before, words = generation.snapshot, generation.scratch
        changes = taken(self.run, before, unread.calls)
        fitting = self._fitting(calls, changes)
        if not fitting:
            return self._catch_up()
        start = before.version + len(unread.calls)
        try:
            after, words = advanced(self.run, self._embedder, before, words, changes, start + len(fitting))
            generation = self._journaled()
            file = places.journal(self.run, generation.number)
            at = max(unread.end, generation.read_to)
            with journal.appended(file, at, [call.edits for call in fitting]) as end:
                self._generation = replace(generation, snapshot=after, scratch=words, read_to=end)
        except BaseException:
            self._generation = replace(generation, scratch=words)
            self._forget_words()
            raise
        for place, call in enumerate(fitting):
            call.end(start + place + 1)

    def _unread(self) -> Read:
        """In turn: what the journal says since it was read; a generation that others began is taken in."""
        now = self._generation
        if now.journaled and places.newest(self.run) == now.number and places.size(self.run, now.number) > now.read_to:
            return journal.read(places.journal(self.run, now.number), now.read_to)
        self._catch_up()
        return Read([], self._generation.read_to)

    def _fitting(self, calls: Sequence[_Call], changes: Changes) -> list[_Call]:
        """Those of the calls that fit, taken into `changes`; the others are ended."""
        fitting = list[_Call]()
        for call in calls:
            try:
                changes.take(call.edits)
                fitting.append(call)
            except UsageError as error:
                call.end(self.snapshot().version, error)
        return fitting

    def _journaled(self) -> Generation:
        """The generation with its journal, which the first edit makes."""
        now = self._generation
        if not now.journaled:
            header = Header(journal.SCHEMA_VERSION, now.number, now.snapshot.base.origin, None, now.snapshot.version)
            end = journal.create(places.journal(self.run, now.number), header)
            self._generation = now = replace(now, journaled=True, read_to=end)
        return now

    def _forget_words(self) -> None:
        """The words of the edits are let go of with their folder; the next edit makes them again."""
        if self._generation.scratch is not None:
            self._generation.scratch.close()
            self._generation = replace(self._generation, scratch=None)

    def _catch_up(self) -> None:
        """Takes in what other processes have written: more of the journal, or another generation."""
        while True:
            generation, newest = self._generation, places.newest(self.run)
            if newest is None or newest < generation.number:
                return
            try:
                if generation.journaled and newest == generation.number and self._read_on():
                    return
                return self._adopt(opened(self.run, self._embedder))
            except (MmseError, OSError):
                if places.newest(self.run) in (newest, None):
                    raise  # it was not that the files were folded while they were read

    def _read_on(self) -> bool:
        """Takes in what the journal says since; false where it is not the one that was read before."""
        generation = self._generation
        size = places.size(self.run, generation.number)
        if size <= generation.read_to:
            return size == generation.read_to
        read = journal.read(places.journal(self.run, generation.number), generation.read_to)
        if not read.batches:
            return True
        try:
            snapshot, scratch = replayed(self.run, self._embedder, generation.snapshot, generation.scratch, read.calls)
        except BaseException:
            self._forget_words()
            raise
        self._generation = replace(generation, snapshot=snapshot, scratch=scratch, read_to=read.end)
        return True

    def _adopt(self, generation: Generation) -> None:
        """Puts another generation in force, of the same stage folders; for others this catalogue has no model."""
        if generation.snapshot.base.origin != self.snapshot().base.origin:
            if generation.scratch is not None:
                generation.scratch.close()
            if not generation.journaled:
                return
            raise ArtifactError(
                f"The stage folders of {self.run} were made again while its catalogue was open, and edited since.",
                "Open it again.",
            )
        self._forget_words()
        self._generation = generation

    def _fold_if_due(self) -> None:
        if not self.config.automatic or self.snapshot().changed < self._fold_from():
            return
        with self._queue:
            if self._folder is None or not self._folder.is_alive():
                self._folder = threading.Thread(target=self._fold_aside, name="mmse-fold")
                self._folder.start()

    def _fold_from(self) -> float:
        """How many changed rows are folded."""
        return max(float(self.config.fold_rows), self.config.fold_share * self.snapshot().n_rows, self._fold_again_at)

    def _fold_aside(self) -> None:
        try:
            self._compacted(least=self._fold_from())
            self._fold_again_at = 0
        except (MmseError, OSError) as error:
            self._fold_again_at = self.snapshot().changed + self.config.fold_rows
            log.warning("the edits of %s could not be folded, which is tried again later: %s", self.run, error)

    def _compacted(self, least: float) -> Compacted:
        """Folds where no other process does, and where `least` rows have changed."""
        with self._fold, places.folding(self.run) as mine:
            if not mine:
                return "busy"
            self.refresh()  # another process may have folded just before
            if self._closed or self.snapshot().changed < least:
                return "nothing"
            try:
                self._folded(self._generation)
            finally:
                places.sweep(self.run)
            return "folded"

    def _folded(self, cut: Generation) -> None:
        """Writes what `cut` holds as the base of the next generation, and puts that in force with what came since."""
        number, before = cut.number + 1, cut.snapshot
        made_of = Made(before.base.origin, transfer.waiting(self.run, cut.number, cut.read_to))
        fold(before, places.base(self.run, number), made_of, self._embedder.attributes)
        require_unchanged(self.run, before.base)
        base = open_folded(places.base(self.run, number))
        with self._commit:
            self._catch_up()
            with places.turn(self.run):
                self._catch_up()
                self._switch(base, number, cut)

    def _switch(self, base: Base, number: int, cut: Generation) -> None:
        """In turn: the generation `number` is in force, where what the journal says after `cut` is on top of `base`."""
        former = self._generation
        assert former.number == cut.number, "only who folds begins another generation"
        file = places.journal(self.run, cut.number)
        since = journal.read(file, cut.read_to, former.read_to).calls
        rows = former.snapshot.slots([id_of(edit) for call in since for edit in call])
        rows = np.unique(rows[rows >= 0])
        snapshot, scratch = rebased(self.run, self._embedder, former.snapshot, base, rows)
        header = Header(journal.SCHEMA_VERSION, number, base.origin, base.fingerprint, cut.snapshot.version)
        try:
            tail = journal.tail(file, cut.read_to, former.read_to)
            end = journal.create(places.journal(self.run, number), header, tail)
            self._generation = Generation(number, True, snapshot, scratch, end)
        except BaseException:
            if scratch is not None:
                scratch.close()
            raise
        if former.scratch is not None:
            former.scratch.close()
