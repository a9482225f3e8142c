"""A shop without a log: what its catalogue alone gives, by words, by vectors of its own text, and by both.

    python benchmarks/no_log.py --items ITEMS --judgements JUDGEMENTS [--seeds 0 1 2] [--split dev]
    python benchmarks/no_log.py --phones PHONES

The first measures recall on human judgements; nobody's behaviour, simulated or real, is part of it. The second searches
a catalogue of phones by the 50 queries of `no_log_queries.toml` and counts how many of the first five hits are right.
Each writes its part of benchmarks/results/no_log.json and keeps the other.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import tomllib
from pathlib import Path

from machine import ROOT, environment, write_result

from mmse.core.run_folder import DATASET, INDEX, MODEL, RANKING, SERVING, VECTORS, RunFolder
from mmse.evaluation.judgements import evaluate_judged
from mmse.pipeline import Listener, make
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Channel, Search
from mmse.shop import Shop, read_shop

RESULT = ROOT / "benchmarks" / "results" / "no_log.json"
QUERIES = ROOT / "benchmarks" / "no_log_queries.toml"
CHANNELS: tuple[Channel, ...] = ("hybrid", "lexical", "vector", "rrf")
ROW = ("system", "metric", "k", "value", "low", "high", "queries")
DIFFERENCE = ("system", "versus", "metric", "k", "value", "low", "high", "significant")
PHONES = """
text = ["short_description"]
categorical = ["department", "class", "subclass", "color"]
[items.columns]
item_id = "sku"
title = "name"
category = "category_path"
brand = "manufacturer"
price = "sale_price"
available = "online_availability"
rating = "review_average"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=Path)
    parser.add_argument("--judgements", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--relevant-from", type=float, default=2.5)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--phones", type=Path)
    options = parser.parse_args()
    result = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {}
    if options.judgements:
        result["judged"] = environment() | measure_judged(options)
    if options.phones:
        result["phones"] = environment() | measure_phones(options.phones)
    write_result("no_log", result)


def measure_judged(options: argparse.Namespace) -> dict[str, object]:
    """Recall of what people found relevant, of each channel and seed, and the paired difference to words alone."""
    rows: list[dict[str, object]] = []
    differences: list[dict[str, object]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            shop = write_shop(Path(folder), options.items, f"[train]\nseed = {seed}\n")
            seconds = build(shop, Path(folder) / "run")
            evaluation = evaluate_judged(
                Path(folder) / "run",
                options.judgements,
                shop.evaluate,
                relevant_from=options.relevant_from,
                split=options.split,
            )
        rows += [{"seed": seed, "train_seconds": seconds} | pick(row, ROW) for row in evaluation.rows]
        differences += [{"seed": seed} | pick(difference, DIFFERENCE) for difference in evaluation.differences]
    facts = {"items": options.items.parent.name, "split": options.split, "relevant_from": options.relevant_from}
    return facts | {"rows": rows, "differences": differences}


def measure_phones(phones: Path) -> dict[str, object]:
    """How many of the first five hits are right, by query and channel."""
    queries = tomllib.loads(QUERIES.read_text("utf-8"))["queries"]
    with tempfile.TemporaryDirectory() as folder:
        shop = write_shop(Path(folder), phones, "", PHONES)
        seconds = build(shop, Path(folder) / "run")
        retriever = Retriever.open(Path(folder) / "run")
        counts = {channel: [count_right(retriever, entry, channel) for entry in queries] for channel in CHANNELS}
    rows = [
        {"query": entry["query"]} | {channel: counts[channel][number] for channel in CHANNELS}
        for number, entry in enumerate(queries)
    ]
    shares = {channel: round(sum(right) / (5 * len(queries)), 3) for channel, right in counts.items()}
    return {"queries": len(queries), "right_of_first_five": shares, "train_seconds": seconds, "rows": rows}


def count_right(retriever: Retriever, entry: dict[str, object], channel: Channel) -> int:
    """How many of the first five hits have all patterns of `right` in title and category."""
    hits = retriever.answer(Search(str(entry["query"]), 5, channel=channel)).hits
    texts = [f"{hit.title} | {hit.item.get('category', '')}" for hit in hits]
    patterns = entry["right"]
    assert isinstance(patterns, list)
    return sum(all(re.search(pattern, text, re.IGNORECASE) for pattern in patterns) for text in texts)


def write_shop(folder: Path, items: Path, train: str, columns: str = "") -> Shop:
    """A shop with items alone."""
    toml = folder / "shop.toml"
    toml.write_text(f"[items]\nsource = {json.dumps(str(items.resolve()))}\n{columns}\n{train}", "utf-8")
    return read_shop(toml)


def pick(record: object, names: tuple[str, ...]) -> dict[str, object]:
    """The fields `names` of a record."""
    return {name: getattr(record, name) for name in names}


def build(shop: Shop, run: Path) -> float:
    """Makes what a search needs; gives the seconds of training."""
    for kind in (DATASET, SERVING, MODEL, VECTORS, INDEX, RANKING):
        make(kind, shop, run, Listener())
    return float(RunFolder(run).manifest(MODEL).counts["train_seconds"])


if __name__ == "__main__":
    main()
