"""What a shopper clicked and ordered before a moment: the only view of the past that a request may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int8, Int32, Int64

from mmse.core.artifact import read_manifest


@dataclass(frozen=True)
class Recent:
    """The last interactions of `n` shoppers, most recent first; where there are fewer, item row -1 and stage -1."""

    item_rows: Int32[np.ndarray, "n length"]
    stages: Int8[np.ndarray, "n length"]


class History:
    """Looks up interactions (clicked or further) by shopper and time; holds them in memory, 21 bytes each."""

    def __init__(
        self,
        users: pa.Array | pa.ChunkedArray,
        timestamps: Int64[np.ndarray, " m"],
        item_rows: Int32[np.ndarray, " m"],
        stages: Int8[np.ndarray, " m"],
        *,
        length: int,
    ) -> None:
        """`users` (text) and `timestamps` (microseconds) are of each interaction, sorted by both."""
        encoded = users.dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        self.length = length
        self._codes = {user: code for code, user in enumerate(encoded.dictionary.to_pylist())}
        self._starts = np.searchsorted(codes, np.arange(len(self._codes) + 1))
        self._times = np.unique(timestamps)
        self._keys = self._key(codes, timestamps)
        assert bool((np.diff(self._keys) >= 0).all()), "interactions are not sorted by user and timestamp"
        self._item_rows = np.append(item_rows, np.int32(-1))
        self._stages = np.append(stages, np.int8(-1))

    @classmethod
    def open(cls, dataset: Path, length: int = 10) -> History:
        """The history of a `dataset` folder; raises `ArtifactError` where it is none."""
        read_manifest(dataset, "dataset")
        table = pq.read_table(dataset / "interactions.parquet")
        return cls(
            table.column("user_id").combine_chunks(),
            pc.cast(table.column("timestamp"), pa.int64()).to_numpy(),
            table.column("item_row").to_numpy(),
            table.column("stage").to_numpy(),
            length=length,
        )

    def before(self, user_ids: Sequence[str | None], timestamps: Int64[np.ndarray, " n"]) -> Recent:
        """Each shopper's last interactions strictly before the timestamp (microseconds, UTC).

        An unknown or absent shopper has none. `length` is that of the history.
        """
        codes = np.array([self._codes.get(user, -1) if user is not None else -1 for user in user_ids], np.int64)
        first = self._starts[codes]
        end = np.searchsorted(self._keys, self._key(codes, timestamps))
        index = end[:, None] - 1 - np.arange(self.length)
        index[(index < first[:, None]) | (codes < 0)[:, None]] = -1  # the last entry is the padding
        return Recent(self._item_rows[index], self._stages[index])

    def _key(self, codes: Int64[np.ndarray, " n"], timestamps: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """One sortable number for (shopper, time); times enter by rank, so that it fits 63 bits."""
        return codes * (len(self._times) + 1) + np.searchsorted(self._times, timestamps)
