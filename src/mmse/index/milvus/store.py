"""The vector store in a Milvus server: each state is a collection, and an alias names the newest.

Milvus compares vectors and evaluates filters. What it finds is scored again by the catalogue's own vectors, so that
scores are those of every other store; where it finds fewer rows than there are, the rows are compared here. No state
changes, so that searches need no more than Milvus' weakest consistency: a state is published once all of its rows have
been counted in segments that are sealed and loaded.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mmse.core.config import build
from mmse.core.errors import ArtifactError
from mmse.index.base import IndexConfig, Neighbours, check_vectors, no_neighbours
from mmse.index.columns import FilterColumns
from mmse.index.filtered_search import rescore, scan_rows
from mmse.index.milvus.fields import ROW, write_expression
from mmse.index.milvus.probing import ListProbing
from mmse.index.milvus.server import MAX_LIMIT, MilvusConfig, MilvusServer
from mmse.index.milvus.state import CollectionState, digest_vectors, read_state, sample_rows
from mmse.index.milvus.writer import MilvusWriter
from mmse.index.store import NO_ROWS, search_around
from mmse.schema.filters import Filter, Kind

MAX_EXCLUDED = 1_000
"""So many stale rows are named in an expression; where there are more, rows are compared here."""
MAX_HITS = 200_000
"""Hits of one request, which bound the size of an answer."""


@final
class MilvusStore:
    """A collection on a server, opened; `rows` are those that it has."""

    def __init__(
        self,
        server: MilvusServer,
        state: CollectionState,
        rows: Int64[np.ndarray, " r"],
        vectors: Float32[np.ndarray, "n width"],
        columns: FilterColumns,
    ) -> None:
        self._server, self._state, self._rows = server, state, rows
        self._vectors, self._columns = vectors, columns
        self._n_rows = server.count_rows(state.collection)

    @classmethod
    def create(
        cls, config: IndexConfig, width: int, kinds: Mapping[str, Kind], queries: Float32[np.ndarray, "p width"]
    ) -> MilvusWriter:
        """A writer of a first state; raises `StoreError` at once where the server does not answer."""
        server = MilvusServer(build(MilvusConfig, config.options, "shop.toml [index.options]"))
        server.call("get_server_version")
        return MilvusWriter(server, width, kinds, ListProbing(queries, config.target_recall, config.recall_k))

    @classmethod
    def open(cls, folder: Path, vectors: Float32[np.ndarray, "n width"], columns: FilterColumns) -> MilvusStore:
        """The state that `folder` names; loads it where the server has taken it out of memory."""
        state, has_row = read_state(folder)
        rows = np.flatnonzero(has_row).astype(np.int64)
        fits = state.width == vectors.shape[1] and (len(rows) == 0 or int(rows[-1]) < len(vectors))
        if not fits or digest_vectors(np.asarray(vectors)[sample_rows(rows)]) != state.digest:
            raise ArtifactError(
                f"{folder} names the collection {state.collection} with {state.n_rows:,} vectors of {state.width} "
                f"numbers; the run's {len(vectors):,} vectors of {vectors.shape[1]} are not those.",
                "The model was made again since: build the index again (mmse index).",
            )
        server = MilvusServer(state.config)
        state.check(server, folder)
        server.load(state.collection)
        return cls(server, state, rows, vectors, columns)

    def __len__(self) -> int:
        return self._n_rows

    def search(
        self,
        queries: Float32[np.ndarray, "q width"],
        k: int,
        filter: Filter | None = None,
        stale_rows: Int64[np.ndarray, " s"] = NO_ROWS,
    ) -> Neighbours:
        """The `k` best rows of each query among those that `filter` lets through, without `stale_rows`."""
        check_vectors(queries, self._state.width, "query vectors")

        def search_all(queries: Float32[np.ndarray, "q width"], k: int) -> Neighbours:
            return self._find(queries, k, filter, NO_ROWS)

        def search_current(queries: Float32[np.ndarray, "q width"], k: int) -> Neighbours:
            return self._find(queries, k, filter, stale_rows)

        if len(queries) == 0 or self._n_rows == 0 or k == 0:
            return no_neighbours(len(queries), k)
        neighbours = search_around(stale_rows, search_all, queries, k, self._n_rows, search_current)
        result, width = no_neighbours(len(queries), k), neighbours.ids.shape[1]
        result.ids[:, :width], result.scores[:, :width] = neighbours.ids, neighbours.scores
        return result

    def writer(self) -> MilvusWriter:
        """A writer of a collection of its own, which begins with the rows of this one."""
        state = self._state
        writer = MilvusWriter(self._server, state.width, self._columns.kinds)
        return writer.begin(self._rows, self._vectors, self._columns, state.nprobe / state.lists)

    def _find(
        self,
        queries: Float32[np.ndarray, "q width"],
        k: int,
        filter: Filter | None,
        excluded_rows: Int64[np.ndarray, " s"],
    ) -> Neighbours:
        """The `k` best, by Milvus as far as its limits go; the queries that it leaves short are compared here."""
        limit = min(k, self._n_rows)
        if limit > MAX_LIMIT or len(excluded_rows) > MAX_EXCLUDED:
            return scan_rows(self._vectors, self._allowed_rows(filter, excluded_rows), queries, limit)
        allowed_rows = self._allowed_rows(filter, excluded_rows)
        parameters = self._state.search_parameters(limit, len(allowed_rows))
        conditions = [] if filter is None else [write_expression(filter, self._state.fields)]
        if len(excluded_rows):
            conditions.append(f"({ROW} not in [{', '.join(map(str, excluded_rows.tolist()))}])")
        step = max(1, MAX_HITS // limit)
        chunks = [queries[start : start + step] for start in range(0, len(queries), step)]
        ask = functools.partial(self._server.find_rows, self._state.collection)
        rows = np.concatenate([ask(chunk, limit, " and ".join(conditions), parameters) for chunk in chunks])
        neighbours = rescore(np.asarray(self._vectors), queries, rows, limit)
        is_short = neighbours.ids[:, -1] < 0
        is_short &= (neighbours.ids >= 0).sum(axis=1) < min(limit, len(allowed_rows))
        if is_short.any():
            further = scan_rows(np.asarray(self._vectors), allowed_rows, queries[is_short], limit)
            neighbours.ids[is_short], neighbours.scores[is_short] = further.ids, further.scores
        return neighbours

    def _allowed_rows(self, filter: Filter | None, excluded_rows: Int64[np.ndarray, " s"]) -> Int64[np.ndarray, " m"]:
        if filter is None and len(excluded_rows) == 0:
            return self._rows
        has_row: Bool[np.ndarray, " n"] = np.zeros(len(self._vectors), bool)
        has_row[self._rows] = True
        has_row[excluded_rows] = False
        if filter is not None:
            has_row &= self._columns.mask(filter)
        return np.flatnonzero(has_row)
