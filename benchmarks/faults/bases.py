"""What a trial begins with: a small simulated shop, its run, and a site that has every kind of file.

A trial's folders are links to those of the base: steps and publishing write new files, and never into old ones.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from faults import children

from mmse.catalogue import Change, Delete, LiveCatalogue, LiveConfig, Upsert
from mmse.cycle.loop import CycleOptions, run_cycle
from mmse.experiment.assignment import Arm, Experiment
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.pipeline import run
from mmse.retrieval.retriever import Retriever
from mmse.schema.http_events import Click, Exposure
from mmse.serving import experiments
from mmse.serving.events import segments
from mmse.serving.events.rows import SCHEMA, build_batch
from mmse.serving.events.segments import Segment
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site

SHOP = SimulatorConfig(seed=3, n_items=400, n_requests=1_500, n_shoppers=120)
TRAIN = """
[train]
dim = 16
epochs = 2
vocab_size = 1000
catalogue_below = 0
checkpoint_steps = 4
[train.objective]
n_random = 64
[evaluate]
requests = 100
filter_requests = 0
draws = 20
[baselines]
recipes = []
"""
RULE = '[[boost]]\nname = "cheap"\nquery = "*"\nwhere = { price = { to = 20 } }\nfactor = 1.3\n'
DAY_S = 86_400
MANUAL = LiveConfig(automatic=False)


def make_base(base: Path) -> None:
    """Makes `shop`, its `run`, a `site` of one cycle, and `rich`: a site with edits, rules, events, an experiment."""
    if (base / "whole").exists():
        return
    shutil.rmtree(base, ignore_errors=True)
    shop_file = base / "shop" / "shop.toml"
    children.call(partial(simulate, SHOP, base / "shop"))
    shop_file.write_text(shop_file.read_text("utf-8").split("[truth]")[0] + TRAIN, "utf-8")
    children.call(lambda: _ignore(run(shop_file, base / "run")))
    children.call(lambda: _ignore(run_cycle(base / "site", shop_file, CycleOptions())))
    children.call(partial(_enrich, base))
    (base / "whole").touch()


def link_tree(source: Path, target: Path) -> Path:
    """The folder `source` again, of links to its files."""
    return Path(shutil.copytree(source, target, copy_function=os.link, symlinks=True))


def add_day(shop: Path) -> None:
    """A day more of the shop's log: its last day again, a day later."""
    events = pq.read_table(shop / "events")
    times, day = events["timestamp"], pa.scalar(DAY_S * 1_000_000, pa.duration("us"))
    newest = events.filter(pc.greater(times, pc.subtract(pc.max(times), day)))
    later = pc.add(newest["timestamp"], day).cast(newest["timestamp"].type)
    newest = newest.set_column(newest.column_names.index("timestamp"), "timestamp", later)
    ids = pc.binary_join_element_wise(newest["request_id"], "later", "-")
    newest = newest.set_column(newest.column_names.index("request_id"), "request_id", ids)
    pq.write_table(newest, shop / "events" / "later.parquet")


def write_events(folder: Path, name: str, days: Sequence[float], *, sealed: bool = True) -> None:
    """A segment of the log with an exposure and its click for each of `days`, ages of the rows."""
    segment, now = Segment(folder, SCHEMA), time.time()
    for number, age_days in enumerate(days):
        request_id, at = f"{name}-{number}", now - age_days * DAY_S
        shown = Exposure(request_id, "drill", ["i00000001", "i00000002"], user_id=name, timestamp=at)
        segment.append(build_batch([shown, Click(request_id, "i00000002", timestamp=at)]))
    segment.close()
    if sealed:
        segments.seal_orphans(folder, SCHEMA)


def plan_experiment(number: int) -> Experiment:
    """An experiment with a part of the layer."""
    return Experiment(f"x{number}", {"a": Arm(), "b": Arm(channel="lexical")}, traffic=0.02)


def _enrich(base: Path) -> None:
    rich = base / "rich"
    shutil.copytree(base / "site" / "cycles", rich / "cycles")
    (rich / "versions").mkdir()
    for _ in range(3):
        publish(rich, base / "run", note="a base")
    site = Site.open(rich)
    state = site.state().live
    retriever = Retriever.open(state.run)
    assert retriever.rulebook is not None
    retriever.rulebook.publish(RULE)
    with LiveCatalogue.open(state.run, writable=True, config=MANUAL) as catalogue:
        catalogue.apply([Upsert({"item_id": f"n{n}", "title": "zorbak drill", "price": 5.0}) for n in range(20)])
        catalogue.apply([Delete("i00000001"), Change("i00000002", {"price": 7.0})])
        catalogue.compact()
        catalogue.apply([Upsert({"item_id": "m1", "title": "quevo drill", "price": 6.0})])
        catalogue.apply([Change("n1", {"price": 9.0}), Delete("n2")])
    for number in range(2):
        experiments.start(site, plan_experiment(number))
    for number in range(3):
        write_events(rich / "events", f"user{number}", [2.0 - number / 2] * 20)
    write_events(rich / "events", "user3", [0.1] * 20, sealed=False)


def _ignore(_: object) -> None:
    """Nothing: what a step gives stays in its process."""
