"""Requests made whole, one shard at a time: one query, user and time each, and one row per item shown.

Rows that tell of the same item in the same request are merged to the furthest stage they reached. A shard
fits in memory, so its requests are numbered and their rows sorted as plain integers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa

from mmse.mining.rows import CLICKED, EXPLORED, ORDERED, shard_files
from mmse.mining.session import Session
from mmse.records import Stage
from mmse.tables import literal
from mmse.text import normalise


@dataclass(frozen=True)
class Merged:
    """What was found while merging: how often the log said more than one thing."""

    duplicates_merged: int = 0
    ordered_without_click: int = 0
    requests_with_several_queries: int = 0
    requests_with_several_users: int = 0
    requests_with_several_timestamps: int = 0

    def __add__(self, other: Merged) -> Merged:
        return Merged(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def merge_shard(session: Session, shard: Path, out: Path) -> Merged:
    """Writes `requests-SSS.parquet` and `rows-SSS.parquet` of one shard to `out`, in order of time.

    Requests: `request_no` (from 0 in the shard), `request_id, timestamp, query, user_id`; rows, sorted by request
    and position: `request_no, item_row, position, stage, explored`.
    """
    name = shard.name.removeprefix("shard=")
    session.run(f"CREATE OR REPLACE TABLE seen AS SELECT * EXCLUDE (reason, row) FROM {shard_files(shard)}")
    several = _find_requests(session)
    _normalise_queries(session)
    session.run("""
        CREATE OR REPLACE TABLE request AS
        SELECT CAST(row_number() OVER (ORDER BY timestamp, request_id) - 1 AS INTEGER) AS request_no,
               request_id, timestamp, normalised AS query, user_id
          FROM found JOIN spelling ON found.query = spelling.query;
        CREATE OR REPLACE TABLE merged AS
        SELECT request_no, item_row, min(position) AS position, bit_or(flags) AS flags
          FROM seen JOIN request USING (request_id) GROUP BY request_no, item_row""")
    session.run(f"""
        COPY (SELECT * FROM request ORDER BY request_no) TO {literal(str(out / f"requests-{name}.parquet"))};
        COPY (SELECT request_no, item_row, position,
                     CAST(CASE WHEN flags & {ORDERED} > 0 THEN {Stage.ORDERED:d} WHEN flags & {CLICKED} > 0
                          THEN {Stage.CLICKED:d} ELSE {Stage.UNCLICKED:d} END AS TINYINT) AS stage,
                     flags & {EXPLORED} > 0 AS explored
                FROM merged ORDER BY request_no, position, item_row)
          TO {literal(str(out / f"rows-{name}.parquet"))}""")
    rows, unclicked = session.run(f"""
        SELECT count(*), count_if(flags & {ORDERED} > 0 AND flags & {CLICKED} = 0) FROM merged""")[0]
    (seen,) = session.run("SELECT count(*) FROM seen")[0]
    return several + Merged(seen - rows, unclicked)


def _find_requests(session: Session) -> Merged:
    """Makes `found`: each request with its earliest time and what the row of that time says."""
    session.run("""
        CREATE OR REPLACE TABLE spread AS
        SELECT request_id, min(timestamp) AS timestamp, max(timestamp) AS last, min(query) AS query,
               max(query) AS last_query, min(user_id) AS user_id, max(user_id) AS last_user
          FROM seen GROUP BY request_id""")
    queries, users, timestamps = session.run("""
        SELECT count_if(query <> last_query), count_if(user_id <> last_user), count_if(timestamp <> last)
          FROM spread""")[0]
    session.run("""
        CREATE OR REPLACE TABLE found AS SELECT request_id, timestamp, query, user_id FROM spread""")
    if queries or users:
        session.run("""
            CREATE OR REPLACE TABLE found AS
            SELECT request_id, timestamp, query, user_id FROM spread
             WHERE query = last_query AND (user_id = last_user OR user_id IS NULL)
            UNION ALL
            SELECT request_id, timestamp, query, user_id FROM seen
              SEMI JOIN (FROM spread WHERE query <> last_query OR user_id <> last_user) AS mixed USING (request_id)
           QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY timestamp, position, query, user_id) = 1""")
    return Merged(
        requests_with_several_queries=queries,
        requests_with_several_users=users,
        requests_with_several_timestamps=timestamps,
    )


def _normalise_queries(session: Session) -> None:
    """Makes `spelling`, from each query as typed to its one form; the text code is Python's, as in serving."""
    typed = session.arrow("SELECT DISTINCT query FROM found").column("query")
    spelling = pa.table(
        {"query": typed, "normalised": pa.array([normalise(q) for q in typed.to_pylist()], pa.string())}
    )
    session.take("spelling", spelling)
