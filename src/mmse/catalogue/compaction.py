"""Edits folded into the base: a new base with everything in it, written beside while searches and edits go on.

Nothing is learned anew: the vectors that edits brought are put into the lists that the index has, and the words into
the segments of the lexical index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.catalogue import wal as journal
from mmse.catalogue.base import DEAD, INDEX, ITEMS, VECTORS
from mmse.catalogue.edits import Edit
from mmse.catalogue.snapshot import Snapshot
from mmse.catalogue.transfer import EDITS
from mmse.catalogue.working_index import copy
from mmse.core import artifact
from mmse.index import open_index
from mmse.index.base import CHUNK
from mmse.index.columns import Columns
from mmse.index.lexical import LexicalIndex
from mmse.index.step import COLUMNS, LEXICAL


@dataclass(frozen=True)
class Made:
    """What a folded base was made from: the stage folders with the fingerprint `origin`, and all `edits` since, net."""

    origin: str
    edits: dict[str, Edit]


def fold(snapshot: Snapshot, out: Path, made: Made, attributes: list[str]) -> None:
    """Writes `snapshot` as a base into the folder `out`; `attributes` names columns as `LexicalWriter.add` wants them.

    Raises `OutputError` where the disk refuses, and leaves nothing then.
    """
    with artifact.writing(out, kind="live", config={}, inputs={"origin": made.origin}) as draft:
        (draft.folder / EDITS).write_bytes(journal.frames(list(made.edits.values())))
        index = draft.folder / INDEX
        for folder in (index, index / COLUMNS, index / LEXICAL):
            folder.mkdir()
        _rows(snapshot, draft.folder)
        _index(snapshot, index)
        _words(snapshot, index / LEXICAL, attributes)
        draft.counts |= {"rows": snapshot.n_rows, "items": len(snapshot), "edited_items": len(made.edits)}


def _rows(snapshot: Snapshot, folder: Path) -> None:
    """Items, filterable columns and vectors by row."""
    every = np.arange(snapshot.n_rows, dtype=np.int64)
    items = snapshot.table(every)
    pq.write_table(items, folder / ITEMS)
    Columns.of(items, snapshot.kinds).save(folder / INDEX / COLUMNS)
    np.save(folder / DEAD, np.flatnonzero(~snapshot.alive(every)), allow_pickle=False)
    shape = (snapshot.n_rows, snapshot.base.vectors.shape[1])
    vectors = np.lib.format.open_memmap(folder / VECTORS, "w+", np.float32, shape)
    for start in range(0, len(every), CHUNK):
        vectors[start : start + CHUNK] = snapshot.vectors(every[start : start + CHUNK])
    vectors.flush()


def _index(snapshot: Snapshot, folder: Path) -> None:
    """The vectors that are searched: those that changed leave the index, and come back as they are now."""
    index = open_index(snapshot.base.index_folder)
    index.remove(np.concatenate([part.rows[part.current] for part in snapshot.parts]))
    for part in snapshot.parts:
        index.add(part.rows[part.open], part.vectors[part.open])
    index.save(folder)


def _words(snapshot: Snapshot, folder: Path, attributes: list[str]) -> None:
    copy(snapshot.base.lexical_folder, folder)
    writer = LexicalIndex.open(folder).writer()
    for part in snapshot.parts:
        rows, items, alive = part.table
        writer.remove(rows)
        writer.add(rows[alive], items.filter(pa.array(alive)), attributes)
    writer.commit()
    writer.close()
