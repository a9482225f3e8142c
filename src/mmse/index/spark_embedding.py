"""The embed step on Spark: its workers embed the parts of the catalogue, and this process merges them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from mmse.core.artifact import Manifest
from mmse.core.progress import Progress, silent
from mmse.index.embedding import EmbedConfig, EmbeddingSource
from mmse.index.embedding_parts import embed_parts, merge_parts

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TASKS_PER_CORE = 4
"""A task opens the model once, which takes seconds, for all its parts; several tasks for a core level their time."""


@dataclass(frozen=True)
class EmbedTask:
    """What a worker does with the numbers of some parts; all paths are the same on every machine."""

    dataset: Path
    model: Path
    folder: Path
    config: EmbedConfig
    part_rows: int
    threads: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Embeds the parts, and gives how many it embedded and how many were finished before."""
        parts = sorted(part for batch in batches for part in batch.column(0).to_pylist())
        if not parts:
            return
        torch.set_num_threads(self.threads)
        counts = embed_parts(EmbeddingSource(self.dataset, self.model, self.config, self.part_rows), self.folder, parts)
        yield pa.RecordBatch.from_pydict({"embedded": [counts.n_embedded], "finished": [counts.n_finished]})


def embed_on_spark(
    spark: SparkSession,
    catalogue: EmbeddingSource,
    folder: Path,
    target: Path,
    config: Mapping[str, object],
    progress: Progress = silent,
) -> Manifest:
    """Embeds all parts into `folder` on the workers of `spark`, and merges them into the vectors folder `target`."""
    context, n_parts = spark.sparkContext, catalogue.n_parts
    progress("embed", 0, n_parts)
    task = EmbedTask(
        dataset=catalogue.dataset.resolve(),
        model=catalogue.model.resolve(),
        folder=folder.resolve(),
        config=catalogue.config,
        part_rows=catalogue.part_rows,
        threads=int(context.getConf().get("spark.task.cpus", "1") or 1),
    )
    n_tasks = min(n_parts, TASKS_PER_CORE * context.defaultParallelism)
    frame = spark.createDataFrame(context.parallelize([(part,) for part in range(n_parts)], n_tasks), "part bigint")
    frame.mapInArrow(task.__call__, "embedded bigint, finished bigint").collect()
    progress("embed", n_parts, n_parts)
    return merge_parts(catalogue, folder, target, config)
