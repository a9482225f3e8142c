"""Slices of the logged requests: which of them, or which of their items, a number is about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Bool

from mmse.dataset.folder import ItemStats
from mmse.evaluation.rows import ALL
from mmse.text.tokenizer import normalise
from mmse.training.targets import Logged


@dataclass(frozen=True)
class Slice:
    """The requests that count, and of their wanted items the pairs that count."""

    name: str
    requests: Bool[np.ndarray, " n"]
    pairs: Bool[np.ndarray, " pairs"]


def slices_of(dataset: Path, logged: Logged) -> list[Slice]:
    """All requests; head, torso and tail queries; new queries; new items; with and without history; explored slots.

    Queries are taken by falling frequency: those that begin within the first third of the training requests are head,
    within the next third torso, the rest, new ones included, tail. A new item was not shown in the training window.
    """
    every, any_pair = np.ones(len(logged), bool), np.ones(len(logged.request), bool)
    trained = pq.read_table(dataset / "queries.parquet")
    requests = trained["requests"].to_numpy()
    before = (np.cumsum(requests) - requests) / max(1, requests.sum())
    thirds = np.searchsorted([1 / 3, 2 / 3], before, side="right")
    band = dict(zip(trained["query"].to_pylist(), thirds, strict=True))
    bands = np.array([band.get(normalise(q), 3) for q in logged.queries], np.int64)
    head, torso, tail, new = (np.asarray(b) for b in (bands == 0, bands == 1, bands >= 2, bands == 3))
    stats = ItemStats.open(dataset)
    unseen = stats.at(stats.snapshots.valid)[:, 0] == 0
    history = np.asarray((logged.history >= 0).any(axis=1))
    return [
        Slice(ALL, every, any_pair),
        Slice("head query", head, any_pair),
        Slice("torso query", torso, any_pair),
        Slice("tail query", tail, any_pair),
        Slice("new query", new, any_pair),
        Slice("new item", every, unseen[logged.item_rows]),
        Slice("with history", history, any_pair),
        Slice("without history", ~history, any_pair),
        Slice("explored slots", every, logged.explored),
    ]
