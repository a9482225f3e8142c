"""What a shopper clicked, carted and ordered before a moment: the only view of the past that a request may have."""

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
from mmse.core.run_folder import DATASET
from mmse.dataset.folder import DatasetFolder

LENGTH = 10
"""How many interactions of a shopper a request sees."""


@dataclass(frozen=True)
class RecentItems:
    """The last interactions of `n` shoppers, most recent first, filled up with item row -1 and stage -1."""

    item_rows: Int32[np.ndarray, "n length"]
    stages: Int8[np.ndarray, "n length"]


class History:
    """Looks up interactions (clicked or further) by shopper and time; keeps them in memory, 21 bytes each."""

    def __init__(
        self,
        users: pa.Array | pa.ChunkedArray,
        timestamps: Int64[np.ndarray, " m"],
        item_rows: Int32[np.ndarray, " m"],
        stages: Int8[np.ndarray, " m"],
        *,
        length: int,
    ) -> None:
        """The user (text) and timestamp (microseconds) of each interaction, sorted by both, its item and stage."""
        user_codes = users.dictionary_encode()
        codes = user_codes.indices.to_numpy().astype(np.int64)
        self.length = length
        self._codes = {user: code for code, user in enumerate(user_codes.dictionary.to_pylist())}
        self._starts = np.searchsorted(codes, np.arange(len(self._codes) + 1))
        self._times = np.unique(timestamps)
        self._keys = self._key(codes, timestamps)
        assert bool((np.diff(self._keys) >= 0).all()), "interactions are not sorted by user and timestamp"
        self._item_rows = np.append(item_rows, np.int32(-1))
        self._stages = np.append(stages, np.int8(-1))

    @classmethod
    def open(cls, dataset: Path, length: int = LENGTH) -> History:
        """The history of a `dataset` folder; raises `ArtifactError` where it is none."""
        read_manifest(dataset, DATASET)
        return cls.read(DatasetFolder(dataset).interactions, length)

    @classmethod
    def empty(cls, length: int = LENGTH) -> History:
        """A history without shoppers."""
        numbers = np.empty(0, np.int64)
        users = pa.array([], pa.string())
        return cls(users, numbers, numbers.astype(np.int32), numbers.astype(np.int8), length=length)

    @classmethod
    def read(cls, interactions: Path, length: int = LENGTH) -> History:
        """The history in a file of interactions, sorted by user and time."""
        table = pq.read_table(interactions)
        return cls(
            table.column("user_id").combine_chunks(),
            pc.cast(table.column("timestamp"), pa.int64()).to_numpy(),
            table.column("item_row").to_numpy(),
            table.column("stage").to_numpy(),
            length=length,
        )

    @property
    def n_users(self) -> int:
        """How many shoppers have a history."""
        return len(self._codes)

    def look_up(self, user_ids: Sequence[str | None], timestamps: Int64[np.ndarray, " n"]) -> RecentItems:
        """Each shopper's last interactions strictly before the timestamp (microseconds, UTC).

        A shopper who is unknown or `None` has none. `length` is that of the history.
        """
        codes = np.array([self._codes.get(user, -1) if user is not None else -1 for user in user_ids], np.int64)
        start = self._starts[codes]
        end = np.searchsorted(self._keys, self._key(codes, timestamps))
        index = end[:, None] - 1 - np.arange(self.length)
        index[(index < start[:, None]) | (codes < 0)[:, None]] = -1  # the last entry is the padding
        return RecentItems(self._item_rows[index], self._stages[index])

    def _key(self, codes: Int64[np.ndarray, " n"], timestamps: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """One sortable number for (shopper, time); it fits 63 bits because a time enters by its rank."""
        return codes * (len(self._times) + 1) + np.searchsorted(self._times, timestamps)
