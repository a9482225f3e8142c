"""Kills of what changes a site: edits and folds, publishing, swaps, rules, an experiment's start."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from faults import bases, children, judges
from faults.children import Report
from faults.trials import Target

from mmse.catalogue import Delete, Edit, LiveCatalogue, LiveConfig, Upsert
from mmse.core.errors import MmseError
from mmse.retrieval.retriever import Retriever
from mmse.serving import experiments
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site, put_in_service, rollback

N_EDITS, N_STEPS = 30, 6
Apply = Callable[[list[Edit]], object]


def targets(base: Path) -> list[Target]:
    """The targets of a site."""
    run, site = partial(_link_run, base), partial(_link_site, base)
    return [
        Target("edits of two writers, folded meanwhile", run, edit_and_fold, judge_edits, keeps=True),
        Target("publish, with edits meanwhile", site, publish_under_edits, judge_publish),
        Target("swap of versions, with edits meanwhile", site, swap_under_edits, judge_swap),
        Target("an experiment's start, ramp and stop", site, change_experiments, judge_experiments),
        Target("publishing of rules", site, publish_rules, judge_rules),
    ]


def _link_run(base: Path, trial: Path) -> None:
    bases.link_tree(base / "run", trial / "run")


def _link_site(base: Path, trial: Path) -> None:
    bases.link_tree(base / "run", trial / "run")
    for _ in range(2):
        publish(trial / "site", trial / "run")


def write_edits(apply: Apply, writer: str, report: Report, n: int, n_items: int = 12) -> None:
    """Sends `n` edits of `n_items` items one by one, each reported before it is sent and once it is acknowledged.

    A price says which edit it is, over all trials of a folder; each fifth one deletes.
    """
    for number in range(n):
        item_id = f"{writer}{number % n_items}"
        price = 0.0 if number % 5 == 4 else float(_tick())
        title = f"zorbak thing of {writer}"
        report(f"try {item_id} {price:.0f}")
        edit: Edit = Upsert({"item_id": item_id, "title": title, "price": price})
        apply([edit if price else Delete(item_id, missing_ok=True)])
        report(f"edit {item_id} {price:.0f}")


def _tick() -> int:
    """A number that no edit had before: microseconds of a week."""
    return time.time_ns() // 1000 % 10_000_000 + 1


def edit_and_fold(trial: Path, report: Report) -> None:
    """Two threads that edit a run, whose edits are folded every few rows."""
    config = LiveConfig(fold_rows=8, fold_share=0.0)
    with LiveCatalogue.open(trial / "run", writable=True, config=config) as catalogue:
        children.run_threads(*(partial(write_edits, catalogue.apply, name, report, N_EDITS) for name in ("a", "b")))


def judge_edits(trial: Path, lines: list[str]) -> list[str]:
    """Looks at the run, and makes an edit."""
    problems = [problem for problem in judges.damages(trial / "run") if "no whole" not in problem]
    problems += judges.lost_edits(trial / "run", lines)
    with LiveCatalogue.open(trial / "run", writable=True, config=bases.MANUAL) as catalogue:
        catalogue.apply([Upsert({"item_id": "later", "title": "zorbak", "price": 3.0})])
    problems += judges.damages(trial / "run") + judges.lost_edits(trial / "run", lines)
    return problems + [name for name in judges.litter(trial) if "torn-" not in name]


def _with_edits(site: Path, report: Report, work: Callable[[], object]) -> None:
    """Does `work` while another thread edits the site, until both are done."""
    children.run_threads(partial(write_edits, Site.open(site).apply, "a", report, N_EDITS // 2), work)


def publish_under_edits(trial: Path, report: Report) -> None:
    """Publishes the run as a third version."""
    _with_edits(trial / "site", report, partial(publish, trial / "site", trial / "run", note="a trial"))


def swap_under_edits(trial: Path, report: Report) -> None:
    """Rolls back, and puts the newest version into service again."""

    def swap() -> None:
        rollback(Site.open(trial / "site"))
        put_in_service(Site.open(trial / "site"), "live", "0002")
        put_in_service(Site.open(trial / "site"), "other", "0001")

    _with_edits(trial / "site", report, swap)


def _judge_site(trial: Path, lines: list[str]) -> list[str]:
    """What is damaged in a site, and which edits its live version lacks."""
    site = trial / "site"
    problems = [problem for problem in judges.damages(site) if "no whole" not in problem]
    live = Site.open(site).state().live.run
    if not Retriever.open(live).search("mug", 5):
        problems.append("the live version finds nothing")
    return problems + judges.lost_edits(live, lines)


def judge_publish(trial: Path, lines: list[str]) -> list[str]:
    """Looks at the site, publishes, and looks again."""
    problems = _judge_site(trial, lines)
    publish(trial / "site", trial / "run")
    return problems + _judge_site(trial, lines) + [name for name in judges.litter(trial) if "torn-" not in name]


def judge_swap(trial: Path, lines: list[str]) -> list[str]:
    """Looks at the site, rolls back, and looks again: the edits go along."""
    problems = _judge_site(trial, lines)
    rollback(Site.open(trial / "site"))
    return problems + _judge_site(trial, lines)


def change_experiments(trial: Path, report: Report) -> None:
    """Starts, ramps and stops experiments; each change is reported once it is made."""
    site = Site.open(trial / "site")
    for number in range(N_STEPS):
        experiments.start(site, bases.plan_experiment(number))
        report(f"done start {number}")
        experiments.ramp(site, f"x{number}", 0.03)
        report(f"done ramp {number}")
        if number % 2:
            experiments.stop(site, f"x{number}")
            report(f"done stop {number}")


def judge_experiments(trial: Path, lines: list[str]) -> list[str]:
    """The experiments are those of all reported changes, or of one more; what is left is stopped."""
    record = experiments.read_experiments(trial / "site")
    n = len(record.history)
    problems = [] if len(lines) in (n, n - 1) or not lines else [f"{len(lines)} changes were made, {n} are there"]
    running = [allocation.experiment.name for allocation in record.state.experiments]
    expected = list[str]()
    for change in record.history:
        if change.action == "start":
            expected.append(change.name)
        elif change.action == "stop":
            expected.remove(change.name)
    if running != expected:
        problems.append(f"{running} run, expected {expected}")
    for name in running:
        experiments.stop(Site.open(trial / "site"), name)
    return problems + judges.damages(trial / "site") + judges.litter(trial)


def publish_rules(trial: Path, report: Report) -> None:
    """Publishes rules again and again."""
    rulebook = Retriever.open(Site.open(trial / "site").state().live.run).rulebook
    assert rulebook is not None
    for number in range(N_STEPS):
        rulebook.publish(bases.RULE.replace("1.3", f"1.{number + 1}"))
        report(f"done {number}")


def judge_rules(trial: Path, lines: list[str]) -> list[str]:
    """The live rules are those that were published last, or of one more; the next ones are taken."""
    rulebook = Retriever.open(Site.open(trial / "site").state().live.run).rulebook
    assert rulebook is not None
    status = rulebook.status()
    problems = [status.problem] if status.problem else []
    if lines and (status.version or 0) < len(lines):
        problems.append(f"{len(lines)} versions were published, {status.version} is live")
    with contextlib.suppress(MmseError):
        rulebook.text(status.version or 0)
    rulebook.publish(bases.RULE)
    return problems + judges.damages(trial / "site") + judges.litter(trial)
