"""The log as a memory sees it: gains and looks by query and item before a moment, faded by their age."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from mmse.core.scratch import ScratchFolder
from mmse.dataset.folder import DatasetFolder, open_snapshots
from mmse.index.query_forms import Stem
from mmse.ranking.memory import QueryMemory, memory_key
from mmse.schema.stages import Stage
from mmse.text.hashing import digests

if TYPE_CHECKING:
    from mmse.sources.duckdb_session import Session

Gains = tuple[float, float, float]
"""What a click, a cart and an order count."""
MEMORY_LIMIT = "1500MB"
MAX_ITEMS = 200
"""So many items of a query are remembered."""
LEAST_GAIN, LEAST_EXPECTATION = 0.01, 0.5
"""Pairs with less of both have faded."""
RATE_LOOKS = 20.0
"""The rate at which a query's items are taken is drawn to that of the whole log, as if by so many looks."""
POPULARITY_SMOOTHING = 1.0
DAY_US = 86_400e6


@dataclass(frozen=True)
class MemorySettings:
    """How a memory is made: after so many days an event counts half, for its query and for the popularity of its item.

    `gains` are what stages count; `smoothing` is that of `mmse.ranking.memory`.
    """

    half_life_days: float
    popularity_half_life_days: float
    gains: Gains
    smoothing: float


@dataclass(frozen=True, eq=False)
class MemoryLog:
    """The rows of a dataset before `moment` (microseconds, UTC): the tables `memory_row` and `item_row` of `session`.

    `has_looks` tells that the log says what was seen: it has as many items that were left as items that were taken.
    `next_days` is how long the slice of the log behind the moment is: so long, at the least, a memory has to last.
    """

    session: Session
    moment: int
    next_days: float
    n_items: int
    has_looks: bool

    def remember(self, settings: MemorySettings) -> QueryMemory:
        """The memory at the moment."""
        sums = self._sums(settings.half_life_days, settings.gains)
        pairs = self.session.arrow(_pairs_sql(sums, self._rate(sums), has_looks=self.has_looks))
        keys = pairs["key"].to_numpy().astype(np.uint64)
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.empty(0, np.int64)
        return QueryMemory(
            keys=keys[starts],
            starts=np.append(starts, len(keys)).astype(np.int64),
            rows=pairs["item_row"].to_numpy().astype(np.int32),
            gains=pairs["gain"].to_numpy().astype(np.float32),
            expectations=pairs["expectation"].to_numpy().astype(np.float32),
            popularity=self._popularity(self._sums(settings.popularity_half_life_days, settings.gains)),
            smoothing=settings.smoothing,
        )

    def _sums(self, half_life_days: float, gains: Gains) -> str:
        clicked, carted, ordered = gains
        weight = f"pow(0.5, ({self.moment} - time_us) / {half_life_days * DAY_US})"
        gain = f"CASE stage WHEN {Stage.CLICKED:d} THEN {clicked} WHEN {Stage.CARTED:d} THEN {carted}"
        gain += f" WHEN {Stage.ORDERED:d} THEN {ordered} ELSE 0 END"
        return f"sum({weight} * {gain}) AS gain, sum({weight} * examination) AS looks"

    def _rate(self, sums: str) -> float:
        """The gain of a look, over the whole log."""
        ((gain, looks),) = self.session.run(f"SELECT {sums} FROM item_row")
        return float(gain or 0.0) / max(float(looks or 0.0), 1e-9)

    def _popularity(self, sums: str) -> Float32[np.ndarray, " items"]:
        """The evidence of each item over all queries.

        It is 0 for items that were never seen, or never taken where the log knows nothing else.
        """
        table = self.session.arrow(f"SELECT item_row, {sums} FROM item_row GROUP BY item_row")
        gain, expectation = np.zeros(self.n_items), np.zeros(self.n_items)
        rows = table["item_row"].to_numpy()
        gain[rows] = table["gain"].to_numpy()
        looks = table["looks"].to_numpy() if self.has_looks else np.full(len(rows), 1.0)
        expectation[rows] = looks * gain.sum() / max(looks.sum(), 1e-9)
        popularity = np.log((gain + POPULARITY_SMOOTHING) / (expectation + POPULARITY_SMOOTHING))
        return popularity.astype(np.float32)


def _pairs_sql(sums: str, rate: float, *, has_looks: bool) -> str:
    expectation = f"looks * (total_gain + {RATE_LOOKS * rate}) / (total_looks + {RATE_LOOKS})" if has_looks else "0.0"
    return f"""
        WITH pair AS (SELECT key, item_row, {sums} FROM memory_row GROUP BY key, item_row),
             total AS (SELECT key, sum(gain) AS total_gain, sum(looks) AS total_looks FROM pair GROUP BY key
                       HAVING sum(gain) >= {LEAST_GAIN}),
             remembered AS (SELECT key, item_row, gain, {expectation} AS expectation FROM pair JOIN total USING (key))
        SELECT * FROM (
            SELECT key, item_row, gain, expectation FROM remembered
             WHERE gain >= {LEAST_GAIN} OR expectation >= {LEAST_EXPECTATION}
           QUALIFY row_number() OVER (PARTITION BY key ORDER BY gain DESC, expectation DESC, item_row) <= {MAX_ITEMS})
         ORDER BY key, item_row"""


@contextlib.contextmanager
def open_memory_log(
    dataset: Path, splits: Sequence[str], stem: Stem, queries: Collection[str] | None = None
) -> Iterator[MemoryLog]:
    """The rows of `splits`, which begin with train and leave none out; the moment is when the last of them ends.

    With `queries`, only the rows of these queries, in any of their forms, are kept beside the counts of items.
    """
    from mmse.sources.duckdb_session import open_session  # here, since a server that reads a memory needs no DuckDB
    from mmse.sources.tables import literal

    folder, snapshots = DatasetFolder(dataset), open_snapshots(dataset)
    end = snapshots.periods + len(splits) - 1
    moment, next_moment = (int(snapshots.moments[min(s, snapshots.end)]) for s in (end, end + 1))
    files = ", ".join(literal(str(path)) for split in splits for path in folder.row_files(split))
    with ScratchFolder("memory") as spill, open_session(memory_limit=MEMORY_LIMIT, threads=None) as session:
        session.spill_to(spill)
        session.run(f"""
            CREATE VIEW seen AS
            SELECT query, item_row, epoch_us(timestamp) AS time_us, stage, examination::DOUBLE AS examination
              FROM read_parquet([{files}], hive_partitioning = false) WHERE stage >= {Stage.UNCLICKED:d}""")
        session.create_table("query_key", _query_keys(session, stem, queries))
        columns = "item_row, time_us, stage, examination"
        session.run(f"""
            CREATE TABLE memory_row AS SELECT key, {columns} FROM seen JOIN query_key USING (query);
            CREATE TABLE item_row AS SELECT {columns} FROM seen""")
        ((n_left, n_gains),) = session.run(f"""
            SELECT count(*) FILTER (stage = {Stage.UNCLICKED:d}), count(*) FILTER (stage > {Stage.UNCLICKED:d})
              FROM item_row""")
        n_items = pq.read_metadata(folder.items).num_rows
        yield MemoryLog(session, moment, (next_moment - moment) / DAY_US, n_items, has_looks=n_left >= n_gains > 0)


def _query_keys(session: Session, stem: Stem, queries: Collection[str] | None) -> pa.Table:
    """Each query of the log with the hash of its `memory_key`; with `queries`, those of their keys alone."""
    logged = session.arrow(f"SELECT DISTINCT query FROM seen WHERE stage > {Stage.UNCLICKED:d}")["query"].to_pylist()
    hashes: Int64[np.ndarray, " n"] = digests(memory_key(query, stem) for query in logged)
    keep = np.ones(len(logged), bool)
    if queries is not None:
        keep = np.isin(hashes, digests({memory_key(query, stem) for query in queries}))
    names = pa.array(logged, pa.string()).filter(pa.array(keep))
    return pa.table({"query": names, "key": pa.array(hashes[keep], pa.uint64())})
