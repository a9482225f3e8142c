"""Examines a shop's two tables before an hour is spent on them: what is wrong with the log, and what to do.

The rows are read and checked as mining reads them, without its limit for bad rows, into a temporary folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mmse.core.errors import TableError
from mmse.core.findings import Finding, Severity, share, sort_findings
from mmse.core.progress import Progress, silent
from mmse.core.scratch import ScratchFolder
from mmse.mining.item_checks import ITEM_CHECKS, check_texts
from mmse.mining.lessons import NO_LOG, LogTotals, lessons
from mmse.mining.log_checks import CHECKS, read_totals
from mmse.mining.log_sql import DuckDbSql
from mmse.mining.mine import MineConfig
from mmse.mining.shoppers import find_strangers, on_days, stranger_findings, summarise_requests
from mmse.sources.casting import RowCounts, hint_of, read_events, read_items
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.file_locations import files_in
from mmse.sources.hashed_ids import hash_ids
from mmse.sources.losses import UNKNOWN_ITEM, explain_spellings, lost_kinds
from mmse.sources.sql import literal
from mmse.sources.tables import EventsConfig, ItemsConfig, open_event_sources, open_items
from mmse.sources.variants import COPY

NO_TITLE = "title is empty"
_TIMES = {"timestamp is before 1995": "ancient", "timestamp is in the future": "future"}
_ALL_ROWS = 1.0
_NO_LOG = Finding(
    "no_log",
    "notes",
    "shop.toml has no [events]: the items alone are searched, by words and by vectors of the catalogue's own text.",
    "If there is a log, name it in [events]; if not, serve the run from a site, which logs what it shows.",
)


@dataclass(frozen=True)
class Checkup:
    """The findings, the worst first, and three lines on what the log teaches; `totals` is None if unread."""

    findings: list[Finding]
    lessons: list[str]
    totals: LogTotals | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether something makes mining fail, or its result worthless."""
        return any(finding.severity == "blocks" for finding in self.findings)


def examine_log(
    items: ItemsConfig, events: EventsConfig | None, config: MineConfig, *, base: Path, progress: Progress = silent
) -> Checkup:
    """What is wrong with the tables of a shop whose shop.toml lies in `base`; an unreadable table is a finding.

    Without `events` the items alone are examined.
    """
    with (
        ScratchFolder("doctor") as folder,
        open_session(memory_limit=config.memory_limit, threads=config.threads) as session,
    ):
        session.spill_to(folder / "spill")
        findings: list[Finding] = []
        try:
            findings += _read_catalogue(session, items, base, progress)
            if events is None:
                findings += [_NO_LOG, *check_texts(session, items)]
                return Checkup(sort_findings(findings), list(NO_LOG))
            findings += _read_log(session, events, config, base, folder, progress)
        except TableError as error:
            findings.append(Finding("unreadable", "blocks", error.cause, error.cure))
            return Checkup(sort_findings(findings), [])
        progress("examine", 0, 1)
        totals = read_totals(session)
        for check in CHECKS:
            findings += check(session, totals)
        for item_check in ITEM_CHECKS:
            findings += item_check(session, items)
        findings += _check_strangers(session, config)
        return Checkup(sort_findings(findings), lessons(totals), totals)


def _read_catalogue(session: Session, items: ItemsConfig, base: Path, progress: Progress) -> list[Finding]:
    """Makes `items` and `rejected`; gives a finding for each reason of a rejection."""
    progress("items", 0, 1)
    table = open_items(session.connection, items, base)
    counts = read_items(session, table, items, max_rejected_share=_ALL_ROWS)
    findings = _check_rejections(session, "items", counts, items.max_rejected_share)
    return findings + _check_emptied(counts) + _check_variants(counts)


def _read_log(
    session: Session, events: EventsConfig, config: MineConfig, base: Path, folder: Path, progress: Progress
) -> list[Finding]:
    """Makes `event`, without days left out, and `request_summary`; gives a finding for each reason of a rejection."""
    progress("events", 0, 1)
    event_tables = hash_ids(session, open_event_sources(session.connection, events, base), config.read_salt(base))
    findings: list[Finding] = []
    lenient_tables = [replace(table, max_rejected_share=_ALL_ROWS) for table in event_tables]
    hours = events.attribution_hours
    target = folder / "events"
    counts = read_events(session, lenient_tables, 1, target, attribution_hours=hours, first_day=config.since)
    for table in event_tables:
        part = counts.sources.get(table.source, counts)
        label = f"events ({table.source})" if counts.sources else "events"
        spelling = explain_spellings(session, table) if UNKNOWN_ITEM in part.rejections else ""
        findings += _check_rejections(session, "events", part, table.max_rejected_share, label, spelling)
    findings += _check_kinds(counts, events.max_rejected_share)
    shards = files_in(folder / "events", "shard=[0-9]*/*.parquet")
    rows = f"read_parquet({shards}, hive_partitioning = false)"
    session.run(f"CREATE VIEW event AS SELECT * FROM {rows} WHERE NOT {on_days(config.leave_out)}")
    summarise_requests(DuckDbSql(session), "event")
    return findings


def _check_rejections(
    session: Session, table: str, counts: RowCounts, limit: float, label: str = "", spelling: str = ""
) -> list[Finding]:
    """The rows of `table`, or of a source of it, `label`, that are left aside; they block above the limit.

    `spelling` is how the ids of unknown items and of the items differ, where they are the same in another spelling.
    """
    n_bad = sum(n for reason, n in counts.rejections.items() if reason != COPY)
    blocks = n_bad > limit * counts.rows
    findings = []
    for reason, n in counts.rejections.items():
        severity: Severity = "notes" if reason == COPY else "blocks" if blocks and n >= n_bad / 2 else "warns"
        numbers: dict[str, int | float] = {"rows": n, "of_rows": counts.rows}
        cause = f"{n:,} of {counts.rows:,} rows of {label or table} ({share(n, counts.rows)}): {reason}."
        cure = f"Mend these rows, or raise max_rejected_share in [{table}] if they may be dropped."
        name, cure = "rejected_rows", f"{hint_of(reason)} {cure}".lstrip()
        if reason == COPY:
            name, cure = "copies", "Nothing is lost: the first of each is read."
        elif reason == UNKNOWN_ITEM and spelling:
            name, cure = "delisted", spelling
        elif reason == UNKNOWN_ITEM:
            name, cause = "delisted", f"{cause} The catalogue is of today and the log is older, or the ids differ."
            cure = (
                "Bring the delisted items back into the items table with available = false, or let their rows go: "
                f"max_rejected_share = {min(0.99, n_bad / counts.rows + 0.01):.2f} in [events]."
            )
        elif reason in _TIMES:
            name, cure = _TIMES[reason], "Look at the unit and the time zone of the column timestamp."
        elif reason == NO_TITLE:
            name, cure = "no_text", "An item without text is not found by its words: give it a title."
        findings.append(Finding(name, severity, cause, cure, example=_example(session, table, reason), numbers=numbers))
    return findings


def _check_emptied(counts: RowCounts) -> list[Finding]:
    """Bad values of optional columns of the items, which are left empty."""
    return [
        Finding(
            "bad_values",
            "warns",
            f"{n:,} items ({share(n, counts.rows)}) lose a value: {reason}.",
            "Mend the values, or leave the column out: ignore in [items].",
            numbers={"values": n, "of_rows": counts.rows},
        )
        for reason, n in counts.emptied.items()
    ]


def _check_variants(counts: RowCounts) -> list[Finding]:
    """Rows of the items that became part of an earlier one."""
    n = counts.variants
    if not n.rows:
        return []
    cause = f"{n.rows:,} rows of items are variants of {n.items:,} items: the same item_id and a like title."
    cure = "Each is one item with the first title and the lowest price; give variants ids of their own to list them."
    return [Finding("variants", "notes", cause, cure, numbers={"rows": n.rows, "items": n.items})]


def _check_kinds(counts: RowCounts, limit: float) -> list[Finding]:
    """Kinds of events that are lost, though they may be few of the rows."""
    return [
        Finding(
            f"lost_{count.kind.replace(' ', '_')}",
            "blocks",
            f"{count.which} rows that tell of {count.kind} are bad.",
            "Mend these rows: without them nothing is learned from that kind.",
            example=" ".join(count.reasons.split())[:200],
            numbers={"rows": count.rejected, "of_rows": count.rows},
        )
        for count in lost_kinds(counts.kinds, limit)
    ]


def _example(session: Session, table: str, reason: str) -> str:
    rows = session.run(
        f'SELECT row FROM rejected WHERE "table" = {literal(table)} AND reason = {literal(reason)} LIMIT 1'
    )
    return str(rows[0][0])[:200] if rows else ""


def _check_strangers(session: Session, config: MineConfig) -> list[Finding]:
    """Ids that are no shopper; what `leave_out` names already is a note."""
    findings = stranger_findings(find_strangers(DuckDbSql(session), "request_summary"))
    return [
        replace(finding, severity="notes", cure="[mine] leave_out names it.")
        if finding.name in config.leave_out
        else finding
        for finding in findings
    ]
