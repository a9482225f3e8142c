"""The newest days of a log against the days before: whether shoppers still do what shoppers do.

A day is 24 hours, counted back from the last request of the log. New are the days since the log of the version that is
served ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec
import numpy as np
from scipy.stats import binom

from mmse.core.artifact import read_manifest
from mmse.core.findings import Finding, Severity, share
from mmse.core.run_folder import DATASET
from mmse.dataset.folder import TEST, TRAIN, VALID, DatasetFolder
from mmse.release.config import ReleaseConfig
from mmse.schema.stages import Stage
from mmse.sources.sql import literal, literals

DAY_US = 86_400_000_000
MAX_DAYS = 60
"""So many days are looked at, the newest first."""
MIN_REQUESTS = 100
"""Of fewer requests, or rows, no share is judged."""
MIN_ACTIONS = 50
MIN_DAYS = 3
"""The number of requests is compared with so many days or more."""
WARN_LATE = 0.1
"""The share of the requests that came since a version which may be dated before it, as orders that come late."""
MAX_FIRST_SHARE = 0.5
"""The share of one value that is too much where there is no day before."""
MAX_P = 1e-6
"""A share differs only if chance alone would give it, or one further off, less often than this."""
TAKE_CARE = 'Look at that day; if it is wrong, leave it out: leave_out = ["{date}"] in [mine].'


class LogState(msgspec.Struct, frozen=True):
    """How far a log went: its last request (microseconds since 1970, UTC), its requests, the rows read and rejected."""

    end: int
    requests: int
    rows: int
    n_rejected: int


@dataclass(frozen=True)
class ShareCount:
    """A share of a day: `part` of `whole`; `value` names what has it, where there is something to name."""

    part: int
    whole: int
    value: str = ""

    @property
    def share(self) -> float:
        """The share itself, 0 of nothing."""
        return self.part / self.whole if self.whole else 0.0


@dataclass(frozen=True)
class _Rate:
    """A share of a day's rows that is about the same every day: `part` of `whole`, both columns of `day`."""

    name: str
    phrase: str
    part: str
    whole: str
    severity: Severity = "blocks"


@dataclass(frozen=True)
class _Concentration:
    """How much of a day's requests or actions have the same value of a column.

    `is_small` says whether the share is small in every shop, so that it can be judged without days before.
    """

    name: str
    phrase: str
    condition: str
    value: str
    is_small: bool = True


_RATES = (
    _Rate("click_rate", "of the requests have a click", "n_clicked_requests", "n_requests"),
    _Rate("order_rate", "of the requests have an order", "n_ordered_requests", "n_requests"),
    _Rate("clicked_slots", "of the shown items are clicked", "n_clicked_slots", "n_slots"),
    _Rate("anonymous", "of the requests have no shopper", "n_anonymous", "n_requests", "warns"),
)
_TAKEN = f"stage >= {Stage.CLICKED.value}"
_CONCENTRATIONS = (
    _Concentration("one_item", "of the clicks are on item", _TAKEN, "item_id"),
    _Concentration("one_ordered_item", "of the orders are of item", f"stage = {Stage.ORDERED.value}", "item_id"),
    _Concentration("one_clicking_shopper", "of the clicks are of shopper", _TAKEN, "user_id"),
    _Concentration("one_position", "of the clicks are on position", _TAKEN, "position", is_small=False),
    _Concentration("one_shopper", "of the requests are of shopper", "is_first", "user_id"),
    _Concentration("one_query", "of the requests are for", "is_first", "query"),
)


def read_log_state(dataset: Path) -> LogState | None:
    """How far the log of a dataset goes, None where it has no request."""
    counts = read_manifest(dataset, DATASET).counts
    n_requests = sum(counts["requests"].values())
    if not n_requests:
        return None
    with duckdb.connect() as database:
        row = database.execute(f"SELECT max(epoch_us(timestamp)) FROM read_parquet([{_row_files(dataset)}])").fetchone()
    assert row is not None
    rejections = counts.get("rejected", {}).get("events", {})
    rows = counts.get("read", {}).get("events", 0)
    return LogState(int(row[0]), n_requests, rows, sum(rejections.values()))


def compare_days(dataset: Path, former: LogState | None, config: ReleaseConfig) -> list[Finding]:
    """Compares the new days of the log in `dataset` with the days before; `former` is the log of the served version.

    Without `former` the newest day is new. A finding of severity `blocks` or `warns` for whatever is wrong, and one
    that says what came in.
    """
    state = read_log_state(dataset)
    if state is None:
        return []
    findings = [] if former is None else [*_check_rows(state, former, config)]
    with duckdb.connect() as database:
        _read_days(database, dataset, state.end)
        n_new = 1 if former is None else min(MAX_DAYS, max(0, math.ceil((state.end - former.end) / DAY_US)))
        days = {int(day): int(n) for day, n in database.execute("SELECT day, n_requests FROM day").fetchall()}
        n_requests = sum(n for day, n in days.items() if day < n_new)
        findings.append(_describe_news(n_requests, state, former))
        if former is not None:
            findings += _check_clock(database, dataset, state, former)
        findings += _check_volume(days, n_new, state.end, config)
        for rate in _RATES:
            counts = _rate_counts(database, rate)
            findings += _check_rate(rate, counts, n_new, state.end, config)
        for concentration in _CONCENTRATIONS:
            counts = _top_counts(database, concentration)
            findings += _check_top(concentration, counts, n_new, state.end, config)
    return findings


def _row_files(dataset: Path) -> str:
    folder = DatasetFolder(dataset)
    return literals(str(file) for split in (TRAIN, VALID, TEST) for file in folder.row_files(split))


def _read_days(database: duckdb.DuckDBPyConnection, dataset: Path, end: int) -> None:
    """Makes `action`, a row for each shown item of the last days, and `day`, a row of counts for each of them.

    Day 0 is the newest.
    """
    database.execute(f"""
        CREATE TABLE action AS
        SELECT ({end} - epoch_us(timestamp)) // {DAY_US} AS day,
               request_id, query, user_id, position, item_id, stage,
               row_number() OVER (PARTITION BY request_id ORDER BY position, item_row) = 1 AS is_first
          FROM read_parquet([{_row_files(dataset)}])
          JOIN (SELECT item_row, item_id FROM read_parquet({literal(str(DatasetFolder(dataset).items))}))
               USING (item_row)
         WHERE stage >= {Stage.UNCLICKED.value} AND epoch_us(timestamp) > {end - MAX_DAYS * DAY_US};
        CREATE TABLE day AS
        SELECT day, count(*) AS n_requests, count_if(n_clicked > 0) AS n_clicked_requests,
               count_if(n_ordered > 0) AS n_ordered_requests, sum(n) AS n_slots, sum(n_clicked) AS n_clicked_slots,
               count_if(user_id IS NULL) AS n_anonymous
          FROM (SELECT day, any_value(user_id) AS user_id, count(*) AS n, count_if({_TAKEN}) AS n_clicked,
                       count_if(stage = {Stage.ORDERED.value}) AS n_ordered
                  FROM action GROUP BY day, request_id) GROUP BY day""")


def _rate_counts(database: duckdb.DuckDBPyConnection, rate: _Rate) -> dict[int, ShareCount]:
    rows = database.execute(f"SELECT day, {rate.part}, {rate.whole} FROM day").fetchall()
    return {int(day): ShareCount(int(part), int(whole)) for day, part, whole in rows}


def _top_counts(database: duckdb.DuckDBPyConnection, concentration: _Concentration) -> dict[int, ShareCount]:
    """Of each day the most frequent value, and its share."""
    rows = database.execute(f"""
        SELECT day, coalesce(max(n) FILTER (value IS NOT NULL), 0), sum(n), arg_max(value, n)
          FROM (SELECT day, {concentration.value}::VARCHAR AS value, count(*) AS n FROM action
                 WHERE {concentration.condition} GROUP BY ALL) GROUP BY day""").fetchall()
    return {int(day): ShareCount(int(part), int(whole), str(value)) for day, part, whole, value in rows}


def _check_rows(state: LogState, former: LogState, config: ReleaseConfig) -> Iterator[Finding]:
    """What share of the rows that came since is bad; no row is older than the log, unless old ones were removed."""
    n, n_rejected = state.rows - former.rows, state.n_rejected - former.n_rejected
    if n < MIN_REQUESTS or n_rejected <= 0:
        return
    blocks = n_rejected > config.max_rejected * n
    yield Finding(
        "rejected_rows",
        "blocks" if blocks else "notes",
        f"{n_rejected:,} of {n:,} rows since the last version ({share(n_rejected, n)}) are bad and set aside.",
        "`mmse doctor` names the reasons; rejected.parquet of the dataset has the rows.",
        numbers={"rejected": n_rejected, "of_rows": n, "limit": config.max_rejected},
    )


def _describe_news(n_requests: int, state: LogState, former: LogState | None) -> Finding:
    since = "in the newest day" if former is None else f"since {_moment(former.end)}"
    news = f"{n_requests:,} of them {since}; the last is of {_moment(state.end)}"
    return Finding(
        "log",
        "notes",
        f"The log has {state.requests:,} requests, {news}.",
        "",
        numbers={"requests": state.requests, "new": n_requests},
    )


def _check_clock(
    database: duckdb.DuckDBPyConnection, dataset: Path, state: LogState, former: LogState
) -> Iterator[Finding]:
    """Whether requests that came since the last version say that they are older than it."""
    row = database.execute(
        f"SELECT count(DISTINCT request_id) FROM read_parquet([{_row_files(dataset)}]) WHERE epoch_us(timestamp) <= $1",
        [former.end],
    ).fetchone()
    assert row is not None
    n_came, n_late = state.requests - former.requests, int(row[0]) - former.requests
    if n_came >= MIN_REQUESTS and n_late > n_came * WARN_LATE:
        yield Finding(
            "late_requests",
            "blocks" if n_late > n_came / 2 else "warns",
            f"{n_late:,} of {n_came:,} requests that came since the last version are dated before the end of its log, "
            f"{_moment(former.end)}.",
            "Look at the clocks of the servers that log. If an old log was added on purpose, accept it.",
            numbers={"late": n_late, "of_requests": n_came},
        )


def _check_volume(days: Mapping[int, int], n_new: int, end: int, config: ReleaseConfig) -> Iterator[Finding]:
    earlier = [n for day, n in days.items() if day >= n_new]
    if len(earlier) < MIN_DAYS:
        return
    usual = float(np.median(earlier))
    for day in range(n_new):
        n = days.get(day, 0)
        if usual >= MIN_REQUESTS and not usual / config.max_day_ratio <= n <= usual * config.max_day_ratio:
            yield Finding(
                "volume",
                "warns",
                f"{_period(day, end)} there are {n:,} requests, where a usual day has {usual:,.0f}.",
                "Look whether every server logs, and whether a program asks.",
                numbers={"requests": n, "usual": usual},
            )


def _check_rate(
    rate: _Rate, counts: Mapping[int, ShareCount], n_new: int, end: int, config: ReleaseConfig
) -> Iterator[Finding]:
    earlier = [count.share for day, count in counts.items() if day >= n_new and count.whole >= MIN_REQUESTS]
    if not earlier:
        return
    usual = float(np.median(earlier))
    for day in sorted(day for day in counts if day < n_new):
        count = counts[day]
        ratio = _odds_ratio(count, usual)
        if count.whole < MIN_REQUESTS or max(ratio, 1 / ratio) <= config.max_day_ratio or _p(count, usual) > MAX_P:
            continue
        yield Finding(
            rate.name,
            rate.severity,
            f"{_period(day, end)} {share(count.part, count.whole)} {rate.phrase}, where {share(usual, 1)} is usual.",
            TAKE_CARE.format(date=_date(day, end)),
            numbers={"share": count.share, "usual": usual, "of": count.whole},
        )


def _check_top(
    concentration: _Concentration, counts: Mapping[int, ShareCount], n_new: int, end: int, config: ReleaseConfig
) -> Iterator[Finding]:
    earlier = [count.share for day, count in counts.items() if day >= n_new and count.whole >= MIN_ACTIONS]
    if not earlier and not concentration.is_small:
        return
    highest, limit = max(earlier, default=0.0), config.max_day_share if earlier else MAX_FIRST_SHARE
    usual = f"where no day before had more than {share(highest, 1)} of one" if earlier else "and there is no day before"
    for day in sorted(day for day in counts if day < n_new):
        count = counts[day]
        if count.whole < MIN_ACTIONS or count.share <= limit:
            continue
        excess = f"{share(count.part, count.whole)} {concentration.phrase} {count.value[:80]!r}"
        if earlier and (_odds_ratio(count, highest) <= config.max_day_ratio or _p(count, highest) > MAX_P):
            continue
        yield Finding(
            concentration.name,
            "blocks",
            f"{_period(day, end)} {excess}, {usual}.",
            TAKE_CARE.format(date=_date(day, end)),
            numbers={"share": count.share, "highest": highest, "of": count.whole},
        )


def _odds_ratio(count: ShareCount, usual: float) -> float:
    """The odds of a share against those of another one; half a case is added, so that nothing and all have odds."""
    odds = (count.part + 0.5) / (count.whole - count.part + 0.5)
    usual_part = usual * count.whole
    return odds * (count.whole - usual_part + 0.5) / (usual_part + 0.5)


def _p(count: ShareCount, usual: float) -> float:
    """How often chance gives a share as far from `usual` as this one, or further, in the same direction."""
    part, whole = count.part, count.whole
    least = 1 / (whole + 1)
    usual = min(max(usual, least), 1 - least)  # what never happened may happen
    return float(binom.sf(part - 1, whole, usual) if count.share > usual else binom.cdf(part, whole, usual))


def _period(day: int, end: int) -> str:
    return f"In the 24 hours to {_moment(end - day * DAY_US)}"


def _date(day: int, end: int) -> str:
    """The date on which most of a day lies."""
    return f"{_time(end - day * DAY_US - DAY_US // 2):%Y-%m-%d}"


def _moment(microseconds: int) -> str:
    return f"{_time(microseconds):%Y-%m-%d %H:%M} UTC"


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)
