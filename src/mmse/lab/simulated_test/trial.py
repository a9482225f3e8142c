"""A test online from end to end, simulated: arms trained on the log, served, met by shoppers, judged; and round again.

    OUT/
      shop/            the simulated shop, its log until now and its truth
      round-1/         a run folder for each recipe, trained on what was known then
      site/            what was served, its experiments, and events/: the exposures
      round-1.html     what the test of the round showed
      outcome.json     everything that is printed

What a round's shoppers were shown, and did, is part of the log of the next: models are trained on the engine's own log
and the rounds since, or on the last few of them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from mmse.core.artifact import writable, write_file
from mmse.core.config import require
from mmse.core.errors import UsageError
from mmse.experiment.analysis import Analysis, AnalysisConfig, analyse
from mmse.experiment.assignment import Arm as Served
from mmse.experiment.assignment import Experiment
from mmse.experiment.report import write_report
from mmse.experiment.units import Window, read_units
from mmse.lab.simulated_test.arms import Arm, make_runs
from mmse.lab.simulated_test.front import Display, Traffic, visit
from mmse.lab.simulated_test.process import serving
from mmse.lab.simulated_test.world import OnlineConfig, Shop, open_shop
from mmse.pipeline import Listener, read_shop
from mmse.serving import experiments
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site
from mmse.sources.tables import EventsConfig

NEW_DAYS = 14.0
"""So long after it was listed an item counts as new."""
OUTCOME = "outcome.json"
MARK = ".simulated-test"

Progress = Callable[[str, int, int], None]


def _arms() -> dict[str, Arm]:
    return {"bm25": Arm("mmse", "lexical"), "dssm": Arm("dssm"), "mmse": Arm("mmse")}


@dataclass(frozen=True)
class TrialConfig:
    """A simulated test; the first arm is the control.

    The ranking stages fill the share `exploration` of slots at random. With `rounds_kept` models forget what is older
    than so many rounds (the log counts as one); None: nothing.
    """

    online: OnlineConfig = field(default_factory=OnlineConfig)
    arms: Mapping[str, Arm] = field(default_factory=_arms)
    ranked: bool = True
    exploration: float = 0.0
    rounds_kept: int | None = None
    train: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(self.arms) >= 1, "arms", list(self.arms), "one arm or more")
        require(0 <= self.exploration <= 0.9, "exploration", self.exploration, "a share from 0 to 0.9")
        require(self.rounds_kept is None or self.rounds_kept >= 1, "rounds_kept", self.rounds_kept, "1 or more")


@dataclass(frozen=True)
class ArmWent:
    """How an arm went in a round: what was counted, what was to be expected by the truth, and what was shown.

    `new_shown` is the share of slots with items listed in the last fortnight, `new_orders` that of orders.
    `shown_items` are the different items that were shown, as a share of those on sale; `concentration` is the Gini
    coefficient of how often each item on sale was shown.
    """

    requests: int
    orders: float
    true_orders: float
    true_clicks: float
    new_shown: float
    new_orders: float
    shown_items: float
    concentration: float


@dataclass(frozen=True)
class RoundWent:
    """A round: its arms, and the analysis where there was more than one."""

    number: int
    arms: dict[str, ArmWent]
    analysis: Analysis | None


def simulate(
    config: TrialConfig, out: Path, listener: Listener | None = None, progress: Progress | None = None
) -> list[RoundWent]:
    """Runs all rounds into the folder `out`, over an earlier test in it; raises what stages, server and analysis raise.

    Raises `UsageError` where `out` holds something else, such as a shop's own site.
    """
    hears, say = listener or Listener(), progress or (lambda what, done, total: None)
    _claim(out)
    shop = open_shop(config.online, out / "shop", say)
    site = out / "site"
    with writable(site):
        shutil.rmtree(site, ignore_errors=True)
    went: list[RoundWent] = []
    for number in range(1, config.online.rounds + 1):
        toml = _known(out, number, config)
        runs = make_runs(read_shop(toml), [arm.recipe for arm in config.arms.values()], out / f"round-{number}", hears)
        traffic = _serve(shop, site, runs, number, config, lambda done, total: say("shoppers", done, total))
        analysis = None
        if len(config.arms) > 1:
            events = EventsConfig(str((site / "events").absolute()))
            units = read_units(events, out, "user", Window(_name(number)))
            analysis = analyse(units, AnalysisConfig(control=next(iter(config.arms))))
            write_report(analysis, f"{out.name}, round {number}", out / f"round-{number}.html", simulated=True)
        went.append(RoundWent(number, {name: _went(shop, traffic, name, number) for name in config.arms}, analysis))
    write_file(out / OUTCOME, json.dumps([asdict(one) for one in went], indent=1).encode() + b"\n")
    return went


def _claim(out: Path) -> None:
    """Marks the folder as a simulated test's own, which the next one may write over."""
    with writable(out):
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (out / MARK).is_file():
            raise UsageError(f"{out} is not empty, and no simulated test made it.", "Give --out a folder of its own.")
        (out / MARK).touch()


def _known(out: Path, number: int, config: TrialConfig) -> Path:
    """The shop.toml of what is known before a round: the same items, and the events until then."""
    folder = out / f"known-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "events").mkdir(parents=True)
    first = 0 if config.rounds_kept is None else number - config.rounds_kept
    if first <= 0:
        for file in (out / "shop" / "events").glob("*.parquet"):
            os.link(file, folder / "events" / f"log-{file.name}")
    for earlier in range(max(first, 1), number):
        for file in (out / f"events-{earlier}").glob("*.parquet"):
            os.link(file, folder / "events" / f"round-{earlier}-{file.name}")
    said = (out / "shop" / "shop.toml").read_text("utf-8").replace('"items.parquet"', '"../shop/items.parquet"')
    trained = "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.train.items())
    toml = folder / "shop.toml"
    toml.write_text(said.split("[truth]")[0] + (f"[train]\n{trained}" if trained else ""), "utf-8")
    return toml


def _serve(
    shop: Shop,
    site: Path,
    runs: Mapping[str, Path],
    number: int,
    config: TrialConfig,
    progress: Callable[[int, int], None],
) -> Traffic:
    """Publishes the arms' runs, starts the experiment, and lets the round's shoppers come."""
    names = list(config.arms)
    for name in reversed(names):  # what is live comes first
        publish(site, runs[config.arms[name].recipe], arm="live" if name == names[-1] else name)
    arms = {
        name: Served(serves="live" if name == names[-1] else name, channel=arm.channel)
        for name, arm in config.arms.items()
    }
    if len(arms) == 1:
        arms |= {"also": next(iter(arms.values()))}
    before = {path for path in (site / "events").glob("*/*.parquet")}
    experiments.start(Site.open(site), Experiment(_name(number), arms))
    with serving(site) as server:
        display = Display(ranked=config.ranked, exploration=config.exploration, seed=number)
        traffic = visit(shop, server, shop.round_of(number), display, progress)
    experiments.stop(Site.open(site), _name(number))
    kept = site.parent / f"events-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for place, path in enumerate(sorted({*(site / "events").glob("*/*.parquet")} - before)):
        os.link(path, kept / f"part-{place:04}.parquet")
    return traffic if len(config.arms) > 1 else replace(traffic, arms=np.full(len(traffic.arms), names[0]))


def _name(number: int) -> str:
    return f"round-{number}"


def _went(shop: Shop, traffic: Traffic, arm: str, number: int) -> ArmWent:
    mine = traffic.of(traffic.arms == arm)
    time = shop.world.requests.time[mine.rows]
    listed, there = shop.world.engine.listed, mine.pages >= 0
    new = there & (time[:, None] - listed[np.maximum(mine.pages, 0)] < NEW_DAYS)
    new &= listed[np.maximum(mine.pages, 0)] > 0
    last = shop.config.log_days + number * shop.config.round_days
    on_sale = shop.world.engine.alive(np.arange(len(listed)), np.full(len(listed), float(last)))
    often = np.bincount(mine.pages[there], minlength=len(listed))
    return ArmWent(
        requests=len(mine.rows),
        orders=float(mine.ordered.sum(axis=1).mean()),
        true_orders=float(mine.orders.mean()),
        true_clicks=float(mine.clicks.mean()),
        new_shown=float(new.sum() / max(there.sum(), 1)),
        new_orders=float((mine.ordered & new).sum() / max(mine.ordered.sum(), 1)),
        shown_items=float((often[on_sale] > 0).mean()),
        concentration=gini(often[on_sale].astype(np.float64)),
    )


def gini(counts: Float64[np.ndarray, " n"] | Int64[np.ndarray, " n"]) -> float:
    """The Gini coefficient of counts: 0 where all are equal, towards 1 where one has everything."""
    ordered = np.sort(counts)
    if not ordered.sum():
        return 0.0
    places = np.arange(1, len(ordered) + 1)
    return float((2 * (places * ordered).sum()) / (len(ordered) * ordered.sum()) - (len(ordered) + 1) / len(ordered))


def table_of(went: Sequence[RoundWent]) -> list[tuple[str, ...]]:
    """The rounds as rows of text: round, arm, requests, orders a request counted and true, new items, variety."""
    return [
        (
            str(one.number),
            name,
            f"{arm.requests:,}",
            f"{arm.orders:.4f}",
            f"{arm.true_orders:.4f}",
            f"{arm.new_shown:.1%}",
            f"{arm.new_orders:.1%}",
            f"{arm.shown_items:.0%}",
            f"{arm.concentration:.2f}",
        )
        for one in went
        for name, arm in one.arms.items()
    ]
