"""Items a second from the catalogue on disk to vectors on disk: the embed step, model2vec and StaticEmbedding.

    python benchmarks/peers/embed.py --peers PEERS/bin/python [--run RUN] [--items 200000] [--rounds 7] [--threads 2]

PEERS is an environment of `requirements.txt`. The embed step makes all views of a simulated catalogue, with the digests
and the manifest of its folder. The others make one mean vector of a text: `text`, the same words that the text view
reads, or `title`, the title alone. They have the model's own tokenizer and a random table of the text view's width, and
nothing is downloaded. One process for each, asked in turn; the first round is a warm-up and does not count. Every file
is synced. Ratios are of the same round.

The floor is the step's work at the machine's own speed: every byte of the catalogue and of the vectors moved once, at
the measured speed of copying; the digest of the vectors; and the towers' additions and multiplications, at the measured
speed of products of such matrices and of sums of table rows.

Without `--run` a shop is simulated and trained for one epoch. Writes benchmarks/results/peers_embed.json.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).parents[1]))

from machine import environment, write_result

from mmse.core.run_folder import DATASET, MODEL
from mmse.dataset.folder import DatasetFolder
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.model.encoder import Encoder
from mmse.model.inputs import ItemFeatures
from mmse.pipeline import Listener, make
from mmse.shop import read_shop

WORKER = Path(__file__).with_name("embed_worker.py")
PACKAGES = ("torch", "model2vec", "sentence-transformers", "tokenizers")


def make_run(folder: Path, n_items: int, seed: int) -> Path:
    """A run with a dataset of `n_items` items and a model of one epoch."""
    simulate(SimulatorConfig(seed=seed, n_items=n_items, n_requests=30_000), folder / "shop")
    shop = read_shop(folder / "shop" / "shop.toml")
    shop = replace(shop, train=replace(shop.train, epochs=1))
    for kind in (DATASET, MODEL):
        make(kind, shop, folder / "run", Listener())
    return folder / "run"


def write_inputs(encoder: Encoder, items: pa.Table, out: Path, seed: int) -> None:
    """What the other systems read: the texts, the tokenizer, a random table."""
    texts = {"text": encoder.space.item_texts(items), "title": items["title"]}
    pq.write_table(pa.table(texts), out / "texts.parquet")
    encoder.tokenizer.save(out)
    rng = np.random.default_rng(seed)
    np.save(out / "table.npy", rng.normal(size=(encoder.tokenizer.n_subwords, encoder.towers.config.dim)).astype("f4"))


def open_worker(interpreter: str, *arguments: object) -> subprocess.Popen[str]:
    command = [interpreter, str(WORKER), *map(str, arguments)]
    source = str(Path(__file__).parents[2] / "src")
    env = {**os.environ, "PYTHONPATH": source if arguments[0] == "mmse" else "", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def ask(worker: subprocess.Popen[str]) -> dict[str, float]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    measured: dict[str, float] = json.loads(worker.stdout.readline())
    return measured


def measure(workers: dict[str, subprocess.Popen[str]], n_rounds: int) -> dict[str, list[dict[str, float]]]:
    """What each system took in each round; the order turns from round to round."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for n in range(n_rounds + 1):
        names = list(workers)
        for name in names[n % len(names) :] + names[: n % len(names)]:
            measured = ask(workers[name]) | {"load": os.getloadavg()[0]}
            print(n, name, {key: round(value, 2) for key, value in measured.items()}, file=sys.stderr, flush=True)
            if n:
                rounds[name].append(measured)
    return rounds


def summarise(rounds: list[dict[str, float]], n_items: int) -> dict[str, object]:
    wall, cpu = ([measured[key] for measured in rounds] for key in ("wall_s", "cpu_s"))
    return {
        "items_per_s": round(n_items / median(wall)),
        "items_per_s_range": [round(n_items / max(wall)), round(n_items / min(wall))],
        "items_per_cpu_s": round(n_items / median(cpu)),
        "wall_s": round(median(wall), 2),
        "cpu_s": round(median(cpu), 2),
        "peak_mb": round(max(measured["peak_mb"] for measured in rounds)),
        "mb_before": round(rounds[0]["base_mb"]),
        "load": round(median(measured["load"] for measured in rounds), 1),
    }


def compare(ours: list[dict[str, float]], peer: list[dict[str, float]]) -> dict[str, object]:
    """How many times as many items a second the embed step makes, of wall and of CPU time, round by round."""
    result: dict[str, object] = {}
    for key in ("wall_s", "cpu_s"):
        ratios = sorted(b[key] / a[key] for a, b in zip(ours, peer, strict=True))
        result[key.removesuffix("_s")] = round(median(ratios), 2)
        result[f"{key.removesuffix('_s')}_range"] = [round(ratios[0], 2), round(ratios[-1], 2)]
    return result


def seconds_of(work: Callable[[], object]) -> float:
    """The quickest of five."""
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def measure_floor(encoder: Encoder, features: ItemFeatures, items: Path) -> dict[str, float]:
    """The seconds that the step's own bytes and operations take at the measured speeds of this machine."""
    n_items, dim = len(features), encoder.towers.config.dim
    vectors = np.ones((n_items, encoder.width), np.float32)
    copy_s = seconds_of(lambda: vectors.copy())
    bytes_per_s = 2 * vectors.nbytes / copy_s
    batch, weights = torch.ones(8_192, dim), torch.ones(dim, dim)
    operations_per_s = 2 * batch.numel() * dim / seconds_of(lambda: batch @ weights)
    bags = {name: table for name, table in features.tables.items() if table.dtype == np.int32 and table.ndim == 2}
    n_rows = len(features.text.grains) + sum(int((table > 0).sum()) for table in bags.values())
    table, rows = torch.ones(4_000, dim), torch.randint(0, 4_000, (8_192 * 20,))
    offsets = torch.arange(0, len(rows), 20)
    row_s = seconds_of(lambda: F.embedding_bag(rows, table, offsets, mode="sum")) / len(rows)
    products = 2 * n_items * dim * (2 * dim + 2 * features.numbers.shape[1])
    digest_s = seconds_of(lambda: hashlib.blake2b(vectors.data, digest_size=16))
    floor = {
        "bytes": float(items.stat().st_size + vectors.nbytes),
        "bytes_per_s": bytes_per_s,
        "product_operations": float(products),
        "operations_per_s": operations_per_s,
        "table_rows_summed": float(n_rows),
        "rows_per_s": 1 / row_s,
        "digest_s": digest_s,
    }
    floor_s = floor["bytes"] / bytes_per_s + products / operations_per_s + n_rows * row_s + digest_s
    return {key: float(f"{value:.3g}") for key, value in (floor | {"floor_s": floor_s}).items()}


def read_versions(interpreter: str) -> dict[str, str]:
    code = f"import importlib.metadata as m; print(*map(m.version, {PACKAGES}))"
    versions = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(PACKAGES, versions, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="the interpreter of the environment of requirements.txt")
    parser.add_argument("--run", type=Path, default=None)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = environment() | {"seed": options.seed, "threads": options.threads, "rounds": options.rounds}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        out = Path(folder)
        run = options.run or make_run(out, options.items, options.seed)
        encoder, catalogue = Encoder.open(run / "model"), DatasetFolder(run / "dataset").items
        items = pq.read_table(catalogue)
        write_inputs(encoder, items, out, options.seed)
        features = encoder.encode_items(items)
        floor = measure_floor(encoder, features, catalogue)
        facts |= {"items": len(items), "subwords_per_item": round(len(features.text.grains) / len(items), 1)}
        facts |= {"width": encoder.width, "width_of_peers": encoder.towers.config.dim}
        del items, features
        workers = {"mmse": open_worker(sys.executable, "mmse", run, out, options.threads)}
        for system in ("model2vec", "static_embedding"):
            for column in ("text", "title"):
                worker = open_worker(options.peers, system, run, out, options.threads, column)
                workers[f"{system}_{column}"] = worker
        for worker in workers.values():
            stack.callback(worker.communicate)
        rounds = measure(workers, options.rounds)
    ours = rounds["mmse"]
    n_items = int(str(facts["items"]))
    result = facts | {"versions_of_peers": read_versions(options.peers)}
    result |= {"systems": {name: summarise(measured, n_items) for name, measured in rounds.items()}}
    result |= {"mmse_times": {name: compare(ours, measured) for name, measured in rounds.items() if name != "mmse"}}
    above = median(measured["wall_s"] for measured in ours) / floor["floor_s"]
    write_result("peers_embed", result | {"floor": floor | {"wall_above_floor": round(above, 1)}})


if __name__ == "__main__":
    main()
