"""How often the log has asked a query: what the fusion and the calibration go by.

A model knows a query that it was trained on far better than a new one, and its scores do not tell. The counts do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt64

from mmse.core.errors import ArtifactError
from mmse.text.tokenizer import normalise

_FILES = ("known_queries.npy", "known_requests.npy")


@dataclass(frozen=True)
class KnownQueries:
    """The queries of the training window, by the hash of their normal form (sorted), and the requests of each."""

    hashes: UInt64[np.ndarray, " n"]
    requests: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, dataset: Path) -> KnownQueries:
        """The queries of a `dataset` folder."""
        table = pq.read_table(dataset / "queries.parquet")
        hashes = _hashes(table["query"].to_pylist())
        order = np.argsort(hashes)
        return cls(hashes[order], table["requests"].to_numpy().astype(np.int64)[order])

    def counts(self, queries: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """In how many training requests each of `queries` was asked; 0 for a new one."""
        if len(self.hashes) == 0:
            return np.zeros(len(queries), np.int64)
        asked = _hashes([normalise(query) for query in queries])
        places = np.minimum(np.searchsorted(self.hashes, asked), len(self.hashes) - 1)
        return np.where(self.hashes[places] == asked, self.requests[places], 0)

    def save(self, folder: Path) -> None:
        """Writes two arrays into `folder`."""
        for name, array in zip(_FILES, (self.hashes, self.requests), strict=True):
            np.save(folder / name, array, allow_pickle=False)

    @classmethod
    def open(cls, folder: Path) -> KnownQueries:
        """The queries saved in `folder`; raises `ArtifactError` where they are missing or damaged."""
        try:
            return cls(*(np.load(folder / name, allow_pickle=False) for name in _FILES))
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"Cannot read {folder / _FILES[0]}: {error}.", "Run `mmse rank` again.") from error


def _hashes(queries: Sequence[str]) -> UInt64[np.ndarray, " n"]:
    digests = b"".join(hashlib.blake2b(q.encode("utf-8", "surrogatepass"), digest_size=8).digest() for q in queries)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
