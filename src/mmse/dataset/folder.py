"""The `dataset` folder, opened: its slices' files, its snapshots, the statistics of items at each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.core.artifact import read_manifest
from mmse.core.errors import UsageError


@dataclass(frozen=True)
class Snapshots:
    """The moments at which item statistics were taken.

    `before[s]` (microseconds, UTC) bounds snapshot `s`: train period `p` may see snapshot `p` and no later one,
    `valid` and `test` name those of the held back slices, `end` the one of the whole log.
    """

    before: Int64[np.ndarray, " snapshots"]

    @property
    def periods(self) -> int:
        """How many periods train has."""
        return len(self.before) - 3

    @property
    def valid(self) -> int:
        """The snapshot at the start of validation."""
        return self.periods

    @property
    def test(self) -> int:
        """The snapshot at the start of test."""
        return self.periods + 1

    @property
    def end(self) -> int:
        """The snapshot after the last event: what serving knows."""
        return self.periods + 2


class ItemStats:
    """How often each item was shown, clicked and ordered strictly before a snapshot's moment."""

    def __init__(self, path: Path, n_items: int, snapshots: Snapshots) -> None:
        self._path = path
        self.n_items = n_items
        self.snapshots = snapshots

    @classmethod
    def open(cls, dataset: Path) -> ItemStats:
        """The statistics of a `dataset` folder; raises `ArtifactError` where it is none."""
        read_manifest(dataset, "dataset")
        n_items = pq.read_metadata(dataset / "items.parquet").num_rows
        return cls(dataset / "item_stats.parquet", n_items, open_snapshots(dataset))

    def at(self, snapshot: int) -> Int64[np.ndarray, "n_items 3"]:
        """Shown, clicked, ordered of every item row; read from disk at each call."""
        if not 0 <= snapshot <= self.snapshots.end:
            raise UsageError(f"There is no snapshot {snapshot}.", f"Choose one of 0 to {self.snapshots.end}.")
        table = pq.read_table(self._path, filters=[("snapshot", "=", snapshot)])
        counts = np.zeros((self.n_items, 3), np.int64)
        rows = table.column("item_row").to_numpy()
        for column, name in enumerate(("shown", "clicked", "ordered")):
            counts[rows, column] = table.column(name).to_numpy()
        return counts


def open_snapshots(dataset: Path) -> Snapshots:
    """The snapshots of a `dataset` folder."""
    before = pq.read_table(dataset / "snapshots.parquet").column("before")
    return Snapshots(np.ascontiguousarray(pc.cast(before, pa.int64()).to_numpy()))


def shard_files(dataset: Path, split: str, period: int | None = None) -> list[Path]:
    """The files of `split` (train, valid, test), of one train period or of all in order; each holds whole requests."""
    below = f"period={period:02d}/*.parquet" if period is not None else "**/*.parquet"
    return sorted((dataset / split).glob(below))
