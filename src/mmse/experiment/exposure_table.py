"""An exposure table, row by row in our types, for whatever is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmse.core.errors import TableError, UsageError
from mmse.sources import values as rules
from mmse.sources.casting import event_rule
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import EventsConfig, Table, identifier, literal, open_events

_EVENTS = (
    "request_id",
    "timestamp",
    "query",
    "item_id",
    "position",
    "clicked",
    "ordered",
    "carted",
    "user_id",
    "explored",
)
_TEXTS = ("session_id", "arm", "version", "team")
_NUMBERS = ("price", "propensity", "rank_a", "rank_b")
_ABSENT = {
    "carted": "BOOLEAN",
    "explored": "BOOLEAN",
    "user_id": "VARCHAR",
    "session_id": "VARCHAR",
    "arm": "VARCHAR",
    "version": "VARCHAR",
    "team": "VARCHAR",
    "price": "DOUBLE",
    "propensity": "DOUBLE",
    "rank_a": "DOUBLE",
    "rank_b": "DOUBLE",
}


@dataclass(frozen=True)
class Told:
    """An exposure table that was read: `told` of its session has the good rows, `rejected` counts the others."""

    table: Table
    rejected: dict[str, int]


def read_table(
    opened: Session,
    config: EventsConfig,
    base: Path,
    *,
    needs: Sequence[str] = (),
    experiment: str | None = None,
    slices: Sequence[str] = (),
) -> Told:
    """Makes the table `told` with all known columns, empty where the shop has none, and `slice_NAME` of further ones.

    With `experiment`, `arm` is that of this experiment. Raises `TableError` where the table cannot be read, lacks one
    of `needs` or has too many bad rows.
    """
    table = open_events(opened.connection, config, base)
    for name in needs:
        if name not in table.columns:
            raise TableError(
                f"The table {table.source} has no column '{name}'; known ones: {', '.join(table.columns)}.",
                f'Name it in shop.toml: [events.columns] {name} = "…"; docs/tables.md says what it is.',
            )
    if experiment is not None and "assignments" not in table.columns:
        raise TableError(
            f"The table {table.source} has no column 'assignments', which says who was in experiment '{experiment}'.",
            "Leave --experiment out to use the column 'arm', or name it: [events.columns] assignments = \"…\".",
        )
    if slices and table.format == "json":
        raise UsageError("Slices need a table with columns.", "Bring Parquet or CSV, or leave --slice out.")
    used = [event_rule(table, name, "") for name in _EVENTS if name in table.columns]
    used += [
        rules.text(name, table.column(name), table.types[name], required=False)
        for name in _TEXTS
        if name in table.columns
    ]
    used += [rules.number(name, table.column(name), table.types[name]) for name in _NUMBERS if name in table.columns]
    raws = [f"{rule.raw} AS {identifier('raw_' + rule.name)}" for rule in used]
    values = [f"{rule.value} AS {identifier(rule.name)}" for rule in used]
    for name in slices:
        raws.append(f"{identifier(name)} AS {identifier('raw_slice_' + name)}")
        values.append(f"CAST({identifier('raw_slice_' + name)} AS VARCHAR) AS {identifier('slice_' + name)}")
    if experiment is not None:
        raws.append(f"{table.column('assignments')} AS raw_assignments")
        values.append(f"raw_assignments[{literal(experiment)}] AS assigned")
    opened.run(
        f"CREATE TABLE told AS SELECT *, {rules.reason(used)} AS reason FROM (SELECT {', '.join(values)}, "
        f"{', '.join('raw_' + rule.name for rule in used)} FROM (SELECT {', '.join(raws)} FROM {table.scan}))",
        reading=table,
    )
    rejected = _weigh(opened, table, config.max_rejected_share)
    opened.run("DELETE FROM told WHERE reason IS NOT NULL")
    for name, type_ in _ABSENT.items():
        if name not in table.columns:
            opened.run(f"ALTER TABLE told ADD COLUMN {name} {type_}")
    if experiment is not None:
        opened.run("UPDATE told SET arm = assigned")
    return Told(table, rejected)


def _weigh(opened: Session, table: Table, limit: float) -> dict[str, int]:
    """How many rows are bad, by reason; raises `TableError` past `limit`, and for an empty table."""
    ((rows,),) = opened.run("SELECT count(*) FROM told")
    if rows == 0:
        raise TableError(f"The table {table.source} has no rows.", "Give a table with rows.")
    found = opened.run("SELECT reason, count(*) FROM told WHERE reason IS NOT NULL GROUP BY ALL ORDER BY ALL")
    rejected = {str(why): int(n) for why, n in found}
    if sum(rejected.values()) / rows > limit:
        said = ", ".join(f"{n} × {why}" for why, n in rejected.items())
        raise TableError(
            f"{sum(rejected.values())} of {rows} rows of {table.source} are bad: {said}.",
            "Mend these rows, or raise max_rejected_share in [events] of shop.toml if they may be dropped.",
        )
    return rejected
