"""Slices of the logged requests: the requests, or the items, that a number is about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Bool

from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.evaluation.rows import ALL
from mmse.text.normalise import normalise
from mmse.training.targets import LoggedRequests


@dataclass(frozen=True)
class Slice:
    """The requests that count, and of their clicked or ordered items the pairs that count."""

    name: str
    requests: Bool[np.ndarray, " n"]
    pairs: Bool[np.ndarray, " pairs"]


def slices_of(dataset: Path, log: LoggedRequests) -> list[Slice]:
    """All requests; head, torso and tail queries; new queries; new items; with and without history; explored slots.

    Queries are sorted by falling frequency: those that begin within the first third of the training requests are head,
    within the next third torso, the rest, new ones included, tail. A new item was not shown in the training window.
    """
    all_requests, all_pairs = np.ones(len(log), bool), np.ones(len(log.request), bool)
    frequencies = pq.read_table(DatasetFolder(dataset).queries)
    counts = frequencies["requests"].to_numpy()
    start = (np.cumsum(counts) - counts) / max(1, counts.sum())
    thirds = np.searchsorted([1 / 3, 2 / 3], start, side="right")
    band_of = dict(zip(frequencies["query"].to_pylist(), thirds, strict=True))
    bands = np.array([band_of.get(normalise(q), 3) for q in log.queries], np.int64)
    head, torso, tail, new = (np.asarray(b) for b in (bands == 0, bands == 1, bands >= 2, bands == 3))
    stats = ItemStats.open(dataset)
    never_shown = stats.at(stats.snapshots.valid)[:, 0] == 0
    history = np.asarray((log.history >= 0).any(axis=1))
    return [
        Slice(ALL, all_requests, all_pairs),
        Slice("head query", head, all_pairs),
        Slice("torso query", torso, all_pairs),
        Slice("tail query", tail, all_pairs),
        Slice("new query", new, all_pairs),
        Slice("new item", all_requests, never_shown[log.item_rows]),
        Slice("with history", history, all_pairs),
        Slice("without history", ~history, all_pairs),
        Slice("explored slots", all_requests, log.explored),
    ]
