"""Google Analytics 4 as BigQuery exports it: a row for each event, with its parameters and its items.

An event that lists items (`view_search_results`, `view_item_list`) is a request of its own: its query is its parameter
`search_term`, or for a list that is called search, the last one of the visit. Other lists are no searches and are not
read. `select_item`, `add_to_cart` and `purchase` name no request.
Source: Google's page "[GA4] BigQuery Export schema", https://support.google.com/analytics/answer/7029846.
"""

from __future__ import annotations

import duckdb

from mmse.sources.file_readers import read_files
from mmse.sources.relation import Relation, SourceFiles, describe
from mmse.sources.sql import literal, literals

LISTS = ("view_search_results", "view_item_list")
ACTIONS = {"clicked": "select_item", "carted": "add_to_cart", "ordered": "purchase"}


def read_lists(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """A row for each item of each list that a search showed; positions count from 1, whatever the export's do."""
    lists = f"""
        SELECT *, coalesce({_parameter("item_list_id")}, {_parameter("item_list_name")},
                           items[1] ->> '$.item_list_id', items[1] ->> '$.item_list_name', '') AS list_name,
               coalesce(search_term, last_value(search_term IGNORE NULLS) OVER (
                   PARTITION BY user_id, session_id ORDER BY CAST(timestamp AS BIGINT), event_name DESC
                   ROWS UNBOUNDED PRECEDING)) AS query
          FROM {_events(connection, source, LISTS)}"""
    hit = "{'id': item ->> '$.item_id', 'place': place, 'index': TRY_CAST(item ->> '$.item_list_index' AS INTEGER)}"
    shown = f"""
        SELECT timestamp, query, user_id, session_id, unnest(list_transform(items, lambda item, place: {hit})) AS hit
          FROM ({lists})
         WHERE query IS NOT NULL AND (search_term IS NOT NULL OR contains(lower(list_name), 'search'))"""
    ((first,),) = connection.execute(f"SELECT min(hit.index) FROM ({shown})").fetchall()
    rows = f"""
        SELECT timestamp, query, user_id, session_id, hit.id AS item_id,
               coalesce(hit.index + {int(first == 0)}, hit.place) AS position FROM ({shown})"""
    return Relation(f"({rows})", describe(connection, f"({rows})"))


def read_actions(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """A row for each item that was selected, put into the cart or purchased."""
    flags = ", ".join(f"event_name = {literal(name)} AS {ours}" for ours, name in ACTIONS.items())
    rows = f"""
        SELECT timestamp, user_id, session_id, item ->> '$.item_id' AS item_id, item ->> '$.price' AS price, {flags}
          FROM (SELECT *, unnest(items) AS item FROM {_events(connection, source, tuple(ACTIONS.values()))})"""
    return Relation(f"({rows})", describe(connection, f"({rows})"))


def _events(connection: duckdb.DuckDBPyConnection, source: SourceFiles, names: tuple[str, ...]) -> str:
    documents = read_files(connection, source).as_documents()
    search_term = f"nullif(trim({_parameter('search_term')}), '')"
    return f"""(
        SELECT *, {_parameter("ga_session_id")} AS session_id, {search_term} AS search_term
          FROM (SELECT doc ->> '$.event_name' AS event_name, doc ->> '$.event_timestamp' AS timestamp,
                       doc ->> '$.user_pseudo_id' AS user_id, json_extract(doc, '$.items[*]') AS items,
                       json_extract(doc, '$.event_params[*]') AS parameters
                  FROM {documents} WHERE (doc ->> '$.event_name') IN ({literals(names)})))"""


def _parameter(key: str) -> str:
    """SQL for the value of an event's parameter, a text or a number."""
    value = f"list_filter(parameters, lambda parameter: (parameter ->> '$.key') = {literal(key)})[1]"
    return f"coalesce({value} ->> '$.value.string_value', {value} ->> '$.value.int_value')"
