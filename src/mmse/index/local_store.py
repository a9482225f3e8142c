"""The local store: an index of files on this machine, exact or IVF, over the catalogue's own vectors and columns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64

from mmse.core.progress import Progress
from mmse.index import build, open_index
from mmse.index.base import Index, IndexConfig, Neighbours
from mmse.index.columns import FilterColumns
from mmse.index.filtered_search import search_filtered
from mmse.index.ivf import IvfIndex
from mmse.index.store import NO_ROWS, search_around
from mmse.schema.filters import Filter, Kind

MAX_STALE_SHARE = 0.1
"""Up to this share of stale rows, a search takes some more rows and drops the stale ones; above, it masks them."""


@final
class LocalStore:
    """A saved index. Filters become masks over rows, and what its codes round is scored again by the exact vectors."""

    def __init__(
        self, folder: Path, index: Index, vectors: Float32[np.ndarray, "n width"], columns: FilterColumns
    ) -> None:
        self._folder, self._index, self._vectors, self._columns = folder, index, vectors, columns
        self._row_mask: Bool[np.ndarray, " n"] | None = None
        """The rows that the index has; None where it has all."""
        if len(index) < len(vectors):
            self._row_mask = np.zeros(len(vectors), bool)
            self._row_mask[index.ids] = True

    @classmethod
    def create(
        cls, config: IndexConfig, width: int, kinds: Mapping[str, Kind], queries: Float32[np.ndarray, "p width"]
    ) -> LocalWriter:
        """A writer that builds the index of the config's kind from the first rows that it gets."""
        build_first = functools.partial(build, config, probes=queries)
        return LocalWriter(build_first(np.empty((0, width), np.float32), NO_ROWS), build_first)

    @classmethod
    def open(cls, folder: Path, vectors: Float32[np.ndarray, "n width"], columns: FilterColumns) -> LocalStore:
        """The index saved in `folder`, memory-mapped."""
        return cls(folder, open_index(folder), vectors, columns)

    def __len__(self) -> int:
        return len(self._index)

    def search(
        self,
        queries: Float32[np.ndarray, "q width"],
        k: int,
        filter: Filter | None = None,
        stale_rows: Int64[np.ndarray, " s"] = NO_ROWS,
    ) -> Neighbours:
        """The `k` best rows of each query among those that `filter` lets through, without `stale_rows`."""

        def search_masked(queries: Float32[np.ndarray, "q width"], k: int) -> Neighbours:
            return search_filtered(self._index, self._vectors, queries, k, self._mask(filter, stale_rows))

        def search_all(queries: Float32[np.ndarray, "q width"], k: int) -> Neighbours:
            return search_filtered(self._index, self._vectors, queries, k)

        if filter is not None or len(stale_rows) > MAX_STALE_SHARE * len(self):
            return search_masked(queries, k)
        return search_around(stale_rows, search_all, queries, k, len(self), search_masked)

    def writer(self) -> LocalWriter:
        """A writer that starts with a copy of the index in memory."""
        return LocalWriter(open_index(self._folder))

    def _mask(self, filter: Filter | None, stale_rows: Int64[np.ndarray, " s"]) -> Bool[np.ndarray, " n"]:
        mask = np.ones(len(self._vectors), bool) if filter is None else self._columns.mask(filter)
        if self._row_mask is not None:
            mask &= self._row_mask
        mask[stale_rows] = False
        return mask


@final
class LocalWriter:
    """An index in memory that changes; `build_first`, if given, builds it from the first rows that come."""

    def __init__(self, index: Index, build_first: Callable[..., Index] | None = None) -> None:
        self._index, self._build_first = index, build_first

    def upsert(
        self,
        rows: Int64[np.ndarray, " m"],
        vectors: Float32[np.ndarray, "m width"],
        items: pa.Table,
        progress: Progress | None = None,
    ) -> None:
        """Puts the vectors of `rows` in place of what these rows had; the items stay with the catalogue."""
        if self._build_first is not None:
            self._index, self._build_first = self._build_first(vectors, rows, progress=progress), None
        else:
            self._index.remove(rows)
            self._index.add(rows, vectors, progress)

    def delete(self, rows: Int64[np.ndarray, " m"]) -> None:
        """Removes `rows`."""
        self._index.remove(rows)

    def publish(self, folder: Path) -> Mapping[str, Any]:
        """Saves the index into `folder`."""
        self._index.save(folder)
        if not isinstance(self._index, IvfIndex):
            return {}
        index = self._index
        return {
            "lists": index.nlist,
            "probed": index.nprobe,
            "measured_recall": index.measured_recall,
            "codes": index.codes,
            "list_bytes": index.n_bytes,
            "rescore_factor": index.rescore_factor,
            "trials": [trial._asdict() for trial in index.trials],
        }
