"""What a table lost, judged by what it means: a column, a kind of event, ids that are written in two ways.

A limit on the share of all rows does not see that every order is lost, if orders are 2% of the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmse.core.errors import TableError
from mmse.schema.columns import ITEM_COLUMNS
from mmse.sources.duckdb_session import Session
from mmse.sources.extended_json import plain_value
from mmse.sources.sql import json_path, literal
from mmse.sources.tables import Table

FEW = 5
"""So few lost events of a kind are no pattern, unless they are all of it."""
MOST = 0.5
UNKNOWN_ITEM = "item_id is not in the items table"


@dataclass(frozen=True)
class KindCount:
    """How many rows of a table tell of one kind of event, how many of them were rejected, and why, with examples."""

    kind: str
    rows: int
    rejected: int
    reasons: str = ""

    @property
    def which(self) -> str:
        """`All 9` or `8 of the 9`: how many rows are rejected."""
        return f"All {self.rows}" if self.rejected == self.rows else f"{self.rejected} of the {self.rows}"


def check_kinds(tables: Sequence[Table], kinds: Sequence[KindCount], limit: float) -> None:
    """Raises `TableError` where a kind of event is lost."""
    sources = ", ".join(table.source for table in tables)
    for count in lost_kinds(kinds, limit):
        raise TableError(
            f"{count.which} rows of the events table ({sources}) that tell of {count.kind} are bad, "
            f"more than the limit of {limit:.0%}:{count.reasons}",
            "Mend these rows; without them nothing is learned from that kind. "
            "Or raise max_rejected_share in [events] of shop.toml if they may be dropped (1 if all may).",
        )


def lost_kinds(kinds: Sequence[KindCount], limit: float) -> list[KindCount]:
    """The kinds of which more than `limit` of the rows are rejected, or all; a limit of 1 allows that, too."""
    return [
        count
        for count in kinds
        if limit < 1
        and count.rejected
        and (count.rejected == count.rows or (count.rejected > limit * count.rows and count.rejected > FEW))
    ]


_MEMBER = re.compile(r"""["'](\w+)["']\s*:\s*""")
"""A member of an object, as JSON and DuckDB write it."""


def check_column(table: Table, name: str, n_values: int, reasons: Mapping[str, tuple[int, str]], limit: float) -> None:
    """Raises `TableError` where most values of an optional column are bad: the column is another than it seems.

    `reasons` has how many values are bad for each reason, and an example.
    """
    n_bad = sum(count for count, _ in reasons.values())
    if n_bad <= max(MOST, limit) * n_values:
        return
    lines = "".join(f"\n  {n} × {reason}, for example {example!r}" for reason, (n, example) in reasons.items())
    ambiguous = any("two numbers" in reason for reason in reasons)
    example = str(next(iter(reasons.values()))[1])
    if has_members(example):
        leave_out = name_member(name, table.columns[name], example)
    else:
        leave_out = f"Mend them, or leave the column out: {_leave_out(name)} in [items] of shop.toml."
    raise TableError(
        f"{n_bad} of {n_values} values of '{table.columns[name]}' ({name}) in the items table ({table.source}) "
        f"are bad:{lines}",
        'Say which mark stands before the decimals: decimal_mark = "." or "," in [items] of shop.toml.'
        if ambiguous
        else leave_out,
    )


def has_members(example: str) -> bool:
    """Whether a value is an object with members."""
    return example.startswith("{") and _MEMBER.search(example) is not None


def name_member(name: str, shop: str, example: str) -> str:
    """The cure for a column of objects: one of their members is to be read."""
    members = " or ".join(f'"{shop}.{member}"' for member in _MEMBER.findall(example)[:4])
    return f"Name the member that counts: {name} = {members or 'its path'} in [items.columns] of shop.toml."


def _leave_out(name: str) -> str:
    return f'ignore = ["{name}"]' if name in ITEM_COLUMNS else f"no {name} among the further columns"


def explain_unknown_items(session: Session, table: Table) -> str:
    """Why rejected events name items that the items table does not have."""
    if spelling := explain_spellings(session, table):
        return spelling
    ((n_ids, n_rows),) = session.run("SELECT count(*), coalesce(sum(n), 0) FROM unknown_item")
    ((n_looked_up, n_rejected),) = session.run(_IN_REJECTED_ITEMS)
    if (n_rejected or 0) > MOST * n_looked_up:
        return (
            f"{n_rows} rows name {n_ids} items whose own rows in the items table were rejected: mend those first "
            "(the reasons are in the warning about items)."
        )
    ((n_known,),) = session.run("SELECT count(*) FROM items")
    return (
        f"{n_rows} rows name {n_ids} items that the items table ({n_known} items) does not have. "
        "If they were delisted, bring their rows too (available = false), or raise max_rejected_share in [events] "
        "to leave their rows out."
    )


def explain_spellings(session: Session, table: Table) -> str:
    """How most ids of rejected events and those of the items differ, if they are the same in another spelling; or "".

    Ids that meet once `.0`, leading zeros, white space or case are put aside are the same ids, written in two ways.
    Makes the table `unknown_item`.
    """
    path = table.shop_columns["item_id"].path or json_path(table.columns["item_id"])
    event_id = plain_value(f"json_extract_string(row, {literal(path)})")
    session.run(f"""
        CREATE OR REPLACE TEMP TABLE unknown_item AS
        SELECT {event_id} AS item_id, count(*) AS n FROM rejected
         WHERE "table" = 'events' AND source = {literal(table.source)} AND reason = {literal(UNKNOWN_ITEM)}
         GROUP BY 1""")
    ((n_ids,),) = session.run("SELECT count(*) FROM unknown_item")
    for difference, form in _SPELLINGS.items():
        (found,) = session.run(f"""
            SELECT count(*), any_value(unknown_item.item_id), any_value(known.item_id) FROM unknown_item
              JOIN (SELECT any_value(item_id) AS item_id, {form.format("item_id")} AS form
                      FROM items GROUP BY form) AS known
                ON known.form = {form.format("unknown_item.item_id")} AND known.form <> ''""")
        n_found, in_events, in_items = found
        if n_found > MOST * n_ids:
            return (
                f"The ids of {n_found} of {n_ids} such items differ only by {difference}: {in_events!r} in events, "
                f"{in_items!r} in items. Write them the same way in both tables."
            )
    return ""


_IN_REJECTED_ITEMS = """
    SELECT count(*), count_if(EXISTS (
        SELECT 1 FROM (SELECT row FROM rejected WHERE "table" = 'items' LIMIT 2000) AS bad_item
         WHERE regexp_matches(bad_item.row, '(^|\\W)' || regexp_escape(looked_up.item_id) || '($|\\W)')))
      FROM (SELECT item_id FROM unknown_item WHERE length(item_id) > 2 ORDER BY item_id LIMIT 200) AS looked_up"""
"""How many unknown ids were looked up, of which a short one could be any number, and how many bad items have."""

_SPELLINGS = {
    "a '.0' at the end": r"regexp_replace({}, '\.0+$', '')",
    "zeros at the front": "ltrim({}, '0')",
    "a '.0' at the end and zeros at the front": r"ltrim(regexp_replace({}, '\.0+$', ''), '0')",
    "white space": "trim({})",
    "upper and lower case": "lower(trim({}))",
    "accents, which Unicode writes in two ways": "nfc_normalize(lower(trim({})))",
    "marks such as hyphens": r"regexp_replace(lower({}), '[^\p{{L}}\p{{N}}]', '', 'g')",
    "zeros at the end": "rtrim({}, '0')",
    "a prefix or suffix that is no digit": r"regexp_replace({}, '\D', '', 'g')",
}
"""How one id may be written in two ways, as SQL that writes both the same."""
