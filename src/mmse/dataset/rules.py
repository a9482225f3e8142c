"""What must hold in a dataset folder, each rule with the SQL that finds the rows that break it.

The SQL reads a view for each Parquet file, and `rows`: all rows with `slice` (the number of their folder in order of
time), `filename` and `file_row_number`. `normal_query` has the queries that are in their normal form.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmse.schema.stages import Stage

CURE = "Write it so in the engine that made the folder; docs/tables.md describes every file."
MAX_DIFFERENCE = 1e-5
"""By so much two shares that should be equal may differ: they are 32-bit."""

_ROWS = "the files of rows"
_LATEST_PLACE = 2**31 - 1
_CLICKED, _UNCLICKED, _RETRIEVED = int(Stage.CLICKED), int(Stage.UNCLICKED), int(Stage.RETRIEVED)


@dataclass(frozen=True)
class Rule:
    """What must hold in `file`. `bad_rows` is SQL for what breaks it, told in words in the column `example`."""

    name: str
    file: str
    expectation: str
    bad_rows: str
    cure: str = CURE


RULES = (
    Rule(
        "item_rows",
        "items.parquet",
        "item_row counts 0, 1, 2 and so on in the order of the file",
        """SELECT concat('row ', file_row_number, ' has item_row ', coalesce(item_row::VARCHAR, 'null')) AS example
             FROM items WHERE item_row IS DISTINCT FROM file_row_number""",
    ),
    Rule(
        "item_ids",
        "items.parquet",
        "every item_id is there, and once",
        """SELECT concat('item_id ', coalesce(item_id, 'null'), ' stands ', count(*), ' times') AS example
             FROM items GROUP BY item_id HAVING count(*) > 1 OR trim(coalesce(item_id, '')) = ''""",
    ),
    Rule(
        "titles",
        "items.parquet",
        "every item has a title",
        """SELECT concat('row ', file_row_number, ' (', item_id, ')') AS example
             FROM items WHERE trim(coalesce(title, '')) = ''""",
    ),
    Rule(
        "snapshots",
        "snapshots.parquet",
        "snapshot counts from 0 in the order of the file, and no moment is before the former",
        """SELECT concat('row ', file_row_number, ' has snapshot ', coalesce(snapshot::VARCHAR, 'null'), ' at ',
                         coalesce(before::VARCHAR, 'null')) AS example
             FROM (SELECT *, lag(before) OVER (ORDER BY file_row_number) AS former FROM snapshots)
            WHERE snapshot IS DISTINCT FROM file_row_number OR before IS NULL OR before < former""",
    ),
    Rule(
        "values",
        _ROWS,
        "request_id, query, timestamp, item_row, stage and explored are never null",
        """SELECT concat(filename, ' row ', file_row_number) AS example FROM rows
            WHERE request_id IS NULL OR query IS NULL OR timestamp IS NULL OR item_row IS NULL OR stage IS NULL
               OR explored IS NULL""",
    ),
    Rule(
        "stages",
        _ROWS,
        f"stage is {_RETRIEVED} (retrieved only) to {max(Stage):d} (ordered)",
        f"""SELECT concat(filename, ' row ', file_row_number, ' has stage ', stage) AS example FROM rows
             WHERE stage < {_RETRIEVED} OR stage > {max(Stage):d}""",
    ),
    Rule(
        "known_items",
        _ROWS,
        "item_row is one of items.parquet",
        """SELECT concat(filename, ' row ', file_row_number, ' has item_row ', item_row) AS example FROM rows
            WHERE item_row < 0 OR item_row >= (SELECT count(*) FROM items)""",
    ),
    Rule(
        "positions",
        _ROWS,
        "what was shown has a position from 1 on and an examination above 0 and up to 1, and what was retrieved only "
        "has neither",
        f"""SELECT concat(filename, ' row ', file_row_number, ' has stage ', stage, ', position ',
                          coalesce(position::VARCHAR, 'null'), ', examination ',
                          coalesce(examination::VARCHAR, 'null')) AS example
              FROM rows
             WHERE CASE WHEN stage = {_RETRIEVED} THEN position IS NOT NULL OR examination IS NOT NULL
                        ELSE NOT coalesce(position >= 1 AND examination > 0 AND examination <= 1, false) END""",
    ),
    Rule(
        "one_request",
        _ROWS,
        "the rows of a request have one query, one user and one timestamp",
        """SELECT concat('request ', request_id) AS example FROM rows GROUP BY request_id
           HAVING min(query) <> max(query) OR min(timestamp) <> max(timestamp) OR min(user_id) <> max(user_id)
               OR count(user_id) NOT IN (0, count(*))""",
    ),
    Rule(
        "whole_requests",
        _ROWS,
        "the rows of a request stand together in one file",
        """SELECT concat('request ', request_id, ' in ', min(filename)) AS example FROM rows GROUP BY request_id
           HAVING min(filename) <> max(filename) OR max(file_row_number) - min(file_row_number) >= count(*)""",
    ),
    Rule(
        "order",
        _ROWS,
        "the rows of a request stand by position, and what was retrieved only stands last",
        f"""SELECT concat(filename, ' row ', file_row_number) AS example
              FROM (SELECT *, lag(place) OVER (PARTITION BY filename, request_id ORDER BY file_row_number) AS former
                      FROM (SELECT *, coalesce(position, {_LATEST_PLACE}) AS place FROM rows))
             WHERE place < former""",
    ),
    Rule(
        "items_once",
        _ROWS,
        "an item stands once in a request",
        """SELECT concat('item_row ', item_row, ' in request ', request_id) AS example
             FROM rows GROUP BY request_id, item_row HAVING count(*) > 1""",
    ),
    Rule(
        "pages",
        _ROWS,
        "every request showed an item",
        f"""SELECT concat('request ', request_id) AS example
              FROM rows GROUP BY request_id HAVING max(stage) < {_UNCLICKED}""",
    ),
    Rule(
        "query_form",
        _ROWS,
        "a query is in its normal form: NFC, lower case, white space collapsed, not empty",
        """SELECT concat('query ''', query, '''') AS example
             FROM (SELECT DISTINCT query FROM rows) ANTI JOIN normal_query USING (query)""",
    ),
    Rule(
        "splits",
        _ROWS,
        "a request lies between the snapshot of its folder and the next one",
        """WITH span AS (
                SELECT snapshot AS slice, before AS start, lead(before) OVER (ORDER BY snapshot) AS finish
                  FROM snapshots)
           SELECT concat(filename, ' row ', file_row_number, ' is of ', timestamp, ', its folder goes from ', start,
                         ' to ', finish) AS example
             FROM rows JOIN span USING (slice) WHERE timestamp < start OR timestamp >= finish""",
        "Put the request into the folder of its time: train's periods, then valid, then test.",
    ),
    Rule(
        "examination",
        "examination.parquet",
        "each position of the rows stands there once, with the examination of the rows",
        f"""SELECT concat('position ', position, ' has ', coalesce(min(curve.examination)::VARCHAR, 'no row'),
                          ', a row of the log has ', min(logged.examination)) AS example
              FROM (SELECT DISTINCT position, examination FROM rows WHERE position IS NOT NULL) AS logged
              LEFT JOIN examination AS curve USING (position)
             GROUP BY position
            HAVING count(curve.examination) <> 1
                OR max(abs(curve.examination - logged.examination)) > {MAX_DIFFERENCE}""",
    ),
    Rule(
        "queries",
        "queries.parquet",
        "it has each query of train with its number of requests",
        """WITH counted AS (
                SELECT query, count(DISTINCT request_id) AS requests FROM rows
                 WHERE slice < (SELECT count(*) - 3 FROM snapshots) GROUP BY query)
           SELECT concat('query ''', query, ''' has ', coalesce(listed.requests::VARCHAR, 'no row'), ', train has ',
                         coalesce(counted.requests, 0)) AS example
             FROM queries AS listed FULL JOIN counted USING (query)
            WHERE listed.requests IS DISTINCT FROM counted.requests""",
    ),
    Rule(
        "query_order",
        "queries.parquet",
        "the most frequent query comes first",
        """SELECT concat('row ', file_row_number) AS example
             FROM (SELECT *, lag(requests) OVER (ORDER BY file_row_number) AS former FROM queries)
            WHERE requests > former""",
    ),
    Rule(
        "first_seen",
        "items.parquet",
        "first_seen is when an item was first shown, and null where it never was",
        f"""WITH seen AS (
                 SELECT item_row, min(timestamp) AS moment FROM rows WHERE stage >= {_UNCLICKED} GROUP BY item_row)
            SELECT concat('item_row ', item_row, ' has ', coalesce(first_seen::VARCHAR, 'null'), ', the rows say ',
                          coalesce(moment::VARCHAR, 'never')) AS example
              FROM items LEFT JOIN seen USING (item_row) WHERE first_seen IS DISTINCT FROM moment""",
        "Take the earliest timestamp of the rows that show the item.",
    ),
    Rule(
        "item_stats",
        "item_stats.parquet",
        "each snapshot counts what was shown, clicked (or carted or ordered) and ordered strictly before its moment",
        f"""WITH by_slice AS (
                 SELECT slice, item_row, count(*) AS shown, count(*) FILTER (stage >= {_CLICKED}) AS clicked,
                        count(*) FILTER (stage >= {Stage.ORDERED:d}) AS ordered
                   FROM rows WHERE stage >= {_UNCLICKED} GROUP BY slice, item_row),
                 counted AS (
                 SELECT snapshot, item_row, sum(shown) AS shown, sum(clicked) AS clicked, sum(ordered) AS ordered
                   FROM by_slice JOIN snapshots ON slice < snapshot GROUP BY snapshot, item_row),
                 listed AS (
                 SELECT snapshot, item_row, sum(shown) AS shown, sum(clicked) AS clicked, sum(ordered) AS ordered
                   FROM item_stats GROUP BY snapshot, item_row),
                 pair AS (
                 SELECT snapshot, item_row,
                        concat_ws(', ', coalesce(listed.shown, 0), coalesce(listed.clicked, 0),
                                  coalesce(listed.ordered, 0)) AS listed_counts,
                        concat_ws(', ', coalesce(counted.shown, 0), coalesce(counted.clicked, 0),
                                  coalesce(counted.ordered, 0)) AS right_counts
                   FROM listed FULL JOIN counted USING (snapshot, item_row))
            SELECT concat('snapshot ', snapshot, ', item_row ', item_row, ' has ', listed_counts,
                          ', the rows before it say ', right_counts) AS example
              FROM pair WHERE listed_counts <> right_counts""",
        "Count what is strictly earlier than the snapshot's moment: what is later is the future of its requests.",
    ),
    Rule(
        "interactions",
        "interactions.parquet",
        "it has the clicks, carts and orders of the rows with a user, and no others",
        f"""WITH logged AS (
                 SELECT user_id, timestamp, item_row, stage FROM rows
                  WHERE stage >= {_CLICKED} AND user_id IS NOT NULL),
                 listed AS (SELECT user_id, timestamp, item_row, stage FROM interactions),
                 odd AS (
                 SELECT 'no row of the log: ' AS fault, * FROM (FROM listed EXCEPT ALL FROM logged)
                 UNION ALL SELECT 'missing: ' AS fault, * FROM (FROM logged EXCEPT ALL FROM listed))
            SELECT concat(fault, 'user ', coalesce(user_id, 'null'), ', ', timestamp, ', item_row ', item_row,
                          ', stage ', stage) AS example FROM odd""",
    ),
    Rule(
        "history_order",
        "interactions.parquet",
        "it is sorted by user_id and timestamp",
        """SELECT concat('row ', file_row_number) AS example
             FROM (SELECT *, lag(user_id) OVER file AS former_user, lag(timestamp) OVER file AS former_time
                     FROM interactions WINDOW file AS (ORDER BY file_row_number))
            WHERE user_id < former_user OR (user_id = former_user AND timestamp < former_time)""",
        "Sort it: a history is looked up by binary search, and would hold what came later.",
    ),
    Rule(
        "reformulations",
        "reformulations.parquet",
        "a request that took nothing comes with what the same shopper took in a later request of the same folder and "
        "with another query, and that the first did not show",
        f"""WITH request AS (
                 SELECT slice, request_id, any_value(query) AS query, any_value(user_id) AS user_id,
                        any_value(timestamp) AS timestamp, max(stage) AS furthest
                   FROM rows GROUP BY slice, request_id)
            SELECT concat('request ', pair.request_id, ', next ', pair.next_request_id, ', item_row ', pair.item_row)
                   AS example
              FROM reformulations AS pair
              LEFT JOIN request AS former ON former.slice = pair.slice AND former.request_id = pair.request_id
              LEFT JOIN request AS later ON later.slice = pair.slice AND later.request_id = pair.next_request_id
              LEFT JOIN rows AS found ON found.slice = pair.slice AND found.request_id = pair.next_request_id
                                     AND found.item_row = pair.item_row
              LEFT JOIN rows AS shown ON shown.slice = pair.slice AND shown.request_id = pair.request_id
                                     AND shown.item_row = pair.item_row AND shown.stage >= {_UNCLICKED}
             WHERE NOT coalesce(former.furthest < {_CLICKED} AND later.timestamp >= former.timestamp
                                AND later.user_id = former.user_id AND later.query <> former.query
                                AND found.stage = pair.stage AND pair.stage >= {_CLICKED} AND shown.item_row IS NULL,
                                false)""",
    ),
    Rule(
        "corrections",
        "corrections.parquet",
        "a misspelling is not the spelling, at least one shopper corrected it, and each misspelling stands once",
        """SELECT concat('row ', min(file_row_number), ' (', coalesce(misspelling, 'null'), ')') AS example
             FROM corrections GROUP BY misspelling
           HAVING count(*) > 1 OR bool_or(coalesce(misspelling = spelling OR shoppers < 1, true))""",
    ),
)
"""In the order in which they are checked; a later one may read what an earlier one has found to be right."""
