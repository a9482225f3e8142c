"""The training shards of a `dataset/` folder, read one at a time and cached while memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from mmse.core.errors import ArtifactError
from mmse.dataset.folder import DatasetFolder, ItemStats, has_requests, read_reformulations
from mmse.dataset.history import History
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import compute_statistics
from mmse.schema.stages import Stage
from mmse.training.catalogue_requests import read_catalogue
from mmse.training.encoded_requests import EncodedRequests, encode_requests, read_period, read_requests


class Shards:
    """The training requests, shard by shard; at most `cache_mb` megabytes of encoded shards stay in memory.

    A request is usable if one of its items was clicked or better, or always with `all_stages`. Rows below the stage
    `lowest` are left out; `RETRIEVED` keeps items that were not shown. With `reformulations`, a request without a click
    gets as clicks the items that its shopper took after the next, reworded request. Where the log has fewer usable
    requests than `catalogue_below`, or none at all, requests made of items' words (`catalogue_requests`, drawn with
    `seed`, of `catalogue_stage`) are one more shard after those of the log: they know nothing of what the log counted,
    and no memory of whole queries is kept of them. With `has_slips` each query of the log is encoded with a slip, too.
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
        catalogue_below: int = 0,
        catalogue_stage: Stage = Stage.CLICKED,
        has_slips: bool = False,
        seed: int = 0,
    ) -> None:
        self.paths = DatasetFolder(dataset).row_files("train")
        self._encoder, self._history, self._all_stages = encoder, History.open(dataset), all_stages
        self._slip_seed = seed if has_slips else None
        self._lowest, self._reformulation_clicks = lowest, read_reformulations(dataset) if reformulations else None
        self._item_stats = ItemStats.open(dataset)
        self._statistics: dict[int, Float32[np.ndarray, "items statistics"]] = {}
        self._cache: dict[int, EncodedRequests] = {}
        self._free_bytes = cache_mb * 1_000_000
        self.usable_counts = [len(usable) for _, usable in map(self.read_usable, range(len(self.paths)))]
        self.n_from_log = sum(self.usable_counts)
        has_log = has_requests(dataset)
        if has_log and not self.n_from_log:
            raise ArtifactError(
                f"{dataset} has no training request with a click or an order, so there is nothing to learn from.",
                "Check the mapping of 'clicked' and 'ordered' in shop.toml, or bring a longer log.",
            )
        self._catalogue: pa.Table | None = None
        if not has_log or self.n_from_log < catalogue_below:
            self._catalogue = read_catalogue(dataset, seed, catalogue_stage)
            self.usable_counts.append(len(self._catalogue))

    def __len__(self) -> int:
        return len(self.usable_counts)

    @property
    def n_requests(self) -> int:
        """The number of requests of an epoch."""
        return sum(self.usable_counts)

    def read_usable(self, shard: int) -> tuple[EncodedRequests, Int64[np.ndarray, " usable"]]:
        """The requests of a shard, and the indices of the usable ones."""
        requests = self._read(shard)
        if self._all_stages:
            return requests, np.arange(len(requests))
        clicked = np.logical_or.reduceat(requests.stages >= Stage.CLICKED, requests.offsets[:-1])
        return requests, np.flatnonzero(clicked)

    def read_all_usable(self) -> Iterator[tuple[EncodedRequests, Int64[np.ndarray, " usable"]]]:
        """`read_usable` of every shard."""
        return map(self.read_usable, range(len(self)))

    def statistics(self, snapshot: int) -> Float32[np.ndarray, "items statistics"]:
        """The statistics of every item from the log before `snapshot`."""
        if snapshot not in self._statistics:
            self._statistics[snapshot] = compute_statistics(self._item_stats.at(snapshot))
        return self._statistics[snapshot]

    def _read(self, shard: int) -> EncodedRequests:
        if shard in self._cache:
            return self._cache[shard]
        requests = self._encode_catalogue() if shard == len(self.paths) else self._read_file(self.paths[shard])
        if requests.nbytes <= self._free_bytes:
            self._cache[shard] = requests
            self._free_bytes -= requests.nbytes
        return requests

    def _read_file(self, path: Path) -> EncodedRequests:
        number = self.paths.index(path)
        return read_requests(
            path,
            read_period(path),
            self._encoder,
            self._history,
            lowest=self._lowest,
            positives=self._reformulation_clicks,
            slips=None if self._slip_seed is None else np.random.default_rng([self._slip_seed, 5, number]),
        )

    def _encode_catalogue(self) -> EncodedRequests:
        """The requests made from the catalogue, as of before the log, with the memory of no query."""
        assert self._catalogue is not None
        starts = np.arange(len(self._catalogue), dtype=np.int64)
        requests = encode_requests(self._catalogue, starts, 0, self._encoder, self._history)
        return replace(requests, memory=np.zeros_like(requests.memory), from_catalogue=True)
