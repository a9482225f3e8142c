"""The base of a live catalogue, opened: a run's stage folders, or edits folded into them; never written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int64

from mmse.catalogue import layout as places
from mmse.catalogue.id_index import Ids
from mmse.core import artifact
from mmse.core.errors import ArtifactError
from mmse.index import Index, open_index
from mmse.index.base import damaged
from mmse.index.columns import Columns
from mmse.index.embedding import open_array
from mmse.index.row_store import Shelf
from mmse.index.step import COLUMNS, LEXICAL
from mmse.schema.filters import Kind

ITEMS, VECTORS, DEAD, INDEX = "items.parquet", "vectors.npy", "dead.npy", "index"
"""The names in a folded base; as in a run, the index folder holds the folders of words and columns."""


@dataclass(frozen=True, eq=False)
class Base:
    """Items by row, with all that is searched of them; `dead` are the rows that no item has at present.

    `schema` is that of the items table, where any column but id and title may be empty. `shelf` has the items as they
    are shown. `origin` is the fingerprint of the stage folders that it comes from, `fingerprint` its own, None where
    the base is the run itself.
    """

    items: pa.Table
    shelf: Shelf
    vectors: Float32[np.ndarray, "n width"]
    index: Index
    columns: Columns
    ids: Ids
    dead: Bool[np.ndarray, " n"]
    index_folder: Path
    lexical_folder: Path
    origin: str
    fingerprint: str | None

    def __len__(self) -> int:
        return int(self.items.num_rows)

    @property
    def schema(self) -> pa.Schema:
        """The columns of an item."""
        return self.items.schema

    @property
    def kinds(self) -> dict[str, Kind]:
        """What can be filtered by."""
        return self.columns.kinds


def open_run(run: Path) -> Base:
    """The base that the stage folders of a run are; raises `ArtifactError` where one is missing or damaged."""
    for kind in places.KINDS:
        artifact.verify(run / kind, kind)
    items = run / "dataset" / ITEMS
    origin = places.origin(run)
    base = _open(items, open_array(run / "vectors"), run / INDEX, origin)
    require_unchanged(run, base)
    return base


def open_folded(folder: Path) -> Base:
    """The base that `compaction.fold` wrote; raises `ArtifactError` where it is missing or damaged."""
    manifest = artifact.verify(folder, "live")
    try:
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        dead = np.load(folder / DEAD, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise damaged(folder / VECTORS, error) from error
    return _open(folder / ITEMS, vectors, folder / INDEX, manifest.inputs["origin"], dead, manifest.fingerprint)


def require_unchanged(run: Path, base: Base) -> None:
    """Raises `ArtifactError` where `base` is the run itself and its stage folders were made again since."""
    if base.fingerprint is None and places.origin(run) != base.origin:
        raise ArtifactError(
            f"The stage folders of {run} were made again while its catalogue was open.",
            "Open it again; edits since then are carried over: `mmse items carry-over RUN`.",
        )


def _open(
    items_file: Path,
    vectors: Float32[np.ndarray, "n width"],
    index: Path,
    origin: str,
    dead: Int64[np.ndarray, " d"] | None = None,
    fingerprint: str | None = None,
) -> Base:
    try:
        items = pq.read_table(items_file)
    except (OSError, pa.ArrowException) as error:
        raise damaged(items_file, error) from error
    items = items.cast(pa.schema([field.with_nullable(True) for field in items.schema])).combine_chunks()
    if len(items) != len(vectors):
        raise ArtifactError(
            f"{items_file} has {len(items)} rows, and there are {len(vectors)} vectors.", "Run the stages again."
        )
    gone = np.zeros(len(items), bool)
    if dead is not None:
        gone[dead] = True
    if not (index / COLUMNS).is_dir():
        raise ArtifactError(
            f"{index} has no {COLUMNS}: it was made by an mmse without edits.", "Run `mmse index` again."
        )
    return Base(
        items=items,
        shelf=Shelf(items),
        vectors=vectors,
        index=open_index(index),
        columns=Columns.open(index / COLUMNS),
        ids=Ids(items["item_id"].combine_chunks()),
        dead=gone,
        index_folder=index,
        lexical_folder=index / LEXICAL,
        origin=origin,
        fingerprint=fingerprint,
    )
