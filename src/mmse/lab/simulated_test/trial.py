"""A simulated online test: arms are trained on the log, served, used by simulated shoppers, analysed; then again.

    OUT/
      shop/            the simulated shop, its log and its truth
      round-1/         a run folder for each recipe, trained on the events before the round
      known-1/         a shop.toml with the events before the round
      site/            the served versions, the experiments, and events/: the exposures
      events-1/        the events of the round
      round-1.html     the analysis of the round
      outcome.json     every printed number

The events of a round are part of the log of the next: models are trained on the engine's own log and all rounds before,
or on the last few of them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from mmse.core.artifact import explain_os_errors, write_file
from mmse.core.config import require
from mmse.core.errors import UsageError
from mmse.core.progress import Progress
from mmse.experiment.analysis import Analysis, analyse
from mmse.experiment.analysis_config import AnalysisConfig
from mmse.experiment.assignment import Arm, Experiment
from mmse.experiment.report import write_report
from mmse.experiment.units import Window, read_units
from mmse.lab.simulated_test.arms import SimulatedArm, make_runs
from mmse.lab.simulated_test.online_shop import OnlineConfig, OnlineShop, open_shop
from mmse.lab.simulated_test.server_process import run_server
from mmse.lab.simulated_test.traffic import Display, Traffic, simulate_traffic
from mmse.pipeline import Listener
from mmse.serving import experiments
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site
from mmse.shop import read_shop
from mmse.sources.tables import EventsConfig

NEW_DAYS = 14.0
"""An item counts as new for this long after it was listed."""
OUTCOME = "outcome.json"
MARK = ".simulated-test"


def _arms() -> dict[str, SimulatedArm]:
    return {"bm25": SimulatedArm("mmse", "lexical"), "dssm": SimulatedArm("dssm"), "mmse": SimulatedArm("mmse")}


@dataclass(frozen=True)
class TrialConfig:
    """A simulated test; the first arm is the control.

    With `ranked` the engine's ranking steps rank the hits and fill the share `exploration` of slots at random. With
    `rounds_kept` models are trained on that many last rounds (the log counts as one); None means on all.
    """

    online: OnlineConfig = field(default_factory=OnlineConfig)
    arms: Mapping[str, SimulatedArm] = field(default_factory=_arms)
    ranked: bool = True
    exploration: float = 0.0
    rounds_kept: int | None = None
    train: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(self.arms) >= 1, "arms", list(self.arms), "one arm or more")
        require(0 <= self.exploration <= 0.9, "exploration", self.exploration, "a share from 0 to 0.9")
        require(self.rounds_kept is None or self.rounds_kept >= 1, "rounds_kept", self.rounds_kept, "1 or more")


@dataclass(frozen=True)
class ArmResult:
    """The numbers of an arm in a round: counts, expected values by the truth, and the variety of the shown items.

    `orders`, `true_orders` and `true_clicks` are means per request. `new_shown` is the share of slots with items listed
    in the last fortnight, `new_orders` that of orders. `shown_items` is the number of different items that were shown,
    as a share of those on sale; `concentration` is the Gini coefficient of how often each item on sale was shown.
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
class RoundResult:
    """A round: its arms, and the analysis where there was more than one."""

    number: int
    arms: dict[str, ArmResult]
    analysis: Analysis | None


def run_trial(config: TrialConfig, folder: Path, listener: Listener | None = None) -> list[RoundResult]:
    """Runs all rounds in `folder` and replaces an earlier test there.

    Raises what steps, server and analysis raise, and `UsageError` where `folder` holds something else, such as a shop's
    own site.
    """
    listener = listener or Listener()
    _mark_folder(folder)
    shop = open_shop(config.online, folder / "shop", listener.part)
    site = folder / "site"
    with explain_os_errors(site):
        shutil.rmtree(site, ignore_errors=True)
    rounds = [_run_round(shop, folder, number, config, listener) for number in range(1, config.online.rounds + 1)]
    write_file(folder / OUTCOME, json.dumps([asdict(result) for result in rounds], indent=1).encode() + b"\n")
    return rounds


def _run_round(shop: OnlineShop, folder: Path, number: int, config: TrialConfig, listener: Listener) -> RoundResult:
    site, name = folder / "site", _name(number)
    shop_file = _write_known_shop(folder, number, config)
    runs = make_runs(read_shop(shop_file), [arm.recipe for arm in config.arms.values()], folder / name, listener)
    traffic = _serve(shop, site, runs, number, config, listener.part)
    analysis = None
    if len(config.arms) > 1:
        units = read_units(EventsConfig(str((site / "events").absolute())), folder, "user", Window(name))
        analysis = analyse(units, AnalysisConfig(control=next(iter(config.arms))))
        write_report(analysis, f"{folder.name}, round {number}", folder / f"{name}.html", simulated=True)
    return RoundResult(number, {arm: _arm_result(shop, traffic, arm, number) for arm in config.arms}, analysis)


def _mark_folder(folder: Path) -> None:
    """Marks `folder` as a simulated test's own, so that the next test may replace it."""
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / MARK).is_file():
            raise UsageError(
                f"{folder} is not empty, and no simulated test made it.", "Give --out a folder of its own."
            )
        (folder / MARK).touch()


def _write_known_shop(folder: Path, number: int, config: TrialConfig) -> Path:
    """Writes the shop before a round, with the same items and the events so far; gives its shop.toml."""
    known_folder = folder / f"known-{number}"
    shutil.rmtree(known_folder, ignore_errors=True)
    (known_folder / "events").mkdir(parents=True)
    oldest = 0 if config.rounds_kept is None else number - config.rounds_kept
    if oldest <= 0:
        for file in (folder / "shop" / "events").glob("*.parquet"):
            os.link(file, known_folder / "events" / f"log-{file.name}")
    for earlier in range(max(oldest, 1), number):
        for file in (folder / f"events-{earlier}").glob("*.parquet"):
            os.link(file, known_folder / "events" / f"round-{earlier}-{file.name}")
    text = (folder / "shop" / "shop.toml").read_text("utf-8").replace('"items.parquet"', '"../shop/items.parquet"')
    train_keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.train.items())
    shop_file = known_folder / "shop.toml"
    shop_file.write_text(text.split("[truth]")[0] + (f"[train]\n{train_keys}" if train_keys else ""), "utf-8")
    return shop_file


def _serve(
    shop: OnlineShop, site: Path, runs: Mapping[str, Path], number: int, config: TrialConfig, progress: Progress
) -> Traffic:
    """Publishes the arms' runs, starts the experiment, and simulates the round's requests."""
    names = list(config.arms)
    for name in reversed(names):  # the live version has to be published first
        publish(site, runs[config.arms[name].recipe], arm="live" if name == names[-1] else name)
    arms = {
        name: Arm(serves="live" if name == names[-1] else name, channel=arm.channel)
        for name, arm in config.arms.items()
    }
    if len(arms) == 1:
        arms |= {"also": next(iter(arms.values()))}
    earlier_files = set((site / "events").glob("*/*.parquet"))
    experiments.start(Site.open(site), Experiment(_name(number), arms))
    with run_server(site) as server:
        display = Display(rerank=config.ranked, exploration=config.exploration, seed=number)
        traffic = simulate_traffic(shop, server, shop.round_rows(number), display, progress)
    experiments.stop(Site.open(site), _name(number))
    round_events = site.parent / f"events-{number}"
    shutil.rmtree(round_events, ignore_errors=True)
    round_events.mkdir()
    for i, path in enumerate(sorted(set((site / "events").glob("*/*.parquet")) - earlier_files)):
        os.link(path, round_events / f"part-{i:04}.parquet")
    return traffic if len(config.arms) > 1 else replace(traffic, arms=np.full(len(traffic.arms), names[0]))


def _name(number: int) -> str:
    return f"round-{number}"


def _arm_result(shop: OnlineShop, traffic: Traffic, arm: str, number: int) -> ArmResult:
    traffic = traffic.select(traffic.arms == arm)
    time = shop.world.requests.time[traffic.rows]
    listed_day, has_item = shop.world.engine.listed_day, traffic.pages >= 0
    page_listed_day = listed_day[np.maximum(traffic.pages, 0)]
    is_new = has_item & (time[:, None] - page_listed_day < NEW_DAYS) & (page_listed_day > 0)
    end_day = shop.config.log_days + number * shop.config.round_days
    on_sale = shop.world.engine.on_sale(np.arange(len(listed_day)), np.full(len(listed_day), float(end_day)))
    times_shown = np.bincount(traffic.pages[has_item], minlength=len(listed_day))[on_sale]
    return ArmResult(
        requests=len(traffic.rows),
        orders=float(traffic.ordered.sum(axis=1).mean()),
        true_orders=float(traffic.orders.mean()),
        true_clicks=float(traffic.clicks.mean()),
        new_shown=float(is_new.sum() / max(has_item.sum(), 1)),
        new_orders=float((traffic.ordered & is_new).sum() / max(traffic.ordered.sum(), 1)),
        shown_items=float((times_shown > 0).mean()),
        concentration=gini(times_shown.astype(np.float64)),
    )


def gini(counts: Float64[np.ndarray, " n"] | Int64[np.ndarray, " n"]) -> float:
    """The Gini coefficient of counts: 0 where all are equal, near 1 where one has everything."""
    in_order = np.sort(counts)
    total, n = in_order.sum(), len(in_order)
    if not total:
        return 0.0
    return float((2 * (np.arange(1, n + 1) * in_order).sum()) / (n * total) - (n + 1) / n)


def table_rows(rounds: Sequence[RoundResult]) -> list[tuple[str, ...]]:
    """The rounds as rows of text: round, arm, requests, orders per request counted and true, new items, variety."""
    return [
        (
            str(result.number),
            name,
            f"{arm.requests:,}",
            f"{arm.orders:.4f}",
            f"{arm.true_orders:.4f}",
            f"{arm.new_shown:.1%}",
            f"{arm.new_orders:.1%}",
            f"{arm.shown_items:.0%}",
            f"{arm.concentration:.2f}",
        )
        for result in rounds
        for name, arm in result.arms.items()
    ]
