"""The metrics of one system, request by request, so that systems can be paired and seeds averaged.

Every system is measured as a model: exact search with its vectors alone, no second channel, no learned ranking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from mmse.core import artifact
from mmse.core.config import build
from mmse.core.progress import Progress
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.evaluation.channels import QueryBatch
from mmse.evaluation.judgements import judged_metrics, select_relevant
from mmse.evaluation.metric_values import MetricValues
from mmse.evaluation.offline import logged_metrics
from mmse.evaluation.slices import slices_of
from mmse.evaluation.systems import Ranker, System, bm25_ranker, rank_all
from mmse.evaluation.truth import CatalogueTruth, truth_metrics
from mmse.lab.compare.data import Grades
from mmse.lab.compare.grid import MeasureConfig
from mmse.lab.simulator.truth import Truth
from mmse.model.features import FeatureSpace
from mmse.model.item_statistics import STATISTICS, compute_statistics
from mmse.sources.judgements import read_judgements
from mmse.sources.tables import ItemsConfig
from mmse.text.bm25 import Bm25
from mmse.training.targets import read_logged_requests

KEYS = ("on", "target", "slice", "metric", "k")
"""The columns that name a value; `on` is the catalogue, empty for the one of the training data."""


def measure_log(
    rank: Ranker, name: str, dataset: Path, truth: Path | None, config: MeasureConfig, progress: Progress
) -> pa.Table:
    """The values of one system on the test requests of `dataset`, and on the simulated truth where there is one."""
    log = read_logged_requests(dataset, "test", config.requests, clicked_only=False)
    batch = QueryBatch(log.queries, log.users, log.history)
    rankings = list(rank_all([System(name, rank)], batch, progress).values())
    values = logged_metrics(rankings, log, slices_of(dataset, log))
    if truth is not None:
        catalogue_truth = CatalogueTruth.align(Truth.open(truth), dataset)
        n = config.truth_requests
        values += truth_metrics(rankings, log.request_ids, catalogue_truth, n, config.seed, progress)
    return to_table("", values, log.request_ids, log.queries)


def measure_grades(
    rank: Ranker, name: str, items: Path, grades: Grades, catalogue: str, progress: Progress
) -> pa.Table:
    """The recall and the first rank of the items that people judged relevant, one value per judged query.

    `catalogue` is the name of `items` in tables, empty for the catalogue of the training data.
    """
    judgements = read_judgements(items, grades.judgements, grades.split)
    selection = select_relevant(judgements, grades.relevant_from, grades.judgements, "relevant_from")
    ranking = rank_all([System(name, rank)], selection.batch, progress)[name]
    queries = selection.batch.queries
    return to_table(catalogue, judged_metrics([ranking], selection.relevant), queries, queries)


def to_table(
    catalogue: str, metric_values: Iterable[MetricValues], requests: Sequence[str], queries: Sequence[str]
) -> pa.Table:
    """One row per metric and request that has a value, metric by metric."""
    request, query = (pa.array(names, pa.string()).dictionary_encode() for names in (requests, queries))
    parts = []
    for m in metric_values:
        (values,) = m.values
        rows = np.flatnonzero(~np.isnan(values))
        constants = {"on": catalogue, "target": m.target, "slice": m.slice, "metric": m.metric}
        zeros = np.zeros(len(rows), np.int32)
        columns = {name: pa.DictionaryArray.from_arrays(zeros, [value]) for name, value in constants.items()}
        columns |= {"k": np.full(len(rows), m.k, np.int32)}
        columns |= {"request": request.take(pa.array(rows)), "query": query.take(pa.array(rows))}
        parts.append(pa.table(columns | {"value": values[rows]}))
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def training_items(dataset: Path) -> tuple[pa.Table, Float32[np.ndarray, "n statistics"]]:
    """The catalogue of the training data, and its statistics from the log before the test window."""
    stats = ItemStats.open(dataset)
    return pq.read_table(DatasetFolder(dataset).items), compute_statistics(stats.at(stats.snapshots.test))


def foreign_items(grades: Grades) -> tuple[pa.Table, Float32[np.ndarray, "n statistics"]]:
    """Another shop's catalogue, with statistics of 0 because there is no log of it."""
    assert grades.items is not None
    items = read_judgements(grades.items, grades.judgements, grades.split).items
    return items, np.zeros((len(items), STATISTICS), np.float32)


def text_ranker(items: pa.Table, dataset: Path) -> Ranker:
    """Untuned BM25 over all text of `items` that a model of `dataset` reads."""
    config = build(ItemsConfig, artifact.read_manifest(dataset, "dataset").config["items"], str(dataset))
    texts = {name: list(getattr(config, name)) for name in ("text", "categorical", "numeric")}
    return bm25_ranker(Bm25.build(FeatureSpace(texts, {}, {}).item_texts(items)))
