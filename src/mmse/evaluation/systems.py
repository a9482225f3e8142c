"""The systems that a run is compared with: other models by exact search, BM25 over all text, and popularity."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int

from mmse.core import artifact
from mmse.core.artifact import MANIFEST
from mmse.core.progress import Progress
from mmse.core.run_folder import DATASET, MODEL
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.evaluation.channels import DEPTH, QueryBatch, Subject
from mmse.index import IndexConfig, build
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import compute_statistics
from mmse.text.bm25 import Bm25

log = logging.getLogger(__name__)

Ranker = Callable[[QueryBatch, int], Int[np.ndarray, "n depth"]]
"""Ranks the catalogue: item rows, best first, padded with -1."""


@dataclass(frozen=True)
class System:
    """A named way to rank the whole catalogue."""

    name: str
    rank: Ranker


def open_baselines(subject: Subject) -> list[System]:
    """Every model under `baselines/`, by exact search, then untuned BM25 over all of an item's text, then popularity.

    A model that was trained on another dataset, such as one of an earlier run, is left out with a warning.
    """
    run = subject.run
    stats = ItemStats.open(run.dataset)
    items = pq.read_table(DatasetFolder(run.dataset).items)
    dataset_fingerprint = run.manifest(DATASET).fingerprint
    item_statistics = compute_statistics(stats.at(stats.snapshots.test))
    models = []
    for manifest in sorted(run.baselines.glob(f"*/{MANIFEST}")):
        folder = manifest.parent
        if artifact.verify(folder, MODEL).inputs[DATASET] != dataset_fingerprint:
            log.warning("%s is left out: it was trained on another dataset than %s", folder, run.dataset)
            continue
        models.append(System(folder.name, model_ranker(Encoder.open(folder), items, item_statistics)))
    texts = subject.retriever.encoder.space.item_texts(items)
    return [*models, System("bm25", bm25_ranker(Bm25.build(texts))), System("popularity", popularity_ranker(stats))]


def rank_all(systems: list[System], batch: QueryBatch, progress: Progress) -> dict[str, Int[np.ndarray, "n depth"]]:
    """The first 1,000 rows of each system for each query, padded with -1 if the catalogue is smaller."""
    rankings = {}
    for system in systems:
        progress(f"rank with {system.name}", 0, 1)
        rows = system.rank(batch, DEPTH)
        rankings[system.name] = np.pad(rows, ((0, 0), (0, DEPTH - rows.shape[1])), constant_values=-1)
        progress(f"rank with {system.name}", 1, 1)
    return rankings


def model_ranker(encoder: Encoder, items: pa.Table, item_statistics: Float32[np.ndarray, "n statistics"]) -> Ranker:
    """Exact search among `items` with the vectors of a model; `item_statistics` are from the log."""
    features = encoder.encode_items(items)
    vectors = encoder.embed_items(features, item_statistics)
    index = build(IndexConfig(kind="exact"), vectors, np.arange(len(vectors), dtype=np.int64))

    def rank(batch: QueryBatch, depth: int) -> Int[np.ndarray, "n depth"]:
        queries = encoder.embed_queries(batch.queries, batch.users, features.look_up_history(batch.history))
        return index.search(queries, depth).ids

    return rank


def bm25_ranker(bm25: Bm25) -> Ranker:
    """BM25 over whole texts."""
    return lambda batch, depth: bm25.search(batch.queries, depth).rows


def popularity_ranker(stats: ItemStats) -> Ranker:
    """The same items for every request: the most ordered ones, then the most clicked, then the most shown."""
    n_shown, n_clicked, n_ordered = stats.at(stats.snapshots.test).T
    best = np.lexsort((np.arange(len(n_shown)), -n_shown, -n_clicked, -n_ordered))
    return lambda batch, depth: np.broadcast_to(best[:depth], (len(batch), min(depth, len(best))))
