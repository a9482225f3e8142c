"""The mining stage: two tables in, the `dataset` folder out.

    events → checked rows, by shard → requests made whole → cut by time → examination → dataset/
    items  → checked rows, numbered                                    → statistics, interactions

Every step reads and writes files and holds one shard, or DuckDB's bounded memory, at a time.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.core.artifact import Manifest, read_manifest, writing
from mmse.core.config import plain, require
from mmse.core.errors import TableError
from mmse.mining import aggregates, reformulations, shards
from mmse.mining import position_bias as bias
from mmse.mining.examination import Curve, fit
from mmse.mining.requests import Merged, read_shard, write_rows
from mmse.mining.split import Slices, cut
from mmse.sources import casting as rows
from mmse.sources.duckdb_session import Session, session
from mmse.sources.tables import EventsConfig, ItemsConfig, Table, open_events, open_items

log = logging.getLogger(__name__)

KIND = "dataset"
ROWS_PER_SHARD = 3_000_000
ENOUGH_EXPLORED_CLICKS = 1_000
BYTES_PER_ROW = 80
"""A guess for CSV and JSON, whose rows are not counted before they are read."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class MineConfig:
    """`[mine]` of shop.toml.

    `valid_share` and `test_share` of the requests, the latest, are held back; train is cut into `periods` of equal
    size. `shards` is the number of files per slice, by default one per 3 million rows of the log; a shard has
    to fit in memory. `memory_limit` bounds DuckDB; `threads` `None` means every core; `max_bias_pairs` bounds the
    pairs that position bias is learned from. A query is taken for another try of the one before, which found nothing,
    if the same shopper asks it within `reformulation_minutes`; 0 mines none.
    """

    valid_share: float = 0.1
    test_share: float = 0.1
    periods: int = 8
    shards: int | None = None
    memory_limit: str = "1500MB"
    threads: int | None = None
    max_bias_pairs: int = 200_000
    reformulation_minutes: float = 10.0

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


def mine(
    items: ItemsConfig,
    events: EventsConfig,
    config: MineConfig,
    out: Path,
    *,
    base: Path,
    progress: Progress | None = None,
) -> Manifest:
    """Writes the `dataset` folder `out` from the tables of a shop whose shop.toml lies in `base`.

    `docs/tables.md` describes the folder. Raises `TableError` for what is wrong with a table, `OutputError` where
    `out` cannot be written; then `out` is as it was before.
    """
    report = progress or (lambda what, done, total: None)
    with session(memory_limit=config.memory_limit, threads=config.threads) as opened:
        item_table = open_items(opened.connection, items, base)
        event_table = open_events(opened.connection, events, base)
        said = {"items": plain(items), "events": plain(events), "mine": plain(config)}
        inputs = {"items": item_table.fingerprint(), "events": event_table.fingerprint()}
        with writing(out, kind=KIND, config=said, inputs=inputs) as draft:
            work = _Work(draft.folder / ".work")
            opened.spill_to(work.folder / "spill")
            report("items", 0, 1)
            items_checked = rows.read_items(opened, item_table, items)
            report("events", 0, 1)
            n_shards = config.shards or _shards(event_table)
            events_checked = rows.read_events(opened, event_table, events, n_shards, work.clean)
            merged = _merge(opened, work, report)
            _weigh_taken(merged.taken_without_page, events_checked.rows, events.max_rejected_share, event_table)
            timestamps = _timestamps(work)
            slices = cut(
                timestamps, valid_share=config.valid_share, test_share=config.test_share, periods=config.periods
            )
            curve, bias_from = _examination(opened, work, slices, config)
            _write_shards(work, slices, curve, draft.folder, report, config.threads)
            report("statistics", 0, 1)
            aggregates.write(opened, draft.folder, work.merged, slices, curve)
            minutes = config.reformulation_minutes
            reformulated = reformulations.write(opened, draft.folder, slices, minutes) if minutes else 0
            draft.counts.update(
                {
                    "requests": _requests(timestamps, slices),
                    **aggregates.counts(opened, draft.folder, slices),
                    "read": {"items": items_checked.rows, "events": events_checked.rows},
                    "rejected": {"items": items_checked.rejected, "events": events_checked.rejected},
                    **asdict(merged),
                    "position_bias_from": bias_from,
                    "reformulations": reformulated,
                }
            )
            opened.close()
            shutil.rmtree(work.folder)
            report("statistics", 1, 1)
    return read_manifest(out, KIND)


class _Work:
    """The folder of what is only needed while mining; it goes with the draft."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clean = folder / "clean"
        self.merged = folder / "merged"
        self.merged.mkdir(parents=True)

    def shards(self) -> list[str]:
        """The names of the merged shards."""
        return sorted(path.stem.removeprefix("rows-") for path in self.merged.glob("rows-*.parquet"))


def _shards(events: Table) -> int:
    n_rows = events.rows if events.rows is not None else (events.bytes() or 0) / BYTES_PER_ROW
    return min(999, max(1, math.ceil(n_rows / ROWS_PER_SHARD)))


def _merge(opened: Session, work: _Work, report: Progress) -> Merged:
    """Merges every shard of good rows; each shard's raw rows are deleted after it, so the disk is used once.

    While one shard's rows are merged and written in a thread, DuckDB reads the next one.
    """
    total = Merged()
    writes: list[Future[Merged]] = []
    folders = sorted(path for path in work.clean.glob("shard=*") if not path.name.startswith("shard=-"))
    with ThreadPoolExecutor(1) as writer:
        for done, folder in enumerate(folders):
            report("requests", done, len(folders))
            found, unmerged = read_shard(opened, folder, work.merged)
            total = sum((write.result() for write in writes), total + found)
            name = folder.name.removeprefix("shard=")
            writes = [writer.submit(write_rows, unmerged, work.merged / f"rows-{name}.parquet")]
            shutil.rmtree(folder)
        return sum((write.result() for write in writes), total)


def _weigh_taken(without_page: int, rows: int, limit: float, table: Table) -> None:
    """Raises `TableError` where too many rows tell of clicks and orders of what no row shows."""
    if not without_page:
        return
    said = f"{without_page} of {rows} rows of the events table ({table.source}) tell of a click, a cart or an order"
    log.warning("%s of an item that no row of their request shows; they are left out", said)
    if without_page / rows > limit:
        raise TableError(
            f"{said} of an item that no row of their request shows, more than the limit of {limit:.0%}.",
            "Bring the rows that show it, with query and position; or raise max_rejected_share in [events].",
        )


def _timestamps(work: _Work) -> Int64[np.ndarray, " n"]:
    """Every request's timestamp in microseconds, 8 bytes each."""
    columns = [
        pq.read_table(work.merged / f"requests-{shard}.parquet", columns=["timestamp"]).column(0).to_numpy()
        for shard in work.shards()
    ]
    return np.concatenate(columns).astype("datetime64[us]").astype(np.int64)


def _requests(timestamps: Int64[np.ndarray, " n"], slices: Slices) -> dict[str, int]:
    per_slice = np.bincount(slices.of(timestamps), minlength=slices.periods + 2)
    train = int(per_slice[: slices.periods].sum())
    return {"train": train, "valid": int(per_slice[-2]), "test": int(per_slice[-1])}


def _examination(opened: Session, work: _Work, slices: Slices, config: MineConfig) -> tuple[Curve, str]:
    """The curve, and what it was learned from: the slots filled at random alone, where they have enough clicks.

    Only there is an item's place independent of who looks: a ranker that knows its shoppers puts the same item
    higher for those who like it, and pairs of query and item take that for position bias.
    """
    before = slices.starts[slices.periods]
    counts = bias.gather(opened, work.shards(), work.merged, before=before, max_pairs=config.max_bias_pairs)
    positions = bias.positions(opened, work.merged)
    explored = counts.of(bias.EXPLORED_STRATUM)
    if explored.clicked.sum() >= ENOUGH_EXPLORED_CLICKS and len(np.unique(explored.position)) > 1:
        curve = fit(explored, positions)
        if curve.fitted:
            return curve, "slots filled at random"
    curve = fit(counts, positions)
    return curve, "the same query and item at several positions" if curve.fitted else "none: too few clicks, all 1"


def _write_shards(work: _Work, slices: Slices, curve: Curve, out: Path, report: Progress, threads: int | None) -> None:
    names = work.shards()
    with ThreadPoolExecutor(min(2, threads or os.cpu_count() or 1)) as pool:
        writes = [
            pool.submit(shards.write_shard, work.merged, name, number, slices, curve, out)
            for number, name in enumerate(names)
        ]
        for done, write in enumerate(writes):
            report("dataset", done, len(names))
            write.result()
