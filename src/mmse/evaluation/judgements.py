"""Evaluation on human judgements: recall, over the whole catalogue, of what people found relevant."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmse.core.errors import TableError
from mmse.evaluation import metrics
from mmse.evaluation.channels import CUTS, Questions, Served
from mmse.evaluation.metric_values import Measured, Progress
from mmse.evaluation.offline import EvaluateConfig, Evaluation, compared
from mmse.evaluation.rows import ALL
from mmse.evaluation.systems import baselines_of, ranked
from mmse.sources.judgements import read_judged


def evaluate_judged(
    run: Path,
    judgements: Path,
    config: EvaluateConfig,
    *,
    relevant_from: float,
    split: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compares the systems of `run` on `judgements` (columns `query, item_id, relevance`, and `split` if asked for).

    An item is relevant from the grade `relevant_from` on. Judgements are pooled, so an item nobody judged is not an
    irrelevant one: recall and the first relevant rank are reported, and no metric that punishes unjudged items.
    Raises `TableError` for an unusable file, an item that the run does not have, or where no judgement is relevant.
    """
    say = progress or (lambda what, done, total: None)
    judged = read_judged(run / "dataset" / "items.parquet", judgements, split)
    good = judged.relevance >= relevant_from
    if not good.any():
        raise TableError(
            f"{judgements}: no relevance reaches {relevant_from}; the highest is {judged.relevance.max()}.",
            "Lower --relevant-from.",
        )
    kept, query = np.unique(judged.query[good], return_inverse=True)
    queries = [judged.queries[q] for q in kept]
    wanted = metrics.from_pairs(query, judged.item[good], np.ones(int(good.sum())), len(queries))
    asked = Questions(queries, [None] * len(queries), np.full((len(queries), 1), -1, np.int32))
    served = Served.open(run)
    vectors = served.vectors(asked)
    looked = served.look(queries, vectors, say)
    rankings = looked.rankings | ranked(baselines_of(served), asked, say)
    found = [metrics.locate(one, wanted) for one in rankings.values()]
    measured = [Measured("judged", ALL, "recall", k, np.stack([metrics.recall(f, k) for f in found])) for k in CUTS]
    measured.append(Measured("judged", ALL, "mrr", 10, np.stack([metrics.mrr(f, 10) for f in found])))
    result = compared(measured, list(rankings), served, np.arange(len(queries)), config, say)
    result.agreement = served.agreement(vectors, looked)
    result.facts = {"judged queries": len(queries), "relevant from": relevant_from, "split": split or "all"}
    return result
