"""An exposure table, read row by row and cast to our types, for every analysis of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmse.core.errors import TableError, UsageError
from mmse.experiment.gaps import Gaps, measure_row_gaps
from mmse.schema.columns import EVENT_COLUMNS, ColumnType, Reader
from mmse.sources import values as rules
from mmse.sources.casting import NOT_OBJECT, contradictions
from mmse.sources.column_rules import SQL_TYPES, event_rule
from mmse.sources.duckdb_session import Session
from mmse.sources.tables import EventsConfig, Table, identifier, literal, open_events

_COLUMNS = [column for column in EVENT_COLUMNS.read_by(Reader.EXPERIMENTS) if column.type is not ColumnType.TEXTS]


@dataclass(frozen=True)
class ExposureTable:
    """An exposure table that was read into the table `exposures`; `rejections` counts its bad rows by reason.

    `gaps` says what the bad rows would have told, and which prices do not fit together.
    """

    table: Table
    rejections: dict[str, int]
    gaps: Gaps


def read_exposures(
    session: Session,
    config: EventsConfig,
    base: Path,
    *,
    needs: Sequence[str] = (),
    experiment: str | None = None,
    slices: Sequence[str] = (),
) -> ExposureTable:
    """Makes the table `exposures` in `session`: the good rows, with all columns of the contract.

    A column that the shop does not have is empty. A row has the reason that mining would give it, and items that were
    retrieved only are left out. `slices` are further columns, which become `slice_NAME`. With
    `experiment`, `arm` is the arm of this experiment. Raises `TableError` if the table cannot be read, lacks one of
    `needs` or has too many bad rows.
    """
    table = open_events(session.connection, config, base)
    _require_columns(table, needs, experiment)
    if slices and table.document:
        raise UsageError("Slices need a table with columns.", "Give Parquet or CSV, or leave --slice out.")
    names = _names_in_mining_order(table)
    not_shown = "coalesce(retrieved_only, false)" if "retrieved_only" in names else ""
    used = [event_rule(table, name, not_shown, empty_means_no=config.empty_means_no) for name in names]
    raws = [f"{rule.raw} AS {identifier('raw_' + rule.name)}" for rule in used]
    values = [f"{rule.value} AS {identifier(rule.name)}" for rule in used]
    for name in slices:
        raws.append(f"{identifier(name)} AS {identifier('raw_slice_' + name)}")
        values.append(f"CAST({identifier('raw_slice_' + name)} AS VARCHAR) AS {identifier('slice_' + name)}")
    if experiment is not None:
        raws.append(f"{table.column('assignments')} AS raw_assignments")
        values.append(f"raw_assignments[{literal(experiment)}] AS experiment_arm")
    reason = rules.reason(used, contradictions(set(names)))
    if table.document:
        raws.append(f"{identifier(table.document)} AS raw_line")
        values.append("raw_line")
        reason = f"coalesce({rules.reason([], (NOT_OBJECT,))}, {reason})"
    session.run(
        f"CREATE TABLE exposures AS SELECT *, {reason} AS reason FROM (SELECT {', '.join(values)}, "
        f"{', '.join('raw_' + rule.name for rule in used)} FROM (SELECT {', '.join(raws)} FROM {table.scan}))",
        reading=table,
    )
    rejections = _count_rejections(session, table, config.max_rejected_share)
    gaps = measure_row_gaps(session, table, rejections)
    session.run("DELETE FROM exposures WHERE reason IS NOT NULL" + (f" OR {not_shown}" if not_shown else ""))
    for column in _COLUMNS:
        if column.name not in table.columns:
            session.run(f"ALTER TABLE exposures ADD COLUMN {column.name} {SQL_TYPES[column.type]}")
    if experiment is not None:
        session.run("UPDATE exposures SET arm = experiment_arm")
    return ExposureTable(table, rejections, gaps)


def _require_columns(table: Table, needs: Sequence[str], experiment: str | None) -> None:
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


def _names_in_mining_order(table: Table) -> list[str]:
    """The columns of `table` that experiments read: first those of mining, which names the first that is bad."""
    known_names = {column.name for column in _COLUMNS}
    names = [name for name in table.columns if name in known_names]
    return sorted(names, key=lambda name: Reader.MINING not in EVENT_COLUMNS[name].readers)


def _count_rejections(session: Session, table: Table, max_share: float) -> dict[str, int]:
    """The number of bad rows by reason; raises `TableError` for more than `max_share`, and for an empty table."""
    ((n_rows,),) = session.run("SELECT count(*) FROM exposures")
    if n_rows == 0:
        raise TableError(f"The table {table.source} has no rows.", "Give a table with rows.")
    counts = session.run("SELECT reason, count(*) FROM exposures WHERE reason IS NOT NULL GROUP BY ALL ORDER BY ALL")
    rejections = {str(reason): int(n) for reason, n in counts}
    if table.bad_lines:
        bad_lines = session.run(f"""
            SELECT 'the line is not valid CSV: ' || lower(CAST(error_type AS VARCHAR)), count(*)
              FROM (SELECT any_value(error_type) AS error_type FROM {table.bad_lines} GROUP BY file_id, line)
             GROUP BY ALL ORDER BY ALL""")
        rejections |= {str(reason): int(n) for reason, n in bad_lines}
        n_rows += sum(int(n) for _, n in bad_lines)
    if sum(rejections.values()) / n_rows > max_share:
        reasons = ", ".join(f"{n} × {reason}" for reason, n in rejections.items())
        raise TableError(
            f"{sum(rejections.values())} of {n_rows} rows of {table.source} are bad: {reasons}.",
            "Correct these rows, or raise max_rejected_share in [events] of shop.toml if they may be dropped.",
        )
    return rejections


def describe_scope(experiment: str | None, arm: str | None) -> str:
    """` of experiment 'x' of arm 'y'`, for messages."""
    return "".join(f" of {kind} '{name}'" for kind, name in (("experiment", experiment), ("arm", arm)) if name)
