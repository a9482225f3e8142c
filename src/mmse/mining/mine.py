"""The mining step: the two tables of a shop in, the dataset folder out.

    events → checked rows, by shard → requests made whole → cut by time → examination → dataset/
    items  → checked rows, numbered                                    → statistics, interactions

Each part of the work reads and writes files, and holds one shard, or DuckDB's bounded memory, at a time.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.core.artifact import Manifest, read_manifest, write_folder
from mmse.core.config import plain_values, require
from mmse.core.errors import TableError
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import DATASET
from mmse.dataset.contract import check_files, count_rows
from mmse.dataset.folder import TEST, TRAIN, VALID, DatasetFolder
from mmse.mining.aggregates import write_aggregates
from mmse.mining.corrections import write_corrections
from mmse.mining.examination import ExaminationCurve, fit_curve
from mmse.mining.lessons import LogTotals, lessons
from mmse.mining.position_bias import EXPLORED_STRATUM, count_positions, find_positions
from mmse.mining.reformulations import write_reformulations
from mmse.mining.requests import MergeCounts, read_shard, write_rows
from mmse.mining.shards import write_shard
from mmse.mining.shoppers import STRANGERS, UNCOUNTED, StrangerId, find_strangers, is_day, leave_out, stranger_findings
from mmse.mining.split import Slices, cut
from mmse.schema.user_ids import SALT, UserSalt
from mmse.sources.casting import RowCounts, read_events, read_items
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.file_locations import files_in
from mmse.sources.hashed_ids import hash_ids
from mmse.sources.tables import EventsConfig, ItemsConfig, Table, fingerprint, open_event_sources, open_items

log = logging.getLogger(__name__)

ROWS_PER_SHARD = 3_000_000
ENOUGH_EXPLORED_CLICKS = 1_000
BYTES_PER_ROW = 80
"""A guess for CSV and JSON, whose rows are not counted before they are read."""


@dataclass(frozen=True)
class MineConfig:
    """`[mine]` of shop.toml.

    The latest `valid_share` and `test_share` of the requests are held back; train is cut into `periods` of equal size.
    `shards` is the number of files per slice, by default one per 3 million rows of the log; a shard has to fit in
    memory. `memory_limit` bounds DuckDB; `threads` `None` means every core. Position bias is learned from at most
    `max_bias_pairs` pairs of query and item. A query counts as another try of the one before, which took nothing, if
    the same shopper asks it within `reformulation_minutes`; 0 mines no reformulations and no corrections. A correction
    of a spelling is one that `correction_shoppers` different shoppers made. `leave_out` names what `mmse doctor` finds
    and mining leaves out: `bots` (their requests) and `guest` (an id that is everybody: its
    requests stay, without a shopper); and days, all of whose requests are left out, by their dates (UTC). `dataset` is
    the folder that the engine `adopt` takes, relative to shop.toml, and `user_salt_file` the file with whose salt the
    ids of shoppers and visits are hashed (`mmse.schema.user_ids`).
    """

    valid_share: float = 0.1
    test_share: float = 0.1
    periods: int = 8
    shards: int | None = None
    memory_limit: str = "1500MB"
    threads: int | None = None
    max_bias_pairs: int = 200_000
    reformulation_minutes: float = 10.0
    correction_shoppers: int = 3
    leave_out: tuple[str, ...] = ()
    dataset: str | None = None
    user_salt_file: str | None = None

    def __post_init__(self) -> None:
        require(0 <= self.valid_share < 1, "valid_share", self.valid_share, "a share between 0 and 1")
        require(0 <= self.test_share < 1, "test_share", self.test_share, "a share between 0 and 1")
        held_back = self.valid_share + self.test_share
        require(held_back < 1, "valid_share + test_share", held_back, "less than 1, so that train is left something")
        require(1 <= self.periods <= 99, "periods", self.periods, "1 to 99")
        require(self.shards is None or 1 <= self.shards <= 999, "shards", self.shards, "1 to 999, or none")
        require(self.threads is None or self.threads >= 1, "threads", self.threads, "1 or more, or none")
        require(self.max_bias_pairs >= 0, "max_bias_pairs", self.max_bias_pairs, "0 or more")
        minutes = self.reformulation_minutes
        require(0 <= minutes <= 1440, "reformulation_minutes", minutes, "0 to 1440, a day")
        require(self.correction_shoppers >= 1, "correction_shoppers", self.correction_shoppers, "1 or more")
        for kind in self.leave_out:
            is_known = kind in STRANGERS or is_day(kind)
            require(is_known, "leave_out", kind, f"a list of {', '.join(STRANGERS)} and of days such as 2026-11-29")

    def read_salt(self, base: Path) -> UserSalt | None:
        """The salt of the shop whose shop.toml lies in `base`; raises `UsageError` where it cannot be read."""
        return None if self.user_salt_file is None else UserSalt.read(base / self.user_salt_file)


def mine_log(
    items: ItemsConfig,
    events: EventsConfig,
    config: MineConfig,
    target: Path,
    *,
    base: Path,
    progress: Progress = silent,
) -> Manifest:
    """Writes the `dataset` folder `target` from the tables of a shop whose shop.toml lies in `base`.

    `docs/tables.md` describes the folder. Raises `TableError` where a table is wrong, and `OutputError` where `target`
    cannot be written; in both cases `target` stays as it was.
    """
    with open_session(memory_limit=config.memory_limit, threads=config.threads) as session:
        item_table = open_items(session.connection, items, base)
        salt = config.read_salt(base)
        event_tables = hash_ids(session, open_event_sources(session.connection, events, base), salt)
        configs = {"items": plain_values(items), "events": plain_values(events), "mine": plain_values(config)}
        inputs = {"items": item_table.fingerprint(), "events": fingerprint(event_tables)}
        inputs |= {SALT: salt.fingerprint} if salt else {}
        with write_folder(target, kind=DATASET, config=configs, inputs=inputs) as draft:
            work, dataset = _WorkFolder(draft.folder / ".work"), DatasetFolder(draft.folder)
            session.spill_to(work.path / "spill")
            progress("items", 0, 1)
            item_counts = read_items(session, item_table, items)
            progress("events", 0, 1)
            n_shards = config.shards or _choose_shards(event_tables)
            event_counts = read_events(
                session, event_tables, n_shards, work.events, attribution_hours=events.attribution_hours
            )
            left_out = _leave_out(session, work, config.leave_out)
            merge_counts = _merge_shards(session, work, progress, filters=bool(left_out))
            _check_without_page(
                merge_counts.taken_without_page, event_counts.rows, events.max_rejected_share, event_tables
            )
            warnings = _warnings(merge_counts, find_strangers(session, work.all_requests()))
            timestamps = _read_timestamps(work)
            slices = cut(
                timestamps, valid_share=config.valid_share, test_share=config.test_share, periods=config.periods
            )
            bias = _learn_examination(session, work, slices, config)
            _write_shards(work, slices, bias.curve, dataset, progress, config.threads)
            progress("statistics", 0, 1)
            write_aggregates(session, dataset, work.requests, slices, bias.curve, item_counts.forms)
            minutes = config.reformulation_minutes
            n_reformulations = write_reformulations(session, dataset, slices, minutes) if minutes else 0
            min_shoppers = config.correction_shoppers
            n_corrections = write_corrections(session, dataset, slices, minutes, min_shoppers) if minutes else 0
            row_counts = count_rows(session, dataset.path, slices.periods)
            draft.counts.update(
                {
                    "requests": _count_requests(timestamps, slices),
                    **row_counts,
                    "read": {"items": item_counts.rows, "events": event_counts.rows},
                    "rejected": {"items": item_counts.rejections, "events": event_counts.rejections},
                    **({"left_out": left_out} if left_out else {}),
                    **_count_sources(event_counts),
                    "emptied": {"items": item_counts.emptied},
                    "marked_up": {"items": item_counts.marked_up},
                    **({"variants": asdict(item_counts.variants)} if item_counts.variants.rows else {}),
                    **asdict(merge_counts),
                    "position_bias_from": bias.source,
                    "reformulations": n_reformulations,
                    "corrections": n_corrections,
                    **({"warnings": warnings} if warnings else {}),
                    "lessons": _lessons(session, bias, row_counts["stages"]),
                }
            )
            session.close()
            shutil.rmtree(work.path)
            faults = list(check_files(draft.folder))
            assert not faults, faults
            progress("statistics", 1, 1)
    return read_manifest(target, DATASET)


@dataclass(frozen=True)
class _LearnedBias:
    """Who looks where, what it was learned from, and how many clicks the slots filled at random have in train."""

    curve: ExaminationCurve
    source: str
    n_explored_clicks: int


class _WorkFolder:
    """The files that are needed only while mining: checked events by shard, then each shard's requests and rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = path / "events"
        self.requests = path / "requests"
        self.requests.mkdir(parents=True)

    def shards(self) -> list[str]:
        """The names of the shards that are merged."""
        return sorted(path.stem.removeprefix("rows-") for path in self.requests.glob("rows-*.parquet"))

    def all_events(self) -> str:
        """SQL for the good rows of every shard."""
        return f"read_parquet({files_in(self.events, 'shard=[0-9]*/*.parquet')}, hive_partitioning = false)"

    def all_requests(self) -> str:
        """SQL for the requests of every shard, with what `find_strangers` reads; what came of them is not counted."""
        files = files_in(self.requests, "requests-*.parquet")
        return f"(SELECT user_id, query, {UNCOUNTED} FROM read_parquet({files}))"


def _count_sources(counts: RowCounts) -> dict[str, dict[str, dict[str, Any]]]:
    """What was read and rejected of each source of the events, where there are several."""
    sources = {source: {"read": part.rows, "rejected": part.rejections} for source, part in counts.sources.items()}
    return {"sources": sources} if sources else {}


def _choose_shards(events: Sequence[Table]) -> int:
    n_rows = sum(
        table.n_rows if table.n_rows is not None else (table.n_bytes() or 0) / BYTES_PER_ROW for table in events
    )
    return min(999, max(1, math.ceil(n_rows / ROWS_PER_SHARD)))


def _leave_out(session: Session, work: _WorkFolder, kinds: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Finds what `kinds` name, and counts it; nothing is looked for where nothing is named."""
    if not kinds:
        return {}
    counts = leave_out(session, work.all_events(), kinds)
    log.warning("left out, as [mine] leave_out says: %s", counts)
    return counts


def _warnings(counts: MergeCounts, strangers: list[StrangerId]) -> list[str]:
    """What can be seen without looking for it, also logged: ids that are no shopper, positions of several items."""
    warnings = [f"{finding.cause} {finding.cure}" for finding in stranger_findings(strangers)]
    if counts.positions_shared:
        warnings.append(
            f"{counts.positions_shared:,} rows stand on a position of their request that another item has, as where "
            "each page counts from 1: position bias is learned wrongly. `mmse doctor` shows an example."
        )
    for warning in warnings:
        log.warning(warning)
    return warnings


def _lessons(session: Session, bias: _LearnedBias, stages: dict[str, dict[str, int]]) -> list[str]:
    """Three lines on what the log teaches; `stages` are the rows of each split by stage."""
    n = Counter[str]()
    for by_stage in stages.values():
        n.update(by_stage)
    n_taken = n["clicked"] + n["carted"] + n["ordered"]
    (n_users,) = session.run("SELECT count(*) FROM shopper_summary")[0]
    totals = LogTotals(
        n_users=int(n_users),
        n_shown=n_taken + n["unclicked"],
        n_unclicked=n["unclicked"],
        n_clicked=n_taken,
        n_ordered=n["ordered"],
        n_explored=bias.n_explored_clicks,
        n_positions=len(bias.curve.positions),
    )
    return lessons(totals)


def _merge_shards(session: Session, work: _WorkFolder, progress: Progress, *, filters: bool) -> MergeCounts:
    """Merges every shard of good rows, and deletes its events, so that the log is on the disk only once.

    While one shard's rows are merged and written in a thread, DuckDB reads the next one.
    """
    total = MergeCounts()
    writes: list[Future[MergeCounts]] = []
    folders = sorted(path for path in work.events.glob("shard=*") if not path.name.startswith("shard=-"))
    with ThreadPoolExecutor(1) as writer:
        for number, folder in enumerate(folders):
            progress("requests", number, len(folders))
            counts, rows = read_shard(session, folder, work.requests, filters=filters)
            total = sum((write.result() for write in writes), total + counts)
            name = folder.name.removeprefix("shard=")
            writes = [writer.submit(write_rows, rows, work.requests / f"rows-{name}.parquet")]
            shutil.rmtree(folder)
        return sum((write.result() for write in writes), total)


def _check_without_page(n_rows: int, n_events: int, limit: float, tables: Sequence[Table]) -> None:
    """Raises `TableError` where too many rows tell of a click, a cart or an order of an item that no row shows."""
    if not n_rows:
        return
    sources = ", ".join(table.source for table in tables)
    finding = f"{n_rows} of {n_events} rows of the events table ({sources}) tell of a click, a cart or an order"
    log.warning("%s of an item that no row of their request shows; they are left out", finding)
    if n_rows / n_events > limit:
        raise TableError(
            f"{finding} of an item that no row of their request shows, more than the limit of {limit:.0%}.",
            "Bring the rows that show it, with query and position; or raise max_rejected_share in [events].",
        )


def _read_timestamps(work: _WorkFolder) -> Int64[np.ndarray, " n"]:
    """Every request's timestamp in microseconds, 8 bytes each."""
    columns = [
        pq.read_table(work.requests / f"requests-{shard}.parquet", columns=["timestamp"]).column(0).to_numpy()
        for shard in work.shards()
    ]
    return np.concatenate(columns).astype("datetime64[us]").astype(np.int64)


def _count_requests(timestamps: Int64[np.ndarray, " n"], slices: Slices) -> dict[str, int]:
    per_slice = np.bincount(slices.slice_of(timestamps), minlength=slices.periods + 2)
    train = int(per_slice[: slices.periods].sum())
    return {TRAIN: train, VALID: int(per_slice[-2]), TEST: int(per_slice[-1])}


def _learn_examination(session: Session, work: _WorkFolder, slices: Slices, config: MineConfig) -> _LearnedBias:
    """The curve, and what it was learned from: if they have enough clicks, only the slots that were filled at random.

    Only in those does an item's position not depend on who looks. A ranker that knows its shoppers puts an item higher
    for those who like it, and pairs of query and item take that for position bias.
    """
    train_end = slices.starts[slices.periods]
    counts = count_positions(session, work.shards(), work.requests, end=train_end, max_pairs=config.max_bias_pairs)
    positions = find_positions(session, work.requests)
    explored = counts.select_stratum(EXPLORED_STRATUM)
    n_clicks = int(explored.clicked.sum())
    if n_clicks >= ENOUGH_EXPLORED_CLICKS and len(np.unique(explored.position)) > 1:
        curve = fit_curve(explored, positions)
        if curve.is_fitted:
            return _LearnedBias(curve, "slots filled at random", n_clicks)
    curve = fit_curve(counts, positions)
    source = "the same query and item at several positions" if curve.is_fitted else "none: too few clicks, all 1"
    return _LearnedBias(curve, source, n_clicks)


def _write_shards(
    work: _WorkFolder,
    slices: Slices,
    curve: ExaminationCurve,
    dataset: DatasetFolder,
    progress: Progress,
    threads: int | None,
) -> None:
    names = work.shards()
    with ThreadPoolExecutor(min(2, threads or os.cpu_count() or 1)) as pool:
        writes = [
            pool.submit(write_shard, work.requests, name, number, slices, curve, dataset.path)
            for number, name in enumerate(names)
        ]
        for number, write in enumerate(writes):
            progress("dataset", number, len(names))
            write.result()
