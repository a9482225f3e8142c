"""What mining counts over the finished rows: item statistics, histories, queries, examination, and facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.dataset.folder import ITEM_COUNTS, STATS_SCHEMA, TEST, TRAIN, VALID, DatasetFolder
from mmse.mining.examination import ExaminationCurve
from mmse.mining.split import Slices
from mmse.schema.stages import Stage
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import files_in, literal

ITEMS_AT_ONCE = 2_000_000
"""Item statistics are summed for this many items at a time, at 24 bytes each."""

_LOGGED_STAGES = (Stage.RETRIEVED, Stage.UNCLICKED, Stage.CLICKED, Stage.CARTED, Stage.ORDERED)

_ITEMS = """
    SELECT items.*, first_seen
      FROM items LEFT JOIN (SELECT item_row, min(first_seen) AS first_seen FROM item_slices GROUP BY item_row)
     USING (item_row) ORDER BY item_row"""

_INTERACTIONS = """
    SELECT user_id, timestamp, item_row, stage FROM ({rows})
     WHERE stage >= {lowest} AND user_id IS NOT NULL ORDER BY user_id, timestamp, item_row, stage"""

_QUERIES = """
    SELECT query, count(*) AS requests FROM read_parquet({requests}) WHERE timestamp < make_timestamp({end})
     GROUP BY query ORDER BY requests DESC, query"""


def write_aggregates(
    session: Session, dataset: DatasetFolder, requests_folder: Path, slices: Slices, curve: ExaminationCurve
) -> None:
    """Writes every table of `dataset` but the rows, which must be there, and the reformulations.

    `requests_folder` is the working folder with each shard's requests.
    """
    _write_snapshots(dataset, slices)
    _count_items(session, dataset, slices)
    _write_item_stats(session, dataset.item_stats, slices)
    _copy(session, _ITEMS, dataset.items)
    interactions = _INTERACTIONS.format(rows=select_rows(dataset, slices), lowest=Stage.CLICKED.value)
    _copy(session, interactions, dataset.interactions)
    requests = files_in(requests_folder, "requests-*.parquet")
    _copy(session, _QUERIES.format(requests=requests, end=slices.starts[slices.periods]), dataset.queries)
    _copy(session, 'SELECT "table", reason, row FROM rejected ORDER BY ALL', dataset.rejected)
    _write_examination(session, dataset, curve)


def count_rows(session: Session, dataset: DatasetFolder, slices: Slices) -> dict[str, Any]:
    """Facts for the manifest: items, and rows and stages of each split."""
    (n_items,) = session.run("SELECT count(*) FROM items")[0]
    totals = f"SELECT slice, stage, count(*) FROM ({select_rows(dataset, slices)}) GROUP BY ALL"
    n_rows = {(slice_, stage): n for slice_, stage, n in session.run(totals)}
    members = {TRAIN: range(slices.periods), VALID: [slices.periods], TEST: [slices.periods + 1]}
    rows, stages = {}, {}
    for split, numbers in members.items():
        by_stage = {stage: sum(n_rows.get((slice_, stage), 0) for slice_ in numbers) for stage in _LOGGED_STAGES}
        rows[split] = sum(by_stage.values())
        stages[split] = {stage.name.lower(): n for stage, n in by_stage.items()}
    return {"items": n_items, "rows": rows, "stages": stages}


def select_rows(dataset: DatasetFolder, slices: Slices) -> str:
    """SQL for the rows of all shards of `dataset`, with the number of their slice."""
    parts = (
        f"SELECT {number} AS slice, * FROM read_parquet({files_in(dataset.path / name, '*.parquet')}, "
        "hive_partitioning = false)"
        for number, name in enumerate(slices.names())
    )
    return " UNION ALL ".join(parts)


def _count_items(session: Session, dataset: DatasetFolder, slices: Slices) -> None:
    """Makes `item_slices`: how often each slice of the log showed an item, and how often it was clicked and ordered."""
    session.run(f"""
        CREATE OR REPLACE TABLE item_slices AS
        SELECT slice, item_row, count(*) AS shown, count(*) FILTER (stage >= {Stage.CLICKED:d}) AS clicked,
               count(*) FILTER (stage >= {Stage.ORDERED:d}) AS ordered, min(timestamp) AS first_seen
          FROM ({select_rows(dataset, slices)}) WHERE stage >= {Stage.UNCLICKED:d} GROUP BY slice, item_row""")


def _write_item_stats(session: Session, path: Path, slices: Slices) -> None:
    """Adds up the slices: snapshot `s` holds the sums of the slices before `s`."""
    (n_items,) = session.run("SELECT count(*) FROM items")[0]
    with pq.ParquetWriter(path, STATS_SCHEMA) as writer:
        for start in range(0, n_items, ITEMS_AT_ONCE):
            sums = np.zeros((min(ITEMS_AT_ONCE, n_items - start), len(ITEM_COUNTS)), np.int64)
            for slice_ in range(len(slices.starts)):
                counts = session.arrow(f"""
                    SELECT item_row, {", ".join(ITEM_COUNTS)} FROM item_slices
                     WHERE slice = {slice_} AND item_row >= {start} AND item_row < {start + ITEMS_AT_ONCE}""")
                rows = counts.column("item_row").to_numpy() - start
                sums[rows] += np.stack([counts.column(name).to_numpy() for name in ITEM_COUNTS], axis=1)
                writer.write_table(_stats_table(slice_ + 1, start, sums))


def _stats_table(snapshot: int, start: int, sums: Int64[np.ndarray, "n 3"]) -> pa.Table:
    """The statistics of the items from row `start` on that were shown before `snapshot`."""
    rows = np.flatnonzero(sums[:, 0])
    columns = [np.full(len(rows), snapshot), rows + start, *sums[rows].T]
    return pa.table([pa.array(c, t) for c, t in zip(columns, STATS_SCHEMA.types, strict=True)], schema=STATS_SCHEMA)


def _copy(session: Session, sql: str, path: Path) -> None:
    session.run(f"COPY ({sql}) TO {literal(str(path))} (FORMAT parquet)")


def _write_snapshots(dataset: DatasetFolder, slices: Slices) -> None:
    moments = np.asarray(slices.boundaries, np.int64)
    numbers = pa.array(np.arange(len(moments)), pa.int16())
    table = pa.table({"snapshot": numbers, "before": pa.array(moments).cast(pa.timestamp("us"))})
    pq.write_table(table, dataset.snapshots)


def _write_examination(session: Session, dataset: DatasetFolder, curve: ExaminationCurve) -> None:
    """Writes the curve, and how often train showed each position and shoppers clicked it."""
    train = files_in(dataset.path, f"{TRAIN}/*/*.parquet")
    rows = session.run(f"""
        SELECT position, count(*), count_if(stage >= {Stage.CLICKED:d}) FROM read_parquet({train})
         WHERE position IS NOT NULL GROUP BY position""")
    by_position = {position: (n_shown, n_clicked) for position, n_shown, n_clicked in rows}
    counts = [by_position.get(int(position), (0, 0)) for position in curve.positions]
    error = pa.array(curve.error, pa.float32(), mask=np.isnan(curve.error))
    table = pa.table(
        {
            "position": pa.array(curve.positions, pa.int32()),
            "examination": pa.array(curve.examination, pa.float32()),
            "shown": pa.array([n_shown for n_shown, _ in counts], pa.int64()),
            "clicked": pa.array([n_clicked for _, n_clicked in counts], pa.int64()),
            "standard_error": error,
        }
    )
    pq.write_table(table, dataset.examination)
