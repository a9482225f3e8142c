"""Evaluation on human judgements: recall, over the whole catalogue, of what people found relevant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mmse.core.errors import TableError
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import RunFolder
from mmse.dataset.folder import DatasetFolder
from mmse.evaluation import metrics
from mmse.evaluation.channels import CUTS, QueryBatch, Subject
from mmse.evaluation.metric_values import MetricValues
from mmse.evaluation.metrics import Relevant
from mmse.evaluation.offline import EvaluateConfig, Evaluation, compare_systems
from mmse.evaluation.rows import ALL
from mmse.evaluation.systems import open_baselines, rank_all
from mmse.sources.judgements import JudgedCatalogue, read_judgements


@dataclass(frozen=True)
class JudgedQueries:
    """The queries that have a relevant item, and their relevant items."""

    batch: QueryBatch
    relevant: Relevant


def evaluate_judged(
    run: Path,
    judgements: Path,
    config: EvaluateConfig,
    *,
    relevant_from: float,
    split: str | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Compares the systems of `run` on `judgements` (columns `query, item_id, relevance`, and `split` if it is given).

    An item is relevant from the grade `relevant_from` on. Judgements are pooled, so an item without a judgement may
    still be relevant: recall and the first relevant rank are reported, and no metric that punishes unjudged items.
    Raises `TableError` for an unusable file, an item that the run does not have, or if no judgement is relevant.
    """
    catalogue = read_judgements(DatasetFolder(RunFolder(run).dataset).items, judgements, split)
    selection = select_relevant(catalogue, relevant_from, judgements, "--relevant-from")
    subject = Subject.open(run)
    queries = selection.batch.queries
    vectors = subject.vectors(selection.batch)
    results = subject.rank(queries, vectors, progress)
    rankings = results.rankings | rank_all(open_baselines(subject), selection.batch, progress)
    values = judged_metrics(list(rankings.values()), selection.relevant)
    evaluation = compare_systems(values, list(rankings), subject, np.arange(len(queries)), config, progress)
    evaluation.agreement = subject.agreement(vectors, results)
    evaluation.facts = {"judged queries": len(queries), "relevant from": relevant_from, "split": split or "all"}
    return evaluation


def select_relevant(catalogue: JudgedCatalogue, relevant_from: float, path: Path, option: str) -> JudgedQueries:
    """The judgements with at least the grade `relevant_from`; raises `TableError` if there is none.

    The error names the file `path` of the judgements and the `option` that sets the grade.
    """
    is_relevant = catalogue.relevance >= relevant_from
    if not is_relevant.any():
        raise TableError(
            f"{path}: no relevance reaches {relevant_from}; the highest is {catalogue.relevance.max()}.",
            f"Lower {option}.",
        )
    numbers, query = np.unique(catalogue.query[is_relevant], return_inverse=True)
    queries = [catalogue.queries[number] for number in numbers]
    relevant = metrics.from_pairs(query, catalogue.item[is_relevant], np.ones(int(is_relevant.sum())), len(queries))
    batch = QueryBatch(queries, [None] * len(queries), np.full((len(queries), 1), -1, np.int32))
    return JudgedQueries(batch, relevant)


def judged_metrics(rankings: Sequence[Int[np.ndarray, "n depth"]], relevant: Relevant) -> list[MetricValues]:
    """Recall at every cut and the reciprocal rank of the first relevant item, of each system's ranking."""
    hits = [metrics.locate(ranking, relevant) for ranking in rankings]
    values = [MetricValues("judged", ALL, "recall", k, np.stack([metrics.recall(h, k) for h in hits])) for k in CUTS]
    return [*values, MetricValues("judged", ALL, "mrr", 10, np.stack([metrics.mrr(h, 10) for h in hits]))]
