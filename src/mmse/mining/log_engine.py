"""What mining asks of an engine: the work on the rows of the log, which is as large as the log.

Whatever is as small as the catalogue, or as a table of counts, stays with `mmse.mining.mine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

from mmse.core.progress import Progress
from mmse.mining.config import MineConfig
from mmse.mining.examination import ExaminationCurve
from mmse.mining.log_sql import LogSql, moment, rows_of
from mmse.mining.requests import MergeCounts
from mmse.mining.split import Slices
from mmse.mining.work_folder import WorkFolder
from mmse.sources.casting import EventWriter
from mmse.sources.config import EventsConfig
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import Table


@dataclass(frozen=True)
class SplitShares:
    """How the log is cut: the share of the requests in validation and in test, and the number of train periods."""

    valid_share: float
    test_share: float
    periods: int


@runtime_checkable
class LogEngine(Protocol):
    """Reads, merges, cuts and counts the log; the methods are called in this order."""

    @property
    def sql(self) -> LogSql:
        """What runs the rules."""
        ...

    @property
    def event_writer(self) -> EventWriter:
        """What casts and checks the rows of a source and writes them by shard."""
        ...

    def open_checked_events(self) -> None:
        """Names the good rows of the log `log_event`, for `leave_out`."""
        ...

    def merge_shards(self, progress: Progress, *, filters: bool) -> MergeCounts:
        """Merges every shard (`mmse.mining.requests`) and deletes its events; names all requests `log_request`.

        With `filters`, what the tables `guest_id` and `left_request` name is left out.
        """
        ...

    def cut(self, shares: SplitShares) -> Slices:
        """Where the log is cut in time, as `mmse.mining.split.cut` has it."""
        ...

    def map_shards(self, name: str, rule: str, *, uses: str = "") -> None:
        """Keeps what `rule` gives on each shard as the relation `name`.

        `rule` is SQL of DuckDB over `shard_request` and `shard_row`, and over the small relation `uses`.
        """
        ...

    def write_shards(self, slices: Slices, curve: ExaminationCurve, dataset: Path, progress: Progress) -> None:
        """Writes the rows of the dataset (`mmse.mining.shards`) and names them `dataset_row`."""
        ...


@dataclass(frozen=True)
class MiningEngine:
    """An engine by its `name` in shop.toml.

    `open_events` gives the sources of the events as `mmse.sources.tables.open_event_sources` does, and `start` what
    works on their rows.
    """

    name: str
    open_events: Callable[[Session, EventsConfig, Path], tuple[Table, ...]]
    start: Callable[[Session, WorkFolder, MineConfig], LogEngine]


def count_by_slice(sql: LogSql, slices: Slices) -> Sequence[int]:
    """How many requests each slice has."""
    ends = ", ".join(
        f"count(*) FILTER (WHERE timestamp < {moment(end)}) AS before_{number}"
        for number, end in enumerate(slices.boundaries)
    )
    (totals,) = rows_of(sql, f"SELECT {ends} FROM log_request")
    return [int(end) - int(start) for start, end in pairwise(totals)]
