"""Misspelt queries against what people judged and clicked: with corrections, without them, and by words alone.

    python benchmarks/spelling_people.py judged RUN JUDGEMENTS [--split dev] [--relevant-from 2.5] [--seed 1]
    python benchmarks/spelling_people.py clicks RUN DATA [--name clicks]

`judged`: the queries of a split that people judged, as they wrote them and with one typo each (`spelling_changes.py`),
and the recall of what was judged relevant, over the whole catalogue. `clicks`: the last fifth of a log of clicks
(`click_log.py`), the queries of which some word is in no name of an item, and the same for those whose strange words
are all of letters and within two faults of a word of the catalogue (rather misspelt than strange). Writes
benchmarks/results/spelling_judged.json or spelling_clicks.json.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from click_log import ClickLog, plain, rank
from machine import environment, write_result
from rapidfuzz import process
from rapidfuzz.distance import OSA
from spelling_changes import one_typo

from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search

DEPTHS = (10, 100)
DRAWS = 1_000
SYSTEMS: dict[str, dict[str, object]] = {
    "mmse": {},
    "mmse, no corrections": {"correct": False},
    "mmse, words alone": {"channel": "lexical"},
    "mmse, words alone, no corrections": {"channel": "lexical", "correct": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("judged", "clicks"))
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--relevant-from", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name")
    options = parser.parse_args()
    retriever = Retriever.open(options.run, edits=False)
    result = measure_judged(retriever, options) if options.kind == "judged" else measure_clicks(retriever, options)
    write_result(f"spelling_{options.name or options.kind}", environment() | result)


def measure_judged(retriever: Retriever, options: argparse.Namespace) -> dict[str, object]:
    """Recall with the queries as they are and with a typo in each, and the share of the first that the second has."""
    relevant = read_relevant(options.data, options.split, options.relevant_from)
    rng = random.Random(options.seed)
    typos = {query: one_typo(query, rng) for query in sorted(relevant)}
    queries = [query for query in sorted(relevant) if typos[query] not in (None, query)]
    rows: list[dict[str, object]] = []
    for name, fields in SYSTEMS.items():
        plain_values = recalls(retriever, {q: q for q in relevant}, relevant, fields)
        typo_values = recalls(retriever, {q: str(typos[q]) for q in queries}, relevant, fields)
        for index, depth in enumerate(DEPTHS):
            pairs = np.array([(plain_values[query][index], typo_values[query][index]) for query in queries])
            right, wrong = pairs.mean(0)
            low, high = interval(pairs)
            rows.append(
                {
                    "system": name,
                    "metric": f"recall@{depth}",
                    "all queries": round(float(np.mean([values[index] for values in plain_values.values()])), 4),
                    "right spelling": round(float(right), 4),
                    "one typo": round(float(wrong), 4),
                    "share": round(float(wrong / right), 3),
                    "share low": low,
                    "share high": high,
                }
            )
    facts = {"split": options.split, "relevant_from": options.relevant_from, "seed": options.seed}
    return facts | {"queries": len(relevant), "with a typo": len(queries), "rows": rows}


def read_relevant(path: Path, split: str, least: float) -> dict[str, set[str]]:
    """The items that people found relevant, by query."""
    relevant = defaultdict[str, set[str]](set)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] == split and float(row["relevance"]) >= least:
                relevant[row["query"]].add(row["item_id"])
    return relevant


def recalls(
    retriever: Retriever, asked: dict[str, str], relevant: dict[str, set[str]], fields: dict[str, object]
) -> dict[str, list[float]]:
    """The recall of each query at each of `DEPTHS`, asked as `asked` writes it."""
    values = {}
    for query, text in asked.items():
        search = Search(text, max(DEPTHS), explain=False, **fields)  # type: ignore[arg-type]
        items = [hit.item_id for hit in retriever.answer(search).hits]
        values[query] = [len(set(items[:depth]) & relevant[query]) / len(relevant[query]) for depth in DEPTHS]
    return values


def interval(pairs: np.ndarray) -> tuple[float, float]:
    """A 95% interval of the second mean as a share of the first, over queries."""
    rng = np.random.default_rng(0)
    draws = [pairs[rng.integers(len(pairs), size=len(pairs))].mean(0) for _ in range(DRAWS)]
    shares = [wrong / right for right, wrong in draws]
    return round(float(np.quantile(shares, 0.025)), 3), round(float(np.quantile(shares, 0.975)), 3)


def measure_clicks(retriever: Retriever, options: argparse.Namespace) -> dict[str, object]:
    """MAP@5 and recall@10 of the clicks whose query has a word that no item has, and how many these are."""
    log = ClickLog.read(options.data)
    vocabulary = sorted({word for name in log.names.values() for word in plain(name).split()})
    known = {plain(query) for query, _ in log.train}
    strange = {query: set(plain(query).split()).difference(vocabulary) for query, _ in log.test}
    slices: dict[str, Callable[[str], bool]] = {
        "a word that no item has": lambda query: bool(strange[query]),
        "rather misspelt": lambda query: is_misspelt(strange[query], vocabulary),
        "rather misspelt, not in the log before": lambda query: (
            is_misspelt(strange[query], vocabulary) and plain(query) not in known
        ),
        "all words known": lambda query: not strange[query],
    }
    rows: list[dict[str, object]] = []
    for slice_name, belongs in slices.items():
        clicks = [(query, item) for query, item in log.test if belongs(query) and query.strip()]
        n_queries = len({query for query, _ in clicks})
        for name, fields in SYSTEMS.items():
            hits = {
                query: [
                    hit.item_id
                    for hit in retriever.answer(Search(query, 10, explain=False, **fields)).hits  # type: ignore[arg-type]
                ]
                for query in {query for query, _ in clicks}
            }
            rows.append(
                {"clicks after": slice_name, "queries": n_queries, "clicks": len(clicks), "system": name}
                | click_values(hits, clicks)
            )
    return {"data": options.data.name, "rows": rows}


def is_misspelt(strange: set[str], vocabulary: Sequence[str]) -> bool:
    """Whether all strange words of a query are of letters and near a word of the catalogue."""
    return bool(strange) and all(
        word.isalpha()
        and len(word) > 3
        and process.extractOne(word, vocabulary, scorer=OSA.distance, score_cutoff=2) is not None
        for word in strange
    )


def click_values(hits: dict[str, list[str]], clicks: Sequence[tuple[str, str]]) -> dict[str, float]:
    """MAP@5 and recall@10 of `clicks`."""
    ranks = np.array([rank(hits[query], item) for query, item in clicks])
    precision = float(np.where(ranks <= 5, 1 / ranks, 0.0).mean())
    return {"MAP@5": round(precision, 4), "recall@10": round(float((ranks <= 10).mean()), 4)}


if __name__ == "__main__":
    main()
