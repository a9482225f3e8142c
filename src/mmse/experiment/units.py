"""An exposure table into one row a unit: what each shopper, visit or request did in the test, and before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from mmse.core.errors import UsageError
from mmse.experiment.assignment import Unit
from mmse.experiment.exposure_table import read_table
from mmse.sources.duckdb_session import Session, session
from mmse.sources.tables import EventsConfig, Table, identifier

COUNTED = ("requests", "buying_requests", "shown", "clicks", "carts", "orders", "revenue")
"""What is summed over the requests of a unit; `buying_requests` are those with an order."""
BEFORE = "before_"
_ID = {"user": "user_id", "session": "session_id", "request": "request_id"}


@dataclass(frozen=True)
class Window:
    """Which requests count: of `experiment` (None: those with an arm in the column `arm`), from `start` to `end`.

    `start` None is the first request with an arm. What units did before it, since `before`, is their past. With
    `everybody` there is no test: all are in one arm.
    """

    experiment: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    before: datetime | None = None
    everybody: bool = False


@dataclass(frozen=True)
class Units:
    """The units of a test. `columns` has `COUNTED`, `converted` (0 or 1), and the same of the past, with `before_`.

    `daily` is by unit and day: the unit's `place`, `day` since the start, `age` in days since the unit's first request,
    and what is counted. `leaked` units were in several arms, and are in none of the columns.
    """

    unit: Unit
    arms: np.ndarray
    columns: dict[str, Float64[np.ndarray, " n"]]
    slices: dict[str, np.ndarray]
    daily: dict[str, Float64[np.ndarray, " m"]]
    first_days: Int64[np.ndarray, " n"]
    start: datetime
    end: datetime
    leaked: int = 0
    leaked_examples: tuple[str, ...] = ()
    rejected: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.arms)

    @property
    def n_days(self) -> float:
        """How long the test lasted, in days."""
        return (self.end - self.start).total_seconds() / 86_400


def read_units(config: EventsConfig, base: Path, unit: Unit, window: Window, slices: Sequence[str] = ()) -> Units:
    """The units of the exposure table of `config`, whose source starts from `base`.

    A unit counts from the moment that it was first assigned: before that, whoever came with a later ramp was in no arm.

    Raises `TableError` where it cannot be read, lacks a column or has too many bad rows; `UsageError` where nobody is
    in the experiment.
    """
    with session(memory_limit="2GB", threads=None) as opened:
        armed = [] if window.everybody or window.experiment else ["arm"]
        told = read_table(opened, config, base, needs=[_ID[unit], *armed], experiment=window.experiment, slices=slices)
        if window.everybody:
            opened.run("UPDATE told SET arm = 'all'")
        _requests(opened, unit, slices)
        start, end = _span(opened, told.table, window)
        return _units(opened, unit, window, slices, start, end, told.rejected)


def _requests(opened: Session, unit: Unit, slices: Sequence[str]) -> None:
    """Makes `request`: one row for each request that showed something."""
    sliced = "".join(f", any_value({identifier('slice_' + name)}) AS {identifier('slice_' + name)}" for name in slices)
    carried = "".join(f", any_value({identifier('slice_' + n)}) AS {identifier('slice_' + n)}" for n in slices)
    opened.run(f"""
        CREATE TABLE request AS
        SELECT {_ID[unit]} AS unit, min(moment) AS moment, any_value(arm) AS arm, 1 AS requests,
               CAST(bool_or(ordered) AS INTEGER) AS buying_requests, count(*) AS shown,
               count_if(clicked) AS clicks, count_if(carted) AS carts, count_if(ordered) AS orders,
               coalesce(sum(price) FILTER (ordered), 0) AS revenue{sliced}
          FROM (SELECT request_id, item_id, min(timestamp) AS moment, any_value(arm) AS arm,
                       any_value(user_id) AS user_id, any_value(session_id) AS session_id,
                       bool_or(clicked OR coalesce(carted, false) OR ordered) AS clicked,
                       bool_or(coalesce(carted, false)) AS carted, bool_or(ordered) AS ordered, max(price) AS price,
                       count(position) AS places{carried}
                  FROM told GROUP BY request_id, item_id)
         WHERE places > 0 GROUP BY request_id, {_ID[unit]}""")


def _span(opened: Session, table: Table, window: Window) -> tuple[datetime, datetime]:
    """The first moment of the test, and the first that is not in it any more."""
    ((first, last),) = opened.run(
        "SELECT min(moment), max(moment) FROM request WHERE arm IS NOT NULL AND unit IS NOT NULL"
    )
    if first is None:
        which = f"'{window.experiment}'" if window.experiment else "an arm"
        names = "" if window.experiment is None else _experiments(opened, table)
        raise UsageError(f"No request of {table.source} is in {which}.", f"Check --experiment and --unit.{names}")
    start, end = window.start or first, window.end or last + timedelta(microseconds=1)
    if start > last or end <= first or end <= start:
        raise UsageError(
            f"No request of {table.source} is in an arm from {start:%Y-%m-%d} until {end:%Y-%m-%d}: the test has "
            f"those from {first:%Y-%m-%d} to {last:%Y-%m-%d}.",
            "Check --from and --until.",
        )
    return start, end


def _experiments(opened: Session, table: Table) -> str:
    found = opened.run(f"SELECT DISTINCT unnest(map_keys({table.column('assignments')})) FROM {table.scan}")
    return f" Experiments in it: {', '.join(sorted(str(name) for (name,) in found)) or 'none'}."


def _units(
    opened: Session,
    unit: Unit,
    window: Window,
    slices: Sequence[str],
    start: datetime,
    end: datetime,
    rejected: dict[str, int],
) -> Units:
    since = f" AND moment >= TIMESTAMP '{window.before}'" if window.before else ""
    inside = f"moment >= TIMESTAMP '{start}' AND moment < TIMESTAMP '{end}'"
    sums = ", ".join(f"CAST(sum({name}) AS DOUBLE) AS {name}" for name in COUNTED)
    befores = ", ".join(f"CAST(sum({name}) AS DOUBLE) AS {BEFORE}{name}" for name in COUNTED)
    firsts = "".join(f", arg_min({identifier('slice_' + n)}, moment) AS {identifier('slice_' + n)}" for n in slices)
    opened.run(f"""
        CREATE TABLE member AS SELECT unit, count(DISTINCT arm) AS arms, any_value(arm) AS arm, min(moment) AS first
          FROM request WHERE unit IS NOT NULL AND arm IS NOT NULL AND {inside} GROUP BY unit;
        CREATE TABLE past AS SELECT unit, {befores} FROM request
         WHERE moment < TIMESTAMP '{start}'{since} AND unit IN (SELECT unit FROM member) GROUP BY unit;
        CREATE TABLE whole AS
        SELECT row_number() OVER (ORDER BY unit) - 1 AS place, * FROM (
          SELECT unit, any_value(member.arm) AS arm, any_value(first) AS first, {sums}{firsts}
            FROM request JOIN member USING (unit)
           WHERE member.arms = 1 AND {inside} AND moment >= member.first GROUP BY unit)""")
    leaks = [str(name) for (name,) in opened.run("SELECT unit FROM member WHERE arms > 1 ORDER BY unit LIMIT 3")]
    ((leaked,),) = opened.run("SELECT count(*) FROM member WHERE arms > 1")
    found = opened.arrow("SELECT * FROM whole LEFT JOIN past USING (unit) ORDER BY place")
    daily = opened.arrow(f"""
        SELECT CAST(place AS DOUBLE) AS place, day, age, {sums}
          FROM (SELECT request.*, whole.place,
                       floor((epoch(request.moment) - epoch(TIMESTAMP '{start}')) / 86400) AS day,
                       floor((epoch(request.moment) - epoch(whole.first)) / 86400) AS age
                  FROM request JOIN whole USING (unit) WHERE {inside} AND moment >= whole.first)
         GROUP BY ALL""")
    columns = {name: _column(found, name) for name in (*COUNTED, *(BEFORE + name for name in COUNTED))}
    columns["converted"] = (columns["orders"] > 0).astype(np.float64)
    columns[BEFORE + "converted"] = (columns[BEFORE + "orders"] > 0).astype(np.float64)
    starts = np.datetime64(start, "us")
    firsts_at = found["first"].to_numpy().astype("datetime64[us]")
    return Units(
        unit=unit,
        arms=np.array(found["arm"].to_pylist(), dtype=object),
        columns=columns,
        slices={name: np.array(found["slice_" + name].to_pylist(), dtype=object) for name in slices},
        daily={name: _column(daily, name) for name in daily.column_names},
        first_days=((firsts_at - starts) / np.timedelta64(1, "D")).astype(np.int64),
        start=start,
        end=end,
        leaked=int(leaked),
        leaked_examples=tuple(leaks),
        rejected=rejected,
    )


def _column(table: Any, name: str) -> Float64[np.ndarray, " n"]:  # noqa: ANN401  an Arrow table
    """A column as numbers, nothing as 0."""
    return np.nan_to_num(np.asarray(table[name].to_numpy(), np.float64))
