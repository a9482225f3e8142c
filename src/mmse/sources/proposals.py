"""Which file is which table, and which column is which: proposed from names and values, with the reason.

A proposal is a guess for a person to look at. Names count most; values can refuse a name (a position that is no number)
and find what no name tells: the events' item column is the one whose values are the items' ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import duckdb

from mmse.schema.columns import EVENT_COLUMNS
from mmse.sources.column_names import (
    CODE_NAMES,
    EVENT_NAMES,
    ITEM_NAMES,
    LINK_NAMES,
    PICTURE_NAMES,
    are_of_log,
    plain_name,
)
from mmse.sources.profiles import ROWS, ColumnProfile, FileProfile
from mmse.sources.sql import identifier
from mmse.sources.tables import ACTIONS

_NUMBERS = ("price", "rating", "position", "propensity")
_TIMES = ("timestamp",)
MIN_SHARE = 0.9
MIN_OVERLAP = 0.3
LATER_WORDS = re.compile(r"(rank|sales|sold|count|clicks|views|orders|popular|trend|best_?seller)", re.IGNORECASE)
"""Numbers of items that are often counted from the log itself, so that they know the future."""


@dataclass(frozen=True)
class Mapping:
    """Our column, the shop's, and why; `value` is what shop.toml says where that is not a column."""

    ours: str
    shop: str
    reason: str
    value: str = ""


@dataclass(frozen=True)
class TableProposal:
    """A file as one of the two tables. `absent` are required columns that nothing was found for.

    `format` is the published format that it has, whose columns need no mapping.
    """

    file: FileProfile
    mappings: tuple[Mapping, ...]
    absent: tuple[str, ...]
    text: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    display: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    format: str = ""

    def shop_column(self, our_name: str) -> str | None:
        """The shop's column behind `our_name`, None where none was found."""
        return next((mapping.shop for mapping in self.mappings if mapping.ours == our_name), None)

    @property
    def empty_flags(self) -> tuple[str, ...]:
        """The flags of what a shopper did that are empty in some rows."""
        gaps = {column.name for column in self.file.columns if column.share_filled < 1}
        return tuple(mapping.ours for mapping in self.mappings if mapping.ours in ACTIONS and mapping.shop in gaps)


def propose_items(files: list[FileProfile], columns: Collection[str] = ()) -> TableProposal | None:
    """The file that looks most like a catalogue: an id, a title, and no query beside a time.

    Where the user names some of its `columns`, it has these, and may have no title.
    """
    catalogues = [file for file in files if file.columns and not _is_log(file) and file.has_columns(columns)]
    proposals = [_items(file) for file in catalogues]
    best = max(proposals, key=lambda proposal: (len(proposal.mappings), proposal.file.n_rows), default=None)
    return best if best and (columns or "title" not in best.absent) else None


def propose_events(
    files: list[FileProfile], items: TableProposal | None, connection: duckdb.DuckDBPyConnection
) -> TableProposal | None:
    """The file that looks most like a log: a query, a time, items."""
    logs = [file for file in files if file.columns and (items is None or file.source != items.file.source)]
    proposals = [_events(file, items, connection) for file in logs if _is_log(file)]
    return max(proposals, key=lambda proposal: (len(proposal.mappings), proposal.file.n_rows), default=None)


def _is_log(file: FileProfile) -> bool:
    return file.is_log or are_of_log(column.name for column in file.columns)


def _items(file: FileProfile, item_id: Mapping | None = None) -> TableProposal:
    """`file` as a catalogue, whose id is that of `item_id` if it is given."""
    guesses = [_by_name(file, our_name, names) for our_name, names in ITEM_NAMES.items()]
    mappings = [mapping for mapping in guesses if mapping is not None]
    if item_id is not None:
        mappings = [item_id, *(m for m in mappings if m.ours != "item_id" and m.shop != item_id.shop)]
    shop_columns = {mapping.shop for mapping in mappings}
    rest = [column for column in file.columns if column.name not in shop_columns and column.share_filled > 0.02]
    addresses = [c for c in rest if plain_name(c.name) in (*PICTURE_NAMES, *LINK_NAMES) and _has_addresses(c)]
    codes = [c for c in rest if plain_name(c.name) in CODE_NAMES]
    vectors = [c for c in rest if c.share_vectors >= MIN_SHARE and "." not in c.name]
    others = [c for c in rest if c not in (*addresses, *codes) and c.share_vectors < MIN_SHARE]
    numbers = [c for c in others if c.share_numbers >= 0.95 and c.n_distinct < 0.9 * file.n_rows]
    later = [c for c in numbers if LATER_WORDS.search(c.name)]
    numeric = [c for c in numbers if c not in later and c.share_flags < 1]
    texts = [c for c in others if c.share_numbers < 0.5 and c.share_times < 0.5 and c.share_flags < 0.9]
    categorical = [c for c in texts if c.words < 4 and c.n_distinct <= max(20, file.n_rows / 10)]
    text = [c for c in texts if c.words >= 4] + codes
    notes = [f"{c.name} was left out: it may be counted from the log, and so know the future" for c in later]
    if codes:
        notes.append(f"{_join_names(codes)}: numbers that shoppers type, so that a search for one finds its item")
    if left_out := [c for c in rest if c not in (*addresses, *vectors, *later, *numeric, *categorical, *text)]:
        notes.append(f"Left out: {_join_names(left_out)}. In text, categorical, numeric or display they would be kept")
    absent = tuple(name for name in ("item_id", "title") if name not in {mapping.ours for mapping in mappings})
    pictures = [c.name for c in addresses if plain_name(c.name) in PICTURE_NAMES]
    if pictures and not {"image", "image_url"} & set(pictures):
        mappings.append(Mapping("image_url", pictures[0], "the page shows pictures under this name"))
    renamed = {mapping.shop: mapping.ours for mapping in mappings if mapping.ours == "image_url"}
    return TableProposal(
        file,
        tuple(mappings),
        absent,
        text=tuple(c.name for c in text),
        categorical=tuple(c.name for c in categorical),
        numeric=tuple(c.name for c in numeric),
        vectors=tuple(c.name for c in vectors),
        display=tuple(renamed.get(c.name, c.name) for c in addresses),
        notes=tuple(notes),
    )


def _has_addresses(column: ColumnProfile) -> bool:
    """Whether the values of a column are addresses of pages or pictures."""
    return bool(column.samples) and all(sample.startswith(("http://", "https://", "/")) for sample in column.samples)


def _join_names(columns: Iterable[ColumnProfile]) -> str:
    return ", ".join(column.name for column in columns)


def _events(file: FileProfile, items: TableProposal | None, connection: duckdb.DuckDBPyConnection) -> TableProposal:
    guesses = [_by_name(file, our_name, names) for our_name, names in EVENT_NAMES.items() if our_name != "item_id"]
    mappings = [mapping for mapping in guesses if mapping is not None]
    item_id = _item_column(file, items, [mapping.shop for mapping in mappings], connection)
    mappings += [item_id] if item_id else []
    our_names = {mapping.ours for mapping in mappings}
    absent = tuple(name for name in EVENT_COLUMNS.required_names if name not in our_names)
    shown = [c for c in file.columns if c.share_lists >= MIN_SHARE]
    notes = [
        f"{c.name} holds lists ({c.samples[0]}): events have a row for each shown item" for c in shown if c.samples
    ]
    return TableProposal(file, tuple(mappings), absent, notes=tuple(notes))


def _by_name(file: FileProfile, our_name: str, names: tuple[str, ...]) -> Mapping | None:
    """The column with the first of `names` whose values fit."""
    columns = sorted(file.columns, key=lambda column: column.name == plain_name(column.name))  # the last one counts
    by_name = {plain_name(column.name): column for column in columns}
    for name in names:
        column = by_name.get(name)
        if column is not None and column.share_filled > 0 and not _refuses(our_name, column):
            reason = "the same name" if column.name == our_name else f"{column.name} is a usual name of it"
            value = f"{{column = {json.dumps(column.name)}, above = 0}}" if _is_count(our_name, column) else ""
            return Mapping(our_name, column.name, f"{reason}{_evidence(our_name, column, file)}", value)
    return None


def _is_count(our_name: str, column: ColumnProfile) -> bool:
    """Whether `our_name` is true or false and `column` has numbers of clicks or orders."""
    return our_name in ACTIONS and column.share_flags < column.share_counts >= MIN_SHARE


def _refuses(our_name: str, column: ColumnProfile) -> bool:
    """Whether the values of `column` cannot be `our_name`."""
    if our_name in _TIMES:
        return column.share_times < MIN_SHARE
    if our_name in ACTIONS:
        return max(column.share_flags, column.share_counts) < MIN_SHARE
    if our_name == "position":
        return column.share_numbers < MIN_SHARE
    return our_name == "title" and column.share_numbers > MIN_SHARE


def _evidence(our_name: str, column: ColumnProfile, file: FileProfile) -> str:
    if our_name == "item_id" and _does_not_repeat(column, file):
        return ", and its values do not repeat"
    if our_name in _TIMES:
        return ", and its values are times"
    if our_name in _NUMBERS and column.share_numbers >= MIN_SHARE:
        return ", and its values are numbers"
    if _is_count(our_name, column):
        return ", and its values are whole numbers from 0: one above 0 is true"
    if our_name in ACTIONS:
        return ", and its values are true or false"
    return f", {column.n_distinct:,} values"


def with_ids_of_log(
    items: TableProposal, files: list[FileProfile], connection: duckdb.DuckDBPyConnection
) -> TableProposal:
    """`items` with the id by which a log calls them, where it is another than their first one."""
    logs = [file for file in files if file.columns and file.source != items.file.source and _is_log(file)]
    columns = [(log, column.name) for log in logs for column in log.columns if _is_item_name(column.name)]
    keys = [c.name for c in items.file.columns if c.share_filled > MIN_SHARE and _does_not_repeat(c, items.file)]
    first = items.shop_column("item_id")
    overlaps = {
        (key, log.source, name): _overlap(log, name, items.file, key, connection)
        for key in dict.fromkeys((*([first] if first else []), *keys))
        for log, name in columns
    }
    best = max(
        overlaps, key=lambda pair: (overlaps[pair] >= MIN_OVERLAP and pair[0] == first, overlaps[pair]), default=None
    )
    if best is None or overlaps[best] < MIN_OVERLAP or best[0] == first:
        return items
    key, source, name = best
    reason = f"{overlaps[best]:.0%} of the values of {name} in {source} are values of it"
    return _items(items.file, Mapping("item_id", key, reason))


def _is_item_name(column: str) -> bool:
    return plain_name(column) in EVENT_NAMES["item_id"]


def _does_not_repeat(column: ColumnProfile, file: FileProfile) -> bool:
    return column.n_distinct >= 0.98 * min(file.n_rows, ROWS) * column.share_filled


def _item_column(
    file: FileProfile, items: TableProposal | None, columns: Collection[str], connection: duckdb.DuckDBPyConnection
) -> Mapping | None:
    """The column whose values are ids of the items; by its name alone where there are no items to compare with.

    One with a usual name of ids comes first, and none of `columns`, which have other meanings: small ids are positions,
    too.
    """
    key = items.shop_column("item_id") if items else None
    if items is None or key is None:
        return _by_name(file, "item_id", EVENT_NAMES["item_id"])
    names = [column.name for column in file.columns if column.name not in columns]
    for group in ([n for n in names if _is_item_name(n)], [n for n in names if not _is_item_name(n)]):
        overlaps = {name: _overlap(file, name, items.file, key, connection) for name in group}
        name = max(overlaps, key=lambda column: overlaps[column], default=None)
        if name is not None and overlaps[name] >= MIN_OVERLAP:
            return Mapping("item_id", name, f"{overlaps[name]:.0%} of its values are ids of the items ({key})")
    return _by_name(file, "item_id", EVENT_NAMES["item_id"])


def _overlap(
    file: FileProfile, column: str, items: FileProfile, key: str, connection: duckdb.DuckDBPyConnection
) -> float:
    """The share of the distinct values of `column` that are values of the items' `key`."""
    ((overlap,),) = connection.execute(f"""
        WITH ids AS (SELECT CAST({identifier(key)} AS VARCHAR) FROM {items.relation})
        SELECT coalesce(avg(CAST(value IN (FROM ids) AS INTEGER)), 0)
          FROM (SELECT DISTINCT CAST({identifier(column)} AS VARCHAR) AS value
                  FROM (SELECT {identifier(column)} FROM {file.relation} LIMIT 20000)) WHERE value IS NOT NULL
        """).fetchall()
    return float(overlap)
