"""One row for each shown item, made from logs of another shape: clicks or orders alone, or lists of items in a row.

What such a log lacks is written as what it is: each row of a log of clicks is a click, on position 1, because nobody
knows where it was; a request is the same shopper, visit, query and time. Nothing is made up about what was shown.
"""

from __future__ import annotations

from dataclasses import replace

from mmse.sources.column_names import EVENT_NAMES, plain_name
from mmse.sources.profiles import ROWS, FileProfile
from mmse.sources.proposals import MIN_SHARE, Mapping, TableProposal
from mmse.sources.sql import identifier

NEEDED = ("query", "timestamp", "item_id")
"""A log without one of these cannot be made into events."""
_ROWS_OF_PAGE = 3
"""With so many rows for each request, a log has what was shown and not what was clicked."""
OPTIONAL = ("user_id", "session_id", "carted", "explored", "propensity")


def derivable(events: TableProposal) -> bool:
    """Whether the columns that the log lacks can be written from those that it has."""
    found = {"item_id"} if _shown_column(events.file) and _taken_columns(events.file) else set[str]()
    return bool(events.absent) and not set(events.absent) & set(NEEDED) - found and not _shows_pages(events)


def _shows_pages(events: TableProposal) -> bool:
    """Whether the rows are items of pages, and nothing says which of them was clicked or ordered."""
    if "position" in events.absent or not {"clicked", "ordered"} <= {*events.absent} or _shown_column(events.file):
        return False
    columns = [events.file.column(events.shop_column(name) or "") for name in ("request_id", "timestamp")]
    column = next(filter(None, columns), None)
    is_day = (
        column is not None
        and column == columns[1]
        and all(len(sample) <= len("2026-03-01") for sample in column.samples)
    )
    return column is not None and not is_day and _ROWS_OF_PAGE * column.n_distinct <= min(events.file.n_rows, ROWS)


def derive_events(events: TableProposal) -> str:
    """SQL for a table of events from a log that lacks some columns of one; `derivable` says whether there is one."""
    shop = {mapping.ours: f"CAST({identifier(mapping.shop)} AS VARCHAR)" for mapping in events.mappings}
    by = [shop[name] for name in ("user_id", "session_id", "query", "timestamp") if name in shop]
    request_id = shop.get("request_id", f"md5(concat_ws(chr(31), {', '.join(by)}))")
    optional = "".join(f", {shop[name]} AS {name}" for name in OPTIONAL if name in shop)
    about = f"{request_id} AS request_id, {shop['timestamp']} AS timestamp, {shop['query']} AS query{optional}"
    ordered = shop.get("ordered", "false")
    pages, taken = _shown_column(events.file), _taken_columns(events.file)
    if pages is None:
        clicked = shop.get("clicked") or (ordered if {"position", "ordered"} <= shop.keys() else "true")
        return f"""SELECT {about}, {shop["item_id"]} AS item_id, {shop.get("position", "1")} AS position,
                          {clicked} AS clicked, {ordered} AS ordered FROM {events.file.relation}"""
    is_taken = {
        action: f"coalesce(list_contains({_ids(column)}, one_shown.id), false)" for action, column in taken.items()
    }
    any_taken = " OR ".join(is_taken.values()) if is_taken else f"one_shown.id = {shop['item_id']}"
    clicked, ordered = is_taken.get("clicked", any_taken), is_taken.get("ordered", "false")
    ids = f"list_transform({_ids(pages)}, lambda id, position: {{'id': id, 'position': position}})"
    return f"""SELECT {about}, one_shown.id AS item_id, one_shown.position, {clicked} AS clicked, {ordered} AS ordered
                 FROM (SELECT *, unnest({ids}) AS one_shown FROM {events.file.relation}
                        WHERE {identifier(pages)} IS NOT NULL)"""


def as_made(events: TableProposal, source: str) -> TableProposal:
    """The proposal for the table that `derive_events` wrote to `source`."""
    reasons = {mapping.ours: f"made from {mapping.shop}" for mapping in events.mappings}
    pages, taken = _shown_column(events.file), _taken_columns(events.file)
    if pages is not None:
        reasons |= {"item_id": f"made from {pages}", "position": f"the place in {pages}"}
        reasons["clicked"] = f"it is in {' or '.join(taken.values())}" if taken else "it is the item of the row"
        reasons |= {action: f"it is in {column}" for action, column in taken.items()}
    is_by_order = {"position", "ordered"} <= reasons.keys()
    guesses = {
        "request_id": "the same shopper, visit, query and time",
        "position": "1: the log does not say where an item stood",
        "clicked": "what was ordered: the log has no clicks" if is_by_order else "true: each row is a click",
        "ordered": "false: the log has no orders",
    }
    names = ("request_id", "timestamp", "query", "item_id", "position", "clicked", "ordered", *OPTIONAL)
    known = [name for name in names if name in reasons or name in guesses]
    mappings = tuple(Mapping(name, name, reasons.get(name) or guesses[name]) for name in known)
    return replace(events, file=replace(events.file, source=source, columns=()), mappings=mappings, absent=())


def _ids(column: str) -> str:
    """SQL for the ids in `column`, a JSON array or ids with bars between them; one id is a list of one."""
    value = f"CAST({identifier(column)} AS VARCHAR)"
    is_array = f"{value} LIKE '[%]' AND json_valid({value})"
    return f"CASE WHEN {is_array} THEN json_extract_string({value}, '$[*]') ELSE string_split({value}, '|') END"


def _shown_column(file: FileProfile) -> str | None:
    """The column that holds what was shown, as lists of ids: not one of what was taken of it."""
    taken = _taken_columns(file).values()
    return next((c.name for c in file.columns if c.share_lists >= MIN_SHARE and c.name not in taken), None)


def _taken_columns(file: FileProfile) -> dict[str, str]:
    """The columns with the ids of what was clicked and ordered, by our name, where a row holds a whole page."""
    if not any(column.share_lists >= MIN_SHARE for column in file.columns):
        return {}
    ends = ("", "_ids", "_items", "s")
    by_name = {plain_name(column.name): column.name for column in file.columns if column.share_flags < MIN_SHARE}
    columns: dict[str, str] = {}
    for action in ("clicked", "ordered"):
        usual = (name + end for name in EVENT_NAMES[action] for end in ends)
        if column := next((by_name[name] for name in usual if name in by_name), None):
            columns[action] = column
    return columns
