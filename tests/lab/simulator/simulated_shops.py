"""Simulated shops that the simulator's tests share, with their tables and their truth."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.lab.simulator.truth import Truth


@dataclass(frozen=True)
class ShopTables:
    folder: Path
    config: SimulatorConfig
    items: pa.Table
    events: pa.Table
    truth: Truth

    def sql(self, text: str) -> list[tuple]:  # type: ignore[type-arg]
        """Rows of a query over `items` and `events`."""
        with duckdb.connect() as database:
            database.register("items", self.items)
            database.register("events", self.events)
            return database.execute(text).fetchall()


def open_shop(folder: Path, config: SimulatorConfig) -> ShopTables:
    simulate(config, folder)
    items, events = pq.read_table(folder / "items.parquet"), pq.read_table(folder / "events")
    return ShopTables(folder, config, items, events, Truth.open(folder / "truth"))


@functools.cache
def three_shops(base: Path) -> list[ShopTables]:
    """The same shop with three seeds, simulated once per session in the session's folder `base`."""
    configs = [SimulatorConfig(seed=seed, n_items=3_000, n_requests=8_000) for seed in (0, 1, 2)]
    return [open_shop(base / f"shop-{config.seed}", config) for config in configs]


def check_truth(shop: ShopTables, rows_where: str, *, by_time: bool) -> None:
    """As many clicks and orders in the log's rows as examination × chance expects, in parts by time or propensity."""
    rows = shop.sql(
        f"SELECT request_id, item_id, position, clicked, ordered FROM events WHERE {rows_where} ORDER BY timestamp"
    )
    requests = sorted({row[0] for row in rows})
    request_of, item_of = ({name: n for n, name in enumerate(names)} for names in (requests, shop.truth.item_ids))
    pairs = [request_of[row[0]] for row in rows], [item_of[row[1]] for row in rows]
    examination = np.array(shop.truth.examination)[[row[2] - 1 for row in rows]]
    for column, chance in ((3, shop.truth.click_propensity), (4, shop.truth.order_propensity)):
        actions = np.array([row[column] for row in rows])
        expected_rate = examination * chance(requests)[pairs]
        order = np.arange(len(rows)) if by_time else np.argsort(expected_rate)
        for part in np.array_split(order, 6):
            deviation = np.sqrt((expected_rate[part] * (1 - expected_rate[part])).sum())
            assert abs(actions[part].sum() - expected_rate[part].sum()) <= 4.5 * deviation + 1
