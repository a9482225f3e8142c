"""Kills of what writes the log of events and of what removes rows from it: recording, sealing, pruning, forgetting."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from faults import bases, children, judges
from faults.children import Report
from faults.trials import Target

from mmse.cycle.forget import forget
from mmse.schema.http_events import Click, Exposure
from mmse.serving.events import retention
from mmse.serving.events.erasure import erase_from_events
from mmse.serving.events.log import EventLog
from mmse.serving.events.rows import ExposureRecord

N_EVENTS, N_OLD, N_YOUNG = 40, 12, 3
KEEP_DAYS, N_GONE = 10.0, 4


def targets(base: Path) -> list[Target]:
    """The targets of the log."""
    return [
        Target("event recording and sealing", lambda trial: None, record_events, judge_events, keeps=True),
        Target("mmse events prune", write_log, prune_log, judge_prune),
        Target("mmse forget, in a log", write_log, forget_in_log, judge_forgotten_log),
        Target(
            "mmse forget, in a site", partial(_link_site, base), forget_in_site, partial(_judge_forgotten_site, base)
        ),
    ]


def record_events(trial: Path, report: Report) -> None:
    """Three threads that log what was shown and clicked, into segments that are sealed every few rows."""
    log, name = EventLog(trial / "events", seal_rows=30, seal_s=0.2), str(time.time_ns())

    def append(writer: int) -> None:
        for number in range(N_EVENTS):
            request_id = f"{name}-{writer}-{number}"
            log.record(ExposureRecord(f"{request_id}r", time.time(), "drill", ["i1", "i2"]))
            log.append([Exposure(request_id, "drill", ["i1", "i2"]), Click(request_id, "i2")])
            report(f"event {request_id}")

    try:
        children.run_threads(*(partial(append, writer) for writer in range(3)))
    finally:
        log.close()


def judge_events(trial: Path, lines: list[str]) -> list[str]:
    """Every acknowledged event is there, and no row twice; nothing but sealed files is left."""
    problems = judges.miscounted_events(trial / "events", lines)
    left = [path.name for path in (trial / "events" / "_open").glob("*") if not path.name.startswith("torn-")]
    return problems + ([f"not sealed: {left}"] if left else [])


def write_log(trial: Path) -> None:
    """A log of old and young rows, in sealed files and in a segment."""
    for number in range(N_OLD):
        bases.write_events(trial / "events", f"old{number % 3}-{number}", [20.0 + number] * 3)
    for number in range(N_YOUNG):
        bases.write_events(trial / "events", f"young{number}", [1.0] * 3)
    bases.write_events(trial / "events", "open", [0.1] * 3, sealed=False)


def prune_log(trial: Path, report: Report) -> None:
    """Removes what is older than ten days."""
    retention.prune(trial / "events", KEEP_DAYS, datetime.now(UTC))


def judge_prune(trial: Path, lines: list[str]) -> list[str]:
    """No young row is gone; files of old ones are whole; a second prune removes them."""
    problems = _check_young(trial)
    old = judges.count_rows([row for row in judges.read_rows(trial / "events") if row["request_id"].startswith("old")])
    problems += [f"{name} has {count} of 3 rows" for name, count in old.items() if count != 3]
    prune_log(trial, lambda line: None)
    rows = judges.read_rows(trial / "events")
    return problems + _check_young(trial) + [row["request_id"] for row in rows if row["request_id"].startswith("old")]


def _check_young(trial: Path) -> list[str]:
    counts = judges.count_rows(judges.read_rows(trial / "events"))
    names = [f"young{number}" for number in range(N_YOUNG)] + ["open"]
    return judges.miscounted(counts, names, 3)


def forget_in_log(trial: Path, report: Report) -> None:
    """Removes one shopper, who has a row in a file with nobody else's."""
    erase_from_events(trial / "events", f"old{N_GONE % 3}-{N_GONE}")


def judge_forgotten_log(trial: Path, lines: list[str]) -> list[str]:
    """Nobody else's row is gone; after a second one nothing of the shopper is left, in no file."""
    problems = _check_others(trial)
    forget_in_log(trial, lambda line: None)
    name = f"old{N_GONE % 3}-{N_GONE}".encode()
    files = [path for path in (trial / "events").rglob("*") if path.is_file()]
    problems += [f"{path.name} has rows of the shopper" for path in files if name in path.read_bytes()]
    return problems + _check_others(trial) + judges.litter(trial)


def _check_others(trial: Path) -> list[str]:
    counts = judges.count_rows(judges.read_rows(trial / "events"))
    names = [f"old{number % 3}-{number}" for number in range(N_OLD) if number != N_GONE]
    names += [f"young{number}" for number in range(N_YOUNG)] + ["open"]
    return judges.miscounted(counts, names, 3)


def _link_site(base: Path, trial: Path) -> None:
    bases.link_tree(base / "site", trial / "site")
    shopper = _shopper(trial / "site")
    (trial / "shopper").write_text(shopper, "utf-8")
    for number in range(3):
        bases.write_events(trial / "site" / "events", shopper if number == 1 else f"u{number}", [1.0] * 4)


def _shopper(site: Path) -> str:
    """The shopper of a site's run with the most history."""
    users = pq.read_table(site / "run" / "dataset" / "interactions.parquet")["user_id"].to_pylist()
    return str(max(sorted(set(users)), key=users.count))


def forget_in_site(trial: Path, report: Report) -> None:
    """Removes the shopper with the most history from a site, its run and its log."""
    forget([trial / "site"], [(trial / "shopper").read_text("utf-8")])


def _judge_forgotten_site(base: Path, trial: Path, lines: list[str]) -> list[str]:
    """What is there is whole at any moment; after a second one nothing of the shopper is left, and all else is."""
    site = trial / "site"
    problems = judges.damages(site) + judges.folder_damages(site / "run")
    forget_in_site(trial, lambda line: None)
    shopper = (trial / "shopper").read_text("utf-8")
    report = forget([site], [shopper], dry_run=True)
    problems += [f"{traces.folder} has {traces.n_rows} rows of the shopper" for traces in report.folders]
    problems += judges.damages(site) + judges.folder_damages(site / "run") + judges.litter(trial)
    counts = judges.count_rows(judges.read_rows(site / "events"))
    problems += judges.miscounted(counts, ["u0", "u2"], 4)
    former = _other_users(base / "site", shopper)
    if _other_users(site, shopper) != former:
        problems.append("the history of somebody else has changed")
    return problems


def _other_users(site: Path, shopper: str) -> list[str]:
    users = pq.read_table(site / "run" / "dataset" / "interactions.parquet")["user_id"].to_pylist()
    return sorted(user for user in users if user != shopper)
