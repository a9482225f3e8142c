"""What is served is compared with: other models by exact search, plain BM25 over all text, and popularity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int

from mmse.core import artifact
from mmse.core.errors import ArtifactError
from mmse.dataset.folder import ItemStats
from mmse.evaluation.channels import DEPTH, Questions, Served
from mmse.evaluation.metric_values import Progress
from mmse.index import IndexConfig, build
from mmse.model.encoder import Encoder
from mmse.model.features import shopper_ids, statistics
from mmse.text.bm25 import Bm25

Ranker = Callable[[Questions, int], Int[np.ndarray, "n depth"]]
"""Ranks the catalogue: item rows, best first, padded with -1."""


@dataclass(frozen=True)
class System:
    """A named way to rank the whole catalogue."""

    name: str
    rank: Ranker


def baselines_of(served: Served) -> list[System]:
    """Every model under `baselines/`, by exact search, then untuned BM25 over all of an item's text, then popularity.

    Raises `ArtifactError` where one was trained on another dataset.
    """
    run = served.run
    stats = ItemStats.open(run / "dataset")
    items = pq.read_table(run / "dataset" / "items.parquet")
    mined = artifact.read_manifest(run / "dataset", "dataset").fingerprint
    known = statistics(stats.at(stats.snapshots.test))
    others = []
    for manifest in sorted((run / "baselines").glob("*/manifest.json")):
        folder = manifest.parent
        if artifact.verify(folder, "model").inputs["dataset"] != mined:
            raise ArtifactError(
                f"{folder} was trained on another dataset than {run / 'dataset'}.",
                f"Run `mmse run` again, or delete {folder} where it is no longer wanted.",
            )
        others.append(System(folder.name, by_model(Encoder.open(folder), items, known)))
    texts = served.retriever.encoder.space.item_texts(items)
    return [*others, System("bm25", by_words(Bm25.build(texts))), System("popularity", by_popularity(stats))]


def ranked(systems: list[System], asked: Questions, say: Progress) -> dict[str, Int[np.ndarray, "n depth"]]:
    """The first 1,000 of each system for each question, padded with -1 where the catalogue is smaller."""
    found = {}
    for system in systems:
        say(f"rank with {system.name}", 0, 1)
        rows = system.rank(asked, DEPTH)
        found[system.name] = np.pad(rows, ((0, 0), (0, DEPTH - rows.shape[1])), constant_values=-1)
        say(f"rank with {system.name}", 1, 1)
    return found


def by_model(encoder: Encoder, items: pa.Table, numbers: Float32[np.ndarray, "n statistics"]) -> Ranker:
    """Exact search among `items` with the vectors of a model; `numbers` are what the log said of each item."""
    features = encoder.encode_items(items)
    vectors = encoder.items(features, numbers)
    index = build(IndexConfig(kind="exact"), vectors, np.arange(len(vectors), dtype=np.int64))

    def rank(asked: Questions, depth: int) -> Int[np.ndarray, "n depth"]:
        queries = encoder.queries(asked.queries, asked.users, shopper_ids(features.shopper, asked.history))
        return index.search(queries, depth).ids

    return rank


def by_words(bm25: Bm25) -> Ranker:
    """BM25 over whole texts."""
    return lambda asked, depth: bm25.search(asked.queries, depth).rows


def by_popularity(stats: ItemStats) -> Ranker:
    """The same items for every request: the most ordered ones, then the most clicked, then the most shown."""
    shown, clicked, ordered = stats.at(stats.snapshots.test).T
    best = np.lexsort((np.arange(len(shown)), -shown, -clicked, -ordered))
    return lambda asked, depth: np.broadcast_to(best[:depth], (len(asked), min(depth, len(best))))
