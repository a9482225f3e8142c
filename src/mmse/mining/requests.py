"""Requests made whole, one shard at a time: one query, user and time each, and one row per item.

Rows that tell of the same item in the same request are merged to the furthest stage they reached. A shard
fits in memory: its requests are numbered in order of time, and its rows sorted and merged as plain integers,
which costs a third of what grouping them by text does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int8, Int32

from mmse.schema.stages import Stage
from mmse.sources.casting import CARTED, CLICKED, EXPLORED, ORDERED, SHOWN, TAKEN, shard_files
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import literal
from mmse.text.tokenizer import normalise


@dataclass(frozen=True)
class Merged:
    """What was found while merging: how often the log said more than one thing.

    `retrieved_without_page` are the rows of requests that were shown nothing, `taken_without_page` those that tell of a
    click, a cart or an order of what no row shows; they are left out.
    """

    duplicates_merged: int = 0
    ordered_without_click: int = 0
    retrieved_without_page: int = 0
    taken_without_page: int = 0
    requests_with_several_queries: int = 0
    requests_with_several_users: int = 0
    requests_with_several_timestamps: int = 0

    def __add__(self, other: Merged) -> Merged:
        return Merged(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Rows:
    """Rows of one shard, sorted by request and position; those that were not shown stand at `rows.NOWHERE`."""

    request_no: Int32[np.ndarray, " n"]
    item_row: Int32[np.ndarray, " n"]
    position: Int32[np.ndarray, " n"]
    flags: Int8[np.ndarray, " n"]


def read_shard(session: Session, shard: Path, out: Path) -> tuple[Merged, Rows]:
    """Writes `requests-SSS.parquet` of one shard to `out`, in order of time; gives the rows, not merged yet.

    Requests have `request_no` (from 0 in the shard), `request_id, timestamp, query, user_id`. What was retrieved only
    has no say in any of these.
    """
    name = shard.name.removeprefix("shard=")
    session.run(f"""
        CREATE OR REPLACE VIEW told AS SELECT * FROM {shard_files(shard)};
        CREATE OR REPLACE VIEW seen AS SELECT * FROM told WHERE flags & {SHOWN} > 0""")
    several = _find_requests(session)
    _normalise_queries(session)
    session.run(f"""
        CREATE OR REPLACE TABLE request AS
        SELECT CAST(row_number() OVER (ORDER BY timestamp, request_id) - 1 AS INTEGER) AS request_no,
               request_id, timestamp, normalised AS query, user_id
          FROM found JOIN spelling ON found.query = spelling.query;
        COPY (SELECT * FROM request ORDER BY request_no) TO {literal(str(out / f"requests-{name}.parquet"))}""")
    sorted_rows = session.arrow("""
        SELECT request_no, item_row, position, flags FROM told JOIN request USING (request_id)
         ORDER BY request_no, position, item_row""")
    ((retrieved, taken),) = session.run(f"""
        SELECT count(*) FILTER (flags & {TAKEN} = 0), count(*) FILTER (flags & {TAKEN} > 0)
          FROM told ANTI JOIN request USING (request_id)""")
    several += Merged(retrieved_without_page=retrieved, taken_without_page=taken)
    return several, Rows(*(sorted_rows.column(f.name).to_numpy() for f in fields(Rows)))


def write_rows(rows: Rows, path: Path) -> Merged:
    """Merges and writes rows: `request_no, item_row, position, stage, explored`, by request and position.

    What was not shown comes last in its request and has no position.
    """
    merged = merge_duplicates(rows)
    never = (merged.flags & (SHOWN | TAKEN) > 0) & (merged.flags & SHOWN == 0)
    duplicates = len(rows.flags) - len(merged.flags)
    merged = Rows(*(getattr(merged, f.name)[~never] for f in fields(Rows)))
    stages = stages_of(merged.flags)
    table = pa.table(
        {
            "request_no": merged.request_no,
            "item_row": merged.item_row,
            "position": pa.array(merged.position, mask=stages == Stage.RETRIEVED),
            "stage": stages,
            "explored": (merged.flags & EXPLORED) > 0,
        }
    )
    pq.write_table(table, path, compression="lz4", use_dictionary=False)
    unclicked = int(np.count_nonzero((merged.flags & (ORDERED | CARTED | CLICKED)) == ORDERED))
    return Merged(duplicates, unclicked, taken_without_page=int(never.sum()))


def stages_of(flags: Int8[np.ndarray, " n"]) -> Int8[np.ndarray, " n"]:
    """The furthest stage that the bits of each row's `flags` tell of."""
    stages = np.full(len(flags), Stage.RETRIEVED, np.int8)
    steps = ((SHOWN, Stage.UNCLICKED), (CLICKED, Stage.CLICKED), (CARTED, Stage.CARTED), (ORDERED, Stage.ORDERED))
    for bit, stage in steps:
        stages[(flags & bit) > 0] = stage
    return stages


def merge_duplicates(rows: Rows) -> Rows:
    """One row per (request, item): the first, so the smallest position, with the flags of all of them."""
    keys = (rows.request_no.astype(np.int64) << 32) | rows.item_row
    ordered = np.sort(keys)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return rows
    places = np.flatnonzero(np.isin(keys, repeated))
    _, first, inverse = np.unique(keys[places], return_index=True, return_inverse=True)
    flags = np.zeros(len(first), np.int8)
    np.bitwise_or.at(flags, inverse, rows.flags[places])
    merged, keep = rows.flags.copy(), np.ones(len(keys), np.bool_)
    keep[places] = False
    keep[places[first]] = True
    merged[places[first]] = flags
    return Rows(rows.request_no[keep], rows.item_row[keep], rows.position[keep], merged[keep])


def _find_requests(session: Session) -> Merged:
    """Makes `found`: each request with its earliest time and what the row of that time says."""
    session.run("""
        CREATE OR REPLACE TABLE spread AS
        SELECT request_id, min(timestamp) AS timestamp, max(timestamp) AS last, min(query) AS query,
               max(query) AS last_query, min(user_id) AS user_id, max(user_id) AS last_user
          FROM seen GROUP BY request_id""")
    queries, users, timestamps = session.run("""
        SELECT count(*) FILTER (query <> last_query), count(*) FILTER (user_id <> last_user),
               count(*) FILTER (timestamp <> last)
          FROM spread""")[0]
    session.run("""
        CREATE OR REPLACE TABLE found AS
        SELECT request_id, timestamp, query, user_id FROM spread
         WHERE query = last_query AND (user_id = last_user OR user_id IS NULL)""")
    if queries or users:
        session.run("""
            INSERT INTO found
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
