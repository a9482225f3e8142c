"""Units: one row for each shopper, visit or request, with what it did in the test and before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mmse.core.errors import UsageError
from mmse.experiment.assignment import Unit
from mmse.experiment.exposure_table import ExposureTable, read_exposures
from mmse.experiment.gaps import Gaps
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.merging import merge_rows
from mmse.sources.tables import EventsConfig, Table, identifier

COUNTS = ("requests", "buying_requests", "shown", "clicks", "carts", "orders", "revenue")
"""What is summed over the requests of a unit; `buying_requests` are those with an order."""
PAST_PREFIX = "before_"
_ID = {"user": "user_id", "session": "session_id", "request": "request_id"}
_MERGED_COLUMNS = ("request_id", "timestamp", "arm", "user_id", "session_id", "clicked", "carted", "ordered", "price")


DAY_S = 86_400


@dataclass(frozen=True)
class Window:
    """The requests that count: of `experiment` (None: those with a value in the column `arm`), from `start` to `end`.

    `start` None is the first request with an arm, `end` None is after the last one. What units did from `past_start` to
    `start` is their past. With `single_arm` there is no test: all requests are in one arm.
    """

    experiment: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    past_start: datetime | None = None
    single_arm: bool = False


@dataclass(frozen=True)
class Units:
    """The units of a test. `columns` has `COUNTS`, `converted` (0 or 1), and the same of the past, with `before_`.

    `daily` has a row per unit and day: the `unit_index`, the `day` since the start, the `age` in days since the unit's
    first request, and `COUNTS`. `n_leaks` further units were in several arms; they are in none of the columns.
    `gaps` is what else was left out. `names` are the shop's own ids, for the terminal alone: no report may show them.
    """

    unit: Unit
    arms: np.ndarray
    columns: dict[str, Float64[np.ndarray, " n"]]
    slices: dict[str, np.ndarray]
    daily: dict[str, Float64[np.ndarray, " m"]]
    first_days: Int64[np.ndarray, " n"]
    start: datetime
    end: datetime
    n_leaks: int = 0
    leak_examples: tuple[str, ...] = ()
    rejections: dict[str, int] = field(default_factory=dict)
    gaps: Gaps = field(default_factory=Gaps)
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.arms)

    @property
    def n_days(self) -> float:
        """How long the test lasted, in days."""
        return (self.end - self.start).total_seconds() / DAY_S

    def sum_daily(self, mask: Bool[np.ndarray, " m"]) -> dict[str, Float64[np.ndarray, " n"]]:
        """`COUNTS` and `converted` of each unit, over the rows of `daily` in `mask`."""
        index = self.daily["unit_index"][mask].astype(np.int64)
        sums = {name: np.bincount(index, self.daily[name][mask], len(self)) for name in COUNTS}
        return sums | {"converted": (sums["orders"] > 0).astype(np.float64)}


def read_units(config: EventsConfig, base: Path, unit: Unit, window: Window, slices: Sequence[str] = ()) -> Units:
    """The units of the exposure table of `config`, whose source is relative to `base`.

    A unit counts from the moment of its first assignment: before a later ramp brought it into the test, it was in no
    arm. Raises `TableError` if the table cannot be read, lacks a column or has too many bad rows; `UsageError` if
    nobody is in the experiment.
    """
    arm_column = [] if window.single_arm or window.experiment else ["arm"]
    needs = [_ID[unit], *arm_column]
    with open_session(memory_limit="2GB", threads=None) as session:
        exposures = read_exposures(session, config, base, needs=needs, experiment=window.experiment, slices=slices)
        if window.single_arm:
            session.run("UPDATE exposures SET arm = 'all'")
        _make_requests(session, unit, slices)
        start, end = _test_period(session, exposures.table, unit, window)
        return _make_units(session, unit, window, slices, start, end, exposures)


def _make_requests(session: Session, unit: Unit, slices: Sequence[str]) -> None:
    """Makes the table `request`: one row for each request that showed something."""
    slice_columns = ["slice_" + name for name in slices]
    slice_values = "".join(f", any_value({identifier(name)}) AS {identifier(name)}" for name in slice_columns)
    session.run(f"""
        CREATE TABLE request AS
        SELECT {_ID[unit]} AS unit, min(timestamp) AS moment, any_value(arm) AS arm, 1 AS requests,
               CAST(bool_or(ordered) AS INTEGER) AS buying_requests, count(*) AS shown,
               count_if(clicked) AS clicks, count_if(carted) AS carts, count_if(ordered) AS orders,
               count(*) FILTER (ordered AND price IS NULL) AS unpriced,
               coalesce(sum(price) FILTER (ordered), 0) AS revenue{slice_values}
          FROM ({merge_rows("exposures", [*_MERGED_COLUMNS, *slice_columns])})
         GROUP BY request_id, {_ID[unit]}""")


def _test_period(session: Session, table: Table, unit: Unit, window: Window) -> tuple[datetime, datetime]:
    """The first moment of the test, and the moment after its last."""
    ((earliest, latest),) = session.run(
        "SELECT min(moment), max(moment) FROM request WHERE arm IS NOT NULL AND unit IS NOT NULL"
    )
    if earliest is None:
        ((n_anonymous,),) = session.run("SELECT count(*) FROM request WHERE arm IS NOT NULL")
        if n_anonymous:
            raise UsageError(
                f"None of {n_anonymous:,} requests of {table.source} in an arm has a {_ID[unit]}.",
                f"Log the {_ID[unit]}, or say what was assigned: --unit session, --unit request.",
            )
        scope = f"'{window.experiment}'" if window.experiment else "an arm"
        names = "" if window.experiment is None else _list_experiments(session, table)
        raise UsageError(f"No request of {table.source} is in {scope}.", f"Check --experiment and --unit.{names}")
    start, end = window.start or earliest, window.end or latest + timedelta(microseconds=1)
    if start > latest or end <= earliest or end <= start:
        raise UsageError(
            f"No request of {table.source} is in an arm from {start:%Y-%m-%d} until {end:%Y-%m-%d}: the test's "
            f"requests are from {earliest:%Y-%m-%d} to {latest:%Y-%m-%d}.",
            "Check --from and --until.",
        )
    return start, end


def _list_experiments(session: Session, table: Table) -> str:
    rows = session.run(f"SELECT DISTINCT unnest(map_keys({table.column('assignments')})) FROM {table.scan}")
    return f" Experiments in it: {', '.join(sorted(str(name) for (name,) in rows)) or 'none'}."


def _make_units(
    session: Session,
    unit: Unit,
    window: Window,
    slices: Sequence[str],
    start: datetime,
    end: datetime,
    exposures: ExposureTable,
) -> Units:
    past_condition = f" AND moment >= TIMESTAMP '{window.past_start}'" if window.past_start else ""
    in_test = f"moment >= TIMESTAMP '{start}' AND moment < TIMESTAMP '{end}'"
    sums = ", ".join(f"CAST(sum({name}) AS DOUBLE) AS {name}" for name in COUNTS)
    past_sums = ", ".join(f"CAST(sum({name}) AS DOUBLE) AS {PAST_PREFIX}{name}" for name in COUNTS)
    slice_columns = [identifier("slice_" + name) for name in slices]
    slice_values = "".join(f", arg_min({name}, moment) AS {name}" for name in slice_columns)
    session.run(f"""
        CREATE TABLE member AS SELECT unit, count(DISTINCT arm) AS arms, any_value(arm) AS arm, min(moment) AS first
          FROM request WHERE unit IS NOT NULL AND arm IS NOT NULL AND {in_test} GROUP BY unit;
        CREATE TABLE past AS SELECT unit, {past_sums} FROM request
         WHERE moment < TIMESTAMP '{start}'{past_condition} AND unit IN (SELECT unit FROM member) GROUP BY unit;
        CREATE TABLE total AS
        SELECT row_number() OVER (ORDER BY unit) - 1 AS unit_index, * FROM (
          SELECT unit, any_value(member.arm) AS arm, any_value(first) AS first, {sums}{slice_values}
            FROM request JOIN member USING (unit)
           WHERE member.arms = 1 AND {in_test} AND moment >= member.first GROUP BY unit)""")
    leaks = session.run(f"""
        SELECT unit, count(*) AS n FROM request JOIN member USING (unit) WHERE arms > 1 AND {in_test}
         GROUP BY unit ORDER BY n DESC, unit""")
    totals = session.arrow("SELECT * FROM total LEFT JOIN past USING (unit) ORDER BY unit_index")
    daily = session.arrow(f"""
        SELECT CAST(unit_index AS DOUBLE) AS unit_index, day, age, {sums}
          FROM (SELECT request.*, total.unit_index,
                       floor((epoch(request.moment) - epoch(TIMESTAMP '{start}')) / 86400) AS day,
                       floor((epoch(request.moment) - epoch(total.first)) / 86400) AS age
                  FROM request JOIN total USING (unit) WHERE {in_test} AND moment >= total.first)
         GROUP BY ALL""")
    columns = {name: _numbers(totals, name) for name in (*COUNTS, *(PAST_PREFIX + name for name in COUNTS))}
    columns["converted"] = (columns["orders"] > 0).astype(np.float64)
    columns[PAST_PREFIX + "converted"] = (columns[PAST_PREFIX + "orders"] > 0).astype(np.float64)
    first_moments = totals["first"].to_numpy().astype("datetime64[us]")
    return Units(
        unit=unit,
        arms=np.array(totals["arm"].to_pylist(), dtype=object),
        columns=columns,
        slices={name: np.array(totals["slice_" + name].to_pylist(), dtype=object) for name in slices},
        daily={name: _numbers(daily, name) for name in daily.column_names},
        first_days=((first_moments - np.datetime64(start, "us")) / np.timedelta64(1, "D")).astype(np.int64),
        start=start,
        end=end,
        n_leaks=len(leaks),
        leak_examples=tuple(str(name) for name, _ in leaks[:3]),
        rejections=exposures.rejections,
        gaps=_add_request_gaps(session, exposures.gaps, [int(n) for _, n in leaks], in_test),
        names=np.array(totals["unit"].to_pylist(), dtype=object),
    )


def _add_request_gaps(session: Session, gaps: Gaps, leaks: Sequence[int], in_test: str) -> Gaps:
    """`gaps` with those of the requests of the test; `leaks` are the requests of each unit that was in several arms."""
    (counts,) = session.run(f"""
        SELECT count(*) FILTER (arm IS NOT NULL), count(*) FILTER (arm IS NOT NULL AND unit IS NULL),
               coalesce(sum(orders) FILTER (arm IS NOT NULL AND unit IS NULL), 0),
               count(*) FILTER (arm IS NULL AND unit IS NULL), coalesce(sum(unpriced) FILTER (arm IS NOT NULL), 0),
               coalesce(sum(orders - unpriced) FILTER (arm IS NOT NULL), 0)
          FROM request WHERE {in_test}""")
    n_requests, n_anonymous, n_anonymous_orders, n_unassigned, n_unpriced, n_priced = (int(n) for n in counts)
    ((silent_s,),) = session.run(f"""
        SELECT coalesce(max(epoch(moment) - epoch(former)), 0) FROM (
            SELECT moment, lag(moment) OVER (ORDER BY moment) AS former
              FROM request WHERE arm IS NOT NULL AND {in_test})""")
    return replace(
        gaps,
        requests=n_requests,
        anonymous_requests=n_anonymous,
        anonymous_orders=n_anonymous_orders,
        unassigned=n_unassigned,
        unpriced_orders=n_unpriced,
        priced_orders=n_priced,
        leaked_requests=sum(leaks),
        heaviest_leak=max(leaks, default=0),
        silent_days=float(silent_s) / DAY_S,
    )


def _numbers(table: Any, name: str) -> Float64[np.ndarray, " n"]:  # noqa: ANN401  an Arrow table
    """A column as numbers; a missing value is 0."""
    return np.nan_to_num(np.asarray(table[name].to_numpy(), np.float64))
