"""Kills of what makes folders: each step of `mmse run`, the whole of it, and the daily loop."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from faults import bases, judges
from faults.children import Report
from faults.trials import Target

from mmse.core.artifact import MANIFEST
from mmse.core.run_folder import INDEX, INPUTS, REPORT
from mmse.cycle.loop import CycleOptions, run_cycle
from mmse.cycle.record import read_records
from mmse.pipeline import make, run
from mmse.serving.versions.site import Site
from mmse.shop import shop_of

SHOP = Path("shop", "shop.toml")


def step_targets(base: Path) -> list[Target]:
    """A target for each step: it is made again, from the same folders, and must come out the same."""
    return [_step_target(base, kind) for kind in INPUTS]


def _step_target(base: Path, kind: str) -> Target:
    prepare, judge = partial(_prepare_step, base, kind), partial(_judge_step, base, kind)
    return Target(f"step {kind}", prepare, partial(_make, kind), judge)


def whole_targets(base: Path) -> list[Target]:
    """What makes many folders, killed at random moments."""
    prepare = partial(_prepare_day, base)
    return [
        Target("mmse run, a day later", prepare, _run_all, _judge_run, by_operation=False),
        Target("mmse cycle, a day later", prepare, _cycle, _judge_cycle, by_operation=False),
    ]


def _prepare_step(base: Path, kind: str, trial: Path) -> None:
    bases.link_tree(base / "run", trial / "run")
    file = trial / "run" / kind / MANIFEST
    manifest = json.loads(file.read_text("utf-8"))
    manifest["made"]["mmse"] = "0.0.1"  # so that the step is done again, in place of its folder
    file.unlink()
    file.write_text(json.dumps(manifest), "utf-8")


def _make(kind: str, trial: Path, report: Report) -> None:
    make(kind, shop_of(trial / "run"), trial / "run")


def _judge_step(base: Path, kind: str, trial: Path, lines: list[str]) -> list[str]:
    """Every folder is whole or absent; done again, the step gives what it gave, and leaves nothing."""
    problems = judges.folder_damages(trial / "run")
    make(kind, shop_of(trial / "run"), trial / "run")
    expected, actual = judges.fingerprints(base / "run"), judges.fingerprints(trial / "run")
    names = {INDEX, REPORT} if kind == INDEX else {REPORT}  # random names of segments, and the time of searches
    problems += [f"{name} is another" for name in expected if actual.get(name) != expected[name] and name not in names]
    return problems + judges.folder_damages(trial / "run") + judges.litter(trial)


def _prepare_day(base: Path, trial: Path) -> None:
    for name in ("shop", "run", "site"):
        bases.link_tree(base / name, trial / name)
    bases.add_day(trial / "shop")


def _run_all(trial: Path, report: Report) -> None:
    run(trial / SHOP, trial / "run")


def _judge_run(trial: Path, lines: list[str]) -> list[str]:
    problems = judges.folder_damages(trial / "run")
    run(trial / SHOP, trial / "run")
    return problems + judges.damages(trial / "run") + judges.litter(trial)


def _cycle(trial: Path, report: Report) -> None:
    run_cycle(trial / "site", trial / SHOP, CycleOptions())


def _judge_cycle(trial: Path, lines: list[str]) -> list[str]:
    """What is served is whole; the next cycle publishes, or says that nothing is new, and every record can be read."""
    site = trial / "site"
    problems = judges.damages(site) + judges.folder_damages(site / "run")
    former = Site.open(site).state().live.name
    record = run_cycle(site, trial / SHOP, CycleOptions())
    if record.outcome not in ("published", "unchanged"):
        problems.append(f"the next cycle: {record.outcome}: {record.summary}")
    if record.outcome == "unchanged" and former == "0001":
        problems.append("a day more of the log was never published")
    problems += [f"record {n} is missing" for n, r in enumerate(read_records(site), 1) if r.number != n]
    return problems + judges.damages(site) + judges.folder_damages(site / "run") + judges.litter(trial)
