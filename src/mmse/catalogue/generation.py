"""The generation in force, opened: its base, the edits that its log has since, and the snapshot that both make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mmse.catalogue import layout, transfer, wal
from mmse.catalogue.base import CatalogueBase, open_folded_base, open_run_base, require_unchanged
from mmse.catalogue.changes import Changes
from mmse.catalogue.delta import ChangedRows, extend_parts, new_part
from mmse.catalogue.edits import Edit
from mmse.catalogue.embedder import Embedder
from mmse.catalogue.snapshot import Snapshot
from mmse.catalogue.working_index import WorkingIndex, begin_working_index
from mmse.core.errors import ArtifactError, UsageError
from mmse.index.lexical import LexicalIndex

_TRIES = 5


@dataclass(frozen=True, eq=False)
class Generation:
    """A base with the log of the edits made on it, read up to byte `wal_end`.

    `has_wal` is false while there is no such log: no edit was made, or none since the step folders were made again.
    `working_index` is None while there are no edited words. `problem` says that the log had a torn end when it was
    opened, "" where it had none.
    """

    number: int
    has_wal: bool
    snapshot: Snapshot
    working_index: WorkingIndex | None
    wal_end: int
    problem: str = ""


def open_generation(run: Path, embedder: Embedder) -> Generation:
    """The newest generation of `run` with every edit in it.

    Raises `ArtifactError` where something is missing or damaged, or where the edits belong to step folders that have
    been replaced.
    """
    layout.require_own_live_folder(run)
    for _ in range(_TRIES):
        number = layout.newest_generation(run)
        try:
            return _open_numbered(run, number, embedder)
        except (ArtifactError, FileNotFoundError):
            if layout.newest_generation(run) == number:
                raise
    raise ArtifactError(f"{layout.live_folder(run)} was folded {_TRIES} times while it was opened.", "Open it again.")


def base_snapshot(base: CatalogueBase, lexical: LexicalIndex, version: int) -> Snapshot:
    """The snapshot of a base without edits."""
    return Snapshot(version, len(base), base, ~base.dead, (), {}, lexical)


def advance(
    run: Path,
    embedder: Embedder,
    snapshot: Snapshot,
    working_index: WorkingIndex | None,
    changes: Changes,
    version: int,
) -> tuple[Snapshot, WorkingIndex | None]:
    """`snapshot` after `changes`, and the working index with its words, a new one where `working_index` is None."""
    table = changes.table()
    if len(table.rows) == 0:
        return replace(snapshot, version=version), working_index
    vectors = np.zeros((len(table.rows), snapshot.base.vectors.shape[1]), np.float32)
    if table.alive.any():
        vectors[table.alive] = embedder.embed(table.rows[table.alive], table.items.filter(pa.array(table.alive)))
    base_current = snapshot.base_current.copy()
    base_current[table.rows[table.rows < len(base_current)]] = False
    parts = extend_parts(snapshot.parts, new_part(table, vectors, snapshot.kinds))
    if working_index is None:
        working_index, lexical = _begin_words(run, snapshot.base, embedder, [part.table for part in parts])
    else:
        lexical = _add_words(working_index, table)
    added_rows = {**snapshot.added_rows, **changes.added_rows} if changes.added_rows else snapshot.added_rows
    return Snapshot(version, changes.n_rows, snapshot.base, base_current, parts, added_rows, lexical), working_index


def rebase(
    run: Path, embedder: Embedder, snapshot: Snapshot, base: CatalogueBase, rows: Int64[np.ndarray, " t"]
) -> tuple[Snapshot, WorkingIndex | None]:
    """`snapshot` on top of `base`, which has all its edits but those of `rows` (sorted)."""
    if len(rows) == 0:
        return base_snapshot(base, LexicalIndex.open(base.lexical_folder), snapshot.version), None
    table = ChangedRows(rows, snapshot.table(rows), snapshot.alive(rows))
    part = new_part(table, snapshot.vectors(rows), base.kinds)
    working_index, lexical = begin_working_index(run, base.lexical_folder, embedder.attributes, [table])
    base_current = ~base.dead
    base_current[rows[rows < len(base)]] = False
    ids = zip(rows.tolist(), table.items["item_id"].to_pylist(), strict=True)
    added_rows = {item_id: row for row, item_id in ids if row >= len(base)}
    return (
        Snapshot(snapshot.version, snapshot.n_rows, base, base_current, (part,), added_rows, lexical),
        working_index,
    )


def changes_of(run: Path, snapshot: Snapshot, calls: Sequence[Sequence[Edit]]) -> Changes:
    """The changes that `calls` of the log make to `snapshot`; raises `ArtifactError` where they do not fit it."""
    changes = Changes(snapshot)
    try:
        changes.add_call([edit for call in calls for edit in call])
    except UsageError as error:
        raise ArtifactError(
            f"The log of edits in {layout.live_folder(run)} does not fit its base: {error.cause}",
            "Restore the run folder from a backup, or drop the edits: `mmse items discard RUN`.",
        ) from error
    return changes


def replay(
    run: Path,
    embedder: Embedder,
    snapshot: Snapshot,
    working_index: WorkingIndex | None,
    calls: Sequence[Sequence[Edit]],
) -> tuple[Snapshot, WorkingIndex | None]:
    """`snapshot` after `calls` of its log, which are embedded in one batch."""
    changes = changes_of(run, snapshot, calls)
    return advance(run, embedder, snapshot, working_index, changes, snapshot.version + len(calls))


def _begin_words(
    run: Path, base: CatalogueBase, embedder: Embedder, tables: Sequence[ChangedRows]
) -> tuple[WorkingIndex, LexicalIndex]:
    working_index, lexical = begin_working_index(run, base.lexical_folder, embedder.attributes, tables)
    try:
        require_unchanged(run, base)  # after the copy: it was made of the words of this base
    except BaseException:
        working_index.close()
        raise
    return working_index, lexical


def _add_words(working_index: WorkingIndex, table: ChangedRows) -> LexicalIndex:
    try:
        return working_index.write([table])
    except BaseException:
        working_index.close()
        raise


def _open_numbered(run: Path, number: int | None, embedder: Embedder) -> Generation:
    origin = layout.read_origin(run)
    if number is None:
        return _open_unedited(run, 0, 0)
    file = layout.wal_file(run, number)
    header, start = wal.read_header(file)
    edits = wal.read(file, start)
    if header.origin != origin:
        net_edits = transfer.generation_edits(run, number)
        if not net_edits:
            return _open_unedited(run, number + 1, header.version + len(edits.calls))
        raise transfer.stale_edits_error(run, len(net_edits))
    base = open_run_base(run) if header.base is None else open_folded_base(layout.base_folder(run, number))
    if (base.fingerprint, base.origin) != (header.base, origin):
        raise ArtifactError(
            f"{file} goes on top of the base {header.base}, found {base.fingerprint}.",
            "Restore the folder from a backup.",
        )
    snapshot = base_snapshot(base, LexicalIndex.open(base.lexical_folder), header.version)
    snapshot, working_index = replay(run, embedder, snapshot, None, edits.calls)
    problem = wal.torn_problem(file, edits.end, edits.n_torn) if edits.n_torn else ""
    return Generation(number, True, snapshot, working_index, edits.end, problem)


def _open_unedited(run: Path, number: int, version: int) -> Generation:
    base = open_run_base(run)
    return Generation(number, False, base_snapshot(base, LexicalIndex.open(base.lexical_folder), version), None, 0)
