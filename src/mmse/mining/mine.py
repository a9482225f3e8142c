"""The mining step: the two tables of a shop in, the dataset folder out.

    events → checked rows, by shard → requests made whole → cut by time → examination → dataset/
    items  → checked rows, numbered                                    → statistics, interactions

Each part of the work reads and writes files, and holds one shard, or DuckDB's bounded memory, at a time.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmse.core.artifact import Manifest, read_manifest, write_folder
from mmse.core.config import plain_values
from mmse.core.errors import TableError
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import DATASET
from mmse.dataset.contract import check_files, sum_rows
from mmse.dataset.folder import TEST, TRAIN, VALID, DatasetFolder
from mmse.mining.aggregates import write_aggregates
from mmse.mining.config import MineConfig as MineConfig
from mmse.mining.corrections import write_corrections
from mmse.mining.duckdb_engine import DUCKDB
from mmse.mining.examination import ExaminationCurve, fit_curve
from mmse.mining.lessons import LogTotals, lessons
from mmse.mining.log_engine import LogEngine, MiningEngine, SplitShares, count_by_slice
from mmse.mining.log_sql import LogSql, rows_of
from mmse.mining.position_bias import EXPLORED_STRATUM, count_positions, find_positions
from mmse.mining.reformulations import write_reformulations
from mmse.mining.requests import MergeCounts
from mmse.mining.shoppers import UNCOUNTED, StrangerId, find_strangers, leave_out, stranger_findings
from mmse.mining.split import Slices
from mmse.mining.work_folder import WorkFolder
from mmse.schema.user_ids import SALT
from mmse.sources.casting import RowCounts, read_events, read_items
from mmse.sources.duckdb_session import open_session
from mmse.sources.hashed_ids import hash_ids
from mmse.sources.tables import EventsConfig, ItemsConfig, Table, fingerprint, open_items

log = logging.getLogger(__name__)

ROWS_PER_SHARD = 3_000_000
ENOUGH_EXPLORED_CLICKS = 1_000
BYTES_PER_ROW = 80
"""A guess for CSV and JSON, whose rows are not counted before they are read."""


def mine_log(
    items: ItemsConfig,
    events: EventsConfig,
    config: MineConfig,
    target: Path,
    *,
    base: Path,
    progress: Progress = silent,
    engine: MiningEngine = DUCKDB,
) -> Manifest:
    """Writes the `dataset` folder `target` from the tables of a shop whose shop.toml lies in `base`.

    `docs/tables.md` describes the folder, which is the same row for row whatever `engine` reads the log. Raises
    `TableError` where a table is wrong, and `OutputError` where `target` cannot be written; in both cases `target`
    stays as it was.
    """
    with open_session(memory_limit=config.memory_limit, threads=config.threads) as session:
        item_table = open_items(session.connection, items, base)
        salt = config.read_salt(base)
        event_tables = hash_ids(session, engine.open_events(session, events, base), salt)
        configs: dict[str, Any] = {
            "items": plain_values(items),
            "events": plain_values(events),
            "mine": config.to_manifest(),
        }
        configs |= {"engine": engine.name} if engine != DUCKDB else {}
        inputs = {"items": item_table.fingerprint(), "events": fingerprint(event_tables)}
        inputs |= {SALT: salt.fingerprint} if salt else {}
        with write_folder(target, kind=DATASET, config=configs, inputs=inputs) as draft:
            work, dataset = WorkFolder(draft.folder / ".work"), DatasetFolder(draft.folder)
            session.spill_to(work.path / "spill")
            progress("items", 0, 1)
            item_counts = read_items(session, item_table, items)
            progress("events", 0, 1)
            log_engine = engine.start(session, work, config)
            event_counts = read_events(
                session,
                event_tables,
                config.shards or _choose_shards(event_tables),
                work.events,
                attribution_hours=events.attribution_hours,
                first_day=config.since,
                write=log_engine.event_writer,
            )
            left_out = _leave_out(log_engine, config.leave_out)
            merge_counts = log_engine.merge_shards(progress, filters=bool(left_out))
            _check_without_page(
                merge_counts.taken_without_page, event_counts.rows, events.max_rejected_share, event_tables
            )
            sql = log_engine.sql
            strangers = find_strangers(sql, f"(SELECT user_id, query, {UNCOUNTED} FROM log_request)")
            warnings = _warnings(merge_counts, strangers)
            slices = log_engine.cut(SplitShares(config.valid_share, config.test_share, config.periods))
            bias = _learn_examination(log_engine, slices, config.max_bias_pairs)
            log_engine.write_shards(slices, bias.curve, dataset.path, progress)
            progress("statistics", 0, 1)
            write_aggregates(session, sql, dataset, work.path, slices, bias.curve, item_counts.forms)
            minutes, min_shoppers = config.reformulation_minutes, config.correction_shoppers
            n_reformulations = write_reformulations(sql, dataset, minutes) if minutes else 0
            n_corrections = write_corrections(sql, dataset, slices, minutes, min_shoppers) if minutes else 0
            stages = rows_of(sql, "SELECT slice, stage, count(*) AS n FROM dataset_row GROUP BY slice, stage")
            row_counts = sum_rows(dataset.path, slices.periods, stages)
            draft.counts.update(
                {
                    "requests": _count_requests(sql, slices),
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
                    "lessons": _lessons(sql, bias, row_counts["stages"]),
                }
            )
            session.close()
            shutil.rmtree(work.path)
            faults = list(check_files(draft.folder))
            assert not faults, faults
            progress("statistics", 1, 1)
    return read_manifest(target, DATASET)


def _count_requests(sql: LogSql, slices: Slices) -> dict[str, int]:
    """How many requests each split has."""
    per_slice = count_by_slice(sql, slices)
    return {TRAIN: sum(per_slice[: slices.periods]), VALID: per_slice[-2], TEST: per_slice[-1]}


@dataclass(frozen=True)
class _LearnedBias:
    """Who looks where, what it was learned from, and how many clicks the slots filled at random have in train."""

    curve: ExaminationCurve
    source: str
    n_explored_clicks: int


def _count_sources(counts: RowCounts) -> dict[str, dict[str, dict[str, Any]]]:
    """What was read and rejected of each source of the events, where there are several."""
    sources = {source: {"read": part.rows, "rejected": part.rejections} for source, part in counts.sources.items()}
    return {"sources": sources} if sources else {}


def _choose_shards(events: Sequence[Table]) -> int:
    n_rows = sum(
        table.n_rows if table.n_rows is not None else (table.n_bytes() or 0) / BYTES_PER_ROW for table in events
    )
    return min(999, max(1, math.ceil(n_rows / ROWS_PER_SHARD)))


def _leave_out(engine: LogEngine, kinds: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Finds what `kinds` name, and counts it; nothing is looked for where nothing is named."""
    if not kinds:
        return {}
    engine.open_checked_events()
    counts = leave_out(engine.sql, "log_event", kinds)
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


def _lessons(sql: LogSql, bias: _LearnedBias, stages: dict[str, dict[str, int]]) -> list[str]:
    """Three lines on what the log teaches; `stages` are the rows of each split by stage."""
    n = Counter[str]()
    for by_stage in stages.values():
        n.update(by_stage)
    n_taken = n["clicked"] + n["carted"] + n["ordered"]
    ((n_users,),) = rows_of(sql, "SELECT count(*) AS n FROM shopper_summary")
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


def _learn_examination(engine: LogEngine, slices: Slices, max_pairs: int) -> _LearnedBias:
    """The curve, and what it was learned from: if they have enough clicks, only the slots that were filled at random.

    Only in those does an item's position not depend on who looks. A ranker that knows its shoppers puts an item higher
    for those who like it, and pairs of query and item take that for position bias.
    """
    train_end = slices.starts[slices.periods]
    counts = count_positions(engine, end=train_end, max_pairs=max_pairs)
    positions = find_positions(engine)
    explored = counts.select_stratum(EXPLORED_STRATUM)
    n_clicks = int(explored.clicked.sum())
    if n_clicks >= ENOUGH_EXPLORED_CLICKS and len(np.unique(explored.position)) > 1:
        curve = fit_curve(explored, positions)
        if curve.is_fitted:
            return _LearnedBias(curve, "slots filled at random", n_clicks)
    curve = fit_curve(counts, positions)
    source = "the same query and item at several positions" if curve.is_fitted else "none: too few clicks, all 1"
    return _LearnedBias(curve, source, n_clicks)
