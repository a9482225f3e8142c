"""A real log of clicks: what a run finds of the last fifth of the clicks, beside look-ups in the other four fifths.

    python benchmarks/click_log.py DATA RUN [RUN …] [--write]

DATA has clicks.csv.gz and items.csv.gz, RUN is a run of them (examples/click_log/run.sh), one for each seed. Each click
has one right item; clicks on items without a name count as not found. The shopper is not told to the search. A query
is unseen if its words are not those of a query that led to an item with a name. With --write the numbers go to
benchmarks/results/click_log.json.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from machine import environment, write_result

from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Channel, Search
from mmse.text.bm25 import Bm25

TEST_SHARE = 0.2
DEPTH = 10

Find = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class ClickLog:
    """The names of the items, the clicks to learn from, and the clicks that are asked, as pairs of query and item."""

    names: dict[str, str]
    train: list[tuple[str, str]]
    test: list[tuple[str, str]]

    @classmethod
    def read(cls, folder: Path) -> ClickLog:
        """The log in `folder`, cut by time."""
        with gzip.open(folder / "items.csv.gz", "rt", encoding="utf-8") as file:
            names = {row["sku"]: row["name"] for row in csv.DictReader(file)}
        with gzip.open(folder / "clicks.csv.gz", "rt", encoding="utf-8") as file:
            clicks = sorted(csv.DictReader(file), key=lambda row: row["query_time"])
        pairs = [(row["query"], row["sku"]) for row in clicks]
        n_train = int(len(pairs) * (1 - TEST_SHARE))
        return cls(names, [pair for pair in pairs[:n_train] if pair[1] in names], pairs[n_train:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    log = ClickLog.read(options.data)
    rows = [{"system": name} | measure(log, find) for name, find in look_ups(log).items()]
    for run in options.runs:
        for name, find in systems(Retriever.open(run, edits=False)).items():
            rows.append({"run": run.parent.name, "system": name} | measure(log, find))
            print(rows[-1], flush=True)
    if options.write:
        write_result("click_log", environment() | {"data": options.data.name, "rows": rows})
    else:
        print(*rows, sep="\n")


def look_ups(log: ClickLog) -> dict[str, Find]:
    """Popularity, BM25, and the clicks of the same query, filled up by both."""
    after_query, popularity = defaultdict[str, Counter[str]](Counter), Counter[str]()
    for query, item in log.train:
        after_query[plain(query)][item] += 1
        popularity[item] += 1
    popular, ids = [item for item, _ in popularity.most_common()], list(log.names)
    bm25 = Bm25.build([plain(name) for name in log.names.values()])

    def by_words(query: str) -> list[str]:
        rows = bm25.search([plain(query)], len(ids)).rows[0]
        return [ids[row] for row in rows[rows >= 0].tolist()]

    def by_clicks(query: str) -> list[str]:
        return [item for item, _ in after_query[plain(query)].most_common()]

    return {
        "popularity": lambda query: popular,
        "BM25": by_words,
        "clicks of the same query, then BM25, then popularity": lambda query: list(
            dict.fromkeys([*by_clicks(query), *by_words(query), *popular])
        ),
    }


def systems(retriever: Retriever) -> dict[str, Find]:
    """The run as it is served, without its memory, and its vectors alone."""
    ranking = retriever.ranking
    fusion = replace(ranking.fusion, memory=0.0, popularity=0.0, new_popularity=0.0)
    without = replace(retriever, ranking=replace(ranking, fusion=fusion))
    return {
        "mmse": finder(retriever),
        "mmse, its memory switched off": finder(without),
        "mmse, vectors alone": finder(retriever, "vector"),
    }


def finder(retriever: Retriever, channel: Channel = "hybrid") -> Find:
    """The hits of a query, found once."""
    hits: dict[str, list[str]] = {}

    def find(query: str) -> list[str]:
        if query not in hits:
            search = Search(query, DEPTH, channel=channel, explain=False) if query.strip() else None
            hits[query] = [hit.item_id for hit in retriever.answer(search).hits] if search else []
        return hits[query]

    return find


def measure(log: ClickLog, find: Find) -> dict[str, float | int]:
    """MAP@5 and recall@10 of the clicks that are asked, of all and of those after unseen queries."""
    known = {plain(query) for query, _ in log.train}
    ranks = np.array([rank(find(query), item) for query, item in log.test])
    is_unseen = np.array([plain(query) not in known for query, _ in log.test])
    values: dict[str, float | int] = {"clicks": len(ranks), "unseen clicks": int(is_unseen.sum())}
    for name, mask in (("", np.ones_like(is_unseen)), ("unseen ", is_unseen)):
        values[f"{name}MAP@5"] = round(float(np.where(ranks <= 5, 1 / ranks, 0.0)[mask].mean()), 4)
        values[f"{name}recall@10"] = round(float((ranks <= DEPTH)[mask].mean()), 4)
    return values


def rank(items: Sequence[str], item: str) -> float:
    """The rank of `item` among the first ten, infinite where it is not among them."""
    first = list(items[:DEPTH])
    return first.index(item) + 1 if item in first else float("inf")


def plain(query: str) -> str:
    """The words of a query, in lower case."""
    return " ".join(re.findall("[a-z0-9]+", query.lower()))


if __name__ == "__main__":
    main()
