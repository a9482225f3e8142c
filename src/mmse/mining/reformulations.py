"""What shoppers found in other words: a request that took nothing, and what the shopper's next request took.

"To take" an item is to click, cart or order it.

Source: Xie et al., *CroPS: Improving Dense Retrieval with Cross-Perspective Positive Samples in Short-Video Search*,
AAAI 2026: this is its first source of positives. Where we differ: we look at the next request alone, not at a whole
session, and nothing judges whether both requests asked for the same thing.
"""

from __future__ import annotations

from mmse.dataset.folder import DatasetFolder
from mmse.mining.log_sql import LogSql
from mmse.schema.stages import Stage


def write_reformulations(sql: LogSql, dataset: DatasetFolder, minutes: float) -> int:
    """Writes the reformulations from the rows of `dataset`; gives how many there are.

    In each, the request `request_id`, of slice `slice`, took nothing, and the same shopper's next request,
    `next_request_id`, with another query, at most `minutes` later and in the same slice, took `item_row` to `stage`.
    Items that the first request showed are left out, because the shopper passed them over.
    """
    return sql.write(
        f"""
        WITH request AS (
               SELECT slice, request_id, any_value(query) AS query, any_value(user_id) AS user_id,
                      any_value(timestamp) AS timestamp, max(stage) AS furthest
                 FROM dataset_row WHERE user_id IS NOT NULL GROUP BY slice, request_id),
             succession AS (
               SELECT slice, request_id, timestamp, furthest, query, lead(request_id) OVER later AS next_request_id,
                      lead(query) OVER later AS next_query, lead(timestamp) OVER later AS next_timestamp
                 FROM request WINDOW later AS (PARTITION BY slice, user_id ORDER BY timestamp, request_id)),
             pair AS (
               SELECT slice, request_id, next_request_id FROM succession
                WHERE furthest < {Stage.CLICKED:d} AND next_query <> query
                  AND epoch_us(next_timestamp) - epoch_us(timestamp) <= {round(minutes * 60e6)}),
             taken AS (SELECT slice, request_id, item_row, stage FROM dataset_row WHERE stage >= {Stage.CLICKED:d}),
             shown AS (SELECT slice, request_id, item_row FROM dataset_row WHERE stage >= {Stage.UNCLICKED:d})
        SELECT CAST(pair.slice AS SMALLINT) AS slice, pair.request_id AS request_id, next_request_id,
               taken.item_row AS item_row, taken.stage AS stage
          FROM pair JOIN taken ON taken.slice = pair.slice AND taken.request_id = next_request_id
          ANTI JOIN shown ON shown.slice = pair.slice AND shown.request_id = pair.request_id
                         AND shown.item_row = taken.item_row
         ORDER BY slice, request_id, next_request_id, item_row, stage""",
        dataset.reformulations,
    )
