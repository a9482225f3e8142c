"""Two of everything on one folder at one moment: both end well or one is refused in words; nothing is half or twice.

Two servers have one process id each in a namespace of its own, as containers on one volume do.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from faults import bases, children, judges, kills_of_servers
from faults.children import Report
from faults.kills_of_runs import SHOP
from faults.kills_of_sites import write_edits

from mmse.catalogue import LiveCatalogue, LiveConfig
from mmse.core.errors import MmseError
from mmse.cycle.forget import forget
from mmse.cycle.loop import CycleOptions, run_cycle
from mmse.pipeline import run
from mmse.ranking.rulebook import Rulebook
from mmse.schema.filters import Kind
from mmse.serving import experiments
from mmse.serving.events import retention, segments
from mmse.serving.events.rows import SCHEMA
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site

CLONE_NEWPID = 0x20000000
Judge = Callable[[Path, list[str]], list[str]]


@dataclass(frozen=True)
class Pair:
    """Work that two processes (of number 0 and 1) do at once, and what is looked at then, by what they reported."""

    name: str
    prepare: Callable[[Path], object]
    work: Callable[[Path, int, Report], object]
    judge: Judge


def run_pairs(base: Path, work: Path, seed: int, n: int) -> list[dict[str, Any]]:
    """A row for each pair: of `n` trials how often both ended well, one was refused, or something was wrong."""
    rng = random.Random(f"{seed} pairs")
    return [_run(pair, work, rng, max(n // 4, 1) if pair.name in DEAR else n) for pair in _pairs(base)]


DEAR = ("two `mmse run` into one folder", "two cycles of one site")


def _pairs(base: Path) -> list[Pair]:
    return [
        Pair("two writers of edits that fold", _link(base, "run"), _fold, _judge_edits),
        Pair("two publishers of one site", _link(base, "run", "rich"), _publish_run, _judge_versions),
        Pair("two starts of experiments", _link(base, "rich"), _start, _judge_experiments),
        Pair("two publishers of rules", _link(base, "rich"), _publish_rules, _judge_rules),
        Pair("two `mmse forget`", _link(base, "rich"), _forget_user, _judge_users),
        Pair("two `mmse events prune`, with sealing", _link(base, "rich"), _prune, _judge_events),
        Pair(DEAR[0], _link(base, "shop", "run"), _make_run, _judge_run),
        Pair(DEAR[1], _link(base, "shop", "site"), _cycle, _judge_site),
    ]


def _link(base: Path, *names: str) -> Callable[[Path], object]:
    def prepare(trial: Path) -> None:
        for name in names:
            bases.link_tree(base / name, trial / name)
        if SHOP.parent.name in names:
            bases.add_day(trial / "shop")

    return prepare


def _fold(trial: Path, number: int, report: Report) -> None:
    config = LiveConfig(fold_rows=5, fold_share=0.0)
    with LiveCatalogue.open(trial / "run", writable=True, config=config) as catalogue:
        write_edits(catalogue.apply, "ab"[number], report, 20)
        catalogue.compact()


def _start(trial: Path, number: int, report: Report) -> None:
    for step in range(3):
        experiments.start(Site.open(trial / "rich"), bases.plan_experiment(10 + 10 * number + step))
        report(f"done x{10 + 10 * number + step}")


def _forget_user(trial: Path, number: int, report: Report) -> None:
    forget([trial / "rich"], [f"user{number}"])


def _prune(trial: Path, number: int, report: Report) -> None:
    retention.prune(trial / "rich" / "events", 1.2, datetime.now(UTC))
    segments.seal_orphans(trial / "rich" / "events", SCHEMA)


def _publish_rules(trial: Path, number: int, report: Report) -> None:
    rulebook = Rulebook(trial / "rich" / "rules", {"price": Kind.NUMBER})
    for step in range(3):
        rulebook.publish(bases.RULE, note=f"{number}-{step}")
        report(f"done {number}-{step}")


def _publish_run(trial: Path, number: int, report: Report) -> None:
    report(f"done {publish(trial / 'rich', trial / 'run', note=str(number))}")


def _make_run(trial: Path, number: int, report: Report) -> None:
    run(trial / SHOP, trial / "run")


def _cycle(trial: Path, number: int, report: Report) -> None:
    run_cycle(trial / "site", trial / SHOP, CycleOptions())


def _run(pair: Pair, work: Path, rng: random.Random, n: int) -> dict[str, Any]:
    counts, faults = Counter[str](), list[str]()
    for number in range(n):
        trial = work / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        trial.mkdir(parents=True)
        children.call(partial(_prepare, pair, trial))
        pause_s = rng.choice((0.0, 0.0, rng.uniform(0, 0.2)))
        both = [children.start(partial(_work, pair, trial, number)) for number in range(2)]
        for child in both:
            os.kill(child.pid, 0)
            time.sleep(pause_s)
        problems = [f"raw failure: {child.lines[-1]}" for child in both if child.wait() != 0]
        lines = [line for child in both for line in child.lines]
        refusals = [line for line in lines if line.startswith("refused ")]
        counts["one refused" if refusals else "both done"] += 1
        try:
            problems += children.call(partial(_judge, pair, trial, lines))
        except children.ChildFailure as failure:
            problems.append(f"the judge fails: {failure}")
        counts["lost or corrupt"] += bool(problems)
        faults += [f"trial {number}: {problem}" for problem in problems]
    row = {"fault": f"twice: {pair.name}", "trials": n, **counts, "faults": faults}
    print(row, flush=True)
    return row


def _prepare(pair: Pair, trial: Path) -> None:
    pair.prepare(trial)


def _work(pair: Pair, trial: Path, number: int, report: Report) -> None:
    try:
        pair.work(trial, number, report)
    except MmseError as error:
        report(f"refused {type(error).__name__}: {error.cause}")


def _judge(pair: Pair, trial: Path, lines: list[str]) -> list[str]:
    return pair.judge(trial, lines) + [name for name in judges.litter(trial) if "torn-" not in name]


def _judge_edits(trial: Path, lines: list[str]) -> list[str]:
    return judges.damages(trial / "run") + judges.lost_edits(trial / "run", _edits(lines))


def _judge_run(trial: Path, lines: list[str]) -> list[str]:
    return judges.damages(trial / "run")


def _judge_site(trial: Path, lines: list[str]) -> list[str]:
    return judges.damages(trial / "site")


def _edits(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("try ", "edit "))]


def _judge_versions(trial: Path, lines: list[str]) -> list[str]:
    names = sorted(line.split()[1] for line in lines if line.startswith("done "))
    there = sorted(path.name for path in (trial / "rich" / "versions").glob("[0-9]*"))
    problems = (
        [] if len(set(names)) == len(names) and set(names) <= set(there) else [f"{names} published, {there} there"]
    )
    return problems + judges.damages(trial / "rich")


def _judge_experiments(trial: Path, lines: list[str]) -> list[str]:
    record = experiments.read_experiments(trial / "rich")
    running = {allocation.experiment.name for allocation in record.state.experiments}
    lost = {line.split()[1] for line in lines if line.startswith("done ")} - running
    buckets = [bucket for allocation in record.state.experiments for bucket in allocation.buckets]
    overlaps = [(a, b) for a in buckets for b in buckets if a < b and b[0] < a[1]]
    return [f"lost: {lost}"] * bool(lost) + [f"overlap: {overlaps}"] * bool(overlaps) + judges.damages(trial / "rich")


def _judge_rules(trial: Path, lines: list[str]) -> list[str]:
    notes = [publication.note for publication in Rulebook(trial / "rich" / "rules", {}).history()]
    lost = {line.split()[1] for line in lines if line.startswith("done ")} - set(notes)
    return [f"lost: {lost}"] * bool(lost) + judges.damages(trial / "rich")


def _judge_users(trial: Path, lines: list[str]) -> list[str]:
    counts = judges.count_rows(judges.read_rows(trial / "rich" / "events"))
    refused = any(line.startswith("refused ") for line in lines)
    left = [name for name in counts if name.startswith(("user0-", "user1-"))]
    problems = [f"left: {left[:3]}"] * (bool(left) and not refused)
    return problems + judges.miscounted(counts, ["user2", "user3"], 20) + judges.damages(trial / "rich")


def _judge_events(trial: Path, lines: list[str]) -> list[str]:
    counts = judges.count_rows(judges.read_rows(trial / "rich" / "events"))
    return judges.miscounted(counts, ["user2", "user3"], 20) + judges.damages(trial / "rich")


def serve_twice(base: Path, work: Path, seed: int, n: int) -> dict[str, Any]:
    """Two servers of one site that have the process id 1 both, begun in one second and killed; and their clients."""
    rng, counts, faults = random.Random(f"{seed} two servers"), Counter[str](), list[str]()
    site = work / "trial" / "site"
    for number in range(n):
        shutil.rmtree(site.parent, ignore_errors=True)
        site.parent.mkdir(parents=True)
        children.call(lambda: bases.link_tree(base / "rich", site) and None)
        ports = [kills_of_servers.free_port() for _ in range(2)]
        servers = [children.start(partial(_serve_as_first, site, port)) for port in ports]
        clients = [children.start(partial(kills_of_servers.use, port, k)) for k, port in enumerate(ports)]
        for client in clients:
            while not client.lines and client.read(0.02):
                pass
        for client in clients:
            client.read(rng.uniform(0.3, 1.5))
        for process in (*clients, *servers):
            process.kill()
        lines = [line for client in clients for line in client.lines]
        counts["acknowledged"] += sum(line.startswith("event ") for line in lines)
        problems = children.call(partial(judges.miscounted_events, site / "events", lines))
        problems += children.call(partial(judges.damages, site))
        counts["lost or corrupt"] += bool(problems)
        faults += [f"trial {number}: {problem}" for problem in problems]
    row = {"fault": "twice: two servers of one site, one process id", "trials": n, **counts, "faults": faults}
    print(row, flush=True)
    return row


def _serve_as_first(site: Path, port: int, report: Report) -> None:
    """Serves as the process of number 1 in a namespace of its own."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWPID) != 0:
        raise OSError(ctypes.get_errno(), "no namespaces")
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    assert os.getpid() == 1
    kills_of_servers.serve_here(site, port, report)
