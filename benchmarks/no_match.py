"""Queries of another shop: how often the search says "no good match", and the cost for a shop's own queries.

    python benchmarks/no_match.py RUN OWN_JUDGEMENTS FOREIGN_JUDGEMENTS [--split dev] [--relevant-from 2.5]

RUN is a finished run of the catalogue that OWN_JUDGEMENTS grade (`--split`: those without training); of
FOREIGN_JUDGEMENTS only the queries are used. A foreign query has no counterpart if no title of the catalogue has all
of its stemmed words. Writes benchmarks/results/no_match.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.csv as csv
from jaxtyping import Bool, Float64, Int64
from machine import environment, write_result

from mmse.dataset.folder import DatasetFolder
from mmse.ranking.calibration import FORMS, Form
from mmse.retrieval.channel_rankings import CalibratedHits
from mmse.retrieval.retriever import Retriever
from mmse.sources.judgements import JudgedCatalogue, read_judgements
from mmse.text.normalise import words

THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
K = 100
FEW_HITS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("own", type=Path)
    parser.add_argument("foreign", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--relevant-from", type=float, default=2.5)
    options = parser.parse_args()
    retriever = Retriever.open(options.run, edits=False)
    catalogue = read_judgements(DatasetFolder(options.run / "dataset").items, options.own, options.split)
    foreign = sorted(set(csv.read_csv(options.foreign)["query"].to_pylist()))
    is_alien = np.array([not has_counterpart(retriever, query) for query in foreign])
    own_hits, foreign_hits = calibrate(retriever, catalogue.queries), calibrate(retriever, foreign)
    result = environment() | {
        "own": f"{options.own.parent.name} {options.split}",
        "foreign": options.foreign.parent.name,
        "own_queries": len(catalogue.queries),
        "foreign_queries": len(foreign),
        "without_counterpart": int(is_alien.sum()),
        "relevant_from": options.relevant_from,
        "form_in_use": retriever.ranking.calibration.form,
    }
    for form in FORMS:
        result[form] = {
            "told_apart": round(
                separation(top_probabilities(own_hits, form), top_probabilities(foreign_hits, form)[is_alien]), 4
            ),
            "curve": [
                curve_point(threshold, form, catalogue, options.relevant_from, own_hits, foreign_hits, is_alien)
                for threshold in THRESHOLDS
            ],
        }
    write_result("no_match", result)


def has_counterpart(retriever: Retriever, query: str) -> bool:
    """Whether some title or brand of the catalogue has every word of `query`."""
    lexical = retriever.indexed_snapshot.lexical
    parsed_query = lexical.parse(query, retriever.ranking.boosts)
    if parsed_query.tantivy_query is None:
        return False
    return len(lexical.search_phrases([(word,) for word in dict.fromkeys(words(query))], parsed_query, 1).rows) > 0


def calibrate(retriever: Retriever, queries: list[str]) -> list[CalibratedHits]:
    return list(retriever.calibrate(queries, retriever.query_vectors(queries), K))


def top_probabilities(hits: list[CalibratedHits], form: Form) -> Float64[np.ndarray, " n"]:
    """The probability of each query's likeliest hit, 0 where there is none."""
    return np.array([query_hits.probabilities[form].max(initial=0.0) for query_hits in hits])


def separation(own: Float64[np.ndarray, " n"], foreign: Float64[np.ndarray, " m"]) -> float:
    """The chance that an own query's best hit has a higher probability than a foreign one's (AUC; 0.5 is chance)."""
    greater = (own[:, None] > foreign[None, :]).mean() + 0.5 * (own[:, None] == foreign[None, :]).mean()
    return float(greater)


def curve_point(
    threshold: float,
    form: Form,
    catalogue: JudgedCatalogue,
    relevant_from: float,
    own: list[CalibratedHits],
    foreign: list[CalibratedHits],
    is_alien: Bool[np.ndarray, " m"],
) -> dict[str, float]:
    """One point of the curve, with `threshold` as the minimum probability."""
    n_foreign_hits = np.array([(hits.probabilities[form] >= threshold).sum() for hits in foreign])
    n_own_hits = np.array([(hits.probabilities[form] >= threshold).sum() for hits in own])
    point = {
        "min_probability": threshold,
        "foreign_without_counterpart_no_hit": (n_foreign_hits[is_alien] == 0).mean(),
        "foreign_without_counterpart_fewer_than_5": (n_foreign_hits[is_alien] < FEW_HITS).mean(),
        "foreign_no_hit": (n_foreign_hits == 0).mean(),
        "own_no_hit": (n_own_hits == 0).mean(),
    }
    for k in (10, K):
        point[f"own_recall@{k}"] = recall(threshold, form, catalogue, relevant_from, own, k)
    return {name: round(float(value), 4) for name, value in point.items()}


def recall(
    threshold: float, form: Form, catalogue: JudgedCatalogue, relevant_from: float, own: list[CalibratedHits], k: int
) -> float:
    """Mean recall@`k` of the own queries with a relevant item, over the hits above the threshold."""
    is_relevant = catalogue.relevance >= relevant_from
    recalls: list[float] = []
    for query, hits in enumerate(own):
        relevant: Int64[np.ndarray, " w"] = catalogue.item[is_relevant & (catalogue.query == query)]
        if len(relevant):
            rows = hits.rows[:k][hits.probabilities[form][:k] >= threshold]
            recalls.append(float(np.isin(relevant, rows).mean()))
    return float(np.mean(recalls))


if __name__ == "__main__":
    main()
