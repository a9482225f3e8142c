"""Simulated shops that the simulator's tests share, with their tables and their truth."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import duckdb
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
