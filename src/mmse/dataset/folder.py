"""The contract of the dataset folder that mining writes: its files, its rows, its snapshots and their statistics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64
from pyarrow.dataset import dataset as open_rows

from mmse.core.artifact import read_manifest
from mmse.core.errors import UsageError
from mmse.core.run_folder import DATASET

TRAIN, VALID, TEST = "train", "valid", "test"
"""The splits, in order of time; train is cut into periods."""

ROWS_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("query", pa.string()),
        ("user_id", pa.string()),
        ("timestamp", pa.timestamp("us")),
        ("item_row", pa.int32()),
        ("position", pa.int32()),
        ("stage", pa.int8()),
        ("examination", pa.float32()),
        ("explored", pa.bool_()),
    ]
)
"""The rows of every split: one for each item of a request."""

ITEM_COUNTS = ("shown", "clicked", "ordered")
"""What is counted of each item: how often it was shown, how often it was clicked or got further, and was ordered."""

STATS_SCHEMA = pa.schema(
    [("snapshot", pa.int16()), ("item_row", pa.int32()), *((name, pa.int64()) for name in ITEM_COUNTS)]
)
"""The item statistics; an item that was not shown before a snapshot has no row of it."""

INTERACTIONS_SCHEMA = pa.schema(
    [("user_id", pa.string()), ("timestamp", pa.timestamp("us")), ("item_row", pa.int32()), ("stage", pa.int8())]
)
QUERIES_SCHEMA = pa.schema([("query", pa.string()), ("requests", pa.int64())])
SNAPSHOTS_SCHEMA = pa.schema([("snapshot", pa.int16()), ("before", pa.timestamp("us"))])
EXAMINATION_SCHEMA = pa.schema(
    [
        ("position", pa.int32()),
        ("examination", pa.float32()),
        ("shown", pa.int64()),
        ("clicked", pa.int64()),
        ("standard_error", pa.float32()),
    ]
)
REFORMULATIONS_SCHEMA = pa.schema(
    [
        ("slice", pa.int16()),
        ("request_id", pa.string()),
        ("next_request_id", pa.string()),
        ("item_row", pa.int32()),
        ("stage", pa.int8()),
    ]
)
CORRECTIONS_SCHEMA = pa.schema([("misspelling", pa.string()), ("spelling", pa.string()), ("shoppers", pa.int64())])
REJECTED_SCHEMA = pa.schema([("table", pa.string()), ("reason", pa.string()), ("row", pa.string())])


VECTOR_LENGTHS = "vector_lengths"
"""The key of the metadata of `items.parquet` that has, as JSON, how many numbers the vectors of a column have."""


def vector_lengths(items: pa.Schema) -> dict[str, int]:
    """How many numbers the vectors of each column of `items` have; empty where the shop brings none."""
    lengths: dict[str, int] = json.loads((items.metadata or {}).get(VECTOR_LENGTHS.encode(), b"{}"))
    return lengths


@dataclass(frozen=True)
class DatasetFolder:
    """The files of the dataset below `path`; `docs/tables.md` lists their columns."""

    path: Path

    @property
    def items(self) -> Path:
        """The catalogue: one row for each item, in the order of `item_row`."""
        return self.path / "items.parquet"

    @property
    def interactions(self) -> Path:
        """Clicks, carts and orders of known shoppers, sorted by shopper and time."""
        return self.path / "interactions.parquet"

    @property
    def item_stats(self) -> Path:
        """How often each item was shown, clicked and ordered before each snapshot."""
        return self.path / "item_stats.parquet"

    @property
    def queries(self) -> Path:
        """The queries of train, the most frequent first."""
        return self.path / "queries.parquet"

    @property
    def snapshots(self) -> Path:
        """The moment of each snapshot."""
        return self.path / "snapshots.parquet"

    @property
    def examination(self) -> Path:
        """The chance that a shopper looks at each position."""
        return self.path / "examination.parquet"

    @property
    def reformulations(self) -> Path:
        """What shoppers took after they put a query in other words; absent where mining was told to mine none."""
        return self.path / "reformulations.parquet"

    @property
    def corrections(self) -> Path:
        """Misspellings and what several shoppers meant by them; absent where mining was told to mine none."""
        return self.path / "corrections.parquet"

    @property
    def rejected(self) -> Path:
        """The bad rows of both tables."""
        return self.path / "rejected.parquet"

    def row_files(self, split: str, period: int | None = None) -> list[Path]:
        """The files of the rows of `split`, or of one `period` of train, in order; each holds whole requests."""
        if period is not None:
            return sorted((self.path / period_name(period)).glob("*.parquet"))
        return sorted((self.path / split).glob("**/*.parquet"))


def period_name(period: int) -> str:
    """The folder of a train period, below the dataset folder."""
    return f"{TRAIN}/period={period:02d}"


@dataclass(frozen=True)
class Snapshots:
    """The moments at which item statistics were taken.

    `before[s]` (microseconds, UTC) bounds snapshot `s`: a request of train period `p` may use snapshot `p` and no later
    one, `valid` and `test` are those of the splits that are held back, `end` is that of the whole log.
    """

    moments: Int64[np.ndarray, " snapshots"]

    @property
    def periods(self) -> int:
        """How many periods train has."""
        return len(self.moments) - 3

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
        read_manifest(dataset, DATASET)
        files = DatasetFolder(dataset)
        return cls(files.item_stats, pq.read_metadata(files.items).num_rows, open_snapshots(dataset))

    def at(self, snapshot: int) -> Int64[np.ndarray, "n_items 3"]:
        """Shown, clicked, ordered of every item row; read from disk at each call."""
        return self.between(snapshot, 0, self.n_items)

    def between(self, snapshot: int, start: int, stop: int) -> Int64[np.ndarray, "n 3"]:
        """Shown, clicked, ordered of the item rows from `start` to `stop` alone; read from disk at each call."""
        self._require_snapshot(snapshot)
        is_part = [("item_row", ">=", start), ("item_row", "<", stop)] if (start, stop) != (0, self.n_items) else []
        table = pq.read_table(self._path, filters=[("snapshot", "=", snapshot), *is_part])
        counts = np.zeros((stop - start, len(ITEM_COUNTS)), np.int64)
        rows = table.column("item_row").to_numpy() - start
        for column, name in enumerate(ITEM_COUNTS):
            counts[rows, column] = table.column(name).to_numpy()
        return counts

    def totals(self, snapshot: int) -> Int64[np.ndarray, "3"]:
        """Shown, clicked, ordered of all items together, read some rows at a time."""
        self._require_snapshot(snapshot)
        batches = open_rows(self._path).to_batches(columns=list(ITEM_COUNTS), filter=pc.field("snapshot") == snapshot)
        sums = np.zeros(len(ITEM_COUNTS), np.int64)
        for batch in batches:
            sums += [pc.sum(batch.column(name)).as_py() or 0 for name in ITEM_COUNTS]
        return sums

    def _require_snapshot(self, snapshot: int) -> None:
        if not 0 <= snapshot <= self.snapshots.end:
            raise UsageError(f"There is no snapshot {snapshot}.", f"Choose one of 0 to {self.snapshots.end}.")


def open_snapshots(dataset: Path) -> Snapshots:
    """The snapshots of a `dataset` folder."""
    moments = pq.read_table(DatasetFolder(dataset).snapshots).column("before")
    return Snapshots(np.ascontiguousarray(pc.cast(moments, pa.int64()).to_numpy()))


def read_reformulations(dataset: Path) -> pa.Table:
    """`request_id, item_row` of every slice: items that a shopper took after the request; empty if none were mined."""
    path = DatasetFolder(dataset).reformulations
    if not path.is_file():
        return pa.table({"request_id": pa.array([], pa.string()), "item_row": pa.array([], pa.int32())})
    return pq.read_table(path, columns=["request_id", "item_row"])


def read_corrections(dataset: Path) -> dict[str, str]:
    """What shoppers meant by each misspelling, folded; empty if no corrections were mined."""
    path = DatasetFolder(dataset).corrections
    if not path.is_file():
        return {}
    columns = pq.read_table(path, columns=["misspelling", "spelling"]).to_pydict()
    return dict(zip(columns["misspelling"], columns["spelling"], strict=True))


def has_requests(dataset: Path) -> bool:
    """Whether the training window has a request; the dataset of a shop without a log has none."""
    return any(pq.read_metadata(path).num_rows for path in DatasetFolder(dataset).row_files(TRAIN))
