"""Small grids, as a user would write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

TRAIN = """
[train]
dim = 8
epochs = 1
batch_requests = 8
vocab_size = 320
catalogue_below = 0
query_buckets = 64
user_buckets = 32
validate_requests = 30
checkpoint_steps = 4
objective = {n_random = 16}

[mine]
periods = 2

[evaluate]
requests = 40
truth_requests = 40
draws = 200
"""
COIN = """
[worlds.coin]
n_items = 300
n_requests = 400
seed = 5
behaviour = {orders_are_coin_flips = true, exploration = 0.3}
"""
FLAT = """
[variants.flat]
objective = {rank_weight = 0.0}
"""


def write_grid(
    folder: Path, *parts: str, systems: Sequence[str] = ("mmse", "flat"), top: str = "seeds = [0, 1]"
) -> Path:
    """Writes `grid.toml` into `folder`; gives its path."""
    names = ", ".join(f'"{name}"' for name in systems)
    path = folder / "grid.toml"
    path.write_text(f"systems = [{names}]\n{top}\n{TRAIN}\n" + "\n".join(parts), "utf-8")
    return path
