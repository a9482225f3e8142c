"""Ids in the log that are no shopper: one that stands for everybody who is not signed in, and programs.

`guest`: an id that is a placeholder by its name ("guest", "null", "0"), or that has far more requests than any one
shopper can have. Its history mixes strangers. `bots`: an id whose name is a program's, that asks the same query again
and again and orders nothing, that clicks everything, or that clicks nothing. Mining names them; `leave_out` in `[mine]`
leaves them out, and days by their dates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from mmse.core.findings import Finding, share
from mmse.mining.log_sql import LogSql, rows_of
from mmse.sources.casting import ANY_ACTION, ORDERED, SHOWN
from mmse.sources.sql import literal

Stranger = Literal["guest", "bots"]
STRANGERS: tuple[Stranger, ...] = ("guest", "bots")
PLACEHOLDERS = """
    guest guests anonymous anon anonym nobody null nil none nan na n/a undefined unknown unset empty missing default
    not_set (not_set) 0 0.0 -1 - _ ? . false 00000000-0000-0000-0000-000000000000
"""
"""Ids that stand for no one; blanks count as underscores."""
PROGRAM_PATTERN = (
    r"(\bbot\b|bot[/;)]|googlebot|bingbot|ahrefs|semrush|crawler|spider|slurp|scraper|scrapy|curl/|wget/|python-requests|python-urllib|headless|"
    r"lighthouse|pingdom|uptimerobot|gtmetrix|apache-httpclient|go-http-client|okhttp|java/)"
)
MIN_PROGRAM_REQUESTS = 20
"""An id with a program's name needs so many requests: a shopper may be called Talbot."""
MIN_REPEATS = 200
"""An id that asks hardly anything else is a program from so many requests on, if they are 1% of the log, too."""
MIN_CLICKS_EXPECTED = 50.0
"""An id that clicks nothing is a program where others would have clicked so often on what it was shown."""
MIN_CLICKED = 100
MIN_GUEST_REQUESTS, MIN_GUEST_SHARE, MIN_GUEST_RATIO = 200, 0.05, 50.0
"""An id is everybody with so many requests, such a share of the log, and so many times what the median shopper has."""
MIN_GUEST_QUERIES = 20
UNCOUNTED = ", ".join(f"CAST(NULL AS BIGINT) AS {name}" for name in ("n_shown", "n_clicked", "n_ordered"))
"""SQL for the counts of `request_summary` where nobody counted them."""


@dataclass(frozen=True)
class StrangerId:
    """An id that is no shopper: which of `STRANGERS`, why, and its requests among those of `n_requests` in the log."""

    user_id: str
    kind: Stranger
    reason: str
    requests: int
    n_requests: int

    @property
    def share(self) -> str:
        """Its share of all requests."""
        return share(self.requests, self.n_requests)


def summarise_requests(sql: LogSql, rows: str) -> None:
    """Makes the relation `request_summary`: a row for each request of `rows`, the name of checked rows of events."""
    sql.define(
        "request_summary",
        f"""
        SELECT request_id, min(user_id) AS user_id, min(query) AS query,
               coalesce(min(timestamp) FILTER (WHERE flags & {SHOWN} > 0), min(timestamp)) AS timestamp,
               count(DISTINCT item_row) FILTER (WHERE flags & {SHOWN} > 0) AS n_shown,
               count(DISTINCT item_row) FILTER (WHERE flags & {ANY_ACTION} > 0) AS n_clicked,
               count(DISTINCT item_row) FILTER (WHERE flags & {ORDERED} > 0) AS n_ordered
          FROM {rows} GROUP BY request_id""",
    )


def find_strangers(sql: LogSql, requests: str) -> list[StrangerId]:
    """The ids of `requests` that are no shopper, those with the most requests first; makes the relation `stranger`.

    `requests` is SQL with the columns of `request_summary`, of which the counts may be NULL: then only names and
    numbers of requests tell. Distinct queries are counted for busy ids alone.
    """
    sql.define(
        "all_shoppers",
        f"""
        SELECT user_id, count(*) AS n_requests, sum(n_shown) AS n_shown, sum(n_clicked) AS n_clicked,
               sum(n_ordered) AS n_ordered
          FROM {requests} AS request WHERE user_id IS NOT NULL AND trim(user_id) <> '' GROUP BY user_id""",
    )
    sql.define(
        "shopper_summary",
        f"""
        SELECT all_shoppers.*, n_queries
          FROM all_shoppers LEFT JOIN (
            SELECT request.user_id AS busy_id, count(DISTINCT query) AS n_queries
              FROM {requests} AS request
              SEMI JOIN (SELECT user_id FROM all_shoppers WHERE n_requests >= {MIN_REPEATS}) AS busy
                     ON busy.user_id = request.user_id
             GROUP BY request.user_id) AS busy_shopper ON busy_id = user_id""",
    )
    ((total, median, rate, n_queries),) = rows_of(
        sql,
        f"""
        SELECT (SELECT count(*) FROM {requests} AS request) AS total, coalesce(median(n_requests), 0) AS median,
               coalesce(median(n_clicked / nullif(n_shown, 0)) FILTER (WHERE n_shown >= 5), 0) AS rate,
               (SELECT count(*) FROM (SELECT DISTINCT query FROM {requests} AS request LIMIT 3) AS some_query) AS n
          FROM shopper_summary""",
    )
    sql.define(
        "stranger",
        f"""
        SELECT user_id, CASE WHEN program IS NOT NULL THEN 'bots' ELSE 'guest' END AS kind,
               coalesce(program, everybody) AS reason, n_requests
          FROM (SELECT *, {_program(total, rate, n_queries)} AS program, {_everybody(total, median)} AS everybody
                  FROM shopper_summary) AS shopper
         WHERE program IS NOT NULL OR everybody IS NOT NULL""",
    )
    strangers = rows_of(sql, "SELECT user_id, kind, reason, n_requests FROM stranger ORDER BY n_requests DESC, user_id")
    sql.drop("all_shoppers")
    return [StrangerId(user_id, kind, reason, requests, total) for user_id, kind, reason, requests in strangers]


def stranger_findings(strangers: list[StrangerId]) -> list[Finding]:
    """What to say of them: a finding for `guest` and one for `bots`."""
    findings = []
    for kind in STRANGERS:
        ids = [stranger for stranger in strangers if stranger.kind == kind]
        if not ids:
            continue
        n_requests, total = sum(stranger.requests for stranger in ids), ids[0].n_requests
        names = ", ".join(repr(stranger.user_id) for stranger in ids[:3]) + (", …" if len(ids) > 3 else "")
        requests = f"{n_requests:,} of {total:,} requests ({share(n_requests, total)})"
        consequence = (
            "is no one shopper: its history and its second tries mix strangers"
            if kind == "guest"
            else "is a program: what it asks and clicks is learned as if shoppers had"
        )
        findings.append(
            Finding(
                name=kind,
                severity="warns",
                cause=f"{names} has {requests} and {consequence} ({ids[0].reason}).",
                cure=f'Write leave_out = ["{kind}"] in [mine] of shop.toml: '
                + ("these requests stay, without a shopper." if kind == "guest" else "these requests are left out."),
                example=f"user_id {ids[0].user_id!r}: {ids[0].requests:,} requests",
                numbers={"ids": len(ids), "requests": n_requests, "of_requests": total},
            )
        )
    return findings


def is_day(name: str) -> bool:
    """Whether `name` is a date such as 2026-11-29."""
    try:
        return len(name) == len("2026-11-29") and bool(date.fromisoformat(name))
    except ValueError:
        return False


def on_days(names: Iterable[str]) -> str:
    """SQL for whether `timestamp` (UTC) lies on one of the days among `names`."""
    days = ", ".join(f"DATE {literal(name)}" for name in names if is_day(name))
    return f"CAST(timestamp AS DATE) IN ({days})" if days else "false"


def leave_out(sql: LogSql, rows: str, kinds: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Finds what `kinds` name in the relation `rows` and makes what `kept_rows` reads; counts what is left out.

    `kinds` are those of `STRANGERS`, and days; strangers are looked for on the days that stay.
    """
    summarise_requests(sql, rows)
    sql.define("day_request", f"SELECT * FROM request_summary WHERE {on_days(kinds)}")
    sql.define("other_request", f"SELECT * FROM request_summary WHERE NOT ({on_days(kinds)})")
    find_strangers(sql, "other_request")
    sql.define("guest_id", f"SELECT user_id FROM stranger WHERE kind = 'guest' AND {'guest' in kinds}")
    sql.define(
        "left_request",
        f"""
        SELECT request_id FROM other_request JOIN stranger ON stranger.user_id = other_request.user_id
         WHERE kind = 'bots' AND {"bots" in kinds}
         UNION ALL SELECT request_id FROM day_request""",
    )
    counts = {}
    for day in filter(is_day, kinds):
        ((n,),) = rows_of(sql, f"SELECT count(*) AS n FROM day_request WHERE {on_days([day])}")
        counts[day] = {"requests": int(n)}
    for kind in (kind for kind in kinds if not is_day(kind)):
        ((n_ids, n_requests),) = rows_of(
            sql, f"SELECT count(*) AS n, coalesce(sum(n_requests), 0) AS m FROM stranger WHERE kind = {literal(kind)}"
        )
        counts[kind] = {"ids": int(n_ids), "requests": int(n_requests)}
    return counts


def kept_rows(rows: str) -> str:
    """SQL for `rows` without what is left out, and without a shopper where the id is everybody's."""
    return f"""
        (SELECT * REPLACE (CASE WHEN user_id IN (SELECT user_id FROM guest_id) THEN NULL ELSE user_id END AS user_id)
           FROM {rows} ANTI JOIN left_request USING (request_id))"""


def _program(total: int, rate: float, n_queries: int) -> str:
    """SQL: why an id is a program, NULL for a shopper. `rate` is the median share of shown items that an id clicks."""
    is_named = f"regexp_matches(lower(user_id), {literal(PROGRAM_PATTERN)}) AND n_requests >= {MIN_PROGRAM_REQUESTS}"
    repeats = (
        f"n_requests >= {max(MIN_REPEATS, total / 100)} AND n_queries * 100 <= n_requests "
        f"AND coalesce(n_ordered, 0) = 0 AND {n_queries} > 2"
    )
    takes_all = (
        f"n_clicked >= {MIN_CLICKED} AND n_clicked >= 0.9 * n_shown AND n_shown >= 3 * n_requests AND {rate} < 0.5"
    )
    takes_nothing = f"n_clicked = 0 AND n_shown * {rate} >= {MIN_CLICKS_EXPECTED}"
    clicked, shown = "CAST(n_clicked AS BIGINT)", "CAST(n_shown AS BIGINT)"
    return f"""CASE WHEN {is_named} THEN 'its id names a program'
        WHEN {repeats} THEN 'distinct queries: ' || n_queries || ' in ' || n_requests || ' requests, and no order'
        WHEN {takes_all} THEN 'it clicks ' || {clicked} || ' of ' || {shown} || ' shown items'
        WHEN {takes_nothing} THEN 'it was shown ' || {shown} || ' items and clicked none' END"""


def _everybody(total: int, median: float) -> str:
    """SQL: why an id is everybody's, NULL for one shopper's."""
    names = ", ".join(literal(name) for name in PLACEHOLDERS.split())
    least = max(MIN_GUEST_REQUESTS, MIN_GUEST_SHARE * total, MIN_GUEST_RATIO * median)
    return f"""CASE WHEN replace(lower(trim(user_id)), ' ', '_') IN ({names}) AND n_requests >= 2
        THEN 'the id is a placeholder'
        WHEN n_requests >= {least} AND n_queries >= {MIN_GUEST_QUERIES}
        THEN 'it has ' || n_requests || ' requests, the median shopper {median:g}' END"""
