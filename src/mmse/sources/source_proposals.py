"""Files of published formats, and logs in several files: recognised by their columns, and proposed as sources."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import duckdb

from mmse.schema.columns import ITEM_COLUMNS
from mmse.sources.column_names import plain_name
from mmse.sources.profiles import FileProfile
from mmse.sources.proposals import Mapping, TableProposal, propose_events
from mmse.sources.published_formats import FORMATS
from mmse.sources.sql import identifier

SIGNS: dict[str, tuple[str, ...]] = {
    "ubi_queries": ("query_id", "user_query", "query_response_hit_ids"),
    "ubi_events": ("action_name", "query_id", "event_attributes"),
    "ga4_lists": ("event_name", "event_params", "user_pseudo_id"),
    "ga4_actions": ("event_name", "event_params", "user_pseudo_id"),
    **{name: form.signs for name, form in FORMATS.items()},
}
"""The columns that tell files of each format."""


def _words(text: str) -> set[str]:
    return set(text.split())


ACTION_NAMES = ("event", "event_type", "event_name", "action", "action_type", "action_name", "type", "behavior_type")
ACTION_WORDS = {
    "clicked": _words("click clicks clicked clickout select selected klick klicks clic clics"),
    "carted": _words("cart carts basket bag addtocart atc warenkorb panier carrito carrello"),
    "ordered": _words(
        "order orders ordered purchase purchases purchased buy transaction transactions sale sales conversion bought "
        "bestellung kauf commande achat pedido compra ordine"
    ),
}
"""Words by which actions of each kind are called, in a column or in the name of a file."""
_ACTION_PHRASES = {
    "clicked": _words(
        "product_view product_viewed view_product item_view view_item viewed_product product_detail_view detail_view "
        "pdp_view view_content product_page_view"
    ),
    "carted": _words("product_added item_added add added"),
    "ordered": _words("checkout_completed checkout_complete paid"),
}
"""Names of actions that are of a kind where no value of a column has one of its words."""
_OTHER_WORDS = _words(
    "remove removed sort filter view viewed page banner home wishlist favorite favourite compare begin start "
    "started cancel canceled cancelled cancellation refund refunded return returned"
)
"""Words of actions that are none of these, whatever else they say."""
_MAX_ACTIONS = 50
_CODES = ("sku", "gtin", "handle", "fields", "condition")
"""Columns of published formats that nobody filters by."""


def formats_of(file: FileProfile) -> list[str]:
    """The published formats whose columns `file` has."""
    names = {column.name.strip().lower() for column in file.columns}
    return [name for name, signs in SIGNS.items() if {sign.lower() for sign in signs} <= names]


def propose_published_items(files: Sequence[FileProfile]) -> TableProposal | None:
    """The first file in a published format of items."""
    for file in files:
        for name in formats_of(file):
            if name in FORMATS and FORMATS[name].table == "items":
                further = [column for column in FORMATS[name].columns if column not in ITEM_COLUMNS]
                text = tuple(column for column in further if "description" in column)
                categorical = tuple(column for column in further if column not in (*text, *_CODES))
                return TableProposal(file, (), (), text, categorical, notes=(_note(name),), format=name)
    return None


def propose_event_sources(
    files: Sequence[FileProfile], items: TableProposal | None, connection: duckdb.DuckDBPyConnection
) -> list[TableProposal]:
    """The sources of the log: files in published formats, or what was shown beside files of clicks and orders.

    One proposal is the whole log; none means that no file looks like one.
    """
    published = [
        TableProposal(file, (), (), notes=(_note(name),), format=name)
        for file in files
        for name in formats_of(file)
        if name not in FORMATS or FORMATS[name].table == "events"
    ]
    if published:
        return published
    log = propose_events(list(files), items, connection)
    if log is None:
        return []
    if log.shop_column("position") is not None:
        log = _with_actions(log, connection)
    log_files = [file for file in files if file.source not in (log.file.source, items.file.source if items else "")]
    if log.shop_column("position") is None or not {"clicked", "ordered"} & set(log.absent):
        return [log]
    actions = [part for file in log_files if (part := _propose_actions(file, items, connection))]
    if not actions:
        return [log]
    mapping_names = {mapping.ours for part in (log, *actions) for mapping in part.mappings}
    absent = tuple(
        name for name in log.absent if name not in mapping_names and name not in ("clicked", "ordered", "request_id")
    )
    return [replace(log, absent=absent), *actions]


def _note(name: str) -> str:
    source = FORMATS[name].source if name in FORMATS else "docs/tables.md"
    return f"its columns are those of {name} ({source}), which needs no mapping"


def _propose_actions(
    file: FileProfile, items: TableProposal | None, connection: duckdb.DuckDBPyConnection
) -> TableProposal | None:
    """`file` as a source of clicks, carts or orders alone; `None` where it cannot be joined to what was shown."""
    if not file.columns:
        return None
    part = propose_events([as_log(file)], items, connection)
    if part is None:
        return None
    part = _with_actions(replace(part, file=file), connection)
    names = {mapping.ours for mapping in part.mappings}
    is_joined = "request_id" in names or ("timestamp" in names and {"user_id", "session_id"} & names)
    if "item_id" not in names or not is_joined:
        return None
    mappings = tuple(mapping for mapping in part.mappings if mapping.ours not in ("position", "query"))
    if not names & set(ACTION_WORDS):
        kind = next((kind for kind in ACTION_WORDS if _tells_of(kind, file.source)), None)
        if kind is None:
            return None
        mappings += (Mapping(kind, "", f"each row of {file.source} is one", value="true"),)
    return replace(part, mappings=mappings, absent=())


def as_log(file: FileProfile) -> FileProfile:
    """`file`, which is looked at as a log whatever its columns are: clicks and orders may have no time of their own."""
    return replace(file, is_log=True)


def _with_actions(proposal: TableProposal, connection: duckdb.DuckDBPyConnection) -> TableProposal:
    """`proposal` with comparisons for what a column such as `event_type` says of each row."""
    names = {mapping.ours for mapping in proposal.mappings}
    column = next((c for c in proposal.file.columns if plain_name(c.name) in ACTION_NAMES), None)
    if column is None or column.n_distinct > _MAX_ACTIONS or names & set(ACTION_WORDS):
        return proposal
    name = identifier(column.name)
    rows = connection.execute(
        f"SELECT DISTINCT CAST({name} AS VARCHAR) FROM {proposal.file.relation} WHERE {name} IS NOT NULL"
    ).fetchall()
    values = sorted(value for (value,) in rows)
    mappings, unknown = proposal.mappings, set(values)
    for kind in ACTION_WORDS:
        fits = [value for value in values if _tells_of(kind, value)]
        fits = fits or [value for value in values if plain_name(value) in _ACTION_PHRASES[kind]]
        unknown -= set(fits)
        if fits:
            comparison = f"{{column = {_quote(column.name)}, is = [{', '.join(map(_quote, fits))}]}}"
            mappings += (Mapping(kind, column.name, f"values of {column.name}", value=comparison),)
    mapping_names = {mapping.ours for mapping in mappings}
    absent = tuple(name for name in proposal.absent if name not in mapping_names)
    others = f"{column.name} = {', '.join(map(_quote, sorted(unknown)))}"
    if not mapping_names & set(ACTION_WORDS):
        note = f'{others}: say which is a click or an order: clicked = {{column = "{column.name}", is = "…"}}'
        return replace(proposal, notes=(*proposal.notes, note))
    absent = tuple(name for name in absent if name not in ("clicked", "ordered"))
    for kind in ("clicked", "ordered"):
        if kind not in mapping_names:
            mappings += (Mapping(kind, "", f"no value of {column.name} is known to be one", value="false"),)
    note = f"{others}: read as items that were shown, and no more; only = {{column = …, is = […]}} leaves rows out"
    return replace(proposal, mappings=mappings, absent=absent, notes=(*proposal.notes, *([note] if unknown else [])))


def _tells_of(kind: str, name: str) -> bool:
    words = set(re.findall("[a-z]+", plain_name(name)))
    return bool(words & ACTION_WORDS[kind]) and not words & _OTHER_WORDS


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
