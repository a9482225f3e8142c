"""The vectors of new and changed items by the run's own model, the same that the `embed` step would give."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from mmse.core.run_folder import VECTORS, RunFolder
from mmse.dataset.serving_data import read_item_counts
from mmse.index.step import attribute_columns
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import STATISTICS, compute_statistics


@final
class Embedder:
    """An encoder, with the item statistics that the run's vectors were made with."""

    def __init__(self, run: Path, encoder: Encoder) -> None:
        self.encoder = encoder
        folder = RunFolder(run)
        as_of = folder.manifest(VECTORS).config["as_of"]
        self._statistics = compute_statistics(read_item_counts(folder.serving, as_of))

    @property
    def attributes(self) -> list[str]:
        """The columns whose words the lexical index holds besides those of title, brand and category."""
        return attribute_columns(self.encoder.space.shop_columns)

    def embed(self, rows: Int64[np.ndarray, " n"], items: pa.Table) -> Float32[np.ndarray, "n width"]:
        """The vectors of `items`, whose rows are `rows`; an item that the log lacks has zeros for its statistics."""
        item_statistics = np.zeros((len(rows), STATISTICS), np.float32)
        in_log = rows < len(self._statistics)
        item_statistics[in_log] = self._statistics[rows[in_log]]
        return self.encoder.embed_items(self.encoder.encode_items(items), item_statistics)
