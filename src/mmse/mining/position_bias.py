"""The counts that position bias is learned from, gathered shard by shard from the requests of train."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from mmse.mining.examination import PositionCounts
from mmse.schema.stages import Stage
from mmse.sources.duckdb_session import Session
from mmse.sources.file_locations import files_in
from mmse.sources.tables import literal

EXPLORED_STRATUM = 0


def count_positions(
    session: Session, shards: Iterable[str], requests_folder: Path, *, end: int, max_pairs: int
) -> PositionCounts:
    """Shown and clicked by stratum and position, of the requests before `end` (microseconds).

    Explored rows are one stratum. So is each of the `max_pairs` pairs of query and item with most clicks, of those with
    two clicks or more: to choose by clicks leaves the estimate unbiased (see `examination`).
    """
    shards = list(shards)
    session.run("""
        CREATE OR REPLACE TABLE pair_clicks (query_key UBIGINT, item_row INTEGER, clicks BIGINT);
        CREATE OR REPLACE TABLE counts (stratum BIGINT, position INTEGER, shown BIGINT, clicked BIGINT)""")
    for shard in shards:
        session.run(f"""
            INSERT INTO pair_clicks
            SELECT hash(query), item_row, count(*) FROM ({_shown_rows(requests_folder, shard, end)})
             WHERE stage >= {Stage.CLICKED:d} AND NOT explored GROUP BY ALL""")
    session.run(f"""
        CREATE OR REPLACE TABLE pair AS
        SELECT query_key, item_row, row_number() OVER (ORDER BY clicks DESC, query_key, item_row) AS stratum
          FROM (SELECT query_key, item_row, sum(clicks) AS clicks FROM pair_clicks GROUP BY ALL HAVING sum(clicks) > 1
                 ORDER BY clicks DESC, query_key, item_row LIMIT {max_pairs});
        DROP TABLE pair_clicks""")
    for shard in shards:
        session.run(f"""
            INSERT INTO counts
            SELECT CASE WHEN explored THEN {EXPLORED_STRATUM} ELSE stratum END AS stratum, position, count(*),
                   count_if(stage >= {Stage.CLICKED:d})
              FROM ({_shown_rows(requests_folder, shard, end)}) AS shown_row
              LEFT JOIN pair ON pair.query_key = hash(shown_row.query) AND pair.item_row = shown_row.item_row
             WHERE explored OR stratum IS NOT NULL GROUP BY ALL""")
    sums = session.arrow("""
        SELECT stratum, CAST(position AS BIGINT) AS position, CAST(sum(shown) AS BIGINT) AS shown,
               CAST(sum(clicked) AS BIGINT) AS clicked
          FROM counts GROUP BY stratum, position""")
    session.run("DROP TABLE counts; DROP TABLE pair")
    columns = (sums.column(name).to_numpy() for name in ("stratum", "position", "shown", "clicked"))
    return PositionCounts(*(np.ascontiguousarray(column, np.int64) for column in columns))


def find_positions(session: Session, requests_folder: Path) -> Int64[np.ndarray, " k"]:
    """Every position of the log, ascending."""
    positions = session.arrow(f"""
        SELECT DISTINCT CAST(position AS BIGINT) AS position
          FROM read_parquet({files_in(requests_folder, "rows-*.parquet")})
         WHERE position IS NOT NULL ORDER BY position""")
    return np.ascontiguousarray(positions.column("position").to_numpy(), np.int64)


def _shown_rows(requests_folder: Path, shard: str, end: int) -> str:
    """SQL for the rows of items that were shown, of the requests before `end`."""
    return f"""
        SELECT query, item_row, position, stage, explored
          FROM read_parquet({literal(str(requests_folder / f"rows-{shard}.parquet"))})
          JOIN read_parquet({literal(str(requests_folder / f"requests-{shard}.parquet"))}) USING (request_no)
         WHERE timestamp < make_timestamp({end}) AND stage >= {Stage.UNCLICKED:d}"""
