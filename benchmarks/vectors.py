"""Off-search recall with and without a view of the shop's own vectors, where half of the titles hold only a brand.

    python benchmarks/vectors.py WORK [--shops listings titles] [--seeds 3] [--items 6000] [--requests 30000]

Simulated shops, made anew with three seeds each. A random half of the items are poor: their title is their brand. In
the shop `titles` the other columns stay (category, colour, material); in the shop `listings` poor items lack these,
too. The shop's production engine, which made the log, knows the poor titles alone.

Nine items in ten have a vector of 64 numbers, which stands in for a picture through an encoder. It is a random
projection of what a picture would show of the simulator's hidden item (its kind, colour, material, feature and style),
squashed, with noise as strong as the signal; price, quality and brand are not in it. It is no real picture, and the
projection is kinder than a real encoder may be: read the gain as "the view works", not as what pictures are worth.

Two models of the same dataset and seed differ in `[train] vectors` alone. Both are ranked by exact search. Off-search
orders are drawn from the true order propensity over the whole catalogue, 5 a request, for requests of the test window.
Intervals are paired bootstraps over queries (95%). Writes benchmarks/results/vectors.json.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Int
from machine import environment, write_result

from mmse.core.artifact import write_folder
from mmse.core.config import plain_values
from mmse.core.run_folder import DATASET
from mmse.evaluation.bootstrap import BootstrapConfig, Estimate, bootstrap
from mmse.evaluation.channels import QueryBatch
from mmse.evaluation.metrics import draw_orders, locate
from mmse.evaluation.systems import model_ranker
from mmse.evaluation.truth import ORDERS_PER_REQUEST, CatalogueTruth
from mmse.lab.compare.measure import training_items
from mmse.lab.simulator.catalogue import STYLES, SimulatedCatalogue, build_catalogue, build_tree
from mmse.lab.simulator.engine import TitleCandidates
from mmse.lab.simulator.simulate import KIND, SimulatedWorld, SimulatorConfig, build_world, simulate_requests
from mmse.lab.simulator.truth import Truth
from mmse.model.encoder import Encoder
from mmse.pipeline import make
from mmse.shop import read_shop
from mmse.text.bm25 import Bm25
from mmse.training.loop import train
from mmse.training.targets import read_logged_requests

WIDTH = 64
SHARE_POOR, SHARE_WITHOUT_PICTURE = 0.5, 0.1
TEST_REQUESTS = 1_500
K = 100
SHOPS = {"listings": ("category", "colour", "material"), "titles": ()}
"""The shops, with the columns that poor items lack besides a title."""
GROUPS = ("all", "poor, with a picture", "poor, without a picture", "rich, with a picture", "rich, without a picture")


@dataclass(frozen=True)
class Comparison:
    """Recall of each test request, without and with the view, for every group of items; NaN where it ordered none."""

    recall: Float[np.ndarray, "groups systems requests"]
    queries: list[str]


def main() -> None:
    """Runs every shop and seed, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--items", type=int, default=6_000)
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--shops", nargs="+", choices=SHOPS, default=list(SHOPS))
    options, start_environment = parser.parse_args(), environment()
    shops = {}
    for shop in options.shops:
        comparisons = {}
        for seed in range(options.seeds):
            config = SimulatorConfig(seed=seed, n_items=options.items, n_requests=options.requests)
            comparisons[seed] = compare(options.work / f"{shop}-{seed}", shop, config, options.epochs)
            print(shop, seed, summary([comparisons[seed]])["all"], flush=True)
        by_seed = {str(seed): summary([comparison]) for seed, comparison in comparisons.items()}
        shops[shop] = {"pooled": summary(list(comparisons.values())), "by_seed": by_seed}
    simulator = plain_values(SimulatorConfig(n_items=options.items, n_requests=options.requests))
    result = {
        "where": start_environment,
        "simulated": True,
        "metric": f"off-search recall@{K}",
        "shop": simulator,
        "epochs": options.epochs,
    }
    write_result("vectors", result | {"shops": shops})


def compare(folder: Path, shop: str, config: SimulatorConfig, epochs: int) -> Comparison:
    """Simulates and mines the shop, trains both models, and measures them."""
    if not (folder / "shop" / "shop.toml").exists():
        write_shop(folder / "shop", shop, config)
    toml, run = folder / "shop" / "shop.toml", folder / "run"
    make(DATASET, toml, run)
    dataset = run / DATASET
    train_config = replace(read_shop(toml).train, seed=config.seed, epochs=epochs)
    encoders = []
    for name, vectors in (("without", False), ("with", True)):
        if not (folder / name).exists():
            train(dataset, folder / name, replace(train_config, vectors=vectors))
        encoders.append(Encoder.open(folder / name))
    return measure(dataset, folder / "shop" / "truth", encoders, config.seed)


def write_shop(folder: Path, shop: str, config: SimulatorConfig) -> None:
    """A simulated shop with poor listings and pictures."""
    rng = np.random.default_rng([config.seed, 77])
    world = build_world(config)
    is_poor = rng.random(config.n_items) < SHARE_POOR
    items = impoverish(world.items, is_poor, SHOPS[shop])
    pictures = take_pictures(rebuild_catalogue(config), rng)
    bare = rng.random(config.n_items) < SHARE_WITHOUT_PICTURE
    lists = [None if is_bare else picture.tolist() for picture, is_bare in zip(pictures, bare, strict=True)]
    items = items.append_column("image", pa.array(lists, pa.list_(pa.float32())))
    titles = Bm25.build(items["title"].to_pylist())
    engine = replace(world.engine, candidate_source=TitleCandidates(titles, world.texts))
    columns = {**world.columns, "vectors": ["image"]}
    world = SimulatedWorld(items, columns, engine, world.texts, world.requests)
    with write_folder(folder, kind=KIND, config=plain_values(config) | {"kind": shop}, inputs={}) as draft:
        simulate_requests(world, config.behaviour, config.seed, draft)
        np.save(draft.folder / "poor.npy", is_poor)


def impoverish(items: pa.Table, is_poor: Bool[np.ndarray, " n"], lacking: tuple[str, ...]) -> pa.Table:
    """`items`, of which the poor ones have their brand for a title (or the word "item") and lack some columns."""
    mask = pa.array(is_poor)
    brands = pc.fill_null(items["brand"], "Item")
    items = items.set_column(items.schema.get_field_index("title"), "title", pc.if_else(mask, brands, items["title"]))
    for name in lacking:
        values = pc.if_else(mask, pa.scalar(None, pa.string()), items[name])
        items = items.set_column(items.schema.get_field_index(name), name, values)
    return items


def rebuild_catalogue(config: SimulatorConfig) -> SimulatedCatalogue:
    """The hidden properties of the items that `build_world` made: the same draws again."""
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0,)))
    tree = build_tree(config.n_items, config.vocabulary_gap, rng)
    return build_catalogue(tree, config.n_items, config.behaviour.days, rng)


def take_pictures(catalogue: SimulatedCatalogue, rng: np.random.Generator) -> Float32[np.ndarray, "n width"]:
    """What an encoder might give for a picture of each item, with as much noise as signal."""
    kinds = rng.normal(size=(len(catalogue.tree.paths), WIDTH))[catalogue.leaf]
    concepts = rng.normal(size=(len(catalogue.tree.wording.starts) + 1, WIDTH))
    concepts[-1] = 0  # an attribute that the item lacks is -1
    attributes = concepts[catalogue.attributes].sum(axis=1)
    style = catalogue.style @ rng.normal(size=(STYLES, WIDTH)) / np.sqrt(STYLES)
    signal = np.tanh((kinds + 0.5 * attributes + style) / 2)
    noise = rng.normal(0, signal.std(), signal.shape)
    pictures: Float32[np.ndarray, "n width"] = (signal + noise).astype(np.float32)
    return pictures


def measure(dataset: Path, truth: Path, encoders: list[Encoder], seed: int) -> Comparison:
    """The recall of orders outside the search, for all items and for each group of them."""
    log = read_logged_requests(dataset, "test", TEST_REQUESTS, clicked_only=False)
    items, statistics = training_items(dataset)
    batch = QueryBatch(log.queries, log.users, log.history)
    rankings = [model_ranker(encoder, items, statistics)(batch, K) for encoder in encoders]
    groups = group_items(items, np.load(truth.parent / "poor.npy"))
    catalogue_truth = CatalogueTruth.align(Truth.open(truth), dataset)
    orders = draw_orders(catalogue_truth.orders(log.request_ids), ORDERS_PER_REQUEST, np.random.default_rng([seed, 5]))
    recall = np.full((len(GROUPS), len(encoders), len(log)), np.nan)
    for system, ranking in enumerate(rankings):
        hits = locate(ranking, orders)
        for number, members in enumerate(groups):
            is_member = members[orders.item_rows]
            n_orders = np.bincount(orders.requests[is_member], minlength=len(log))
            n_hits = np.bincount(orders.requests[is_member & (hits.ranks > 0)], minlength=len(log))
            recall[number, system, n_orders > 0] = (n_hits / np.maximum(n_orders, 1))[n_orders > 0]
    return Comparison(recall, log.queries)


def group_items(items: pa.Table, is_poor: Bool[np.ndarray, " n"]) -> list[Bool[np.ndarray, " n"]]:
    """Which items are in each of `GROUPS`; the dataset keeps the order of the items table, and drops none."""
    assert len(items) == len(is_poor)
    has_picture = items["image"].is_valid().to_numpy()
    everything = np.ones(len(items), bool)
    return [everything, is_poor & has_picture, is_poor & ~has_picture, ~is_poor & has_picture, ~is_poor & ~has_picture]


def summary(comparisons: list[Comparison]) -> dict[str, dict[str, object]]:
    """For every group the recall without and with the view, and the difference with its paired interval."""
    recall = np.concatenate([comparison.recall for comparison in comparisons], axis=2)
    names = [f"{seed} {query}" for seed, comparison in enumerate(comparisons) for query in comparison.queries]
    clusters: Int[np.ndarray, " requests"] = np.unique(names, return_inverse=True)[1]
    groups = {}
    for number, group in enumerate(GROUPS):
        result = bootstrap(recall[number], clusters, BootstrapConfig(), reference=0)
        without, with_view = result.systems
        groups[group] = {
            "without": round(without.value, 4),
            "with": round(with_view.value, 4),
            "difference": plain(result.differences[1]),
        }
    return groups


def plain(estimate: Estimate) -> list[float | None]:
    """A value with its interval."""
    return [None if bound is None else round(bound, 4) for bound in (estimate.value, estimate.low, estimate.high)]


if __name__ == "__main__":
    main()
