"""The training shards of a `dataset/` folder, read one at a time and kept while memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from mmse.core.errors import ArtifactError
from mmse.dataset.folder import ItemStats, shard_files
from mmse.dataset.history import History
from mmse.mining.reformulations import taken_later
from mmse.model.encoder import Encoder
from mmse.model.features import statistics
from mmse.schema.stages import Stage
from mmse.training.encoded_requests import Requests, period_of, read_requests


class Shards:
    """The training requests, a shard at a time; at most `cache_mb` of encoded shards stay in memory.

    A request is usable where an item of it was clicked or got further, or where even unclicked items teach
    (`all_stages`). Its rows below the stage `lowest` are left out: `RETRIEVED` keeps what was not shown. With
    `reformulations` a request that took nothing has clicked what its shopper's next one took, in other words.
    """

    def __init__(
        self,
        dataset: Path,
        encoder: Encoder,
        *,
        all_stages: bool,
        cache_mb: int = 2_000,
        lowest: Stage = Stage.UNCLICKED,
        reformulations: bool = False,
    ) -> None:
        self.paths = shard_files(dataset, "train")
        self._encoder, self._history, self._all_stages = encoder, History.open(dataset), all_stages
        self._lowest, self._later = lowest, taken_later(dataset) if reformulations else None
        self._item_stats = ItemStats.open(dataset)
        self._known: dict[int, Float32[np.ndarray, "items statistics"]] = {}
        self._cache: dict[int, Requests] = {}
        self._room = cache_mb * 1_000_000
        self.usable_counts = [len(usable) for _, usable in map(self.usable, range(len(self.paths)))]
        if not self.n_requests:
            raise ArtifactError(
                f"{dataset} has no training request with a click or an order, so there is nothing to learn from.",
                "Check the mapping of 'clicked' and 'ordered' in shop.toml, or bring a longer log.",
            )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def n_requests(self) -> int:
        """How many requests an epoch trains on."""
        return sum(self.usable_counts)

    def usable(self, shard: int) -> tuple[Requests, Int64[np.ndarray, " usable"]]:
        """The requests of a shard and the places of those that teach something."""
        requests = self._read(shard)
        if self._all_stages:
            return requests, np.arange(len(requests))
        clicked = np.logical_or.reduceat(requests.stages >= Stage.CLICKED, requests.offsets[:-1])
        return requests, np.flatnonzero(clicked)

    def all_usable(self) -> Iterator[tuple[Requests, Int64[np.ndarray, " usable"]]]:
        """`usable` of every shard."""
        return map(self.usable, range(len(self)))

    def statistics(self, snapshot: int) -> Float32[np.ndarray, "items statistics"]:
        """What the log knew of every item before `snapshot`."""
        if snapshot not in self._known:
            self._known[snapshot] = statistics(self._item_stats.at(snapshot))
        return self._known[snapshot]

    def _read(self, shard: int) -> Requests:
        if shard in self._cache:
            return self._cache[shard]
        path = self.paths[shard]
        requests = read_requests(
            path, period_of(path), self._encoder, self._history, lowest=self._lowest, later=self._later
        )
        if requests.nbytes <= self._room:
            self._cache[shard] = requests
            self._room -= requests.nbytes
        return requests
