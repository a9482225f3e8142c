"""Folders that may not be written, that vanish while they are in use, and clocks that jump.

Every refusal is one of mmse's own errors, a search that can be answered is answered, and nothing acknowledged is lost.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from faults import bases, children, judges
from faults.disks import DISK_MB, can_mount, mount, unmount
from faults.kills_of_runs import SHOP

from mmse.catalogue import Change, LiveCatalogue
from mmse.core.errors import ArtifactError, MmseError
from mmse.cycle.forget import forget
from mmse.cycle.loop import CycleOptions, run_cycle
from mmse.cycle.record import read_records
from mmse.pipeline import run
from mmse.retrieval.retriever import Retriever
from mmse.schema.http_events import Exposure
from mmse.serving import experiments
from mmse.serving.config import ServeConfig
from mmse.serving.events import retention
from mmse.serving.events.export import export_table
from mmse.serving.events.log import EventLog
from mmse.serving.model_pool import ModelPool
from mmse.serving.versions.publish import prune, publish
from mmse.serving.versions.site import Site, rollback

Work = Callable[[Path], object]
CONCERNS = {"run": ("publish", "run"), "shop": ("run", "cycle")}
"""What is done with some folders; with all others everything but these."""
FOLDERS = ("model", "vectors", "index", "ranking", "serving", "dataset", "map", "report")


def works() -> dict[str, Work]:
    """Everything that a person or a server does with `rich`, `run` and `shop`, by name."""
    return {
        "search": lambda root: _require(Retriever.open(Site.open(root / "rich").state().live.run).search("mug", 5)),
        "edit": lambda root: Site.open(root / "rich").apply([Change("i00000007", {"price": 3.0})]),
        "fold": _fold,
        "publish": lambda root: publish(root / "rich", root / "run"),
        "rollback": lambda root: rollback(Site.open(root / "rich")),
        "prune versions": lambda root: prune(Site.open(root / "rich"), 2),
        "start an experiment": lambda root: experiments.start(Site.open(root / "rich"), bases.plan_experiment(9)),
        "log an event": _log,
        "export events": lambda root: export_table(root / "rich" / "events", root.parent / "exported.parquet"),
        "prune events": lambda root: retention.prune(root / "rich" / "events", 1.2, datetime.now(UTC)),
        "forget": lambda root: forget([root / "rich"], ["user1"]),
        "verify": _verify,
        "run": lambda root: run(root / SHOP, root / "run"),
        "cycle": lambda root: run_cycle(root / "site", root / SHOP, CycleOptions()),
    }


def run_refusals(base: Path, work: Path) -> list[dict[str, Any]]:
    """Rows of read-only disks, folders that vanish, and clocks."""
    rows = [_vanish(base, work), _vanish_in_use(base, work), *_step_clocks(base, work)]
    return [*([_write_protect(base, work)] if can_mount(work) else []), *rows]


def _require(condition: object) -> None:
    assert condition, "nothing was found"


def _verify(root: Path) -> None:
    if damages := judges.damages(root / "rich"):
        raise ArtifactError(damages[0], "It is found.")


def _fold(root: Path) -> None:
    live = Site.open(root / "rich").state().live.run
    with LiveCatalogue.open(live, writable=True, config=bases.MANUAL) as catalogue:
        catalogue.compact()


def _log(root: Path) -> None:
    log = EventLog(root / "rich" / "events")
    try:
        log.append([Exposure("later", "drill", ["i1"])])
    finally:
        log.close()


def _try(work: Work, root: Path) -> str:
    """How work ends: `done`, `refused in words`, or a raw failure."""
    try:
        work(root)
    except MmseError:
        return "refused in words"
    except Exception as error:
        return f"raw failure {type(error).__name__}: {error}"
    return "done"


def _count(fault: str, outcomes: dict[str, str], wrong: list[str]) -> dict[str, Any]:
    faults = [f"{name}: {outcome}" for name, outcome in outcomes.items() if outcome.startswith(("raw", "wrong"))]
    counts = Counter(outcome.split(" failure")[0] for outcome in outcomes.values())
    row = {"fault": fault, "trials": len(outcomes), **counts, "lost or corrupt": len(faults + wrong)}
    row["faults"] = faults + wrong
    print(row, flush=True)
    return row


def _write_protect(base: Path, work: Path) -> dict[str, Any]:
    """Everything is done on a disk that may only be read."""
    disk, outcomes = work / "disk", dict[str, str]()
    assert mount(disk, 2 * DISK_MB)
    try:
        for name in ("shop", "run", "site", "rich"):
            shutil.copytree(base / name, disk / name, symlinks=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for name, action in works().items():
            outcomes[name] = children.call(partial(_try, action, disk))
        must = {"search": "done", "export events": "done", "verify": "done", "edit": "refused in words"}
        wrong = [f"{name}: {outcomes[name]}" for name in must if outcomes[name] != must[name]]
    finally:
        unmount(disk)
    return _count("a disk that may only be read", outcomes, wrong)


def _vanish(base: Path, work: Path) -> dict[str, Any]:
    """Each folder of a run, of the live version and of the site is taken away, and everything is done."""
    outcomes = dict[str, str]()
    gone = [f"run/{name}" for name in FOLDERS] + [f"rich/versions/0003/{name}" for name in FOLDERS[:5]]
    gone += [f"rich/{name}" for name in ("serving.json", "versions", "versions/0003", "rules", "events", "cycles")]
    for name in (*gone, "shop/events", "shop/items.parquet", "rich/versions/0003/live"):
        for action_name, action in works().items():
            concerns = CONCERNS.get(name.split("/")[0])
            if action_name not in concerns if concerns else action_name in ("run", "cycle"):
                continue
            root = _link(base, work)
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            outcomes[f"{action_name} without {name}"] = children.call(partial(_try, action, root))
    return _count("a folder that is gone", outcomes, [])


def _vanish_in_use(base: Path, work: Path) -> dict[str, Any]:
    """A folder is taken away while a server has the site open: it goes on searching, and loses no later event."""
    outcomes = dict[str, str]()
    parts = ("versions/0003", "versions/0003/live", "versions", "serving.json", "rules", "events", "experiments.json")
    for name in parts:
        root = _link(base, work)
        outcomes[name] = children.call(partial(_serve_without, root, name))
    return _count("a folder that goes while it is served", outcomes, [])


def _serve_without(root: Path, name: str) -> str:
    site = root / "rich"
    pool = ModelPool.open(ServeConfig(site))
    log = EventLog(site / "events")
    log.append([Exposure("former", "drill", ["i1"])])
    shutil.rmtree(site / name) if (site / name).is_dir() else (site / name).unlink()
    pool.reload()
    version = pool.acquire("live")
    outcome = "done" if version.retriever.search("mug", 5) else "wrong: nothing is found"
    pool.release(version)
    edit = _try(lambda _: pool.site.apply([Change("i00000007", {"price": 3.0})]), root)
    log.append([Exposure("later", "drill", ["i1"])])
    log.close()
    ids = {row["request_id"] for row in judges.read_rows(site / "events")}
    if "later" not in ids:
        return "wrong: an event that was acknowledged is lost"
    return edit if edit.startswith("raw") else outcome


def _step_clocks(base: Path, work: Path) -> list[dict[str, Any]]:
    """Everything is done with a clock that stands days before or after that of all files, or jumps at each look."""
    rows = []
    for label, days in (("30 days back", -30.0), ("30 days on", 30.0), ("to and fro", 0.0)):
        root, outcomes = _link(base, work), dict[str, str]()
        for name, action in works().items():
            outcomes[name] = children.call(partial(_try_at, action, root, days))
        wrong = [f"{name}: {outcome}" for name, outcome in outcomes.items() if outcome != "done"]
        counts = judges.count_rows(children.call(partial(judges.read_rows, root / "rich" / "events")))
        wrong += judges.miscounted(counts, ["user3"], 20) if days <= 0 else []
        wrong += children.call(partial(judges.damages, root / "rich"))
        wrong += [] if children.call(partial(read_records, root / "site")) else ["no record of a cycle"]
        rows.append(_count(f"a clock that steps {label}", outcomes, wrong))
    return rows


def _try_at(work: Work, root: Path, days: float) -> str:
    """As `_try`, at another time; at 0 days the clock goes an hour on and back again at each look."""
    now_s, looks = time.time, [0]

    def shift_s() -> float:
        looks[0] += 1
        return days * bases.DAY_S if days else 3600.0 * (looks[0] % 2)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:  # noqa: ANN401
            return datetime.fromtimestamp(now_s(), tz) + timedelta(seconds=shift_s())

    gmtime, strftime = time.gmtime, time.strftime
    vars(time)["time"] = lambda: now_s() + shift_s()
    vars(time)["time_ns"] = lambda: int((now_s() + shift_s()) * 1e9)
    vars(time)["gmtime"] = lambda s=None: gmtime(now_s() + shift_s() if s is None else s)
    vars(time)["strftime"] = lambda form, moment=None: strftime(form, moment or gmtime(now_s() + shift_s()))
    globals()["datetime"] = Clock
    return _try(work, root)


def _link(base: Path, work: Path) -> Path:
    root = work / "trial"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name in ("shop", "run", "site", "rich"):
        bases.link_tree(base / name, root / name)
    return root
