"""The live catalogue: edits are durable, both channels show them at once, and searches never wait.

    catalogue = LiveCatalogue.open(run, writable=True)
    catalogue.apply([Upsert({"item_id": "i1", "title": "Red kettle", "price": 20.0}), Delete("i2")])
    neighbours = catalogue.snapshot().search_vectors(query_vectors, k=10)

Any number of processes may have it open and write in turn: each commit first reads what the others wrote. Step folders
are never written to: `run/live/` has all that edits need (`mmse.catalogue.layout`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import numpy as np

from mmse.catalogue import layout, transfer, wal
from mmse.catalogue.base import CatalogueBase, open_folded_base, require_unchanged
from mmse.catalogue.changes import Changes
from mmse.catalogue.compaction import FoldInputs, write_base
from mmse.catalogue.edits import Edit, check_edits, id_of
from mmse.catalogue.embedder import Embedder
from mmse.catalogue.generation import Generation, advance, changes_of, open_generation, rebase, replay
from mmse.catalogue.snapshot import Snapshot
from mmse.catalogue.wal import WalHeader, WalSlice
from mmse.core.artifact import says_full
from mmse.core.config import require
from mmse.core.errors import ArtifactError, MmseError, OutputError, UsageError
from mmse.core.run_folder import RunFolder
from mmse.model.encoder import Encoder

FoldOutcome = Literal["folded", "nothing", "busy"]
"""The result of folding; busy: another process is folding."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveConfig:
    """When edits are folded into the base automatically: above `fold_rows` changed rows and `fold_share` of all rows.

    Both must hold, because folding costs as much as the catalogue is large. With `automatic` false edits are folded by
    `compact` alone.
    """

    automatic: bool = True
    fold_rows: int = 10_000
    fold_share: float = 0.05

    def __post_init__(self) -> None:
        require(self.fold_rows >= 1, "fold_rows", self.fold_rows, "at least 1 row")
        require(0 <= self.fold_share <= 1, "fold_share", self.fold_share, "a share from 0 to 1")


@dataclass(eq=False)
class _ApplyCall:
    """A call of `apply` whose edits wait to be committed."""

    edits: list[Edit]
    version: int = 0
    failure: BaseException | None = None
    is_done: bool = False

    def finish(self, version: int, failure: BaseException | None = None) -> None:
        self.version, self.failure, self.is_done = version, failure, True


@final
class LiveCatalogue:
    """A run's items with all edits, for any number of threads; other processes may have it open as well."""

    def __init__(
        self, run: Path, embedder: Embedder, generation: Generation, config: LiveConfig, *, writable: bool
    ) -> None:
        self.run, self.config = run, config
        self._embedder = embedder
        self._generation = generation
        self._is_writable, self._is_closed = writable, False
        self._queue: list[_ApplyCall] = []
        self._queue_lock, self._commit_lock, self._fold_lock = threading.Lock(), threading.Lock(), threading.Lock()
        self._fold_thread: threading.Thread | None = None
        self._retry_fold_from = 0

    @classmethod
    def open(
        cls, run: Path, *, writable: bool = False, config: LiveConfig = LiveConfig(), encoder: Encoder | None = None
    ) -> LiveCatalogue:
        """The catalogue of a run folder with every edit that was ever acknowledged.

        `encoder` is the run's own, if it is open already. Raises `ArtifactError` where a step folder or the log of
        edits is missing or damaged, or where edits belong to step folders that have been replaced; and `OutputError`
        where the catalogue is to be `writable` and its folder is not.
        """
        embedder = Embedder(run, encoder or Encoder.open(RunFolder(run).model))
        catalogue = cls(run, embedder, open_generation(run, embedder), config, writable=writable)
        if writable:
            try:
                layout.make_live_folder(run)
                with layout.try_fold_lock(run) as has_lock:
                    if has_lock:
                        layout.sweep(run)
            except BaseException as error:
                if isinstance(error, OutputError) and error.__cause__ is not None and says_full(error.__cause__):
                    log.warning("%s Searches need none; edits are refused meanwhile.", error.cause)
                    return catalogue
                catalogue.close()
                raise
        return catalogue

    def __enter__(self) -> LiveCatalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def encoder(self) -> Encoder:
        """The run's model."""
        return self._embedder.encoder

    @property
    def problem(self) -> str:
        """What an operator should know of the log of edits, "" where nothing is wrong."""
        return self._generation.problem

    def snapshot(self) -> Snapshot:
        """The catalogue as it is now; later edits do not change what this returned."""
        return self._generation.snapshot

    def state(self) -> tuple[int, int]:
        """Differs after each edit, and after each time that edits were folded into the index."""
        generation = self._generation
        return generation.number, generation.snapshot.version

    def apply(self, edits: Sequence[Edit]) -> int:
        """Commits all of `edits` or none; returns the version that has them, on the disk and seen by every search.

        May be called from many threads: calls that wait for one commit are taken together by the next. Raises
        `UsageError` for an edit that does not fit, and `OutputError` where the disk refuses or another process writes
        for too long; then nothing has changed.
        """
        self._require_writable()
        call = _ApplyCall(check_edits(edits, self.snapshot().base.schema))
        with self._queue_lock:
            self._queue.append(call)
        with self._commit_lock:
            if not call.is_done:
                with self._queue_lock:
                    calls, self._queue = self._queue, []
                self._commit(calls)
        assert call.is_done
        if call.failure is not None:
            raise call.failure
        self._fold_if_due()
        return call.version

    def refresh(self) -> int:
        """Reads what other processes have written, and returns the version; cheap where they wrote nothing.

        Waits for a commit of this process that is under way. Raises `ArtifactError` where the log of edits is damaged,
        or where the step folders were made again and have been edited since; the catalogue stays as it was.
        """
        with self._commit_lock:
            if not self._is_closed:
                self._catch_up()
            return self.snapshot().version

    def compact(self) -> FoldOutcome:
        """Folds the edits into a new base, while searches and edits go on in all processes.

        Raises `OutputError` where the disk refuses; the catalogue is as before then.
        """
        self._require_writable()
        return self._compact(min_rows=1.0)

    def close(self) -> None:
        """Waits for a fold that is under way and releases the files; snapshots taken before stay usable."""
        with self._fold_lock, self._commit_lock:
            self._is_closed = True
            self._drop_working_index()

    def _require_writable(self) -> None:
        if self._is_closed:
            raise UsageError(f"The catalogue of {self.run} was closed.", "Open it again.")
        if not self._is_writable:
            raise UsageError(f"The catalogue of {self.run} is open for reading.", "Open it with writable=True.")

    def _commit(self, calls: Sequence[_ApplyCall]) -> None:
        """Commits the edits of `calls` with one write to the disk; a call that does not fit fails alone."""
        try:
            self._require_writable()
            layout.make_live_folder(self.run)  # not when it was opened, if the disk was full then
            self._catch_up()  # before the turn: opening another base and embedding many edits take a while
            with layout.take_turn(self.run):
                self._write(calls, self._read_unread())
        except BaseException as error:
            for call in calls:
                if not call.is_done:
                    call.finish(self.snapshot().version, error)

    def _write(self, calls: Sequence[_ApplyCall], unread: WalSlice) -> None:
        """Appends the calls to the log; their changes are embedded together with those of `unread`. Needs the turn."""
        generation = self._generation
        snapshot, working_index = generation.snapshot, generation.working_index
        changes = changes_of(self.run, snapshot, unread.calls)
        fitting_calls = self._add_fitting(calls, changes)
        if not fitting_calls:
            return self._catch_up()
        version = snapshot.version + len(unread.calls)
        try:
            snapshot, working_index = advance(
                self.run, self._embedder, snapshot, working_index, changes, version + len(fitting_calls)
            )
            generation = self._require_wal()
            file = layout.wal_file(self.run, generation.number)
            start = max(unread.end, generation.wal_end)
            with wal.append(file, start, [call.edits for call in fitting_calls]) as end:
                self._generation = replace(generation, snapshot=snapshot, working_index=working_index, wal_end=end)
        except BaseException:
            self._generation = replace(generation, working_index=working_index)
            self._drop_working_index()
            raise
        for number, call in enumerate(fitting_calls, 1):
            call.finish(version + number)

    def _read_unread(self) -> WalSlice:
        """The commits that were not read yet; a generation that others began is adopted. Needs the turn."""
        generation = self._generation
        number = generation.number
        if (
            generation.has_wal
            and layout.newest_generation(self.run) == number
            and layout.wal_size(self.run, number) > generation.wal_end
        ):
            return wal.read(layout.wal_file(self.run, number), generation.wal_end)
        self._catch_up()
        return WalSlice([], self._generation.wal_end)

    def _add_fitting(self, calls: Sequence[_ApplyCall], changes: Changes) -> list[_ApplyCall]:
        """The calls that fit, which are added to `changes`; the others are finished with their error."""
        fitting_calls = list[_ApplyCall]()
        for call in calls:
            try:
                changes.add_call(call.edits)
                fitting_calls.append(call)
            except UsageError as error:
                call.finish(self.snapshot().version, error)
        return fitting_calls

    def _require_wal(self) -> Generation:
        """The generation with its log, which the first edit creates."""
        generation = self._generation
        if not generation.has_wal:
            snapshot = generation.snapshot
            header = WalHeader(wal.SCHEMA_VERSION, generation.number, snapshot.base.origin, None, snapshot.version)
            end = wal.create(layout.wal_file(self.run, generation.number), header)
            self._generation = generation = replace(generation, has_wal=True, wal_end=end)
        return generation

    def _drop_working_index(self) -> None:
        """Removes the working index with its folder; the next edit makes it again."""
        if self._generation.working_index is not None:
            self._generation.working_index.close()
            self._generation = replace(self._generation, working_index=None)

    def _catch_up(self) -> None:
        """Reads what other processes have written: more commits, or another generation."""
        while True:
            generation, newest = self._generation, layout.newest_generation(self.run)
            if newest is None or newest < generation.number:
                return
            try:
                if generation.has_wal and newest == generation.number and self._read_commits():
                    return
                return self._adopt(open_generation(self.run, self._embedder))
            except (MmseError, OSError):
                if layout.newest_generation(self.run) in (newest, None):
                    raise  # otherwise the files were folded while they were read

    def _read_commits(self) -> bool:
        """Replays the commits that were not read yet; false where the log is not the one that was read before."""
        generation = self._generation
        size = layout.wal_size(self.run, generation.number)
        if size <= generation.wal_end:
            return size == generation.wal_end
        unread = wal.read(layout.wal_file(self.run, generation.number), generation.wal_end)
        if not unread.commits:
            return True
        try:
            snapshot, working_index = replay(
                self.run, self._embedder, generation.snapshot, generation.working_index, unread.calls
            )
        except BaseException:
            self._drop_working_index()
            raise
        self._generation = replace(generation, snapshot=snapshot, working_index=working_index, wal_end=unread.end)
        return True

    def _adopt(self, generation: Generation) -> None:
        """Puts another generation of the same step folders in force; for other step folders there is no model here."""
        if generation.snapshot.base.origin != self.snapshot().base.origin:
            if generation.working_index is not None:
                generation.working_index.close()
            if not generation.has_wal:
                return
            raise ArtifactError(
                f"The step folders of {self.run} were made again while its catalogue was open, and edited since.",
                "Open it again.",
            )
        self._drop_working_index()
        self._generation = generation

    def _fold_if_due(self) -> None:
        if not self.config.automatic or self.snapshot().n_changed < self._min_fold_rows():
            return
        with self._queue_lock:
            if self._fold_thread is None or not self._fold_thread.is_alive():
                self._fold_thread = threading.Thread(target=self._fold_in_background, name="mmse-fold")
                self._fold_thread.start()

    def _min_fold_rows(self) -> float:
        """The number of changed rows from which on they are folded."""
        return max(float(self.config.fold_rows), self.config.fold_share * self.snapshot().n_rows, self._retry_fold_from)

    def _fold_in_background(self) -> None:
        try:
            self._compact(min_rows=self._min_fold_rows())
            self._retry_fold_from = 0
        except (MmseError, OSError) as error:
            self._retry_fold_from = self.snapshot().n_changed + self.config.fold_rows
            log.warning("the edits of %s could not be folded, which is tried again later: %s", self.run, error)

    def _compact(self, min_rows: float) -> FoldOutcome:
        """Folds the edits unless another process is folding or fewer than `min_rows` have changed."""
        with self._fold_lock, layout.try_fold_lock(self.run) as has_lock:
            if not has_lock:
                return "busy"
            self.refresh()  # another process may have folded just before
            if self._is_closed or self.snapshot().n_changed < min_rows:
                return "nothing"
            try:
                self._fold(self._generation)
            finally:
                layout.sweep(self.run)
            return "folded"

    def _fold(self, source: Generation) -> None:
        """Writes `source` as the base of the next generation, and puts that in force with the edits made meanwhile."""
        number, snapshot = source.number + 1, source.snapshot
        edits = transfer.generation_edits(self.run, source.number, source.wal_end)
        inputs = FoldInputs(snapshot.base.origin, edits)
        write_base(snapshot, layout.base_folder(self.run, number), inputs, self._embedder.attributes)
        require_unchanged(self.run, snapshot.base)
        base = open_folded_base(layout.base_folder(self.run, number))
        with self._commit_lock:
            self._catch_up()
            with layout.take_turn(self.run):
                self._catch_up()
                self._switch(base, number, source)

    def _switch(self, base: CatalogueBase, number: int, source: Generation) -> None:
        """Puts generation `number` in force: `base`, and the edits after `source` on top of it. Needs the turn."""
        former = self._generation
        assert former.number == source.number, "only the holder of the fold lock begins another generation"
        file = layout.wal_file(self.run, source.number)
        newer_calls = wal.read(file, source.wal_end, former.wal_end).calls
        rows = former.snapshot.rows_with_deleted([id_of(edit) for call in newer_calls for edit in call])
        rows = np.unique(rows[rows >= 0])
        snapshot, working_index = rebase(self.run, self._embedder, former.snapshot, base, rows)
        header = WalHeader(wal.SCHEMA_VERSION, number, base.origin, base.fingerprint, source.snapshot.version)
        try:
            tail = wal.read_frames(file, source.wal_end, former.wal_end)
            end = wal.create(layout.wal_file(self.run, number), header, tail)
            self._generation = Generation(number, True, snapshot, working_index, end)
        except BaseException:
            if working_index is not None:
                working_index.close()
            raise
        if former.working_index is not None:
            former.working_index.close()
