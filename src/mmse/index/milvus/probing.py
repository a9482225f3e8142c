"""How many lists of an IVF index in Milvus a search visits: as many as find the target recall, measured on queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64

from mmse.index.milvus.server import MAX_LISTS, MilvusServer
from mmse.index.milvus.state import CollectionState

MAX_QUERIES = 100
BATCH_QUERIES = 25


@dataclass(frozen=True)
class ListProbing:
    """`queries`, maybe none, of which `target_recall` of the exact first `recall_k` rows are to be found."""

    queries: Float32[np.ndarray, "p width"]
    target_recall: float
    recall_k: int

    def draw(self, vectors: Float32[np.ndarray, "s width"]) -> Float32[np.ndarray, "q width"]:
        """The queries to measure with: some of those given, or else `vectors` of items."""
        source = np.asarray(self.queries) if len(self.queries) else vectors
        positions = np.linspace(0, len(source) - 1, min(MAX_QUERIES, len(source))).astype(np.int64)
        return np.ascontiguousarray(source[positions])

    def choose_nprobe(
        self,
        server: MilvusServer,
        state: CollectionState,
        queries: Float32[np.ndarray, "q width"],
        exact_rows: Int64[np.ndarray, "q k"],
    ) -> tuple[CollectionState, float]:
        """`state` with the fewest lists, of some numbers of them, that reach the target, and the recall with them."""
        for nprobe in _steps(state.lists):
            rows = np.concatenate(
                [
                    server.find_rows(state.collection, batch, exact_rows.shape[1], "", {"nprobe": nprobe})
                    for batch in np.array_split(queries, max(1, len(queries) // BATCH_QUERIES))
                ]
            )
            shared = [len(np.intersect1d(*pair)) for pair in zip(rows, exact_rows, strict=True)]
            recall = float(np.mean(shared)) / exact_rows.shape[1]
            if recall >= self.target_recall:
                break
        return replace(state, nprobe=nprobe), round(recall, 4)


def _steps(lists: int) -> Iterator[int]:
    """From a few lists to all, each step a half more."""
    nprobe = min(8, lists)
    while nprobe < lists:
        yield nprobe
        nprobe = nprobe + max(1, nprobe // 2)
    yield MAX_LISTS
