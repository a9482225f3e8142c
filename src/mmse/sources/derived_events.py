"""One row for each shown item, made from logs of another shape: clicks or orders alone, or a list of items in a row.

What such a log lacks is written as what it is: each row of a log of clicks is a click, on position 1, because nobody
knows where it was; a request is the same shopper, visit, query and time. Nothing is made up about what was shown.
"""

from __future__ import annotations

from dataclasses import replace

from mmse.sources.profiles import FileProfile
from mmse.sources.proposals import MIN_SHARE, Mapping, TableProposal
from mmse.sources.sql import identifier

NEEDED = ("query", "timestamp", "item_id")
"""A log without one of these cannot be made into events."""
OPTIONAL = ("user_id", "session_id", "carted", "explored", "propensity")


def derivable(events: TableProposal) -> bool:
    """Whether the columns that the log lacks can be written from those that it has."""
    return bool(events.absent) and not set(events.absent) & set(NEEDED)


def derive_events(events: TableProposal) -> str:
    """SQL for a table of events from a log that lacks some columns of one; `derivable` says whether there is one."""
    shop = {mapping.ours: f"CAST({identifier(mapping.shop)} AS VARCHAR)" for mapping in events.mappings}
    by = [shop[name] for name in ("user_id", "session_id", "query", "timestamp") if name in shop]
    request_id = shop.get("request_id", f"md5(concat_ws(chr(31), {', '.join(by)}))")
    optional = "".join(f", {shop[name]} AS {name}" for name in OPTIONAL if name in shop)
    about = f"{request_id} AS request_id, {shop['timestamp']} AS timestamp, {shop['query']} AS query{optional}"
    ordered = shop.get("ordered", "false")
    pages = _list_column(events.file)
    if pages is None:
        clicked = shop.get("clicked") or ("true" if "position" not in shop else ordered)
        return f"""SELECT {about}, {shop["item_id"]} AS item_id, {shop.get("position", "1")} AS position,
                          {clicked} AS clicked, {ordered} AS ordered FROM {events.file.relation}"""
    ids = f"string_split(CAST({identifier(pages)} AS VARCHAR), '|')"
    return f"""SELECT {about}, shown.id AS item_id, shown.position, shown.id = {shop["item_id"]} AS clicked,
                      false AS ordered
                 FROM (SELECT *, unnest(list_transform({ids}, lambda id, position: {{'id': id, 'position': position}}))
                              AS shown FROM {events.file.relation} WHERE {identifier(pages)} IS NOT NULL)"""


def as_made(events: TableProposal, source: str) -> TableProposal:
    """The proposal for the table that `derive_events` wrote to `source`."""
    reasons = {mapping.ours: f"made from {mapping.shop}" for mapping in events.mappings}
    pages = _list_column(events.file)
    if pages is not None:
        reasons |= {"item_id": f"made from {pages}", "position": f"the place in {pages}"}
        reasons["clicked"] = "it is the item of the row"
    guesses = {
        "request_id": "the same shopper, visit, query and time",
        "position": "1: the log does not say where an item stood",
        "clicked": "true: each row is a click",
        "ordered": "false: the log has no orders",
    }
    names = ("request_id", "timestamp", "query", "item_id", "position", "clicked", "ordered", *OPTIONAL)
    known = [name for name in names if name in reasons or name in guesses]
    mappings = tuple(Mapping(name, name, reasons.get(name) or guesses[name]) for name in known)
    return replace(events, file=replace(events.file, source=source, columns=()), mappings=mappings, absent=())


def _list_column(file: FileProfile) -> str | None:
    """The column that holds what was shown, as ids with bars between them."""
    return next((column.name for column in file.columns if column.share_lists >= MIN_SHARE), None)
