"""What one system finds of what was wanted, request by request, so that systems can be paired and seeds averaged.

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
from mmse.core.errors import TableError
from mmse.dataset.folder import ItemStats
from mmse.evaluation import metrics
from mmse.evaluation.channels import CUTS, Questions
from mmse.evaluation.metric_values import Measured, Progress
from mmse.evaluation.offline import logged_metrics
from mmse.evaluation.rows import ALL
from mmse.evaluation.slices import slices_of
from mmse.evaluation.systems import Ranker, System, by_words, ranked
from mmse.evaluation.truth import World, truth_metrics
from mmse.lab.compare.data import Grades
from mmse.lab.compare.grid import MeasureConfig
from mmse.model.features import STATISTICS, FeatureSpace, statistics
from mmse.sources.judgements import read_judged
from mmse.sources.tables import ItemsConfig
from mmse.text.bm25 import Bm25
from mmse.training.targets import read_logged

KEYS = ("on", "target", "slice", "metric", "k")
"""What a value is about; `on` is the catalogue, empty for the one that was trained on."""


def on_log(
    rank: Ranker, name: str, dataset: Path, truth: Path | None, config: MeasureConfig, say: Progress
) -> pa.Table:
    """The values of one system on the test requests of `dataset`, and on the simulated truth where there is one."""
    logged = read_logged(dataset, "test", config.requests, clicked_only=False)
    asked = Questions(logged.queries, logged.users, logged.history)
    found = list(ranked([System(name, rank)], asked, say).values())
    measured = logged_metrics(found, logged, slices_of(dataset, logged))
    if truth is not None:
        world = World.open(truth, dataset)
        measured += truth_metrics(found, logged.request_ids, world, config.truth_requests, config.seed, say)
    return as_table("", measured, logged.request_ids, logged.queries)


def on_grades(rank: Ranker, name: str, items: Path, grades: Grades, on: str, say: Progress) -> pa.Table:
    """The recall and the first rank of what people judged relevant among `items`; values are by judged query."""
    judged = read_judged(items, grades.judgements, grades.split)
    good = judged.relevance >= grades.relevant_from
    if not good.any():
        highest = f"the highest is {judged.relevance.max()}"
        raise TableError(
            f"{grades.judgements}: no relevance reaches {grades.relevant_from}; {highest}.", "Lower relevant_from."
        )
    kept, query = np.unique(judged.query[good], return_inverse=True)
    queries = [judged.queries[q] for q in kept]
    wanted = metrics.from_pairs(query, judged.item[good], np.ones(int(good.sum())), len(queries))
    asked = Questions(queries, [None] * len(queries), np.full((len(queries), 1), -1, np.int32))
    found = metrics.locate(ranked([System(name, rank)], asked, say)[name], wanted)
    measured = [Measured("judged", ALL, "recall", k, metrics.recall(found, k)[None]) for k in CUTS]
    measured.append(Measured("judged", ALL, "mrr", 10, metrics.mrr(found, 10)[None]))
    return as_table(on, measured, queries, queries)


def as_table(on: str, measured: Iterable[Measured], requests: Sequence[str], queries: Sequence[str]) -> pa.Table:
    """A row a request and measure that defines it, measure by measure."""
    request, query = (pa.array(names, pa.string()).dictionary_encode() for names in (requests, queries))
    parts = []
    for m in measured:
        (values,) = m.values
        defined = np.flatnonzero(~np.isnan(values))
        about = {"on": on, "target": m.target, "slice": m.slice, "metric": m.metric}
        zeros = np.zeros(len(defined), np.int32)
        columns = {name: pa.DictionaryArray.from_arrays(zeros, [value]) for name, value in about.items()}
        columns |= {"k": np.full(len(defined), m.k, np.int32)}
        columns |= {"request": request.take(pa.array(defined)), "query": query.take(pa.array(defined))}
        parts.append(pa.table(columns | {"value": values[defined]}))
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def known_items(dataset: Path) -> tuple[pa.Table, Float32[np.ndarray, "n statistics"]]:
    """The catalogue that was trained on, and what the log said of it when the test window began."""
    stats = ItemStats.open(dataset)
    return pq.read_table(dataset / "items.parquet"), statistics(stats.at(stats.snapshots.test))


def strange_items(grades: Grades) -> tuple[pa.Table, Float32[np.ndarray, "n statistics"]]:
    """Another shop's catalogue, of which no log says anything."""
    assert grades.items is not None
    items = read_judged(grades.items, grades.judgements, grades.split).items
    return items, np.zeros((len(items), STATISTICS), np.float32)


def by_words_of(items: pa.Table, dataset: Path) -> Ranker:
    """Untuned BM25 over all text of `items` that a model of `dataset` reads."""
    declared = build(ItemsConfig, artifact.read_manifest(dataset, "dataset").config["items"], str(dataset))
    texts = {name: list(getattr(declared, name)) for name in ("text", "categorical", "numeric")}
    return by_words(Bm25.build(FeatureSpace(texts, {}, {}).item_texts(items)))
