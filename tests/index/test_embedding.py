"""The embed step: the vectors of the whole catalogue, whatever is read at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmse.core.run_folder import RunFolder
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.index import embedding
from mmse.index.embedding import EmbedConfig, embed, open_array
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import compute_statistics


@pytest.mark.parametrize("rows", [embedding.ROWS, 97])
def test_parts_of_the_catalogue_have_the_vectors_of_the_whole(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    run = RunFolder(small_run)
    monkeypatch.setattr(embedding, "ROWS", rows)
    embed(run.dataset, run.model, tmp_path / "vectors", EmbedConfig(sample_queries=5))
    encoder, stats = Encoder.open(run.model), ItemStats.open(run.dataset)
    features = encoder.encode_items(pq.read_table(DatasetFolder(run.dataset).items))
    vectors = encoder.embed_items(features, compute_statistics(stats.at(stats.snapshots.test)))
    written = open_array(tmp_path / "vectors")
    assert written.dtype == np.float32
    np.testing.assert_allclose(written, vectors, atol=1e-6)
    np.testing.assert_array_equal(open_array(tmp_path / "vectors", embedding.SHOPPER), features.traits)
    assert open_array(tmp_path / "vectors", embedding.QUERIES).shape == (5, encoder.width)
