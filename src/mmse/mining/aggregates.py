"""What is counted over the finished groups: item statistics, histories, queries, examination, facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.mining.examination import Curve
from mmse.mining.split import Slices
from mmse.schema.stages import Stage
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import files_in, literal


def write(session: Session, out: Path, merged: Path, slices: Slices, curve: Curve) -> None:
    """Writes every table of the `dataset` folder `out` beside the shards, which must be there.

    `merged` is the working folder with each shard's requests.
    """
    _write_snapshots(out, slices)
    _count_items(session, out, slices)
    _write_item_stats(session, out / "item_stats.parquet", slices)
    _copy(session, _ITEMS, out / "items.parquet")
    interactions = _INTERACTIONS.format(seen=every_slice(out, slices), least=Stage.CLICKED.value)
    _copy(session, interactions, out / "interactions.parquet")
    requests = files_in(merged, "requests-*.parquet")
    _copy(session, _QUERIES.format(requests=requests, end=slices.starts[slices.periods]), out / "queries.parquet")
    _copy(session, 'SELECT "table", reason, row FROM rejected ORDER BY ALL', out / "rejected.parquet")
    _write_examination(session, out, curve)


def counts(session: Session, out: Path, slices: Slices) -> dict[str, Any]:
    """Facts for the manifest: items, and rows and stages of each split."""
    (items,) = session.run("SELECT count(*) FROM items")[0]
    train, valid, test = range(slices.periods), [slices.periods], [slices.periods + 1]
    totals = f"SELECT slice, stage, count(*) FROM ({every_slice(out, slices)}) GROUP BY ALL"
    found = {(slice_, stage): n for slice_, stage, n in session.run(totals)}
    rows, stages = {}, {}
    for split, members in (("train", train), ("valid", valid), ("test", test)):
        reached = {stage: sum(found.get((s, stage), 0) for s in members) for stage in _LOGGED}
        rows[split] = sum(reached.values())
        stages[split] = {stage.name.lower(): reached[stage] for stage in _LOGGED}
    return {"items": items, "rows": rows, "stages": stages}


_LOGGED = (Stage.RETRIEVED, Stage.UNCLICKED, Stage.CLICKED, Stage.CARTED, Stage.ORDERED)

_ITEMS = """
    SELECT items.*, first_seen
      FROM items LEFT JOIN (SELECT item_row, min(first_seen) AS first_seen FROM item_slices GROUP BY item_row)
     USING (item_row) ORDER BY item_row"""

_INTERACTIONS = """
    SELECT user_id, timestamp, item_row, stage FROM ({seen})
     WHERE stage >= {least} AND user_id IS NOT NULL ORDER BY user_id, timestamp, item_row, stage"""

_QUERIES = """
    SELECT query, count(*) AS requests FROM read_parquet({requests}) WHERE timestamp < make_timestamp({end})
     GROUP BY query ORDER BY requests DESC, query"""

STATS_SCHEMA = pa.schema(
    [
        ("snapshot", pa.int16()),
        ("item_row", pa.int32()),
        ("shown", pa.int64()),
        ("clicked", pa.int64()),
        ("ordered", pa.int64()),
    ]
)
ITEMS_AT_ONCE = 2_000_000
"""Item statistics are summed up for so many items at a time, 24 bytes each."""


def every_slice(out: Path, slices: Slices) -> str:
    """SQL for the rows of all shards of the `dataset` folder `out`, with the number of their slice."""
    parts = (
        f"SELECT {number} AS slice, * FROM read_parquet({files_in(out / name, '*.parquet')}, hive_partitioning = false)"
        for number, name in enumerate(slices.names())
    )
    return " UNION ALL ".join(parts)


def _count_items(session: Session, out: Path, slices: Slices) -> None:
    """Makes `item_slices`: what became of each item in each slice of the log that showed it."""
    session.run(f"""
        CREATE OR REPLACE TABLE item_slices AS
        SELECT slice, item_row, count(*) AS shown, count(*) FILTER (stage >= {Stage.CLICKED:d}) AS clicked,
               count(*) FILTER (stage >= {Stage.ORDERED:d}) AS ordered, min(timestamp) AS first_seen
          FROM ({every_slice(out, slices)}) WHERE stage >= {Stage.UNCLICKED:d} GROUP BY slice, item_row""")


def _write_item_stats(session: Session, path: Path, slices: Slices) -> None:
    """Adds up the slices: snapshot `s` holds what came in the slices before `s`."""
    (n_items,) = session.run("SELECT count(*) FROM items")[0]
    with pq.ParquetWriter(path, STATS_SCHEMA) as writer:
        for first in range(0, n_items, ITEMS_AT_ONCE):
            sums = np.zeros((min(ITEMS_AT_ONCE, n_items - first), 3), np.int64)
            for slice_ in range(len(slices.starts)):
                found = session.arrow(f"""
                    SELECT item_row, shown, clicked, ordered FROM item_slices
                     WHERE slice = {slice_} AND item_row >= {first} AND item_row < {first + ITEMS_AT_ONCE}""")
                rows = found.column("item_row").to_numpy() - first
                sums[rows] += np.stack([found.column(name).to_numpy() for name in STATS_SCHEMA.names[2:]], axis=1)
                writer.write_table(_stats(slice_ + 1, first, sums))


def _stats(snapshot: int, first: int, sums: Int64[np.ndarray, "n 3"]) -> pa.Table:
    seen = np.flatnonzero(sums[:, 0])
    columns = [np.full(len(seen), snapshot), seen + first, *sums[seen].T]
    return pa.table([pa.array(c, t) for c, t in zip(columns, STATS_SCHEMA.types, strict=True)], schema=STATS_SCHEMA)


def _copy(session: Session, sql: str, path: Path) -> None:
    session.run(f"COPY ({sql}) TO {literal(str(path))} (FORMAT parquet)")


def _write_snapshots(out: Path, slices: Slices) -> None:
    before = np.asarray(slices.boundaries, np.int64)
    numbers = pa.array(np.arange(len(before)), pa.int16())
    table = pa.table({"snapshot": numbers, "before": pa.array(before).cast(pa.timestamp("us"))})
    pq.write_table(table, out / "snapshots.parquet")


def _write_examination(session: Session, out: Path, curve: Curve) -> None:
    """The curve beside what the train rows say of each position."""
    train = files_in(out, "train/*/*.parquet")
    counted = session.run(f"""
        SELECT position, count(*), count_if(stage >= {Stage.CLICKED:d}) FROM read_parquet({train})
         WHERE position IS NOT NULL GROUP BY position""")
    shown = {position: (n, clicked) for position, n, clicked in counted}
    rows = [shown.get(int(position), (0, 0)) for position in curve.positions]
    error = pa.array(curve.error, pa.float32(), mask=np.isnan(curve.error))
    table = pa.table(
        {
            "position": pa.array(curve.positions, pa.int32()),
            "examination": pa.array(curve.examination, pa.float32()),
            "shown": pa.array([n for n, _ in rows], pa.int64()),
            "clicked": pa.array([clicked for _, clicked in rows], pa.int64()),
            "standard_error": error,
        }
    )
    pq.write_table(table, out / "examination.parquet")
