"""The protocol of vector stores, the table of those that exist, and what is done for all of them.

A store holds published states of the catalogue's vectors. A state never changes: what was edited since is searched
above it, from memory, by `mmse.catalogue`, and reaches the store when the edits are folded. So a store needs no log, no
lock and no clock, and edits show at once in every process, whatever a remote store promises of its own.

Rows are the item rows of the catalogue. `STORES` in `mmse.index.base` names the stores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from mmse.core.errors import ArtifactError, UsageError
from mmse.core.json_files import parse_json
from mmse.core.plugins import import_object
from mmse.core.progress import Progress
from mmse.index.base import STORES, IndexConfig, Neighbours, contains_ids, damage_error, no_neighbours
from mmse.index.columns import FilterColumns
from mmse.schema.filters import Filter, Kind

LOCAL = "local"
STORE_FILE = "store.json"
"""The file in an index folder that names its store; where it is missing, that is the local one."""
NO_ROWS: Int64[np.ndarray, " none"] = np.empty(0, np.int64)
_METHODS = ("create", "open", "search", "writer")
_FORM = f'Write store = "module:Class", or one of {", ".join(STORES)}.'


@runtime_checkable
class StoreWriter(Protocol):
    """Prepares the next state. One process at a time has a writer; without `publish` nothing of it is ever seen."""

    def upsert(
        self,
        rows: Int64[np.ndarray, " m"],
        vectors: Float32[np.ndarray, "m width"],
        items: pa.Table,
        progress: Progress | None = None,
    ) -> None:
        """Puts the vectors and the items of `rows`, each once, in place of what these rows had.

        `items` has the columns of the items table. The first call gets the whole catalogue, memory-mapped.
        """

    def delete(self, rows: Int64[np.ndarray, " m"]) -> None:
        """Removes `rows`; those that the store does not have are ignored."""

    def publish(self, folder: Path) -> Mapping[str, Any]:
        """Completes the state and writes into `folder`, which exists, what `VectorStore.open` needs to find it.

        The folder comes into force later or never, and may be copied to other machines then. Returns numbers for the
        manifest, such as a measured recall.
        """


@runtime_checkable
class VectorStore(Protocol):
    """One published state, searched by inner product and under filters; many threads may search at a time.

    A store that cannot be reached, or that refuses, raises `StoreError` within seconds.
    """

    def __len__(self) -> int:
        """The number of rows that the state has."""

    @classmethod
    def create(
        cls, config: IndexConfig, width: int, kinds: Mapping[str, Kind], queries: Float32[np.ndarray, "p width"]
    ) -> StoreWriter:
        """A writer of the first state, which begins empty.

        `kinds` are the columns that filters name. `queries` are vectors of queries, maybe none, to tune a search by.
        """

    @classmethod
    def open(cls, folder: Path, vectors: Float32[np.ndarray, "n width"], columns: FilterColumns) -> VectorStore:
        """The state that was published into `folder`; raises `ArtifactError` where it is missing or damaged.

        `vectors` and `columns` are the catalogue's own, by row, on this machine: for a store that rounds vectors, or
        that has no filters. Rows that the state lacks have no meaning in them.
        """

    def search(
        self,
        queries: Float32[np.ndarray, "q width"],
        k: int,
        filter: Filter | None = None,
        stale_rows: Int64[np.ndarray, " s"] = NO_ROWS,
    ) -> Neighbours:
        """The `k` best rows of each query among those that `filter` lets through, with exact inner products.

        `stale_rows`, sorted, are rows of the store that must not be found. Fewer than `k` only where fewer exist.
        Raises `UsageError` where a query has another width or is not finite (`base.check_vectors`).
        """

    def writer(self) -> StoreWriter:
        """A writer of a further state, which begins as this one; this one goes on as it is.

        A state may have several successors: copies of a run are edited apart, and edits can be dropped again.
        """


def store_class(name: str) -> type[VectorStore]:
    """The store that `[index] store` names; raises `UsageError` where there is none."""
    reference = STORES.get(name, name)
    if ":" not in reference:
        raise UsageError(f"[index] store is '{name}', and there is no such store.", _FORM)
    store = import_object(reference, type, "[index] store", _FORM)
    missing_methods = [method for method in _METHODS if not callable(getattr(store, method, None))]
    if missing_methods:
        raise UsageError(
            f"[index] store '{name}' is no vector store: it has no {', '.join(missing_methods)}.",
            "Write the methods of mmse.index.store.VectorStore.",
        )
    return cast("type[VectorStore]", store)


def open_store(
    folder: Path, vectors: Float32[np.ndarray, "n width"], columns: FilterColumns, n_items: int
) -> VectorStore:
    """The state with `n_items` rows that the index folder `folder` names, in whatever store.

    Raises as `VectorStore.open`, and `ArtifactError` where the state has another number of rows.
    """
    store = store_class(read_store_name(folder)).open(folder, vectors, columns)
    if len(store) != n_items:
        raise ArtifactError(
            f"The vector store of {folder} has {len(store)} items, expected {n_items}.",
            f"Delete {folder} and build the index again.",
        )
    return store


def read_store_name(folder: Path) -> str:
    """The name of the store of an index folder."""
    path = folder / STORE_FILE
    try:
        return str(parse_json(path.read_text("utf-8"))["store"])
    except FileNotFoundError:
        return LOCAL
    except (ValueError, KeyError, TypeError) as error:
        raise damage_error(path, error) from error


def write_store_name(folder: Path, name: str) -> None:
    """Writes the name of the store of an index folder; none for the local one, whose files say what they are."""
    if name != LOCAL:
        (folder / STORE_FILE).write_text(json.dumps({"store": name}) + "\n", "utf-8")


SearchVectors = Callable[[Float32[np.ndarray, "q width"], int], Neighbours]
"""A search of some queries for so many rows each."""


def search_around(
    stale_rows: Int64[np.ndarray, " s"],
    search: SearchVectors,
    queries: Float32[np.ndarray, "q width"],
    k: int,
    n_rows: int,
    search_further: SearchVectors | None = None,
) -> Neighbours:
    """The `k` best of each query without `stale_rows`, of a `search` over `n_rows` that cannot leave rows out.

    Somewhat more than `k` are taken and the stale ones dropped. Queries that are then short of `k` are searched by
    `search_further`, which must leave them out (None: `search`, for as many more as there are stale rows).
    """
    n_stale = len(stale_rows)
    if n_stale == 0:
        return search(queries, k)
    extended_k = k + min(n_stale, 16 + math.ceil(2 * k * n_stale / n_rows))
    neighbours = _drop(search(queries, extended_k), stale_rows, k)
    is_short = (neighbours.ids >= 0).sum(axis=1) < min(k, n_rows - n_stale)
    if not is_short.any():
        return neighbours
    short_queries = queries[is_short]
    if search_further is None:
        further = _drop(search(short_queries, k + n_stale), stale_rows, k)
    else:
        further = search_further(short_queries, k)
    result = no_neighbours(len(queries), k)
    width = neighbours.ids.shape[1]
    result.ids[:, :width], result.scores[:, :width] = neighbours.ids, neighbours.scores
    width = further.ids.shape[1]
    result.ids[is_short, :width], result.scores[is_short, :width] = further.ids, further.scores
    return result


def best_of(ids: Int64[np.ndarray, "q m"], scores: Float32[np.ndarray, "q m"], k: int) -> Neighbours:
    """The `k` best of each query, best first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _drop(neighbours: Neighbours, stale_rows: Int64[np.ndarray, " s"], k: int) -> Neighbours:
    """`neighbours` without `stale_rows`, at most `k` of each query."""
    is_stale = contains_ids(neighbours.ids.ravel(), stale_rows).reshape(neighbours.ids.shape)
    scores = np.where(is_stale, -np.inf, neighbours.scores).astype(np.float32)
    return best_of(np.where(is_stale, -1, neighbours.ids), scores, k)
