"""User Behavior Insights, the format of OpenSearch: an index of queries with their hits, and an index of events.

The hits of a query are what it showed, in their order. An event names its query; what its action means is told from its
name. Documents may stand under `_source`, as tools that dump an index write them.
Source: the UBI specification 1.3, https://github.com/o19s/ubi, and OpenSearch's page "UBI index schemas".
"""

from __future__ import annotations

import logging

import duckdb

from mmse.sources.file_readers import read_files
from mmse.sources.relation import Relation, SourceFiles, describe
from mmse.sources.sql import literals

ACTIONS = {
    "clicked": ("click", "onclick", "itemclick", "productclick", "resultclick", "clickthrough"),
    "carted": ("addtocart", "cart", "addtobasket"),
    "ordered": ("purchase", "order", "buy", "conversion"),
}
"""The names of actions, without case and marks, by what they are of ours."""
SHOWN = ("impression", "view", "search", "onsearch")
"""Actions that tell of what was shown, which the queries do."""

log = logging.getLogger(__name__)


def read_queries(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """A row for each hit of each query."""
    hits = ", ".join(f"doc -> '$.query_response_{name}'" for name in ("hit_ids", "object_ids", "objects_ids"))
    rows = f"""
        SELECT doc ->> '$.query_id' AS request_id, doc ->> '$.timestamp' AS timestamp, doc ->> '$.user_query' AS query,
               doc ->> '$.client_id' AS user_id, doc ->> '$.session_id' AS session_id, hit.id AS item_id, hit.position
          FROM (SELECT doc, unnest(list_transform(from_json(coalesce({hits}), '["VARCHAR"]'),
                       lambda id, place: {{'id': id, 'position': place}})) AS hit
                  FROM {_documents(connection, source)})"""
    return Relation(f"({rows})", describe(connection, f"({rows})"))


def read_events(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> Relation:
    """A row for each click, cart and order. Actions of other names are not read, and a warning names them."""
    documents = f"""
        SELECT *, regexp_replace(lower(action_name), '[^a-z]', '', 'g') AS action FROM (
        SELECT doc ->> '$.query_id' AS request_id, doc ->> '$.timestamp' AS timestamp,
               doc ->> '$.client_id' AS user_id, doc ->> '$.session_id' AS session_id,
               doc ->> '$.event_attributes.object.object_id' AS item_id, doc ->> '$.action_name' AS action_name
          FROM {_documents(connection, source)})"""
    known = [name for names in ACTIONS.values() for name in names]
    others = connection.execute(f"""
        SELECT action_name, count(*) FROM ({documents})
         WHERE action NOT IN ({literals([*known, *SHOWN])}) AND item_id IS NOT NULL GROUP BY ALL ORDER BY 2 DESC LIMIT 9
        """).fetchall()
    if others:
        counts = ", ".join(f"{n} {name}" for name, n in others)
        log.warning("Not read of %s: items' events that are no click, cart or order: %s", source.files[0], counts)
    flags = ", ".join(f"action IN ({literals(names)}) AS {ours}" for ours, names in ACTIONS.items())
    rows = f"SELECT * EXCLUDE (action), {flags} FROM ({documents}) WHERE action IN ({literals(known)})"
    return Relation(f"({rows})", describe(connection, f"({rows})"))


def _documents(connection: duckdb.DuckDBPyConnection, source: SourceFiles) -> str:
    documents = read_files(connection, source).as_documents()
    return f"(SELECT coalesce(doc -> '$._source', doc) AS doc FROM {documents})"
