"""A small simulated shop, mined once for all tests that need groups, and a trained run on it."""

from __future__ import annotations

from pathlib import Path

from mmse.core.run_folder import DATASET
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.pipeline import Listener, make
from mmse.shop import Shop, read_shop

SMALL = SimulatorConfig(seed=3, n_items=400, n_requests=1_500, n_shoppers=120)
TRAIN = """
[train]
dim = 16
epochs = 2
batch_requests = 64
vocab_size = 1000
catalogue_below = 0
bigram_buckets = 512
query_buckets = 256
user_buckets = 128
validate_requests = 200
checkpoint_steps = 4

[train.objective]
n_random = 64

[evaluate]
requests = 100
truth_requests = 60
filter_requests = 10
draws = 50

[mine]
periods = 3
"""


def make_shop(folder: Path) -> Shop:
    """Simulates the small shop into `folder` and mines it into `folder/run`, where that was not done before."""
    toml = folder / "shop" / "shop.toml"
    if not (folder / "run" / DATASET).is_dir():
        simulate(SMALL, folder / "shop")
        toml.write_text(toml.read_text("utf-8") + TRAIN, "utf-8")
        make(DATASET, read_shop(toml), folder / "run", Listener())
    return read_shop(toml)
