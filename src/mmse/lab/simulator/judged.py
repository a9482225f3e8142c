"""A shop on a real catalogue: real words and human grades, simulated shoppers who go by those grades."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int, Int32

from mmse.core.artifact import fingerprint_of_files, writing
from mmse.core.config import plain, require
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.catalogue import STYLES
from mmse.lab.simulator.engine import Engine, Pool
from mmse.lab.simulator.graded import GradedFits
from mmse.lab.simulator.preferences import Preferences
from mmse.lab.simulator.shoppers import Requests, Shoppers, gather_shoppers, times_of_day
from mmse.lab.simulator.simulate import KIND, Progress, World, run
from mmse.sources.judgements import Judged, read_judged
from mmse.text.bm25 import Bm25, Ranking

KNOWN = ("item_id", "title", "category", "brand", "seller", "price", "available", "rating")
LONG_TEXT = 30
"""Mean length in characters past which a further text column is text and not a category."""


def _judged_behaviour() -> Behaviour:
    return Behaviour(exploration=0.3, click_rate=0.1, orders_per_click=0.15)


@dataclass(frozen=True)
class JudgedConfig:
    """Simulated behaviour on a judged catalogue.

    `n_requests` None is `requests_per_query` times the queries; `zipf` skews that mildly. `n_shoppers` None is one
    per ten requests. Pages are short (a query's judged items and random ones), so the rates of clicks and orders
    are a bit higher.
    """

    seed: int = 0
    n_requests: int | None = None
    requests_per_query: int = 12
    zipf: float = 0.3
    n_shoppers: int | None = None
    behaviour: Behaviour = field(default_factory=_judged_behaviour)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.n_requests is None or self.n_requests >= 1, "n_requests", self.n_requests, "1 or more")
        require(self.requests_per_query >= 1, "requests_per_query", self.requests_per_query, "1 or more")
        require(0 <= self.zipf <= 2, "zipf", self.zipf, "0 to 2")
        require(self.n_shoppers is None or self.n_shoppers >= 1, "n_shoppers", self.n_shoppers, "1 or more")


def simulate_judged(
    config: JudgedConfig, items: Path, judgements: Path, out: Path, split: str | None, progress: Progress | None = None
) -> None:
    """Writes a shop folder (as `simulate` does) whose shoppers ask the judged queries of `split` (None: all).

    A page holds the query's judged items, ordered by BM25 and noise, and random ones of the catalogue. What is
    made up of an item (looks, quality, price) appears in no table. Raises `TableError` for unusable files.
    """
    judged = read_judged(items, judgements, split)
    inputs = {"items": fingerprint_of_files([items]), "judgements": fingerprint_of_files([judgements])}
    with writing(out, kind=KIND, config={**plain(config), "split": split}, inputs=inputs) as draft:
        run(_world(config, judged), config.behaviour, config.seed, draft, progress)
        draft.counts.update(judged_queries=len(judged.queries), judged_pairs=len(judged.grade))


@dataclass(frozen=True)
class JudgedRecall:
    """Candidates are the items judged for a query, best BM25 score first."""

    index: Bm25
    queries: list[str]
    fits: GradedFits

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Ranking:
        """The judged items of each query."""
        first, count = self.fits.first[texts], np.diff(self.fits.first)[texts]
        column = np.arange(max(int(count.max()), 1))
        place = np.minimum(first[:, None] + column, len(self.fits.item) - 1)
        rows = np.where(column < count[:, None], self.fits.item[place], -1).astype(np.int32)
        scores = self.index.pair_scores([self.queries[text] for text in texts], rows)
        order = np.lexsort((rows, np.where(rows < 0, 1.0, -scores)), axis=1)
        return Ranking(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _world(config: JudgedConfig, judged: Judged) -> World:
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(3,)))
    n_items, n_queries = judged.items.num_rows, len(judged.queries)
    fits = GradedFits.of(judged.query, judged.item, judged.grade, n_intents=n_queries, n_items=n_items)
    n_requests = config.n_requests or n_queries * config.requests_per_query
    shoppers = gather_shoppers(config.n_shoppers or -(-n_requests // 10), 1, rng)
    everywhere = Pool.of(np.zeros(n_items, np.int32))
    titles = [title or "" for title in judged.items["title"].to_pylist()]
    engine = Engine(
        recall=JudgedRecall(Bm25.build(titles), judged.queries, fits),
        preferences=_preferences(fits, n_items, shoppers, rng),
        popularity=np.zeros(n_items, np.float32),
        listed=np.full(n_items, -1e6, np.float32),
        delisted=np.full(n_items, np.inf, np.float32),
        pools=(everywhere, everywhere, everywhere),
        page_size=config.behaviour.page_size,
        exploration=config.behaviour.exploration,
        estimate_weight=0.0,
    )
    requests = _requests(config, n_queries, n_requests, shoppers, rng)
    return World(judged.items, _declared(judged.items), engine, judged.queries, requests)


def _preferences(fits: GradedFits, n_items: int, shoppers: Shoppers, rng: np.random.Generator) -> Preferences:
    """Grades decide; looks, quality, price and taste are drawn and count less than in a made-up shop."""
    looks, quality, price = rng.standard_normal((3, n_items)).astype(np.float32)
    return Preferences(
        fits=fits,
        item_click=np.float32(0.35) * looks,
        item_order=np.float32(0.5) * quality,
        relative_price=np.float32(0.3) * price,
        brand_taste=(0.4 * rng.standard_normal((n_items, STYLES)) / np.sqrt(STYLES)).astype(np.float32),
        shopper_taste=shoppers.taste,
        price_sensitivity=np.float32(0.5) * shoppers.price_sensitivity,
        budget=shoppers.budget,
    )


def _requests(
    config: JudgedConfig, n_queries: int, n_requests: int, shoppers: Shoppers, rng: np.random.Generator
) -> Requests:
    """Every query at least once if there are requests enough, the rest by a mild Zipf law; even over the days."""
    share = 1.0 / (rng.permutation(n_queries) + 10.0) ** config.zipf
    once = rng.permutation(n_queries)[:n_requests]
    further = rng.choice(n_queries, n_requests - len(once), p=share / share.sum())
    query = np.concatenate([once, further])
    time = times_of_day(rng.integers(0, config.behaviour.days, n_requests), rng)
    order = np.argsort(time, kind="stable")
    shopper = rng.choice(len(shoppers.activity), n_requests, p=shoppers.activity)
    query32: Int32[np.ndarray, " n"] = query[order].astype(np.int32)
    return Requests(query32, shopper.astype(np.int32), query32, time[order])


def _declared(items: pa.Table) -> dict[str, list[str]]:
    """The catalogue's further columns by kind, as `shop.toml` names them."""
    columns: dict[str, list[str]] = {"categorical": [], "text": [], "numeric": []}
    for field_ in items.schema:
        if field_.name in KNOWN:
            continue
        if pa.types.is_string(field_.type) or pa.types.is_large_string(field_.type):
            lengths = [len(text) for text in items[field_.name].drop_null().to_pylist()]
            long = np.mean(lengths or [0]) > LONG_TEXT
            columns["text" if long else "categorical"].append(field_.name)
        elif pa.types.is_integer(field_.type) or pa.types.is_floating(field_.type):
            columns["numeric"].append(field_.name)
    return columns
