"""The default's hybrid list against its own channels in shops that differ in kind, by the truth and by the log.

    python benchmarks/kinds.py WORK [--worlds titles_alone seasons] [--seeds 0 1 2]

Simulates the worlds of benchmarks/grids/kinds.toml (default: all), and makes a run of each with each training seed: the
steps up to the learned ranking, as `mmse run` does. What is there is left as it is. On the test window of the log:
recall of logged clicks and orders, and by the truth what `mmse compare` has, for hybrid, vectors, words and reciprocal
rank fusion. The values of a request are averaged over seeds; intervals are paired bootstraps over queries (95%).

New items are those that no request of the training window was shown. Of the truth of new items is measured how much of
the true chances of an order of new items the first 10 and 100 hold, over requests whose new items have at least a
twentieth of all chances. And by the vectors' ranks: the mean true chance of an order of an item that no request before
the test window was shown, and of the others, with standard errors (by pair, first seed). Behaviour is simulated.

Writes benchmarks/results/kinds.json and kinds.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from machine import ROOT, environment, write_result

from mmse.core.progress import silent
from mmse.core.run_folder import DATASET, INDEX, MODEL, RANKING, SERVING, VECTORS, RunFolder
from mmse.dataset.folder import TEST, ItemStats
from mmse.evaluation.channels import QueryBatch, Subject
from mmse.evaluation.metric_values import MetricValues, summarise
from mmse.evaluation.offline import EvaluateConfig, logged_metrics
from mmse.evaluation.rows import ALL, Difference, Measure, Row, find_difference, measure_of
from mmse.evaluation.slices import slices_of
from mmse.evaluation.truth import CatalogueTruth, truth_metrics
from mmse.lab.compare.grid import read_grid
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.lab.simulator.truth import Truth
from mmse.pipeline import run
from mmse.shop import read_shop
from mmse.training.targets import read_logged_requests

GRID = ROOT / "benchmarks" / "grids" / "kinds.toml"
STEPS = (DATASET, SERVING, MODEL, VECTORS, INDEX, RANKING)
NEW, NEW_SHARE = "new item", 0.05
SLICES = (ALL, NEW)
RANK_SPANS, RANK_REQUESTS = ((0, 10), (10, 30), (30, 100), (100, 300)), 400
COLUMNS = (
    (Measure("truth", "order_rate", 10), ALL),
    (Measure("truth", "share_of_top", 100), ALL),
    (Measure("off_search", "recall", 100), ALL),
    (Measure("ordered", "recall", 10), ALL),
    (Measure("clicked", "recall", 10), ALL),
    (Measure("truth", "chances", 10), NEW),
    (Measure("truth", "chances", 100), NEW),
    (Measure("clicked", "recall", 10), NEW),
)


def main() -> None:
    """Makes all runs, measures them, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--worlds", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    start_environment, worlds, tables = environment(), {}, []
    for data in read_grid(GRID).data:
        if options.worlds and data.name not in options.worlds:
            continue
        assert isinstance(data.source, SimulatorConfig)
        rows, differences = measure_world(data.source, options.work / data.name, options.seeds)
        by_rank = chances_by_rank(options.work / data.name, options.seeds[0])
        worlds[data.name] = {"rows": to_plain(rows), "differences": to_plain(differences), "chances_by_rank": by_rank}
        tables.append(f"**{data.name}**\n\n{table(rows, differences)}")
        print(tables[-1], flush=True)
        write_result("kinds", start_environment | {"seeds": options.seeds, "simulated": True, "worlds": worlds})
        (ROOT / "benchmarks" / "results" / "kinds.md").write_text("\n\n".join(tables) + "\n", "utf-8")


def measure_world(config: SimulatorConfig, folder: Path, seeds: Sequence[int]) -> tuple[list[Row], list[Difference]]:
    """The rows of the channels, averaged over `seeds`, and the differences of the hybrid list to each other channel."""
    if not (folder / "shop").is_dir():
        simulate(config, folder / "shop")
    shop = read_shop(folder / "shop" / "shop.toml")
    seed_values = []
    for seed in seeds:
        seed_shop = replace(shop, train=replace(shop.train, seed=seed), baselines=())
        run(seed_shop, folder / f"run-{seed}", kinds=STEPS)
        seed_values.append(measure(folder / f"run-{seed}", Truth.open(folder / "shop" / "truth")))
    systems, queries, _ = seed_values[0]
    means = [
        replace(parts[0], values=np.mean([m.values for m in parts], axis=0))
        for parts in zip(*(values for *_, values in seed_values), strict=True)
        if parts[0].slice in SLICES
    ]
    clusters = np.unique(queries, return_inverse=True)[1].astype(np.int64)
    return summarise(means, systems, clusters, EvaluateConfig().to_bootstrap(), silent)


def measure(folder: Path, truth: Truth) -> tuple[list[str], list[str], list[MetricValues]]:
    """The systems, the query of each test request, and the values of each request by log and truth."""
    subject, dataset, config = Subject.open(folder), RunFolder(folder).dataset, EvaluateConfig()
    log = read_logged_requests(dataset, TEST, config.requests, clicked_only=False)
    vectors = subject.vectors(QueryBatch(log.queries, log.users, log.history))
    rankings = subject.rank(log.queries, vectors, silent).rankings
    rows, catalogue_truth = list(rankings.values()), CatalogueTruth.align(truth, dataset)
    stats = ItemStats.open(dataset)
    is_new = stats.at(stats.snapshots.valid)[:, 0] == 0
    values = logged_metrics(rows, log, slices_of(dataset, log))
    values += truth_metrics(rows, log.request_ids, catalogue_truth, config.truth_requests, config.seed, silent)
    values += new_item_metrics(rows, log.request_ids[: config.truth_requests], catalogue_truth, is_new, len(log))
    return list(rankings), log.queries, values


def new_item_metrics(
    rankings: Sequence[Int[np.ndarray, "n depth"]],
    request_ids: list[str],
    truth: CatalogueTruth,
    is_new: Bool[np.ndarray, " items"],
    n_requests: int,
) -> Iterator[MetricValues]:
    """The share of the true chances of new items that the first 10 and 100 hold; NaN where new items have few."""
    chances = truth.orders(request_ids)
    new_chances = np.where(is_new, chances, 0)
    total = new_chances.sum(axis=1)
    counts = total >= NEW_SHARE * chances.sum(axis=1)
    for k in (10, 100):
        values = np.full((len(rankings), n_requests), np.nan)
        for s, ranking in enumerate(rankings):
            rows = ranking[: len(request_ids), :k]
            held = np.where(rows >= 0, np.take_along_axis(new_chances, np.maximum(rows, 0), axis=1), 0).sum(axis=1)
            values[s, : len(request_ids)][counts] = held[counts] / total[counts]
        yield MetricValues("truth", NEW, "chances", k, values)


def chances_by_rank(folder: Path, seed: int) -> list[dict[str, object]]:
    """The true chances of an order of new and of known items in each span of the vectors' ranks: mean, error, pairs."""
    run_folder, truth = RunFolder(folder / f"run-{seed}"), Truth.open(folder / "shop" / "truth")
    subject, stats = Subject.open(run_folder.path), ItemStats.open(run_folder.dataset)
    log = read_logged_requests(run_folder.dataset, TEST, RANK_REQUESTS, clicked_only=False)
    queries = subject.vectors(QueryBatch(log.queries, log.users, log.history))
    scores = queries @ subject.retriever.indexed_snapshot.base.vectors.T
    ranks = np.argsort(np.argsort(-scores, axis=1), axis=1)
    chances = CatalogueTruth.align(truth, run_folder.dataset).orders(log.request_ids)
    is_new = np.broadcast_to(stats.at(stats.snapshots.test)[:, 0] == 0, ranks.shape)
    spans: list[dict[str, object]] = []
    for start, end in RANK_SPANS:
        in_span = (ranks >= start) & (ranks < end)
        span: dict[str, object] = {"ranks": [start + 1, end]}
        for name, mask in (("new", in_span & is_new), ("known", in_span & ~is_new)):
            values, n = chances[mask], int(mask.sum())
            span[name] = [float(values.mean()), float(values.std() / np.sqrt(n)), n] if n else None
        spans.append(span)
    return spans


def to_plain(rows: Sequence[Row] | Sequence[Difference]) -> list[dict[str, object]]:
    """The rows of the table's columns, as JSON has them."""
    return [asdict(row) for row in rows if (measure_of(row), row.slice) in COLUMNS]


def table(rows: Sequence[Row], differences: Sequence[Difference]) -> str:
    """A line for each channel: its value, and the hybrid list minus it with interval; a star where it excludes 0."""
    systems = list(dict.fromkeys(row.system for row in rows))
    values = {(row.system, row.slice, measure_of(row)): row for row in rows}
    heads = [f"{m.target} {m.metric}@{m.k}{'' if s == ALL else f' ({s})'}".replace("_", " ") for m, s in COLUMNS]
    lines = ["| system | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for system in systems:
        cells = []
        for m, s in COLUMNS:
            row, gap = values.get((system, s, m)), find_difference(differences, systems[0], system, m, s)
            text = "–" if row is None else f"{row.value:.3f}"
            if gap is not None and gap.low is not None and gap.high is not None:
                star = "\\*" if gap.significant else ""
                text += f" ({gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]{star})"
            cells.append(text)
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
