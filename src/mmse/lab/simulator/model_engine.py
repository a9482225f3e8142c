"""An engine that is an earlier model of ours: trained on a log that the usual engine made before this log begins.

The earlier log has half as many requests of the same shoppers, over as many days, and other pages. Its model knows
nothing of the log that it then fills, and nothing of the truth; items that are listed later have their words alone.
Queries are embedded without their shopper. Training runs on one thread, so that the same machine makes the same bytes.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
import torch

from mmse.core.artifact import write_folder
from mmse.core.progress import Progress, silent
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.candidate_sources import VectorCandidates
from mmse.lab.simulator.simulate import KIND, SimulatedWorld, simulate_requests
from mmse.mining.mine import MineConfig, mine_log
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import compute_statistics
from mmse.sources.config import EventsConfig, ItemsConfig
from mmse.training.loop import TrainConfig, train

EARLIER_SEED: Final = 1_000_003
"""Added to the seed of the shop for the pages and the behaviour of the earlier log."""
TRAINING: Final = TrainConfig(device="cpu")


def earlier_model(
    world: SimulatedWorld, behaviour: Behaviour, seed: int, progress: Progress = silent
) -> VectorCandidates:
    """The candidates by a model that is trained on an earlier log of `world`, whose requests have negative times."""
    with tempfile.TemporaryDirectory() as folder:
        shop, dataset, model = (Path(folder) / name for name in ("shop", "dataset", "model"))
        with write_folder(shop, kind=KIND, config={}, inputs={}) as draft:
            simulate_requests(world, behaviour, seed + EARLIER_SEED, draft, progress)
        items = ItemsConfig(categorical=tuple(world.columns["categorical"]))
        mine_log(items, EventsConfig(source="events/*.parquet"), MineConfig(threads=1), dataset, base=shop)
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            train(dataset, model, replace(TRAINING, seed=seed))
            return _embed(dataset, Encoder.open(model), world)
        finally:
            torch.set_num_threads(n_threads)


def _embed(dataset: Path, encoder: Encoder, world: SimulatedWorld) -> VectorCandidates:
    """Vectors of all wordings and of all items, in the world's order."""
    table, stats = pq.read_table(DatasetFolder(dataset).items), ItemStats.open(dataset)
    features = encoder.encode_items(table)
    vectors = encoder.embed_items(features, compute_statistics(stats.at(stats.snapshots.end)))
    row_of = {item_id: row for row, item_id in enumerate(table["item_id"].to_pylist())}
    order = [row_of[item_id] for item_id in world.items["item_id"].to_pylist()]
    no_history = features.look_up_history(np.full((len(world.texts), 1), -1, np.int32))
    queries = encoder.embed_queries(world.texts, [None] * len(world.texts), no_history)
    return VectorCandidates(queries, vectors[order])
