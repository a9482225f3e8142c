"""What shoppers took of late after a query, and of each item after any query: the log's own memory, by exact query.

    evidence(q, i) = log( (gains(q, i) + s) / (expectations(q, i) + s) )

`gains` are clicks, carts and orders of the item after the query, `expectations` the gains of an average item of that
query that was looked at as often; both fade with their age. `s` is the smoothing: with little to remember the evidence
is near 0. An item that was often seen and left has evidence below 0, one that was never seen has none. In a log that
does not say what was seen nothing is expected, and evidence is never below 0. The *popularity* of an item is the same
over all queries.

Queries are kept as hashes of their stems without blanks, so that one memory serves every form of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt64

from mmse.core.errors import ArtifactError
from mmse.index.query_forms import Stem, join_stems
from mmse.text.hashing import digests
from mmse.text.normalise import normalise

_ARRAYS = ("keys", "starts", "rows", "gains", "expectations", "popularity")
_N_POPULAR = 1_000
_HEADER_BYTES = 128
_NO_ROWS: Int32[np.ndarray, " none"] = np.empty(0, np.int32)
_NO_NUMBERS: Float32[np.ndarray, " none"] = np.empty(0, np.float32)


def memory_key(query: str, stem: Stem) -> str:
    """What the forms of `query` that share a memory have in common."""
    return join_stems(query, stem) or normalise(query)


@dataclass(frozen=True, eq=False)
class QueryMemory:
    """The pairs of query and item that are remembered, by query: `rows[starts[q] : starts[q + 1]]` are those of `q`.

    `keys` are sorted hashes of `memory_key`; the rows of a query ascend. `popularity` is by item row.
    """

    keys: UInt64[np.ndarray, " queries"]
    starts: Int64[np.ndarray, " bounds"]
    rows: Int32[np.ndarray, " pairs"]
    gains: Float32[np.ndarray, " pairs"]
    expectations: Float32[np.ndarray, " pairs"]
    popularity: Float32[np.ndarray, " items"]
    smoothing: float = 1.0

    @classmethod
    def empty(cls) -> QueryMemory:
        """A memory of nothing."""
        return cls(np.empty(0, np.uint64), np.zeros(1, np.int64), _NO_ROWS, _NO_NUMBERS, _NO_NUMBERS, _NO_NUMBERS)

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.keys)

    def recall(self, key: str) -> Recollection:
        """What is remembered of the query with this `memory_key`."""
        if len(self.keys) == 0:
            return Recollection(_NO_ROWS, _NO_NUMBERS)
        (hash_,) = digests([key])
        index = int(np.searchsorted(self.keys, hash_))
        if index == len(self.keys) or self.keys[index] != hash_:
            return Recollection(_NO_ROWS, _NO_NUMBERS)
        pairs = slice(int(self.starts[index]), int(self.starts[index + 1]))
        ratio = (self.gains[pairs] + self.smoothing) / (self.expectations[pairs] + self.smoothing)
        return Recollection(np.asarray(self.rows[pairs]), np.log(ratio).astype(np.float32))

    def evidence(
        self, keys: Sequence[str], starts: Int64[np.ndarray, " bounds"], rows: Int64[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n 2"]:
        """The evidence after its query, and the popularity, of items; those from `starts[q]` on are of query `q`."""
        bounds = pairwise(starts.tolist())
        parts = [self.recall(key).of(rows[start:end]) for key, (start, end) in zip(keys, bounds, strict=True)]
        return np.column_stack([np.concatenate([_NO_NUMBERS, *parts]), self.popularity_of(rows)])

    def popularity_of(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
        """The popularity of the items at `rows`; 0 for rows that are newer than the memory."""
        result = np.zeros(len(rows), np.float32)
        is_old = rows < len(self.popularity)
        result[is_old] = self.popularity[rows[is_old]]
        return result

    def highest_popularity(self, rows: Int64[np.ndarray, " n"]) -> float:
        """A popularity that no item besides those at `rows` exceeds, at least 0."""
        is_other = ~np.isin(self._most_popular, rows)
        best = self._most_popular[int(np.argmax(is_other)) if is_other.any() else -1 :]
        return max(0.0, float(self.popularity[best[0]])) if len(best) else 0.0

    @cached_property
    def _most_popular(self) -> Int64[np.ndarray, " m"]:
        """The rows of the most popular items, the best first."""
        n = min(_N_POPULAR, len(self.popularity))
        best = np.argpartition(-self.popularity, n - 1)[:n] if n else np.empty(0, np.int64)
        return best[np.argsort(-self.popularity[best], kind="stable")].astype(np.int64)

    def save(self, folder: Path) -> None:
        """Writes an array for each field into `folder`, which exists."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def open(cls, folder: Path, smoothing: float) -> QueryMemory:
        """The memory saved in `folder`, read as it is needed; raises `ArtifactError` where it is damaged."""
        try:
            arrays = {name: _open_array(folder / f"{name}.npy") for name in _ARRAYS}
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"Cannot read the memory in {folder}: {error}.", "Run `mmse rank` again.") from error
        return cls(**arrays, smoothing=smoothing)


def _open_array(path: Path) -> np.ndarray:
    """The array at `path`, mapped; an empty one, which cannot be, is read."""
    has_content = path.stat().st_size > _HEADER_BYTES
    array: np.ndarray = np.load(path, mmap_mode="r" if has_content else None, allow_pickle=False)
    return array


@dataclass(frozen=True, eq=False)
class Recollection:
    """The items that are remembered of one query, rows ascending, each with its evidence."""

    rows: Int32[np.ndarray, " n"]
    evidence: Float32[np.ndarray, " n"]

    def of(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
        """The evidence of any `rows`; 0 for items that are not remembered."""
        if len(self.rows) == 0:
            return np.zeros(len(rows), np.float32)
        indices = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[indices] == rows, self.evidence[indices], np.float32(0))

    @property
    def candidate_rows(self) -> Int64[np.ndarray, " c"]:
        """The rows whose evidence is above 0."""
        return self.rows[self.evidence > 0].astype(np.int64)
