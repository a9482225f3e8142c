"""Queries of another shop: are they told that there is no good match, and what does that cost a shop's own queries?

    python benchmarks/no_match.py RUN OWN_JUDGEMENTS FOREIGN_JUDGEMENTS [--split dev] [--relevant-from 2.5]

RUN is a finished run of the catalogue that OWN_JUDGEMENTS grade (`--split`: those that it never trained on); of
FOREIGN_JUDGEMENTS the queries alone are used. A foreign query has no counterpart where no title of the catalogue holds
all of its stemmed words. Writes benchmarks/results/no_match.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.csv as csv
from jaxtyping import Bool, Float64, Int64
from machine import keep, where

from mmse.ranking.calibration import FORMS, Form
from mmse.retrieval.query_context import Calibrated
from mmse.retrieval.retriever import Retriever
from mmse.sources.judgements import Judged, read_judged
from mmse.text.bm25 import words

THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
K = 100
FEW = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("own", type=Path)
    parser.add_argument("foreign", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--relevant-from", type=float, default=2.5)
    asked = parser.parse_args()
    retriever = Retriever.open(asked.run, edits=False)
    judged = read_judged(asked.run / "dataset" / "items.parquet", asked.own, asked.split)
    foreign = sorted(set(csv.read_csv(asked.foreign)["query"].to_pylist()))
    alien = np.array([not has_counterpart(retriever, query) for query in foreign])
    own_hits, foreign_hits = calibrated(retriever, judged.queries), calibrated(retriever, foreign)
    result = where() | {
        "own": f"{asked.own.parent.name} {asked.split}",
        "foreign": asked.foreign.parent.name,
        "own_queries": len(judged.queries),
        "foreign_queries": len(foreign),
        "without_counterpart": int(alien.sum()),
        "relevant_from": asked.relevant_from,
        "form_in_use": retriever.ranking.calibration.form,
    }
    for form in FORMS:
        result[form] = {
            "told_apart": round(told_apart(top(own_hits, form), top(foreign_hits, form)[alien]), 4),
            "curve": [
                at(threshold, form, judged, asked.relevant_from, own_hits, foreign_hits, alien)
                for threshold in THRESHOLDS
            ],
        }
    keep("no_match", result)


def has_counterpart(retriever: Retriever, query: str) -> bool:
    """Whether some title or brand of the catalogue holds every word of `query`."""
    lexical = retriever.indexed.lexical
    asked = lexical.ask(query, retriever.ranking.boosts)
    if asked.query is None:
        return False
    return len(lexical.holding([(word,) for word in dict.fromkeys(words(query))], asked, 1).rows) > 0


def calibrated(retriever: Retriever, queries: list[str]) -> list[Calibrated]:
    return list(retriever.calibrated(queries, retriever.query_vectors(queries), K))


def top(hits: list[Calibrated], form: Form) -> Float64[np.ndarray, " n"]:
    """The probability of each query's likeliest hit, 0 where there is none."""
    return np.array([one.chances[form].max(initial=0.0) for one in hits])


def told_apart(own: Float64[np.ndarray, " n"], foreign: Float64[np.ndarray, " m"]) -> float:
    """How often the best hit of an own query is likelier than that of a foreign one (AUC; 0.5 is chance)."""
    greater = (own[:, None] > foreign[None, :]).mean() + 0.5 * (own[:, None] == foreign[None, :]).mean()
    return float(greater)


def at(
    threshold: float,
    form: Form,
    judged: Judged,
    relevant_from: float,
    own: list[Calibrated],
    foreign: list[Calibrated],
    alien: Bool[np.ndarray, " m"],
) -> dict[str, float]:
    """One point of the curve, at the least probability `threshold`."""
    left = np.array([(one.chances[form] >= threshold).sum() for one in foreign])
    left_own = np.array([(one.chances[form] >= threshold).sum() for one in own])
    said = {
        "min_probability": threshold,
        "foreign_without_counterpart_no_hit": (left[alien] == 0).mean(),
        "foreign_without_counterpart_fewer_than_5": (left[alien] < FEW).mean(),
        "foreign_no_hit": (left == 0).mean(),
        "own_no_hit": (left_own == 0).mean(),
    }
    for k in (10, K):
        said[f"own_recall@{k}"] = recall(threshold, form, judged, relevant_from, own, k)
    return {name: round(float(value), 4) for name, value in said.items()}


def recall(threshold: float, form: Form, judged: Judged, relevant_from: float, own: list[Calibrated], k: int) -> float:
    """Mean recall@`k` of the own queries that have a relevant item, of the hits that are left."""
    good = judged.relevance >= relevant_from
    found: list[float] = []
    for query, hits in enumerate(own):
        wanted: Int64[np.ndarray, " w"] = judged.item[good & (judged.query == query)]
        if len(wanted):
            rows = hits.rows[:k][hits.chances[form][:k] >= threshold]
            found.append(float(np.isin(wanted, rows).mean()))
    return float(np.mean(found))


if __name__ == "__main__":
    main()
