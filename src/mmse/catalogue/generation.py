"""The generation in force, opened: its base, what its journal says since, and the snapshot that both make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mmse.catalogue import layout as places
from mmse.catalogue import transfer
from mmse.catalogue import wal as journal
from mmse.catalogue.base import Base, open_folded, open_run, require_unchanged
from mmse.catalogue.changes import Changes
from mmse.catalogue.delta import Table, extended, part_of
from mmse.catalogue.edits import Edit
from mmse.catalogue.embedder import Embedder
from mmse.catalogue.snapshot import Snapshot
from mmse.catalogue.working_index import Scratch
from mmse.core.errors import ArtifactError, UsageError
from mmse.index.lexical import LexicalIndex

_TRIES = 5


@dataclass(frozen=True, eq=False)
class Generation:
    """A base with the journal of what came after; `read_to` is where the journal was read to.

    `journaled` is false while there is no such journal: no edit was made, or none since the stage folders were made
    again. `scratch` is None while there is nothing to write into the words.
    """

    number: int
    journaled: bool
    snapshot: Snapshot
    scratch: Scratch | None
    read_to: int


def opened(run: Path, embedder: Embedder) -> Generation:
    """The newest generation of `run` with every edit in it.

    Raises `ArtifactError` where something is missing or damaged, or the edits belong to stage folders that are there
    no more.
    """
    for _ in range(_TRIES):
        number = places.newest(run)
        try:
            return _opened(run, number, embedder)
        except (ArtifactError, FileNotFoundError):
            if places.newest(run) == number:
                raise
    raise ArtifactError(f"{places.live(run)} was folded {_TRIES} times while it was opened.", "Open it again.")


def bare(base: Base, lexical: LexicalIndex, version: int) -> Snapshot:
    """The snapshot of a base without edits."""
    return Snapshot(version, len(base), base, ~base.dead, (), {}, lexical)


def advanced(
    run: Path, embedder: Embedder, snapshot: Snapshot, scratch: Scratch | None, changes: Changes, version: int
) -> tuple[Snapshot, Scratch | None]:
    """`snapshot` after `changes`, and the scratch that has its words; a new one where `scratch` is None."""
    changed = changes.table()
    if len(changed.rows) == 0:
        return replace(snapshot, version=version), scratch
    vectors = np.zeros((len(changed.rows), snapshot.base.vectors.shape[1]), np.float32)
    there = changed.alive
    if there.any():
        vectors[there] = embedder.vectors(changed.rows[there], changed.items.filter(pa.array(there)))
    base_open = snapshot.base_open.copy()
    base_open[changed.rows[changed.rows < len(base_open)]] = False
    parts = extended(snapshot.parts, part_of(changed, vectors, snapshot.kinds))
    fresh = scratch is None
    scratch = scratch or Scratch(run, snapshot.base.lexical_folder, embedder.attributes)
    try:
        if fresh:
            require_unchanged(run, snapshot.base)  # after the copy was made: what it is of is what the base is
        lexical = scratch.write([part.table for part in parts] if fresh else [changed])
    except BaseException:
        scratch.close()
        raise
    added = {**snapshot.added, **changes.added} if changes.added else snapshot.added
    return Snapshot(version, changes.n_rows, snapshot.base, base_open, parts, added, lexical), scratch


def rebased(
    run: Path, embedder: Embedder, snapshot: Snapshot, base: Base, rows: Int64[np.ndarray, " t"]
) -> tuple[Snapshot, Scratch | None]:
    """`snapshot` on top of `base`, into which all but what changed at `rows` (sorted) was folded."""
    if len(rows) == 0:
        return bare(base, LexicalIndex.open(base.lexical_folder), snapshot.version), None
    changed = Table(rows, snapshot.table(rows), snapshot.alive(rows))
    part = part_of(changed, snapshot.vectors(rows), base.kinds)
    scratch = Scratch(run, base.lexical_folder, embedder.attributes)
    try:
        lexical = scratch.write([changed])
    except BaseException:
        scratch.close()
        raise
    base_open = ~base.dead
    base_open[rows[rows < len(base)]] = False
    ids = zip(rows.tolist(), changed.items["item_id"].to_pylist(), strict=True)
    added = {item_id: row for row, item_id in ids if row >= len(base)}
    return Snapshot(snapshot.version, snapshot.n_rows, base, base_open, (part,), added, lexical), scratch


def taken(run: Path, snapshot: Snapshot, calls: Sequence[Sequence[Edit]]) -> Changes:
    """What `calls` of the journal change on top of `snapshot`; raises `ArtifactError` where they do not fit it."""
    changes = Changes(snapshot)
    try:
        changes.take([edit for call in calls for edit in call])
    except UsageError as error:
        raise ArtifactError(
            f"The journal in {places.live(run)} does not fit its base: {error.cause}",
            "Restore the run folder from a backup, or drop the edits: `mmse items discard RUN`.",
        ) from error
    return changes


def replayed(
    run: Path, embedder: Embedder, snapshot: Snapshot, scratch: Scratch | None, calls: Sequence[Sequence[Edit]]
) -> tuple[Snapshot, Scratch | None]:
    """`snapshot` after `calls` of its journal, embedded in one batch."""
    return advanced(run, embedder, snapshot, scratch, taken(run, snapshot, calls), snapshot.version + len(calls))


def _opened(run: Path, number: int | None, embedder: Embedder) -> Generation:
    origin = places.origin(run)
    if number is None:
        return _without_edits(run, 0, 0)
    file = places.journal(run, number)
    header, start = journal.read_header(file)
    read = journal.read(file, start)
    if header.origin != origin:
        waiting = transfer.waiting(run, number)
        if not waiting:
            return _without_edits(run, number + 1, header.version + len(read.calls))
        raise transfer.unfit(run, len(waiting))
    base = open_run(run) if header.base is None else open_folded(places.base(run, number))
    if (base.fingerprint, base.origin) != (header.base, origin):
        raise ArtifactError(
            f"{file} goes on top of the base {header.base}, found {base.fingerprint}.",
            "Restore the folder from a backup.",
        )
    snapshot = bare(base, LexicalIndex.open(base.lexical_folder), header.version)
    snapshot, scratch = replayed(run, embedder, snapshot, None, read.calls)
    return Generation(number, True, snapshot, scratch, read.end)


def _without_edits(run: Path, number: int, version: int) -> Generation:
    base = open_run(run)
    return Generation(number, False, bare(base, LexicalIndex.open(base.lexical_folder), version), None, 0)
