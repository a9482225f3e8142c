"""What shoppers found once they asked in other words: a request that took nothing, and what the next one took.

Source: Xie et al., *CroPS: Improving Dense Retrieval with Cross-Perspective Positive Samples in Short-Video Search*,
AAAI 2026, whose first source of positives this is. Where we differ: the next request alone is looked at, not a whole
session, and nothing judges whether both asked for the same thing.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.mining.aggregates import every_slice
from mmse.mining.split import Slices
from mmse.schema.stages import Stage
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import literal

TABLE = "reformulations.parquet"


def write(session: Session, out: Path, slices: Slices, minutes: float) -> int:
    """Writes `reformulations.parquet` from the shards of the `dataset` folder `out`; gives its rows.

    A row says that the request `request_id`, of slice `slice`, took nothing, and that its shopper's next request,
    `next_request_id`, in other words, at most `minutes` later and in the same slice, took `item_row` to `stage`. Left
    out is what the first request was shown: that was passed over.
    """
    rows = every_slice(out, slices)
    session.run(f"""
        COPY (WITH asked AS (
                SELECT slice, request_id, any_value(query) AS query, any_value(user_id) AS user_id,
                       any_value(timestamp) AS timestamp, max(stage) AS furthest
                  FROM ({rows}) WHERE user_id IS NOT NULL GROUP BY slice, request_id),
              followed AS (
                SELECT slice, request_id, timestamp, furthest, query, lead(request_id) OVER later AS next_request_id,
                       lead(query) OVER later AS next_query, lead(timestamp) OVER later AS next_timestamp
                  FROM asked WINDOW later AS (PARTITION BY slice, user_id ORDER BY timestamp, request_id)),
              pair AS (
                SELECT slice, request_id, next_request_id FROM followed
                 WHERE furthest < {Stage.CLICKED:d} AND next_query <> query
                   AND epoch_us(next_timestamp) - epoch_us(timestamp) <= {round(minutes * 60e6)}),
              taken AS (SELECT slice, request_id, item_row, stage FROM ({rows}) WHERE stage >= {Stage.CLICKED:d}),
              shown AS (SELECT slice, request_id, item_row FROM ({rows}) WHERE stage >= {Stage.UNCLICKED:d})
              SELECT CAST(pair.slice AS SMALLINT) AS slice, pair.request_id, next_request_id, item_row, stage
                FROM pair JOIN taken ON taken.slice = pair.slice AND taken.request_id = next_request_id
                ANTI JOIN shown ON shown.slice = pair.slice AND shown.request_id = pair.request_id
                               AND shown.item_row = taken.item_row
               ORDER BY ALL)
          TO {literal(str(out / TABLE))} (FORMAT parquet)""")
    return int(pq.read_metadata(out / TABLE).num_rows)


def taken_later(dataset: Path) -> pa.Table:
    """`request_id, item_row` of every slice: what requests that took nothing led to; no rows where it was not mined."""
    if not (dataset / TABLE).is_file():
        return pa.table({"request_id": pa.array([], pa.string()), "item_row": pa.array([], pa.int32())})
    return pq.read_table(dataset / TABLE, columns=["request_id", "item_row"])
