"""The vectors of new and changed items, by the run's own model: what `embed` would have made of them."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from mmse.core import artifact
from mmse.dataset.folder import ItemStats
from mmse.index.step import attributes
from mmse.model.encoder import Encoder
from mmse.model.features import STATISTICS, statistics


@final
class Embedder:
    """An encoder with what the log said of the run's items when its vectors were made."""

    def __init__(self, run: Path, encoder: Encoder) -> None:
        self.encoder = encoder
        stats = ItemStats.open(run / "dataset")
        as_of = artifact.read_manifest(run / "vectors", "vectors").config["as_of"]
        moment = stats.snapshots.test if as_of == "test" else stats.snapshots.end
        self._told = statistics(stats.at(moment))

    @property
    def attributes(self) -> list[str]:
        """The columns whose words stand in the lexical index beside title, brand and category."""
        return attributes(self.encoder.space.declared)

    def vectors(self, rows: Int64[np.ndarray, " n"], items: pa.Table) -> Float32[np.ndarray, "n width"]:
        """The vectors of `items`, which stand or will stand at `rows`; one that the log does not know has no past."""
        told = np.zeros((len(rows), STATISTICS), np.float32)
        known = rows < len(self._told)
        told[known] = self._told[rows[known]]
        return self.encoder.items(self.encoder.encode_items(items), told)
