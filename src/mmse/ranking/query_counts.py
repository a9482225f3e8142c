"""How many requests the training log has of a query; the fusion and the calibration depend on it.

A model is far better on a query that it was trained on than on a new one, and its scores do not show the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt64

from mmse.core.errors import ArtifactError
from mmse.dataset.folder import DatasetFolder
from mmse.text.hashing import digests
from mmse.text.normalise import normalise

_FILES = ("known_queries.npy", "known_requests.npy")


@dataclass(frozen=True)
class QueryCounts:
    """The queries of the training window, as sorted hashes of their normal form, and the requests of each."""

    hashes: UInt64[np.ndarray, " n"]
    requests: Int64[np.ndarray, " n"]

    @classmethod
    def of_dataset(cls, dataset: Path) -> QueryCounts:
        """The queries of a `dataset` folder."""
        table = pq.read_table(DatasetFolder(dataset).queries)
        hashes = digests(table["query"].to_pylist())
        order = np.argsort(hashes)
        return cls(hashes[order], table["requests"].to_numpy().astype(np.int64)[order])

    def counts(self, queries: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """The number of training requests of each of `queries`; 0 for a new one."""
        if len(self.hashes) == 0:
            return np.zeros(len(queries), np.int64)
        hashes = digests([normalise(query) for query in queries])
        indices = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[indices] == hashes, self.requests[indices], 0)

    def save(self, folder: Path) -> None:
        """Writes two arrays into `folder`."""
        for name, array in zip(_FILES, (self.hashes, self.requests), strict=True):
            np.save(folder / name, array, allow_pickle=False)

    @classmethod
    def open(cls, folder: Path) -> QueryCounts:
        """The queries saved in `folder`; raises `ArtifactError` where they are missing or damaged."""
        try:
            return cls(*(np.load(folder / name, allow_pickle=False) for name in _FILES))
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"Cannot read {folder / _FILES[0]}: {error}.", "Run `mmse rank` again.") from error
