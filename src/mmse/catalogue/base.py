"""The base of a live catalogue, opened: a run's step folders, or edits folded into them; never written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int64

from mmse.catalogue import layout
from mmse.catalogue.id_index import IdIndex
from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.errors import ArtifactError
from mmse.core.run_folder import INDEX, RunFolder
from mmse.index.base import damage_error
from mmse.index.columns import FilterColumns
from mmse.index.embedding import open_array
from mmse.index.row_store import RowStore
from mmse.index.step import COLUMNS, LEXICAL
from mmse.index.store import VectorStore, open_store
from mmse.schema.filters import Kind

ITEMS, VECTORS, DEAD = "items.parquet", "vectors.npy", "dead.npy"
"""The files of a folded base. Its index folder is laid out as in a run."""


@dataclass(frozen=True, eq=False)
class CatalogueBase:
    """Items by row, with everything that a search reads; `dead` marks the rows that have no item.

    In `items` every column but id and title may be empty. `row_store` has the items as they are shown. `origin` is the
    fingerprint of the step folders that the base comes from. `fingerprint` is the base's own, None where the base is
    the run itself.
    """

    items: pa.Table
    row_store: RowStore
    vectors: Float32[np.ndarray, "n width"]
    store: VectorStore
    columns: FilterColumns
    id_index: IdIndex
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
        """The columns that can be filtered by, each with its kind."""
        return self.columns.kinds


def open_run_base(run: Path) -> CatalogueBase:
    """The step folders of a run as a base; raises `ArtifactError` where one is missing or damaged."""
    folder = RunFolder(run)
    for kind in layout.KINDS:
        artifact.verify(run / kind, kind)
    origin = layout.read_origin(run)
    with folder.name_damage(layout.KINDS):
        base = _open_base(folder.serving / ITEMS, open_array(folder.vectors), folder.index, origin)
    require_unchanged(run, base)
    return base


def open_folded_base(folder: Path) -> CatalogueBase:
    """The base that `compaction.write_base` wrote; raises `ArtifactError` where it is missing or damaged."""
    manifest = artifact.verify(folder, "live")
    with artifact.name_damage({folder: "live"}):
        return _open_folded(folder, manifest)


def _open_folded(folder: Path, manifest: Manifest) -> CatalogueBase:
    try:
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        dead_rows = np.load(folder / DEAD, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damage_error(folder / VECTORS, error) from error
    return _open_base(
        folder / ITEMS, vectors, folder / INDEX, manifest.inputs["origin"], dead_rows, manifest.fingerprint
    )


def require_unchanged(run: Path, base: CatalogueBase) -> None:
    """Raises `ArtifactError` where `base` is the run itself and its step folders have been replaced."""
    if base.fingerprint is None and layout.read_origin(run) != base.origin:
        raise ArtifactError(
            f"The step folders of {run} were made again while its catalogue was open.",
            "Open it again; edits since then are carried over: `mmse items carry-over RUN`.",
        )


def _open_base(
    items_file: Path,
    vectors: Float32[np.ndarray, "n width"],
    index: Path,
    origin: str,
    dead_rows: Int64[np.ndarray, " d"] | None = None,
    fingerprint: str | None = None,
) -> CatalogueBase:
    try:
        items = pq.read_table(items_file)
    except (OSError, pa.ArrowException) as error:
        raise damage_error(items_file, error) from error
    items = items.cast(
        pa.schema([field.with_nullable(True) for field in items.schema], items.schema.metadata)
    ).combine_chunks()
    if len(items) != len(vectors):
        raise ArtifactError(
            f"{items_file} has {len(items)} rows, and there are {len(vectors)} vectors.", "Run the steps again."
        )
    dead = np.zeros(len(items), bool)
    if dead_rows is not None:
        dead[dead_rows] = True
    if not (index / COLUMNS).is_dir():
        raise ArtifactError(
            f"{index} has no {COLUMNS}: it was made by an mmse without edits.", "Run `mmse index` again."
        )
    columns = FilterColumns.open(index / COLUMNS)
    return CatalogueBase(
        items=items,
        row_store=RowStore(items),
        vectors=vectors,
        store=open_store(index, vectors, columns, len(items) - int(dead.sum())),
        columns=columns,
        id_index=IdIndex(items["item_id"].combine_chunks()),
        dead=dead,
        index_folder=index,
        lexical_folder=index / LEXICAL,
        origin=origin,
        fingerprint=fingerprint,
    )
