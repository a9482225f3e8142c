"""What is wrong with a log's checked rows: each check is a query of DuckDB and gives findings with numbers.

The checks read two tables: `event`, the good rows as `sources.casting` writes them, and `request_summary`, a row for
each request (`mining.shoppers`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from mmse.core.findings import Finding, Severity, share
from mmse.mining.lessons import LogTotals
from mmse.sources.casting import ANY_ACTION, EXPLORED, ORDERED, SHOWN
from mmse.sources.duckdb_session import Session

GOOD_CLICKS = 1_000
"""With fewer requests that took something, a tenth of them, the test window, says little: intervals of ±10 points."""
MIN_CLICKED_REQUESTS = 30
"""With fewer of them no window of the log has anything to learn from or to measure by."""
GOOD_EXPLORED = 1_000
LATE_HOURS = 24.0
MIN_TAIL = 100
"""The order rate of the log's last twentieth is compared where it has so many clicks."""


def read_totals(session: Session) -> LogTotals:
    """How much the log has of what is learned from."""
    ((n_requests, n_queries, n_users, n_shown, n_clicked, n_ordered),) = session.run("""
        SELECT count(*), count(DISTINCT lower(trim(query))), count(DISTINCT user_id), coalesce(sum(n_shown), 0),
               coalesce(sum(n_clicked), 0), coalesce(sum(n_ordered), 0)
          FROM request_summary""")
    ((n_explored, n_positions),) = session.run(f"""
        SELECT count(*) FILTER (flags & {EXPLORED} > 0 AND flags & {ANY_ACTION} > 0),
               count(DISTINCT position) FILTER (flags & {SHOWN} > 0)
          FROM event""")
    ((n_unclicked,),) = session.run(f"""
        SELECT count(*) FROM (SELECT bit_or(flags) AS flags FROM event GROUP BY request_id, item_row)
         WHERE flags & {SHOWN} > 0 AND flags & {ANY_ACTION} = 0""")
    counts = (n_users, n_shown, n_unclicked, n_clicked, n_ordered, n_explored, n_positions, n_requests, n_queries)
    return LogTotals(*(int(count) for count in counts))


def check_size(session: Session, totals: LogTotals) -> list[Finding]:
    """Too few requests that took something to learn from, or to measure by."""
    ((n_taken, n_ordered),) = session.run(
        "SELECT count(*) FILTER (n_clicked > 0), count(*) FILTER (n_ordered > 0) FROM request_summary"
    )
    findings = []
    numbers = {"requests": totals.n_requests, "with_click": n_taken, "with_order": n_ordered, "would_do": GOOD_CLICKS}
    if n_taken < GOOD_CLICKS:
        cause = f"{n_taken:,} of {totals.n_requests:,} requests have a click or an order; {GOOD_CLICKS:,} would do."
        severity: Severity = "blocks" if n_taken < MIN_CLICKED_REQUESTS else "warns"
        findings.append(Finding("too_few_clicks", severity, cause, "Bring a longer log.", numbers=numbers))
    if 0 < n_ordered < GOOD_CLICKS:
        cause = f"{n_ordered:,} requests have an order; {GOOD_CLICKS:,} would do to learn what sells."
        cure = "Bring a longer log; until then clicks count as well."
        findings.append(Finding("too_few_orders", "warns", cause, cure, numbers=numbers))
    if not n_ordered:
        cause = "The log has no order: clicks alone say what shoppers want."
        findings.append(Finding("no_orders", "warns", cause, "Join the orders to the requests that led to them."))
    if totals.n_queries == 1:
        cause = f"All {totals.n_requests:,} requests have one query."
        findings.append(
            Finding("one_query", "blocks", cause, "Look whether [events.columns] query names the right column.")
        )
    return findings


def check_abilities(session: Session, totals: LogTotals) -> list[Finding]:
    """What a log of clicks or of orders alone, of one position, or without chance cannot teach."""
    findings = []
    if totals.n_shown and not totals.n_unclicked:
        cause = (
            f"All {totals.n_shown:,} shown items were clicked or ordered: the log says what was taken and not what was "
            "passed over. There are no probabilities, no threshold and no position bias."
        )
        cure = "Log every item that a request showed. Until then use the order of the hits alone."
        findings.append(Finding("clicks_only", "warns", cause, cure, numbers={"shown": totals.n_shown}))
    if totals.n_positions == 1 and totals.n_unclicked:
        cause = f"All {totals.n_shown:,} shown items have one position, so that position bias cannot be learned."
        findings.append(Finding("one_position", "warns", cause, "Log where each item stood, from 1."))
    if not totals.n_users:
        cause = "No row has a user_id: nothing is learned of shoppers, and second tries of a query are not known."
        findings.append(Finding("no_users", "notes", cause, "Map user_id in [events.columns], if you have it."))
    if totals.n_explored < GOOD_EXPLORED:
        cause = (
            f"Slots filled at random have {totals.n_explored:,} clicks ({GOOD_EXPLORED:,} would do): what is learned "
            "of positions and probabilities comes from the old engine's own choice."
        )
        cure = "Fill a share of the slots at random and say so in the column explored (docs/serving.md)."
        findings.append(Finding("no_exploration", "notes", cause, cure, numbers={"clicks": totals.n_explored}))
    return findings


def check_repeats(session: Session, totals: LogTotals) -> list[Finding]:
    """Rows that were sent twice: the same request, item, position and action."""
    ((n_rows, n_repeats),) = session.run("""
        SELECT sum(n)::BIGINT, sum(n - 1)::BIGINT
          FROM (SELECT count(*) AS n FROM event GROUP BY request_id, item_row, position, flags, timestamp)""")
    if not n_repeats:
        return []
    ((request, item, n),) = session.run("""
        SELECT request_id, item_id, count(*) AS n FROM event JOIN items USING (item_row)
         GROUP BY request_id, item_id, position, flags, event.timestamp ORDER BY n DESC, request_id LIMIT 1""")
    cause = f"{n_repeats:,} of {n_rows:,} rows ({share(n_repeats, n_rows)}) repeat another row, which counts once."
    severity: Severity = "warns" if n_repeats > n_rows / 100 else "notes"
    return [
        Finding(
            "duplicates",
            severity,
            cause,
            "Nothing to do for the model; look why the tracker sends twice, or which actions are not told apart.",
            example=f"request {request!r}, item {item!r}: {n} times",
            numbers={"rows": n_rows, "repeats": n_repeats},
        )
    ]


def check_positions(session: Session, totals: LogTotals) -> list[Finding]:
    """Two items on one position of a request, and positions that are missing."""
    session.run(f"""
        CREATE OR REPLACE TABLE page AS
        SELECT request_id, count(*) AS n_items, count(DISTINCT position) AS n_positions, max(position) AS last
          FROM (SELECT request_id, item_row, min(position) AS position FROM event
                 WHERE flags & {SHOWN} > 0 GROUP BY request_id, item_row) GROUP BY request_id""")
    ((n_pages, n_shared, n_gaps),) = session.run("""
        SELECT count(*), count(*) FILTER (n_items > n_positions), count(*) FILTER (n_positions < last)
          FROM page""")
    findings = []
    if n_shared and totals.n_positions > 1:
        request, n_items, n_positions = session.run("""
            SELECT request_id, n_items, n_positions FROM page ORDER BY n_items - n_positions DESC, request_id LIMIT 1
            """)[0]
        cause = (
            f"In {n_shared:,} of {n_pages:,} requests ({share(n_shared, n_pages)}) two items stand on one position, as "
            "where each page counts from 1 again. What stood further down counts as if it had been on top."
        )
        cure = "Number positions through all pages: (page - 1) * page size + position; or give each page a request_id."
        findings.append(
            Finding(
                "shared_positions",
                "warns" if n_shared > n_pages / 100 else "notes",
                cause,
                cure,
                example=f"request {request!r}: {n_items} items on {n_positions} positions",
                numbers={"requests": n_shared, "of_requests": n_pages},
            )
        )
    if n_gaps > n_pages / 10 and totals.n_unclicked:
        request, n_positions, end = session.run("""
            SELECT request_id, n_positions, last FROM page WHERE n_positions < last
             ORDER BY last - n_positions DESC, request_id LIMIT 1""")[0]
        cause = (
            f"In {n_gaps:,} of {n_pages:,} requests ({share(n_gaps, n_pages)}) positions are missing between items: "
            "items that were shown are not in the log, or were rejected."
        )
        findings.append(
            Finding(
                "position_gaps",
                "warns",
                cause,
                "Log all items of a page; bring delisted items back into the items table.",
                example=f"request {request!r}: {n_positions} positions up to {end}",
                numbers={"requests": n_gaps, "of_requests": n_pages},
            )
        )
    return findings


def check_times(session: Session, totals: LogTotals) -> list[Finding]:
    """A log of one moment, of days without times, of the future or of long ago."""
    ((begin, end, n_moments, n_midnight, n_future),) = session.run("""
        SELECT min(timestamp), max(timestamp), count(DISTINCT timestamp),
               count(*) FILTER (timestamp = date_trunc('day', timestamp)),
               count(*) FILTER (timestamp > now()::TIMESTAMP + INTERVAL 1 DAY)
          FROM request_summary""")
    findings = []
    if n_moments == 1 and totals.n_requests > 1:
        cause = f"All {totals.n_requests:,} requests are of one moment, {begin}: the log cannot be cut in time."
        findings.append(
            Finding("one_moment", "blocks", cause, "Look whether [events.columns] timestamp names the right column.")
        )
    elif n_midnight > totals.n_requests / 2:
        cause = f"{n_midnight:,} of {totals.n_requests:,} requests have a day and no time of day."
        cure = "Bring the time, so that what a shopper did before a request is known."
        findings.append(Finding("no_time_of_day", "notes", cause, cure, example=str(begin)))
    if n_future:
        cause = f"{n_future:,} of {totals.n_requests:,} requests are later than now, up to {end}."
        cure = "Look at the unit and the time zone of the column timestamp."
        findings.append(Finding("future", "blocks", cause, cure, example=str(end), numbers={"requests": n_future}))
    if begin is not None and begin < dt.datetime(2000, 1, 1):
        cause = f"The log begins in {begin:%Y}: {begin}."
        findings.append(Finding("ancient", "blocks", cause, "Look at the unit of the column timestamp."))
    return findings


def check_delays(session: Session, totals: LogTotals) -> list[Finding]:
    """Clicks before their impression, and orders that come so late that the end of the log lacks them."""
    ((n_actions, n_early, n_orders, late_hours),) = session.run(f"""
        SELECT count(*), count(*) FILTER (delay < 0), count(*) FILTER (ordered),
               coalesce(quantile_cont(delay, 0.9) FILTER (ordered), 0) / 3600
          FROM (SELECT epoch(event.timestamp) - epoch(request_summary.timestamp) AS delay,
                       flags & {ORDERED} > 0 AS ordered
                  FROM event JOIN request_summary USING (request_id)
                 WHERE flags & {ANY_ACTION} > 0 AND flags & {SHOWN} = 0 AND n_shown > 0)""")
    findings = []
    if n_early:
        cause = f"{n_early:,} of {n_actions:,} clicks and orders are earlier than the page that shows them."
        cure = "Take all times from one clock, the server's, in one time zone."
        numbers = {"early": n_early, "actions": n_actions}
        findings.append(Finding("clock_skew", "warns", cause, cure, numbers=numbers))
    if n_orders and late_hours > LATE_HOURS:
        days = f"{late_hours / 24:.1f}"
        cause = f"One order in ten comes more than {days} days after its search: the end of the log lacks some."
        cure = f"End the log {late_hours / 24:.0f} days before the day on which it was exported."
        findings.append(Finding("order_delay", "warns", cause, cure, numbers={"hours": round(late_hours, 1)}))
    return findings + _check_tail(session)


def _check_tail(session: Session) -> list[Finding]:
    """An order rate that falls at the end of the log: orders that have not arrived."""
    ((clicks, orders, tail_clicks, tail_orders),) = session.run("""
        WITH tail AS (SELECT quantile_disc(timestamp, 0.95) AS start FROM request_summary)
        SELECT coalesce(sum(n_clicked) FILTER (timestamp < start), 0)::BIGINT,
               coalesce(sum(n_ordered) FILTER (timestamp < start), 0)::BIGINT,
               coalesce(sum(n_clicked) FILTER (timestamp >= start), 0)::BIGINT,
               coalesce(sum(n_ordered) FILTER (timestamp >= start), 0)::BIGINT
          FROM request_summary, tail""")
    usual_orders = float(tail_clicks * orders / clicks) if clicks else 0.0
    if tail_clicks < MIN_TAIL or usual_orders < 20 or tail_orders > usual_orders / 2:
        return []
    cause = (
        f"The last twentieth of the log has {int(tail_orders):,} orders where {usual_orders:.0f} are usual for its "
        "clicks: the newest orders seem to be missing, and the test window lies there."
    )
    cure = "End the log where the orders are complete."
    numbers: dict[str, int | float] = {"orders": int(tail_orders), "usual": round(usual_orders)}
    return [Finding("missing_orders", "warns", cause, cure, numbers=numbers)]


CHECKS: tuple[Callable[[Session, LogTotals], list[Finding]], ...] = (
    check_size,
    check_abilities,
    check_positions,
    check_repeats,
    check_times,
    check_delays,
)
"""All checks of the log."""
