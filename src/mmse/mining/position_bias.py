"""The counts that position bias is learned from, gathered shard by shard from the requests of train."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from mmse.mining.examination import PositionCounts
from mmse.mining.log_engine import LogEngine
from mmse.mining.log_sql import moment
from mmse.schema.stages import Stage

EXPLORED_STRATUM = 0
_QUERY_KEY = "CAST(CAST(hash(query) AS HUGEINT) - 9223372036854775808 AS BIGINT)"
"""SQL of DuckDB for the hash of a query, in the same order as the hashes, as a number that Spark has, too."""


def count_positions(engine: LogEngine, *, end: int, max_pairs: int) -> PositionCounts:
    """Shown and clicked by stratum and position, of the requests before `end` (microseconds).

    Explored rows are one stratum. So is each of the `max_pairs` pairs of query and item with most clicks, of those with
    two clicks or more: to choose by clicks leaves the estimate unbiased (see `examination`).
    """
    engine.map_shards(
        "pair_clicks",
        f"""
        SELECT {_QUERY_KEY} AS query_key, item_row, count(*) AS clicks FROM ({_shown_rows(end)})
         WHERE stage >= {Stage.CLICKED:d} AND NOT explored GROUP BY ALL""",
    )
    engine.sql.define(
        "pair",
        f"""
        SELECT query_key, item_row, row_number() OVER (ORDER BY clicks DESC, query_key, item_row) AS stratum
          FROM (SELECT query_key, item_row, sum(clicks) AS clicks FROM pair_clicks
                 GROUP BY query_key, item_row HAVING sum(clicks) > 1
                 ORDER BY clicks DESC, query_key, item_row LIMIT {max_pairs})""",
    )
    engine.map_shards(
        "position_counts",
        f"""
        SELECT CAST(CASE WHEN explored THEN {EXPLORED_STRATUM} ELSE stratum END AS BIGINT) AS stratum, position,
               count(*) AS shown, count(*) FILTER (WHERE stage >= {Stage.CLICKED:d}) AS clicked
          FROM (SELECT *, {_QUERY_KEY} AS query_key FROM ({_shown_rows(end)})) AS shown_row
          LEFT JOIN pair ON pair.query_key = shown_row.query_key AND pair.item_row = shown_row.item_row
         WHERE explored OR stratum IS NOT NULL GROUP BY ALL""",
        uses="pair",
    )
    sums = engine.sql.arrow("""
        SELECT stratum, CAST(position AS BIGINT) AS position, CAST(sum(shown) AS BIGINT) AS shown,
               CAST(sum(clicked) AS BIGINT) AS clicked
          FROM position_counts GROUP BY stratum, position""")
    for name in ("pair_clicks", "pair", "position_counts"):
        engine.sql.drop(name)
    columns = (sums.column(name).to_numpy() for name in ("stratum", "position", "shown", "clicked"))
    return PositionCounts(*(np.ascontiguousarray(column, np.int64) for column in columns))


def find_positions(engine: LogEngine) -> Int64[np.ndarray, " k"]:
    """Every position of the log, ascending."""
    engine.map_shards("shard_position", "SELECT DISTINCT position FROM shard_row WHERE position IS NOT NULL")
    positions = engine.sql.arrow(
        "SELECT DISTINCT CAST(position AS BIGINT) AS position FROM shard_position ORDER BY position"
    )
    engine.sql.drop("shard_position")
    return np.ascontiguousarray(positions.column("position").to_numpy(), np.int64)


def _shown_rows(end: int) -> str:
    """SQL for the rows of a shard whose items were shown, of the requests before `end`."""
    return f"""
        SELECT query, item_row, position, stage, explored FROM shard_row JOIN shard_request USING (request_no)
         WHERE timestamp < {moment(end)} AND stage >= {Stage.UNCLICKED:d}"""
