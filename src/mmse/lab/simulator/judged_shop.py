"""A shop on a real catalogue: real words and human grades, and simulated shoppers whose choices follow the grades."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int, Int32

from mmse.core.artifact import fingerprint_of_files, write_folder
from mmse.core.config import plain_values, require
from mmse.core.progress import Progress, silent
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.catalogue import STYLES
from mmse.lab.simulator.engine import Engine, Pool
from mmse.lab.simulator.graded_fits import GradedFits
from mmse.lab.simulator.preferences import Preferences
from mmse.lab.simulator.shoppers import Shoppers, SimulatedRequests, draw_shoppers, draw_times
from mmse.lab.simulator.simulate import KIND, SimulatedWorld, simulate_requests
from mmse.schema.columns import ITEM_COLUMNS
from mmse.sources.judgements import JudgedCatalogue, read_judgements
from mmse.text.bm25 import Bm25, Bm25Hits

LONG_TEXT = 30
"""A further text column with a longer mean length, in characters, is declared as text and not as a category."""


def _judged_behaviour() -> Behaviour:
    return Behaviour(exploration=0.3, click_rate=0.1, orders_per_click=0.15)


@dataclass(frozen=True)
class JudgedConfig:
    """Simulated behaviour on a judged catalogue.

    `n_requests` None means `requests_per_query` times the number of queries; `zipf` skews their frequencies a little.
    `n_shoppers` None means one per ten requests. Pages are short (a query's judged items and random ones), so the
    default rates of clicks and orders are a little higher.
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
    config: JudgedConfig, items: Path, judgements: Path, folder: Path, split: str | None, progress: Progress = silent
) -> None:
    """Writes a shop folder (as `simulate` does) whose shoppers search the judged queries of `split` (None: all).

    A page has the query's judged items, ordered by BM25 and noise, and random items of the catalogue. The simulated
    properties of an item (looks, quality, price) are in no table. Raises `TableError` for unusable files.
    """
    catalogue = read_judgements(items, judgements, split)
    inputs = {"items": fingerprint_of_files([items]), "judgements": fingerprint_of_files([judgements])}
    with write_folder(folder, kind=KIND, config={**plain_values(config), "split": split}, inputs=inputs) as draft:
        simulate_requests(_world(config, catalogue), config.behaviour, config.seed, draft, progress)
        draft.counts.update(judged_queries=len(catalogue.queries), judged_pairs=len(catalogue.grade))


@dataclass(frozen=True)
class JudgedCandidates:
    """Candidates are the items judged for a query, best BM25 score first."""

    index: Bm25
    queries: list[str]
    fits: GradedFits

    def candidates(self, texts: Int[np.ndarray, " n"]) -> Bm25Hits:
        """The judged items of each query."""
        starts, count = self.fits.starts[texts], np.diff(self.fits.starts)[texts]
        column = np.arange(max(int(count.max()), 1))
        pair = np.minimum(starts[:, None] + column, len(self.fits.item) - 1)
        rows = np.where(column < count[:, None], self.fits.item[pair], -1).astype(np.int32)
        scores = self.index.pair_scores([self.queries[text] for text in texts], rows)
        order = np.lexsort((rows, np.where(rows < 0, 1.0, -scores)), axis=1)
        return Bm25Hits(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _world(config: JudgedConfig, catalogue: JudgedCatalogue) -> SimulatedWorld:
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(3,)))
    n_items, n_queries = catalogue.items.num_rows, len(catalogue.queries)
    fits = GradedFits.of(catalogue.query, catalogue.item, catalogue.grade, n_intents=n_queries, n_items=n_items)
    n_requests = config.n_requests or n_queries * config.requests_per_query
    shoppers = draw_shoppers(config.n_shoppers or -(-n_requests // 10), 1, rng)
    whole_catalogue = Pool.of(np.zeros(n_items, np.int32))
    titles = [title or "" for title in catalogue.items["title"].to_pylist()]
    engine = Engine(
        candidate_source=JudgedCandidates(Bm25.build(titles), catalogue.queries, fits),
        preferences=_preferences(fits, n_items, shoppers, rng),
        popularity=np.zeros(n_items, np.float32),
        listed_day=np.full(n_items, -1e6, np.float32),
        delisted_day=np.full(n_items, np.inf, np.float32),
        pools=(whole_catalogue, whole_catalogue, whole_catalogue),
        page_size=config.behaviour.page_size,
        exploration=config.behaviour.exploration,
        estimate_weight=0.0,
    )
    requests = _requests(config, n_queries, n_requests, shoppers, rng)
    return SimulatedWorld(catalogue.items, _further_columns(catalogue.items), engine, catalogue.queries, requests)


def _preferences(fits: GradedFits, n_items: int, shoppers: Shoppers, rng: np.random.Generator) -> Preferences:
    """Grades count most; looks, quality, price and taste are drawn and count less than in a made-up shop."""
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
) -> SimulatedRequests:
    """Every query once if `n_requests` allow it, further requests by a mild Zipf law; evenly over the days."""
    share = 1.0 / (rng.permutation(n_queries) + 10.0) ** config.zipf
    all_queries = rng.permutation(n_queries)[:n_requests]
    repeats = rng.choice(n_queries, n_requests - len(all_queries), p=share / share.sum())
    query = np.concatenate([all_queries, repeats])
    time = draw_times(rng.integers(0, config.behaviour.days, n_requests), rng)
    order = np.argsort(time, kind="stable")
    shopper = rng.choice(len(shoppers.activity), n_requests, p=shoppers.activity).astype(np.int32)
    query32: Int32[np.ndarray, " n"] = query[order].astype(np.int32)
    return SimulatedRequests(query32, shopper, query32, time[order], state=shopper)


def _further_columns(items: pa.Table) -> dict[str, list[str]]:
    """The catalogue's further columns by kind, as `shop.toml` names them."""
    columns: dict[str, list[str]] = {"categorical": [], "text": [], "numeric": []}
    for field_ in items.schema:
        if field_.name in ITEM_COLUMNS:
            continue
        if pa.types.is_string(field_.type) or pa.types.is_large_string(field_.type):
            lengths = [len(text) for text in items[field_.name].drop_null().to_pylist()]
            long = np.mean(lengths or [0]) > LONG_TEXT
            columns["text" if long else "categorical"].append(field_.name)
        elif pa.types.is_integer(field_.type) or pa.types.is_floating(field_.type):
            columns["numeric"].append(field_.name)
    return columns
