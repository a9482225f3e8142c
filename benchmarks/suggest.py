"""Suggestions while somebody types: how long each takes, over HTTP and in a shop with many names.

    python benchmarks/suggest.py RUN [--texts 100000] [--seed 0]

Texts that are suggested are typed letter by letter (`prefixes`), and with one letter of them replaced (`slips`); each
is sent once, so that no cache helps. Over HTTP one caller asks a server of RUN; `many` is the suggester alone, which
knows so many texts: RUN's popular queries, and titles of its items beside random words of them. Times are in
milliseconds, those of `many` of the processor. Writes benchmarks/results/suggest.json.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import load
import numpy as np
import pyarrow.parquet as pq
from machine import environment, write_result
from serve import run_server

from mmse.core.run_folder import RunFolder
from mmse.dataset.serving_data import read_popular_queries
from mmse.retrieval.suggester import Suggester

LETTERS = "abcdefghijklmnopqrstuvwxyz"
N_TYPED = 400
K = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, folder = random.Random(options.seed), RunFolder(options.run)
    popular_queries = read_popular_queries(folder.serving)
    titles = pq.read_table(folder.dataset / "items.parquet", columns=["title"])["title"].to_pylist()
    many = make_texts(rng, popular_queries, titles, options.texts)
    result = {
        "seed": options.seed,
        "popular_queries": len(popular_queries),
        "over_http": {kind: send(options.run, texts) for kind, texts in type_texts(rng, list(popular_queries)).items()},
        "texts": len(many),
        "many": {kind: ask(Suggester(many, {}, {}), texts) for kind, texts in type_texts(rng, list(many)).items()},
    }
    write_result("suggest", environment() | result)


def make_texts(rng: random.Random, queries: dict[str, int], titles: Sequence[str], n: int) -> dict[str, int]:
    """So many texts with the requests of each."""
    texts = dict(queries)
    while len(texts) < n:
        words = rng.choice(titles).split()
        start = rng.randrange(len(words) or 1)
        texts.setdefault(
            " ".join([*words[start : start + 3], rng.choice(titles).split(" ")[0]]), rng.randint(20, 5_000)
        )
    return texts


def type_texts(rng: random.Random, texts: Sequence[str]) -> dict[str, list[str]]:
    """What is typed on the way to some of `texts`, once without a fault and once with one, each once."""
    chosen_texts = rng.sample(texts, min(N_TYPED, len(texts)))
    prefixes = {text[:length] for text in chosen_texts for length in range(1, len(text) + 1)}
    slips = {slip(rng, prefix) for prefix in prefixes if len(prefix) > 4}
    return {"prefixes": sorted(prefixes), "slips": sorted(slips)}


def slip(rng: random.Random, text: str) -> str:
    """`text` with one letter replaced."""
    position = rng.randrange(len(text))
    return text[:position] + rng.choice(LETTERS) + text[position + 1 :]


def send(run: Path, texts: Sequence[str]) -> dict[str, object]:
    """The latencies of one caller over HTTP."""
    requests = [f"GET /v1/suggest?q={quote(text)}&k={K} HTTP/1.1\r\nHost: bench\r\n\r\n".encode() for text in texts]
    with run_server(run, 1) as port:
        start = time.perf_counter()
        responses = load.send_one_by_one(port, requests)
        return responses.summary(time.perf_counter() - start)


def ask(suggester: Suggester, texts: Sequence[str]) -> dict[str, float]:
    """The processor's time of each suggestion."""
    durations = []
    for text in texts:
        start = time.process_time()
        suggester.suggest(text, K)
        durations.append(time.process_time() - start)
    return load.percentiles(np.array(durations) * 1000) | {"asked": len(texts)}


if __name__ == "__main__":
    main()
