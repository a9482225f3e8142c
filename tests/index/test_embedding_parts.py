"""The catalogue embedded in parts: by shards, after a kill, on Spark; the same bytes as by one process."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmse.cli.main import app
from mmse.core import extras
from mmse.core.artifact import Manifest, read_manifest
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.run_folder import VECTORS, RunFolder
from mmse.dataset.folder import ItemStats
from mmse.index import embedding
from mmse.index.embedding import EmbedConfig, EmbeddingSource, ItemVectors, _read_rows, embed
from mmse.index.embedding_parts import CatalogueShard, PartCounts, embed_parts, embed_shard, merge_parts
from mmse.index.spark_embedding import EmbedTask, embed_on_spark
from mmse.mining.spark.cluster import open_spark
from mmse.shop import Shop

ROWS = 97  # 400 items in five parts, the last one smaller
CONFIG = EmbedConfig(sample_queries=5)
PLAIN = {"as_of": "test", "sample_queries": 5}


@pytest.fixture(scope="module")
def run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with dataset and model alone."""
    folder = tmp_path_factory.mktemp("parts")
    for name in ("dataset", "model"):
        shutil.copytree(small_run / name, folder / name)
    return RunFolder(folder)


@pytest.fixture(scope="module")
def expected(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """What one process writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "ROWS", ROWS)
        return embed(run.dataset, run.model, tmp_path_factory.mktemp("whole") / "vectors", CONFIG)


@pytest.fixture
def catalogue(run: RunFolder) -> Iterator[EmbeddingSource]:
    yield EmbeddingSource(run.dataset, run.model, CONFIG, ROWS)
    shutil.rmtree(run.vector_parts, ignore_errors=True)


@pytest.mark.parametrize("total", [1, 2, 7])
def test_shards_in_any_order_make_the_bytes_of_one_process(
    run: RunFolder,
    catalogue: EmbeddingSource,
    expected: Manifest,
    tmp_path: Path,
    total: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "ROWS", ROWS)
    counts = [embed_shard(run, CONFIG, CatalogueShard(number, total)) for number in reversed(range(total))]
    assert sum(count.n_embedded for count in counts) == catalogue.n_parts == 5
    merged = merge_parts(catalogue, run.vector_parts, tmp_path / "vectors", PLAIN)
    assert merged.files == expected.files
    assert merged.fingerprint == expected.fingerprint
    assert not run.vector_parts.exists()


def test_a_process_that_was_killed_goes_on_where_it_ended(
    run: RunFolder, catalogue: EmbeddingSource, expected: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_early(self: EmbeddingSource, parts: range) -> Iterator[ItemVectors]:
        yield from embed_all(self, parts[:2])
        raise KeyboardInterrupt

    embed_all = EmbeddingSource.embed_parts
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingSource, "embed_parts", end_early)
        with pytest.raises(KeyboardInterrupt):
            embed_parts(catalogue, run.vector_parts, range(5))
    assert embed_parts(catalogue, run.vector_parts, range(5)) == PartCounts(n_embedded=3, n_finished=2)
    assert merge_parts(catalogue, run.vector_parts, tmp_path / "vectors", PLAIN).files == expected.files


def test_a_merge_names_what_is_missing_damaged_or_of_another_model(
    run: RunFolder, catalogue: EmbeddingSource, tmp_path: Path
) -> None:
    embed_parts(catalogue, run.vector_parts, range(5))
    shutil.rmtree(run.vector_parts / "part-000001")
    vectors = run.vector_parts / "part-000002" / "items.npy"
    vectors.write_bytes(vectors.read_bytes()[:-4] + b"\0\0\0\0")
    manifest = run.vector_parts / "part-000003" / "manifest.json"
    model = catalogue.inputs["model"]
    manifest.write_text(manifest.read_text("utf-8").replace(model, "0" * len(model)), "utf-8")
    with pytest.raises(ArtifactError) as failure:
        merge_parts(catalogue, run.vector_parts, tmp_path / "vectors", PLAIN)
    assert "3 of 5 parts" in failure.value.cause
    assert "part-000001 (not there yet)" in failure.value.cause
    assert "part-000002" in failure.value.cause
    assert "its content is not what was written" in failure.value.cause
    assert "part-000003" in failure.value.cause
    assert not (tmp_path / "vectors").exists()
    assert embed_parts(catalogue, run.vector_parts, range(5)) == PartCounts(n_embedded=3, n_finished=2)
    later = EmbeddingSource(run.dataset, run.model, EmbedConfig("end", 5), ROWS)
    with pytest.raises(ArtifactError, match=r"5 of 5 parts.*as_of: test → end"):
        merge_parts(later, run.vector_parts, tmp_path / "vectors", PLAIN)


@pytest.mark.parametrize("text", ["16/16", "1", "a/b", "-1/4", "1/0", "1/2/3", ""])
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="0/16 … 15/16"):
        CatalogueShard.parse(text)


def test_shards_share_the_parts_among_them() -> None:
    for n_parts, total in ((5, 3), (3, 7), (1526, 64)):
        parts = [part for number in range(total) for part in CatalogueShard(number, total).parts(n_parts)]
        assert parts == list(range(n_parts))


def test_the_commands_embed_and_merge(small_shop: Shop, run: RunFolder, small_run: Path) -> None:
    def call(*options: str) -> str:
        result = CliRunner().invoke(app, ["embed", str(small_shop.path), "--out", str(run.path), *options])
        return result.output + str(result.exception or "")

    assert "1 parts embedded, 0 were there" in call("--shard", "0/2") + call("--shard", "1/2")
    assert "exclude one another" in call("--shard", "0/2", "--merge")
    assert "items" in call("--merge")
    assert read_manifest(run.vectors, VECTORS).files == read_manifest(small_run / "vectors", VECTORS).files
    assert not run.vector_parts.exists()
    assert "items" in call()  # it is up to date
    shutil.rmtree(run.vectors)


def test_rows_are_read_across_row_groups(tmp_path: Path) -> None:
    table = pa.table({"n": np.arange(1_000), "words": [[str(n)] * (n % 3) for n in range(1_000)]})
    pq.write_table(table, tmp_path / "items.parquet", row_group_size=130)
    ranges = [range(0, 97), range(97, 194), range(300, 301), range(388, 700), range(700, 700), range(990, 1_000)]
    with pq.ParquetFile(tmp_path / "items.parquet") as file:
        for rows, read in zip(ranges, _read_rows(file, ranges), strict=True):
            assert read.equals(table.slice(rows.start, len(rows)))


def test_statistics_of_a_part_are_those_of_the_whole(run: RunFolder) -> None:
    stats = ItemStats.open(run.dataset)
    for snapshot in range(stats.snapshots.end + 1):
        counts = stats.at(snapshot)
        np.testing.assert_array_equal(stats.between(snapshot, 90, 211), counts[90:211])
        np.testing.assert_array_equal(stats.totals(snapshot), counts.sum(axis=0))
    with pytest.raises(UsageError):
        stats.totals(stats.snapshots.end + 1)


def test_a_task_of_spark_embeds_its_parts(run: RunFolder, catalogue: EmbeddingSource) -> None:
    task = EmbedTask(run.dataset, run.model, run.vector_parts, CONFIG, ROWS, threads=1)
    assert list(task(iter([]))) == []
    (counts,) = task(iter(pa.table({"part": [4, 1]}).to_batches()))
    assert counts.to_pylist() == [{"embedded": 2, "finished": 0}]
    assert embed_parts(catalogue, run.vector_parts, range(5)) == PartCounts(n_embedded=3, n_finished=2)


def test_spark_writes_the_bytes_of_one_process(
    run: RunFolder, catalogue: EmbeddingSource, expected: Manifest, tmp_path: Path
) -> None:
    if extras.EXTRAS["spark"].absent_modules or shutil.which("java") is None:
        pytest.skip("needs pyspark and Java")
    embed_parts(catalogue, run.vector_parts, [2])  # of a run that was killed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_spark("local[2]", {"spark.ui.enabled": "false"}, "embed the catalogue") as spark:
            merged = embed_on_spark(spark, catalogue, run.vector_parts, tmp_path / "vectors", PLAIN)
    assert merged.files == expected.files
