"""Mining on one machine: DuckDB reads the log out of core, and each shard is merged in memory."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.core.progress import Progress
from mmse.mining.config import MineConfig
from mmse.mining.examination import ExaminationCurve
from mmse.mining.log_engine import MiningEngine, SplitShares
from mmse.mining.log_sql import DuckDbSql
from mmse.mining.requests import MergeCounts, read_shard, write_rows
from mmse.mining.shards import write_shard
from mmse.mining.split import Slices, cut
from mmse.mining.work_folder import WorkFolder
from mmse.sources.casting import EventWriter, write_events
from mmse.sources.config import EventsConfig
from mmse.sources.duckdb_session import Session
from mmse.sources.sql import literal
from mmse.sources.tables import Table, open_event_sources


class DuckDbEngine:
    """Everything in one process, with at most one shard in memory."""

    def __init__(self, session: Session, work: WorkFolder, config: MineConfig) -> None:
        self._session, self._work, self._threads = session, work, config.threads
        self.sql = DuckDbSql(session)

    @property
    def event_writer(self) -> EventWriter:
        """DuckDB's COPY."""
        return write_events

    def open_checked_events(self) -> None:
        """Names the files of the shards."""
        self._session.run(f"CREATE OR REPLACE VIEW log_event AS SELECT * FROM {self._work.all_events()}")

    def merge_shards(self, progress: Progress, *, filters: bool) -> MergeCounts:
        """Merges shard by shard, so that the log is on the disk only once.

        While one shard's rows are merged and written in a thread, DuckDB reads the next one.
        """
        total = MergeCounts()
        writes: list[Future[MergeCounts]] = []
        folders, requests = self._work.event_folders(), self._work.requests
        with ThreadPoolExecutor(1) as writer:
            for number, folder in enumerate(folders):
                progress("requests", number, len(folders))
                counts, rows = read_shard(self._session, folder, requests, filters=filters)
                total = sum((write.result() for write in writes), total + counts)
                name = folder.name.removeprefix("shard=")
                writes = [writer.submit(write_rows, rows, requests / f"rows-{name}.parquet")]
                shutil.rmtree(folder)
            total = sum((write.result() for write in writes), total)
        self.sql.open_requests(self._work.all_requests())
        return total

    def cut(self, shares: SplitShares) -> Slices:
        """Cuts the timestamps of all requests, 8 bytes each."""
        return cut(
            self._read_timestamps(),
            valid_share=shares.valid_share,
            test_share=shares.test_share,
            periods=shares.periods,
        )

    def map_shards(self, name: str, rule: str, *, uses: str = "") -> None:
        """Runs the rule on one shard after the other."""
        for number, shard in enumerate(self._work.shards()):
            for view in ("request", "row"):
                file = literal(str(self._work.requests / f"{view}s-{shard}.parquet"))
                self._session.run(f"CREATE OR REPLACE VIEW shard_{view} AS SELECT * FROM read_parquet({file})")
            self._session.run(f"INSERT INTO {name} {rule}" if number else f"CREATE OR REPLACE TABLE {name} AS {rule}")

    def write_shards(self, slices: Slices, curve: ExaminationCurve, dataset: Path, progress: Progress) -> None:
        """Writes two shards at a time."""
        names = self._work.shards()
        with ThreadPoolExecutor(min(2, self._threads or os.cpu_count() or 1)) as pool:
            writes = [
                pool.submit(write_shard, self._work.requests, name, number, slices, curve, dataset)
                for number, name in enumerate(names)
            ]
            for number, write in enumerate(writes):
                progress("dataset", number, len(names))
                write.result()
        self.sql.open_rows(dataset, slices.periods)

    def _read_timestamps(self) -> Int64[np.ndarray, " n"]:
        """Every request's timestamp in microseconds."""
        columns = [
            pq.read_table(self._work.requests / f"requests-{shard}.parquet", columns=["timestamp"]).column(0).to_numpy()
            for shard in self._work.shards()
        ]
        return np.concatenate(columns).astype("datetime64[us]").astype(np.int64)


def _open_events(session: Session, config: EventsConfig, base: Path) -> tuple[Table, ...]:
    return open_event_sources(session.connection, config, base)


DUCKDB = MiningEngine("duckdb", _open_events, DuckDbEngine)
