"""The first days of a shop's log: what a model of few requests finds, alone and with the catalogue's words beside it.

    python benchmarks/first_days.py WORK [--sizes 600 3000]

A simulated shop of 3,000 items. The last 4,000 requests of its log are the test window; a model learns from the N
requests before them (a tenth of these for validation), alone (`catalogue_below = 0`) and with requests made from the
catalogue beside them. Everything is held against the shop's known truth. Writes benchmarks/results/first_days.json.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import duckdb
from machine import environment, write_result

from mmse.core.run_folder import DATASET, INDEX, MODEL, RANKING, SERVING, VECTORS, RunFolder
from mmse.evaluation.offline import evaluate_log
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.lab.simulator.truth import Truth
from mmse.pipeline import Listener, make
from mmse.shop import Shop, read_shop

N_TEST = 4_000
SHOP = SimulatorConfig(seed=11, n_items=3_000, n_requests=20_000, n_shoppers=1_500)
MEASURES = (("order_rate", 10), ("order_rate", 100), ("share_of_top", 100))
FIELDS = ("system", "metric", "k", "value", "low", "high")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[600, 3_000])
    options = parser.parse_args()
    world = options.work / "shop"
    if not world.exists():
        simulate(SHOP, world)
    rows = [row for size in options.sizes for row in measure(world, size, options.work / f"first-{size}")]
    write_result("first_days", environment() | {"shop": vars(SHOP) | {"behaviour": "default"}, "rows": rows})


def measure(world: Path, size: int, folder: Path) -> list[dict[str, object]]:
    """The truth's measures of the models that learn from `size` requests."""
    shop = write_shop(world, size, folder)
    rows: list[dict[str, object]] = []
    for name, below in (("log", 0), ("log and catalogue", 10**9)):
        rows += evaluate(replace(shop, train=replace(shop.train, catalogue_below=below)), folder / name, world, size)
    return rows


def evaluate(shop: Shop, run: Path, world: Path, size: int) -> list[dict[str, object]]:
    """Makes a run, and gives its measures by the truth."""
    for kind in (DATASET, SERVING, MODEL, VECTORS, INDEX, RANKING):
        make(kind, shop, run, Listener())
    evaluation = evaluate_log(run, shop.evaluate, Truth.open(world / "truth"))
    learned_from = RunFolder(run).manifest(MODEL).counts["requests_from"]
    facts = {"requests": size, "model": run.name, "learned_from": learned_from}
    return [
        facts | {name: getattr(row, name) for name in FIELDS}
        for row in evaluation.rows
        if row.slice == "all" and row.target == "truth" and (row.metric, row.k) in MEASURES
    ]


def write_shop(world: Path, size: int, folder: Path) -> Shop:
    """A shop with the last `size` + `N_TEST` requests of the log, of which the last `N_TEST` are the test window."""
    folder.mkdir(parents=True, exist_ok=True)
    events = f"read_parquet('{world}/events/*.parquet')"
    duckdb.connect().execute(f"""
        COPY (SELECT event.* FROM {events} AS event SEMI JOIN (
                SELECT request_id FROM {events} GROUP BY request_id
                 ORDER BY min(timestamp) DESC, request_id LIMIT {size + N_TEST}) USING (request_id))
          TO '{folder}/events.parquet' (FORMAT parquet)""")
    (folder / "shop.toml").write_text(
        f'[items]\nsource = "{world.resolve()}/items.parquet"\n[events]\nsource = "events.parquet"\n'
        f"[mine]\ntest_share = {N_TEST / (size + N_TEST)}\nvalid_share = {0.1 * size / (size + N_TEST)}\nperiods = 4\n"
        "[evaluate]\nfilter_requests = 0\ncalibration_requests = 200\n",
        "utf-8",
    )
    return read_shop(folder / "shop.toml")


if __name__ == "__main__":
    main()
