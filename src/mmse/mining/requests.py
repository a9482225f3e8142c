"""Requests made whole, one shard at a time: each has one query, one shopper and one time, and one row per item.

Rows about the same item of the same request are merged to the furthest stage that they tell of; `mmse.sources.merging`
has the same rule in SQL. A shard fits in memory: its requests are numbered in order of time, and its rows are sorted
and merged as integers, which costs a third of what grouping them by text costs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int8, Int32

from mmse.mining.shoppers import kept_rows
from mmse.schema.stages import Stage
from mmse.sources.casting import ANY_ACTION, CARTED, CLICKED, EXPLORED, NO_POSITION, ORDERED, SHOWN, read_shard_files
from mmse.sources.duckdb_session import Session
from mmse.sources.sql import literal
from mmse.text.normalise import normalise


@dataclass(frozen=True)
class MergeCounts:
    """How often the log said more than one thing about a request or an item of it.

    `retrieved_without_page` counts rows of requests that showed nothing, `taken_without_page` rows that tell of a
    click, a cart or an order of an item that no row shows. Both are left out of the dataset. `positions_shared` counts
    rows on a position of their request that an earlier row has, too.
    """

    duplicates_merged: int = 0
    ordered_without_click: int = 0
    retrieved_without_page: int = 0
    taken_without_page: int = 0
    requests_with_several_queries: int = 0
    requests_with_several_users: int = 0
    requests_with_several_timestamps: int = 0
    positions_shared: int = 0

    def __add__(self, counts: MergeCounts) -> MergeCounts:
        return MergeCounts(*(getattr(self, f.name) + getattr(counts, f.name) for f in fields(self)))


@dataclass(frozen=True)
class ShardRows:
    """Rows of one shard, sorted by request and position; an item that was not shown has `casting.NO_POSITION`."""

    request_no: Int32[np.ndarray, " n"]
    item_row: Int32[np.ndarray, " n"]
    position: Int32[np.ndarray, " n"]
    flags: Int8[np.ndarray, " n"]


def read_shard(session: Session, shard: Path, target: Path, *, filters: bool) -> tuple[MergeCounts, ShardRows]:
    """Writes the requests of one shard to `target/requests-SSS.parquet`, in order of time; gives its unmerged rows.

    Requests have `request_no` (from 0 in the shard), `request_id, timestamp, query, user_id`, which rows of items that
    were retrieved only do not change. With `filters`, what `mining.shoppers.leave_out` named is left out.
    """
    files = read_shard_files(shard)
    name = shard.name.removeprefix("shard=")
    session.run(f"""
        CREATE OR REPLACE VIEW shard_row AS SELECT * FROM {kept_rows(files) if filters else files};
        CREATE OR REPLACE VIEW shown_row AS SELECT * FROM shard_row WHERE flags & {SHOWN} > 0""")
    counts = _find_requests(session)
    _normalise_queries(session)
    session.run(f"""
        CREATE OR REPLACE TABLE request AS
        SELECT CAST(row_number() OVER (ORDER BY timestamp, request_id) - 1 AS INTEGER) AS request_no,
               request_id, timestamp, normalised AS query, user_id
          FROM raw_request JOIN spelling ON raw_request.query = spelling.query;
        COPY (SELECT * FROM request ORDER BY request_no) TO {literal(str(target / f"requests-{name}.parquet"))}""")
    sorted_rows = session.arrow("""
        SELECT request_no, item_row, position, flags FROM shard_row JOIN request USING (request_id)
         ORDER BY request_no, position, item_row""")
    ((n_retrieved, n_taken),) = session.run(f"""
        SELECT count(*) FILTER (flags & {ANY_ACTION} = 0), count(*) FILTER (flags & {ANY_ACTION} > 0)
          FROM shard_row ANTI JOIN request USING (request_id)""")
    counts += MergeCounts(retrieved_without_page=n_retrieved, taken_without_page=n_taken)
    return counts, ShardRows(*(sorted_rows.column(f.name).to_numpy() for f in fields(ShardRows)))


def write_rows(rows: ShardRows, path: Path) -> MergeCounts:
    """Merges rows and writes them as `request_no, item_row, position, stage, explored`, by request and position.

    Items that were not shown come last in their request and have no position.
    """
    items = merge_duplicates(rows)
    n_duplicates = len(rows.flags) - len(items.flags)
    n_shared = count_shared_positions(items)
    without_page = (items.flags & ANY_ACTION > 0) & (items.flags & SHOWN == 0)
    items = ShardRows(*(getattr(items, f.name)[~without_page] for f in fields(ShardRows)))
    stages = furthest_stages(items.flags)
    table = pa.table(
        {
            "request_no": items.request_no,
            "item_row": items.item_row,
            "position": pa.array(items.position, mask=stages == Stage.RETRIEVED),
            "stage": stages,
            "explored": (items.flags & EXPLORED) > 0,
        }
    )
    pq.write_table(table, path, compression="lz4", use_dictionary=False)
    n_without_click = int(np.count_nonzero((items.flags & ANY_ACTION) == ORDERED))
    return MergeCounts(
        n_duplicates, n_without_click, taken_without_page=int(without_page.sum()), positions_shared=n_shared
    )


def count_shared_positions(rows: ShardRows) -> int:
    """How many rows stand where the row before them, of the same request, stands; rows are sorted by both."""
    if not len(rows.position) or rows.position[rows.position != NO_POSITION].max(initial=1) <= 1:
        return 0  # a log that has one position for all says nothing of positions
    same = (rows.request_no[1:] == rows.request_no[:-1]) & (rows.position[1:] == rows.position[:-1])
    return int(np.count_nonzero(same & (rows.position[1:] != NO_POSITION)))


def furthest_stages(flags: Int8[np.ndarray, " n"]) -> Int8[np.ndarray, " n"]:
    """The furthest stage that the bits of each row's `flags` tell of."""
    stages = np.full(len(flags), Stage.RETRIEVED, np.int8)
    ladder = ((SHOWN, Stage.UNCLICKED), (CLICKED, Stage.CLICKED), (CARTED, Stage.CARTED), (ORDERED, Stage.ORDERED))
    for bit, stage in ladder:
        stages[(flags & bit) > 0] = stage
    return stages


def merge_duplicates(rows: ShardRows) -> ShardRows:
    """One row for each request and item: its first, which has the smallest position, with the flags of all its rows."""
    keys = (rows.request_no.astype(np.int64) << 32) | rows.item_row
    sorted_keys = np.sort(keys)
    duplicate_keys = np.unique(sorted_keys[1:][sorted_keys[1:] == sorted_keys[:-1]])
    if not len(duplicate_keys):
        return rows
    duplicates = np.flatnonzero(np.isin(keys, duplicate_keys))
    _, starts, inverse = np.unique(keys[duplicates], return_index=True, return_inverse=True)
    merged_flags = np.zeros(len(starts), np.int8)
    np.bitwise_or.at(merged_flags, inverse, rows.flags[duplicates])
    flags, keep = rows.flags.copy(), np.ones(len(keys), np.bool_)
    keep[duplicates] = False
    keep[duplicates[starts]] = True
    flags[duplicates[starts]] = merged_flags
    return ShardRows(rows.request_no[keep], rows.item_row[keep], rows.position[keep], flags[keep])


def _find_requests(session: Session) -> MergeCounts:
    """Makes `raw_request`: each request with its earliest time, and the query and user of the row of that time."""
    session.run("""
        CREATE OR REPLACE TABLE spread AS
        SELECT request_id, min(timestamp) AS timestamp, max(timestamp) AS last, min(query) AS query,
               max(query) AS last_query, min(user_id) AS user_id, max(user_id) AS last_user
          FROM shown_row GROUP BY request_id""")
    queries, users, timestamps = session.run("""
        SELECT count(*) FILTER (query <> last_query), count(*) FILTER (user_id <> last_user),
               count(*) FILTER (timestamp <> last)
          FROM spread""")[0]
    session.run("""
        CREATE OR REPLACE TABLE raw_request AS
        SELECT request_id, timestamp, query, user_id FROM spread
         WHERE query = last_query AND (user_id = last_user OR user_id IS NULL)""")
    if queries or users:
        session.run("""
            INSERT INTO raw_request
            SELECT request_id, timestamp, query, user_id FROM shown_row
              SEMI JOIN (FROM spread WHERE query <> last_query OR user_id <> last_user) AS mixed USING (request_id)
           QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY timestamp, position, query, user_id) = 1""")
    return MergeCounts(
        requests_with_several_queries=queries,
        requests_with_several_users=users,
        requests_with_several_timestamps=timestamps,
    )


def _normalise_queries(session: Session) -> None:
    """Makes `spelling`, from each query of the log to its normal form, with the Python code that serving uses, too."""
    queries = session.arrow("SELECT DISTINCT query FROM raw_request").column("query")
    normal_forms = pa.array([normalise(query) for query in queries.to_pylist()], pa.string())
    session.create_table("spelling", pa.table({"query": queries, "normalised": normal_forms}))
