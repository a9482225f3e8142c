"""A simulated shop from a config: two tables as a real shop would bring them, and the truth beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32

from mmse.core.artifact import Draft, write_folder
from mmse.core.config import plain_values, require
from mmse.core.progress import Progress, silent
from mmse.lab.simulator.behaviour import Actions, Behaviour, act, fit_intercepts
from mmse.lab.simulator.calendar import seasonal_demand, with_calendar, with_states
from mmse.lab.simulator.candidate_sources import MixedCandidates, PopularCandidates
from mmse.lab.simulator.catalogue import DAY_US, SimulatedCatalogue, build_catalogue, build_tree
from mmse.lab.simulator.engine import CandidateSource, Engine, Pages, Pool, TitleCandidates
from mmse.lab.simulator.preferences import Preferences, TreeFits
from mmse.lab.simulator.presets import ShopKind, kind_of
from mmse.lab.simulator.shoppers import SimulatedRequests, draw_intents, draw_requests, draw_shoppers
from mmse.lab.simulator.truth import write_truth
from mmse.text.bm25 import Bm25, Bm25Hits

KIND = "shop"
BLOCK_REQUESTS = 65_536
"""Requests of one events file; their queries are looked up together."""
CHUNK_REQUESTS = 2_048
PILOT_REQUESTS = 4_000
KIND_KEY = 4
"""The key of the random numbers that presets draw, so that what they leave alone stays as in the plain shop."""


@dataclass(frozen=True)
class SimulatorConfig:
    """A made-up shop. The same config gives the same bytes.

    `n_shoppers` None means one per ten requests, `n_intents` None one per five items. `vocabulary_gap` is the
    distance between the shoppers' favourite words and the sellers' (0: the same, 1: unrelated); `zipf` is the skew of
    the intents. For each request the log has up to `retrieved_logged` items that the engine ranked next and did not
    show. `presets` make a shop that differs in kind (`lab.simulator.presets`); their names may be combined.
    """

    seed: int = 0
    n_items: int = 20_000
    n_requests: int = 60_000
    n_shoppers: int | None = None
    n_intents: int | None = None
    vocabulary_gap: float = 0.5
    zipf: float = 0.9
    retrieved_logged: int = 0
    presets: tuple[str, ...] = ()
    behaviour: Behaviour = field(default_factory=Behaviour)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.n_items >= 100, "n_items", self.n_items, "100 or more")
        require(self.n_requests >= 100, "n_requests", self.n_requests, "100 or more")
        require(self.n_shoppers is None or self.n_shoppers >= 1, "n_shoppers", self.n_shoppers, "1 or more")
        require(self.n_intents is None or self.n_intents >= 1, "n_intents", self.n_intents, "1 or more")
        require(0 <= self.vocabulary_gap <= 1, "vocabulary_gap", self.vocabulary_gap, "0 to 1")
        require(0 <= self.zipf <= 2, "zipf", self.zipf, "0 to 2")
        require(self.retrieved_logged >= 0, "retrieved_logged", self.retrieved_logged, "0 or more")
        kind_of(self.presets)

    @property
    def kind(self) -> ShopKind:
        """What the presets make together."""
        return kind_of(self.presets)


@dataclass(frozen=True)
class SimulatedWorld:
    """A shop before its requests are simulated: the `items` table, the engine with the shoppers' preferences, requests.

    `texts` are the query wordings that requests point to; `columns` names the further item columns by kind, as
    `shop.toml` does.
    """

    items: pa.Table
    columns: Mapping[str, list[str]]
    engine: Engine
    texts: list[str]
    requests: SimulatedRequests


def simulate(config: SimulatorConfig, folder: Path, progress: Progress = silent) -> None:
    """Writes the shop `folder`: `shop.toml`, `items.parquet`, `events/`, and the truth in `truth/`.

    Raises `OutputError` where it cannot be written, `ArtifactError` where `folder` holds something else.
    """
    with write_folder(folder, kind=KIND, config=plain_values(config), inputs={}) as draft:
        world = build_world(config, progress)
        simulate_requests(world, config.behaviour, config.seed, draft, progress)


def build_world(config: SimulatorConfig, progress: Progress = silent) -> SimulatedWorld:
    """The catalogue, the shoppers, their requests, and the engine that answers them."""
    rng, kind_rng = (
        np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(key,))) for key in (0, KIND_KEY)
    )
    days, kind = config.behaviour.days, config.kind
    progress("catalogue", 0, config.n_items)
    tree = build_tree(config.n_items, config.vocabulary_gap, rng, split_words=kind.split_words)
    catalogue = build_catalogue(tree, config.n_items, days, rng, kind)
    progress("catalogue", config.n_items, config.n_items)
    shoppers = draw_shoppers(config.n_shoppers or -(-config.n_requests // 10), int(tree.department.max()) + 1, rng)
    intents = draw_intents(catalogue, config.n_intents or max(200, config.n_items // 5), config.zipf, rng)
    demand = seasonal_demand(kind, catalogue, intents.leaf, days, kind_rng)
    departments = tree.department[intents.leaf]
    requests = draw_requests(departments, intents, shoppers, config.n_requests, days, rng, demand)
    preferences = Preferences.of(TreeFits.of(catalogue, intents), catalogue, shoppers, photo_lure=kind.photo_lure)
    if kind.has_calendar:
        preferences = with_calendar(preferences, kind, catalogue, days, kind_rng)
        requests = with_states(requests, len(shoppers.budget))
    popularity = _popularity(catalogue, rng)
    titles = TitleCandidates(Bm25.build(catalogue.table["title"].to_pylist()), intents.texts)
    engine = Engine(
        candidate_source=_candidate_source(kind, titles, tree.base[catalogue.leaf], popularity),
        preferences=preferences,
        popularity=popularity,
        listed_day=catalogue.listed_day,
        delisted_day=catalogue.delisted_day,
        pools=(
            Pool.of(tree.group[catalogue.leaf]),
            Pool.of(tree.department[catalogue.leaf]),
            Pool.of(np.zeros(config.n_items, np.int32)),
        ),
        page_size=config.behaviour.page_size,
        exploration=config.behaviour.exploration,
        estimate_weight=0.0 if kind.engine == "popularity" else 0.5,
        n_next_best=config.retrieved_logged,
    )
    columns = {"categorical": ["colour", "material"] if kind.has_attribute_columns else []}
    items = _with_timestamps(catalogue.table, config.behaviour)
    world = SimulatedWorld(items, columns, engine, intents.texts, requests)
    if kind.engine != "model":
        return world
    earlier = draw_requests(departments, intents, shoppers, config.n_requests // 2, days, kind_rng, demand)
    earlier = replace(earlier, time=earlier.time - days)
    if kind.has_calendar:
        earlier = with_states(earlier, len(shoppers.budget))
    return _with_model_engine(replace(world, requests=earlier), requests, config, progress)


def simulate_requests(
    world: SimulatedWorld, behaviour: Behaviour, seed: int, draft: Draft, progress: Progress = silent
) -> None:
    """Simulates the requests of `world`, writes tables and truth into `draft`; memory does not grow with requests."""
    preferences = calibrate(world, behaviour, seed)
    (draft.folder / "events").mkdir()
    pq.write_table(world.items, draft.folder / "items.parquet", store_schema=False)
    n_requests = len(world.requests.time)
    counts = dict.fromkeys(("requests", "events", "clicks", "orders", "explored"), 0)
    answered_rows = []
    for block, start in enumerate(range(0, n_requests, BLOCK_REQUESTS)):
        progress("requests", start, n_requests)
        rows = np.arange(start, min(start + BLOCK_REQUESTS, n_requests))
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, block)))
        pages, actions = _simulate_block(world, preferences, behaviour, rows, rng)
        events = _events(world, behaviour, rows, pages, actions)
        pq.write_table(events, draft.folder / "events" / f"part-{block:05d}.parquet", store_schema=False)
        answered_rows.append(rows[(pages.items >= 0).any(axis=1)])
        for name, count in (
            ("requests", len(answered_rows[-1])),
            ("events", (pages.items >= 0).sum()),
            ("clicks", actions.clicked.sum()),
            ("orders", actions.ordered.sum()),
            ("explored", pages.explored.sum()),
        ):
            counts[name] += int(count)
    progress("requests", n_requests, n_requests)
    rows = np.concatenate(answered_rows)
    requests = pa.table(
        {"request_id": _ids("r", rows), "intent": world.requests.intent[rows], "shopper": world.requests.state[rows]}
    )
    truth = draft.folder / "truth"
    write_truth(truth, preferences, behaviour, item_ids=world.items["item_id"].combine_chunks(), requests=requests)
    (draft.folder / "shop.toml").write_text(_shop_toml(world.columns), "utf-8")
    draft.counts.update(items=world.items.num_rows, requests_without_result=n_requests - len(rows), **counts)
    draft.counts["click_rate"] = counts["clicks"] / max(counts["events"], 1)
    draft.counts["orders_per_click"] = counts["orders"] / max(counts["clicks"], 1)


def calibrate(world: SimulatedWorld, behaviour: Behaviour, seed: int) -> Preferences:
    """The preferences with the intercepts that give a sample of the log's requests the rates of `behaviour`."""
    requests = world.requests
    n_requests = len(requests.time)
    rows = np.unique(np.linspace(0, n_requests - 1, min(PILOT_REQUESTS, n_requests)).astype(np.int64))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    candidates = world.engine.candidate_source.candidates(requests.text[rows])
    intents, states = requests.intent[rows], requests.state[rows]
    pages = world.engine.make_pages(candidates, intents, states, requests.time[rows], rng)
    return fit_intercepts(world.engine.preferences, behaviour, pages, intents, states)


def _simulate_block(
    world: SimulatedWorld, preferences: Preferences, behaviour: Behaviour, rows: np.ndarray, rng: np.random.Generator
) -> tuple[Pages, Actions]:
    requests = world.requests
    texts, text_of = np.unique(requests.text[rows], return_inverse=True)
    hits = world.engine.candidate_source.candidates(texts)
    parts: list[tuple[Pages, Actions]] = []
    for start in range(0, len(rows), CHUNK_REQUESTS):
        chunk, text = rows[start : start + CHUNK_REQUESTS], text_of[start : start + CHUNK_REQUESTS]
        intent, state = requests.intent[chunk], requests.state[chunk]
        candidates = Bm25Hits(hits.rows[text], hits.scores[text])
        pages = world.engine.make_pages(candidates, intent, state, requests.time[chunk], rng)
        parts.append((pages, act(preferences, behaviour, pages, intent, state, rng)))
    return (
        Pages(*(np.vstack([getattr(pages, f.name) for pages, _ in parts]) for f in fields(Pages))),
        Actions(*(np.vstack([getattr(actions, f.name) for _, actions in parts]) for f in fields(Actions))),
    )


def _events(world: SimulatedWorld, behaviour: Behaviour, rows: np.ndarray, pages: Pages, actions: Actions) -> pa.Table:
    """One row per shown item, requests in order of time and items by position, then those not shown."""
    all_items, n_slots = np.hstack([pages.items, pages.next_best]), pages.items.shape[1]
    request, slot = np.nonzero(all_items >= 0)
    items, is_shown = all_items[request, slot], slot < n_slots

    def of_shown(values: np.ndarray) -> np.ndarray:
        return np.where(is_shown, values[request, np.minimum(slot, n_slots - 1)], False)

    requests = world.requests
    time = _epoch_us(behaviour) + (requests.time[rows] * DAY_US).astype(np.int64)
    texts, text_of = np.unique(requests.text[rows], return_inverse=True)
    shoppers, shopper_of = np.unique(requests.shopper[rows], return_inverse=True)
    events = pa.table(
        {
            "request_id": _ids("r", rows).take(pa.array(request)),
            "timestamp": pa.array(time[request], pa.timestamp("us")),
            "query": pa.array([world.texts[text] for text in texts]).take(pa.array(text_of[request])),
            "item_id": world.items["item_id"].combine_chunks().take(pa.array(items)),
            "position": pa.array(slot + 1, pa.int32(), mask=~is_shown),
            "clicked": of_shown(actions.clicked),
            "ordered": of_shown(actions.ordered),
            "user_id": _ids("u", shoppers).take(pa.array(shopper_of[request])),
            "explored": of_shown(pages.explored),
        }
    )
    if pages.next_best.shape[1]:
        events = events.append_column("retrieved_only", pa.array(~is_shown))
    if "price" not in world.items.column_names:
        return events
    return events.append_column("price", world.items["price"].combine_chunks().take(pa.array(items)))


def _candidate_source(
    kind: ShopKind,
    titles: TitleCandidates,
    category: Int32[np.ndarray, " n_items"],
    popularity: Float32[np.ndarray, " n_items"],
) -> CandidateSource:
    if kind.engine in ("words", "model"):  # a model comes after the words that it learns from
        return titles
    popular = PopularCandidates.of(titles, category, popularity)
    return popular if kind.engine == "popularity" else MixedCandidates((titles, popular))


def _with_model_engine(
    earlier_world: SimulatedWorld, requests: SimulatedRequests, config: SimulatorConfig, progress: Progress
) -> SimulatedWorld:
    """The shop of `earlier_world` with `requests`, whose engine is a model trained on the log of the earlier world."""
    from mmse.lab.simulator.model_engine import earlier_model

    model = earlier_model(earlier_world, config.behaviour, config.seed, progress)
    return replace(earlier_world, requests=requests, engine=replace(earlier_world.engine, candidate_source=model))


def _popularity(catalogue: SimulatedCatalogue, rng: np.random.Generator) -> Float32[np.ndarray, " n_items"]:
    noise = rng.normal(0, 0.8, len(catalogue.leaf))
    return (0.5 * catalogue.appeal + 0.4 * catalogue.quality + noise).astype(np.float32)


def _with_timestamps(items: pa.Table, behaviour: Behaviour) -> pa.Table:
    """`items` with `listed_at` as a timestamp instead of microseconds from the log's start."""
    timestamps = pc.add(items["listed_at"], pa.scalar(_epoch_us(behaviour))).cast(pa.timestamp("us"))
    return items.set_column(items.schema.get_field_index("listed_at"), "listed_at", timestamps)


def _epoch_us(behaviour: Behaviour) -> int:
    return int(np.datetime64(behaviour.start, "us").astype(np.int64))


def _ids(prefix: str, numbers: np.ndarray) -> pa.StringArray:
    return pc.binary_join_element_wise(pa.scalar(prefix), pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0"), "")


def _shop_toml(columns: Mapping[str, list[str]]) -> str:
    declarations = "".join(f"{kind} = {names!r}\n".replace("'", '"') for kind, names in columns.items() if names)
    return (
        "# A shop whose shoppers are simulated. The truth is for evaluation alone.\n"
        f'[items]\nsource = "items.parquet"\n{declarations}\n'
        '[events]\nsource = "events/*.parquet"\n\n'
        '[truth]\nsource = "truth"\n\n'
        '[index]\nlanguage = "english"\n'
    )
