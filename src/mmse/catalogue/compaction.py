"""Compaction: writes a snapshot as a new base with all edits in it, while searches and edits go on.

Nothing is trained again. The vectors that edits brought are added to the lists that the index has, and the words to
the segments of the lexical index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.catalogue import wal
from mmse.catalogue.base import DEAD, ITEMS, VECTORS
from mmse.catalogue.edits import Edit
from mmse.catalogue.snapshot import Snapshot
from mmse.catalogue.transfer import EDITS
from mmse.catalogue.working_index import copy_lexical_index
from mmse.core import artifact
from mmse.core.run_folder import INDEX
from mmse.index.base import CHUNK
from mmse.index.columns import FilterColumns
from mmse.index.lexical import LexicalIndex
from mmse.index.step import COLUMNS, LEXICAL
from mmse.index.store import read_store_name, write_store_name


@dataclass(frozen=True)
class FoldInputs:
    """What a folded base is made from: step folders with the fingerprint `origin`, and the net `edits` made on them."""

    origin: str
    edits: dict[str, Edit]


def write_base(snapshot: Snapshot, target: Path, inputs: FoldInputs, attributes: list[str]) -> None:
    """Writes `snapshot` as a base into the folder `target`.

    `attributes` names the columns that `LexicalWriter.add` puts into the field of that name. Raises `OutputError` where
    the disk refuses, and leaves nothing behind then.
    """
    with artifact.write_folder(target, kind="live", config={}, inputs={"origin": inputs.origin}) as draft:
        (draft.folder / EDITS).write_bytes(wal.encode_frames(list(inputs.edits.values())))
        index = draft.folder / INDEX
        for folder in (index, index / COLUMNS, index / LEXICAL):
            folder.mkdir()
        _write_rows(snapshot, draft.folder)
        _publish_vectors(snapshot, index)
        _write_lexical_index(snapshot, index / LEXICAL, attributes)
        draft.counts |= {"rows": snapshot.n_rows, "items": len(snapshot), "edited_items": len(inputs.edits)}


def _write_rows(snapshot: Snapshot, folder: Path) -> None:
    """Items, filter columns and vectors by row."""
    rows = np.arange(snapshot.n_rows, dtype=np.int64)
    items = snapshot.table(rows)
    pq.write_table(items, folder / ITEMS)
    FilterColumns.from_table(items, snapshot.kinds).save(folder / INDEX / COLUMNS)
    np.save(folder / DEAD, np.flatnonzero(~snapshot.alive(rows)), allow_pickle=False)
    _write_vectors(snapshot, rows, folder / VECTORS)


def _write_vectors(snapshot: Snapshot, rows: Int64[np.ndarray, " n"], file: Path) -> None:
    """The vectors of `rows` as a NumPy file, a chunk at a time.

    Not through a memory map: on a full disk that kills the process (SIGBUS), where a write raises.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
        "fortran_order": False,
        "shape": (len(rows), snapshot.base.vectors.shape[1]),
    }
    with file.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for start in range(0, len(rows), CHUNK):
            chunk = np.ascontiguousarray(snapshot.vectors(rows[start : start + CHUNK]), np.float32)
            handle.write(chunk.tobytes())


def _publish_vectors(snapshot: Snapshot, folder: Path) -> None:
    """The next state of the base's store, with what changed."""
    parts = snapshot.parts
    writer = snapshot.base.store.writer()
    writer.delete(np.concatenate([part.rows[part.current & ~part.alive] for part in parts]))
    writer.upsert(
        np.concatenate([part.rows[part.searchable] for part in parts]),
        np.concatenate([part.vectors[part.searchable] for part in parts]),
        pa.concat_tables([part.items.filter(pa.array(part.searchable)) for part in parts]),
    )
    writer.publish(folder)
    write_store_name(folder, read_store_name(snapshot.base.index_folder))


def _write_lexical_index(snapshot: Snapshot, folder: Path, attributes: list[str]) -> None:
    copy_lexical_index(snapshot.base.lexical_folder, folder)
    writer = LexicalIndex.open(folder).writer()
    for part in snapshot.parts:
        rows, items, alive = part.table
        writer.remove(rows)
        writer.add(rows[alive], items.filter(pa.array(alive)), attributes)
    writer.commit()
    writer.close()
