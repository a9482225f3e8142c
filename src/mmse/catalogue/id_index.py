"""The row of each item id in sixteen bytes an item; for millions of items a dictionary would take too much memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mmse.index.base import CHUNK


@final
class IdIndex:
    """The ids of rows `0..n-1`, each id once."""

    def __init__(self, item_ids: pa.Array) -> None:
        self._ids = item_ids
        hashes = np.empty(len(item_ids), np.int64)
        for start in range(0, len(item_ids), CHUNK):
            chunk = item_ids.slice(start, CHUNK).to_pylist()
            hashes[start : start + len(chunk)] = np.fromiter(map(hash, chunk), np.int64, len(chunk))
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]

    def rows(self, item_ids: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """The row of each of `item_ids`, -1 for an unknown id."""
        hashes = np.fromiter(map(hash, item_ids), np.int64, len(item_ids))
        low, high = np.searchsorted(self._hashes, hashes, "left"), np.searchsorted(self._hashes, hashes, "right")
        rows = np.full(len(item_ids), -1, np.int64)
        for index in np.flatnonzero(low < high).tolist():
            for row in self._rows[low[index] : high[index]].tolist():
                if self._ids[row].as_py() == item_ids[index]:
                    rows[index] = row
                    break
        return rows
