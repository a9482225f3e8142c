"""What mining counts over the finished rows: item statistics, histories, queries, examination, and facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.dataset.folder import (
    EXAMINATION_SCHEMA,
    ITEM_COUNTS,
    SNAPSHOTS_SCHEMA,
    STATS_SCHEMA,
    VECTOR_LENGTHS,
    DatasetFolder,
)
from mmse.mining.examination import ExaminationCurve
from mmse.mining.log_sql import LogSql, moment, rows_of
from mmse.mining.split import Slices
from mmse.schema.stages import Stage
from mmse.schema.value_forms import VALUE_FORMS, ValueForms
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import identifier, literal

ITEMS_AT_ONCE = 2_000_000
"""Item statistics are summed for this many items at a time, at 24 bytes each."""

_ITEMS = """
    SELECT items.*, first_seen
      FROM items LEFT JOIN (SELECT item_row, min(first_seen) AS first_seen FROM item_slices GROUP BY item_row)
     USING (item_row) ORDER BY item_row"""

_INTERACTIONS = f"""
    SELECT user_id, timestamp, item_row, stage FROM dataset_row
     WHERE stage >= {Stage.CLICKED:d} AND user_id IS NOT NULL ORDER BY user_id, timestamp, item_row, stage"""

_QUERIES = """
    SELECT query, count(*) AS requests FROM log_request WHERE timestamp < {end}
     GROUP BY query ORDER BY requests DESC, query"""

_ITEM_SLICES = f"""
    SELECT slice, item_row, count(*) AS shown, count(*) FILTER (WHERE stage >= {Stage.CLICKED:d}) AS clicked,
           count(*) FILTER (WHERE stage >= {Stage.ORDERED:d}) AS ordered, min(timestamp) AS first_seen
      FROM dataset_row WHERE stage >= {Stage.UNCLICKED:d} GROUP BY slice, item_row"""
"""How often each slice of the log showed an item, and how often it was clicked and ordered."""


def write_aggregates(
    session: Session,
    sql: LogSql,
    dataset: DatasetFolder,
    work: Path,
    slices: Slices,
    curve: ExaminationCurve,
    forms: ValueForms,
) -> None:
    """Writes every table of `dataset` but the rows, which must be there, the reformulations and the corrections.

    `session` has the tables `items` and `rejected`, `sql` the requests and rows; `work` is a folder for files that are
    needed only here.
    """
    _write_snapshots(dataset, slices)
    item_slices = work / "item_slices.parquet"
    sql.write(_ITEM_SLICES, item_slices)
    session.run(f"CREATE OR REPLACE TABLE item_slices AS SELECT * FROM read_parquet({literal(str(item_slices))})")
    _write_item_stats(session, dataset.item_stats, slices)
    metadata = {VECTOR_LENGTHS: json.dumps(_vector_lengths(session)), VALUE_FORMS: forms.to_json()}
    _copy(session, _ITEMS, dataset.items, metadata)
    sql.write(_INTERACTIONS, dataset.interactions)
    sql.write(_QUERIES.format(end=moment(slices.starts[slices.periods])), dataset.queries)
    _copy(session, 'SELECT "table", source, reason, row FROM rejected ORDER BY ALL', dataset.rejected)
    _write_examination(sql, dataset, slices, curve)


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


def _copy(session: Session, sql: str, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    pairs = ", ".join(f"{key}: {literal(value)}" for key, value in (metadata or {}).items())
    options = f", KV_METADATA {{{pairs}}}" if pairs else ""
    session.run(f"COPY ({sql}) TO {literal(str(path))} (FORMAT parquet{options})")


def _vector_lengths(session: Session) -> dict[str, int]:
    """How many numbers the vectors of the items have, by column."""
    types = session.run("SELECT column_name, column_type FROM (DESCRIBE items)")
    columns = [name for name, type_ in types if type_.endswith("[]") and type_ != "VARCHAR[]"]
    return {name: int(session.run(f"SELECT max(len({identifier(name)})) FROM items")[0][0] or 0) for name in columns}


def _write_snapshots(dataset: DatasetFolder, slices: Slices) -> None:
    moments = np.asarray(slices.boundaries, np.int64)
    columns = [pa.array(np.arange(len(moments)), pa.int16()), pa.array(moments).cast(pa.timestamp("us"))]
    pq.write_table(pa.table(columns, schema=SNAPSHOTS_SCHEMA), dataset.snapshots)


def _write_examination(sql: LogSql, dataset: DatasetFolder, slices: Slices, curve: ExaminationCurve) -> None:
    """Writes the curve, and how often train showed each position and shoppers clicked it."""
    rows = rows_of(
        sql,
        f"""
        SELECT position, count(*) AS shown, count(*) FILTER (WHERE stage >= {Stage.CLICKED:d}) AS clicked
          FROM dataset_row WHERE slice < {slices.periods} AND position IS NOT NULL GROUP BY position""",
    )
    by_position = {position: (n_shown, n_clicked) for position, n_shown, n_clicked in rows}
    counts = [by_position.get(int(position), (0, 0)) for position in curve.positions]
    error = pa.array(curve.error, pa.float32(), mask=np.isnan(curve.error))
    columns = [
        pa.array(curve.positions, pa.int32()),
        pa.array(curve.examination, pa.float32()),
        pa.array([n_shown for n_shown, _ in counts], pa.int64()),
        pa.array([n_clicked for _, n_clicked in counts], pa.int64()),
        error,
    ]
    pq.write_table(pa.table(columns, schema=EXAMINATION_SCHEMA), dataset.examination)
