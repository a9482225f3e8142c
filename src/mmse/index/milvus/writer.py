"""The writer of a state in Milvus: gathers rows, and uploads them into a collection of their own when published."""

from __future__ import annotations

import contextlib
import math
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64

from mmse.core.errors import MmseError, StoreError
from mmse.core.progress import Progress, silent
from mmse.index.base import Neighbours, check_vectors
from mmse.index.columns import FilterColumns
from mmse.index.filtered_search import scan_rows
from mmse.index.milvus.fields import MAX_BYTES, MAX_VALUES, ROW, VECTOR, Field, FieldReader, choose_fields
from mmse.index.milvus.probing import ListProbing
from mmse.index.milvus.server import BUILD_TIMEOUT_S, INSERT_TIMEOUT_S, MAX_LIMIT, MAX_LISTS, MilvusServer
from mmse.index.milvus.state import CollectionState, digest_vectors, sample_rows
from mmse.index.store import best_of
from mmse.schema.filters import Kind

MAX_BATCH_ROWS = 5_000
BATCH_BYTES = 8 << 20
"""About so much is sent at a time; a server takes 64 MiB."""
CELL_BYTES = 40
"""A guess of the size of a filter value."""


@dataclass(frozen=True)
class _Rows:
    """`rows`, which are entry `indices` of `vectors` and of `columns`."""

    rows: Int64[np.ndarray, " m"]
    indices: Int64[np.ndarray, " m"]
    vectors: Float32[np.ndarray, "n width"]
    columns: FilterColumns

    def select(self, mask: Bool[np.ndarray, " m"]) -> _Rows:
        return replace(self, rows=self.rows[mask], indices=self.indices[mask])

    def search(self, queries: Float32[np.ndarray, "q width"], k: int) -> Neighbours:
        """The `k` best rows of each query, by comparing all."""
        neighbours = scan_rows(np.asarray(self.vectors), self.indices, queries, k)
        order = np.argsort(self.indices)
        positions = np.searchsorted(self.indices, np.maximum(neighbours.ids, 0), sorter=order)
        ids = self.rows[order[np.minimum(positions, len(order) - 1)]]
        return Neighbours(np.where(neighbours.ids < 0, -1, ids), neighbours.scores)


@final
class MilvusWriter:
    """What a state has; nothing of it is on the server before it is published."""

    def __init__(
        self, server: MilvusServer, width: int, kinds: Mapping[str, Kind], probing: ListProbing | None = None
    ) -> None:
        self._server, self._width, self._kinds, self._probing = server, width, dict(kinds), probing
        self._list_share = 1.0
        self._parts: list[_Rows] = []
        self._progress: Progress = silent

    def begin(
        self,
        rows: Int64[np.ndarray, " r"],
        vectors: Float32[np.ndarray, "n width"],
        columns: FilterColumns,
        list_share: float,
    ) -> MilvusWriter:
        """This writer, with the `rows` of a former state, whose searches visit a share of the lists."""
        self._parts.append(_Rows(rows, rows, vectors, columns))
        self._list_share = list_share
        return self

    def upsert(
        self,
        rows: Int64[np.ndarray, " m"],
        vectors: Float32[np.ndarray, "m width"],
        items: pa.Table,
        progress: Progress | None = None,
    ) -> None:
        """Puts `rows` in place of what they had; `progress` hears of the upload."""
        check_vectors(vectors, self._width, "vectors")
        self.delete(rows)
        columns = FilterColumns.from_table(items, self._kinds)
        self._parts.append(_Rows(rows, np.arange(len(rows), dtype=np.int64), vectors, columns))
        self._progress = progress or self._progress

    def delete(self, rows: Int64[np.ndarray, " m"]) -> None:
        """Removes `rows`."""
        self._parts = [part.select(~np.isin(part.rows, rows)) for part in self._parts]

    def publish(self, folder: Path) -> Mapping[str, Any]:
        """Uploads, indexes, loads and counts the collection, moves the alias to it, and writes what `folder` keeps.

        Where that fails, the collection is removed.
        """
        config = self._server.config
        rows = np.sort(np.concatenate([np.empty(0, np.int64), *(part.rows for part in self._parts)]))
        has_row = np.zeros(int(rows[-1]) + 1 if len(rows) else 0, bool)
        has_row[rows] = True
        lists = max(1, min(config.lists or math.ceil(4 * math.sqrt(len(rows))), len(rows), MAX_LISTS))
        state = CollectionState(
            config=config,
            collection=_new_name(config.collection),
            width=self._width,
            fields=choose_fields(self._kinds, [part.columns for part in self._parts]),
            n_rows=len(rows),
            lists=lists,
            nprobe=config.nprobe or math.ceil(self._list_share * lists),
            digest=digest_vectors(self._vectors(sample_rows(rows))),
        )
        counts: dict[str, Any] = {"collection": state.collection}
        try:
            self._create(state)
            self._upload(state)
            self._index(state)
            _release_former(self._server)
            self._server.load(state.collection)
            _check_count(self._server, state)
            if self._probing and len(rows) and config.nprobe == 0 and config.index.startswith("IVF"):
                state, counts["recall"] = self._choose_nprobe(state, self._probing)
                counts["nprobe"] = state.nprobe
            state.write(folder, has_row)
            _move_alias(self._server, state.collection)
        except BaseException:
            with contextlib.suppress(MmseError):  # the first failure is the one to tell
                self._server.call("drop_collection", state.collection)
            raise
        return counts

    def _vectors(self, rows: Int64[np.ndarray, " s"]) -> Float32[np.ndarray, "s width"]:
        vectors = np.zeros((len(rows), self._width), np.float32)
        for part in self._parts:
            _, positions, indices = np.intersect1d(rows, part.rows, return_indices=True)
            vectors[positions] = np.asarray(part.vectors).take(part.indices[indices], axis=0)
        return vectors

    def _choose_nprobe(self, state: CollectionState, probing: ListProbing) -> tuple[CollectionState, float]:
        """The state with what the probing measures, and the recall."""
        rows = np.concatenate([part.rows for part in self._parts])
        queries = probing.draw(self._vectors(sample_rows(np.sort(rows))))
        k = min(probing.recall_k, state.n_rows, MAX_LIMIT)
        neighbours = [part.search(queries, k) for part in self._parts if len(part.rows)]
        ids = np.concatenate([entry.ids for entry in neighbours], axis=1)
        exact = best_of(ids, np.concatenate([entry.scores for entry in neighbours], axis=1), k)
        return probing.choose_nprobe(self._server, state, queries, exact.ids)

    def _create(self, state: CollectionState) -> None:
        from pymilvus import DataType, MilvusClient

        types = {Kind.NAME: DataType.VARCHAR, Kind.PATH: DataType.VARCHAR}
        types |= {Kind.NUMBER: DataType.DOUBLE, Kind.FLAG: DataType.INT8}
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=self._width)
        for field in state.fields.values():
            limits = {"max_length": MAX_BYTES} if types[field.kind] is DataType.VARCHAR else {}
            if field.has_lists:
                limits["max_capacity"] = MAX_VALUES
                schema.add_field(field.name, DataType.ARRAY, element_type=types[field.kind], **limits)
            else:
                schema.add_field(field.name, types[field.kind], **limits)
        self._server.call(
            "create_collection", state.collection, schema=schema, consistency_level=state.config.consistency
        )

    def _upload(self, state: CollectionState) -> None:
        n_done = 0
        self._progress("vectors into Milvus", 0, state.n_rows)
        for batch in self._batches(state.fields):
            self._server.call("insert", state.collection, batch, timeout_s=INSERT_TIMEOUT_S)
            n_done += len(batch)
            self._progress("vectors into Milvus", n_done, state.n_rows)
        self._server.call("flush", state.collection, timeout_s=BUILD_TIMEOUT_S)

    def _batches(self, fields: Mapping[str, Field]) -> Iterator[list[dict[str, Any]]]:
        size = BATCH_BYTES // (4 * self._width + CELL_BYTES * (len(fields) + 1))
        step = min(MAX_BATCH_ROWS, max(1, size))
        for part in self._parts:
            readers = [FieldReader(part.columns, column, field) for column, field in fields.items()]
            names = [ROW, VECTOR, *(field.name for field in fields.values())]
            for start in range(0, len(part.rows), step):
                rows, indices = part.rows[start : start + step], part.indices[start : start + step]
                vectors = np.asarray(part.vectors).take(indices, axis=0)
                cells = [rows.tolist(), list(vectors), *(reader.read(indices) for reader in readers)]
                yield [dict(zip(names, values, strict=True)) for values in zip(*cells, strict=True)]

    def _index(self, state: CollectionState) -> None:
        """Indexes every field that this server can; before 2.4, those are `Trie` and `STL_SORT`, and none of lists."""
        config = state.config
        parameters: dict[str, int] = {}
        if config.index == "HNSW":
            parameters = {"M": config.m, "efConstruction": config.ef_construction}
        elif config.index != "FLAT":
            parameters = {"nlist": state.lists}
        self._server.build_index(state.collection, VECTOR, config.index, metric_type="IP", params=parameters)
        for field in state.fields.values():
            former = "Trie" if field.kind is Kind.NAME else "STL_SORT"
            kinds = ["INVERTED"] if field.has_lists else ["INVERTED", former]
            any(self._server.try_index(state.collection, field.name, kind) for kind in kinds)


def _new_name(prefix: str) -> str:
    """A name that no other state has; names sort by time."""
    moment = datetime.now(UTC).strftime("%Y%m%d_%H%M%S_%f")
    return f"{prefix}_{moment}_{uuid.uuid4().hex[:8]}"


def _release_former(server: MilvusServer) -> None:
    """Takes all but the newest states out of the server's memory, so that one more fits; opening loads them again."""
    name = re.compile(re.escape(server.config.collection) + r"_\d{8}_\d{6}_\d{6}_[0-9a-f]{8}")
    states = sorted((state for state in server.call("list_collections") if name.fullmatch(state)), reverse=True)
    for state in states[server.config.loaded :]:
        server.release(state)


def _check_count(server: MilvusServer, state: CollectionState) -> None:
    n_rows = server.count_rows(state.collection)
    if n_rows != state.n_rows:
        raise StoreError(
            f"{state.collection} at {state.config.uri} has {n_rows:,} rows, {state.n_rows:,} were uploaded.",
            "Build the index again; see the server's log if it happens again.",
        )


def _move_alias(server: MilvusServer, collection: str) -> None:
    """Makes the config's `collection` an alias of the newest state; at any moment it names a whole one."""
    alias = server.config.collection
    aliases = server.call("list_aliases")["aliases"]
    server.call("alter_alias" if alias in aliases else "create_alias", collection, alias)
