"""Each preset changes what its name says, keeps the truth exact, and makes the same shop again from the same config."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from scipy.stats import spearmanr

from lab.simulator.simulated_shops import check_truth, open_shop
from mmse.core.artifact import read_manifest
from mmse.lab.simulator.presets import PRESETS
from mmse.lab.simulator.simulate import SimulatedWorld, SimulatorConfig, build_world, calibrate, simulate
from mmse.text.normalise import words
from mmse.training.loop import TrainConfig

CONFIG = SimulatorConfig(seed=7, n_items=1_500, n_requests=3_000)
N_SHOPPERS = 300
MODEL = "model_engine"
"""The preset that trains a model."""
REQUESTS = np.arange(0, 3_000, 30)


@functools.cache
def world_of(*presets: str) -> SimulatedWorld:
    return build_world(replace(CONFIG, presets=presets))


def truth_of(world: SimulatedWorld, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(click | examined) and P(order | clicked) of every item for the intents of `REQUESTS`."""
    preferences = calibrate(world, CONFIG.behaviour, CONFIG.seed)
    intents = world.requests.intent[REQUESTS]
    return preferences.chances(preferences.log_odds(intents[:, None], states[:, None], np.arange(CONFIG.n_items)[None]))


def shown_items(world: SimulatedWorld) -> np.ndarray:
    """The pages of the first requests without explored slots, -1 padded."""
    requests, rows = world.requests, np.arange(400)
    engine = replace(world.engine, exploration=0.0)
    candidates = engine.candidate_source.candidates(requests.text[rows])
    rng = np.random.default_rng(0)
    pages = engine.make_pages(candidates, requests.intent[rows], requests.state[rows], requests.time[rows], rng)
    return pages.items


def title_match(world: SimulatedWorld, pages: np.ndarray) -> float:
    """The share of shown items with a word of the query in the title."""
    titles = [set(words(title)) for title in world.items["title"].to_pylist()]
    queries = [set(words(world.texts[text])) for text in world.requests.text[: len(pages)]]
    matches = [
        bool(titles[item] & query) for query, page in zip(queries, pages, strict=True) for item in page[page >= 0]
    ]
    return float(np.mean(matches))


def share_of_best(a: np.ndarray, b: np.ndarray) -> float:
    """Of the ten best items of each row of `a`, the share among those of `b`."""
    best_a, best_b = (np.argsort(-chances, axis=1)[:, :10] for chances in (a, b))
    return float(np.mean([len(set(x) & set(y)) / 10 for x, y in zip(best_a, best_b, strict=True)]))


@pytest.mark.parametrize("presets", [*((name,) for name in PRESETS if name != MODEL), ("fashions", "seasons")])
def test_presets_give_the_same_bytes_and_not_the_plain_shops(presets: Sequence[str], tmp_path: Path) -> None:
    small = SimulatorConfig(n_items=300, n_requests=500)
    for name, names in (("plain", ()), ("a", tuple(presets)), ("b", tuple(presets))):
        simulate(replace(small, presets=names), tmp_path / name)
    plain, a, b = (read_manifest(tmp_path / name, "shop").files for name in ("plain", "a", "b"))
    tables = [name for name in a if not name.endswith("manifest.json")]
    assert [a[name] for name in tables] == [b[name] for name in tables]
    assert [a[name] for name in tables] != [plain[name] for name in tables]


@pytest.mark.parametrize("presets", [("misleading_photos", "mixed_engine"), ("fashions", "seasons"), ("short_stock",)])
def test_the_truth_is_exact_at_every_time(presets: tuple[str, ...], tmp_path: Path) -> None:
    shop = open_shop(tmp_path / "shop", replace(CONFIG, presets=presets))
    check_truth(shop, "TRUE", by_time=True)
    check_truth(shop, "TRUE", by_time=False)


def test_a_shop_without_attribute_columns_has_the_plain_shops_titles() -> None:
    plain, bare = world_of(), world_of("titles_alone")
    assert set(plain.items.column_names) - set(bare.items.column_names) == {"category", "brand", "colour", "material"}
    assert bare.items["title"].equals(plain.items["title"])
    assert bare.columns == {"categorical": []}


def test_other_words_are_missing_in_most_titles_of_what_is_wanted() -> None:
    shares = {}
    for preset in ((), ("other_words",)):
        world = world_of(*preset)
        click, order = truth_of(world, world.requests.state[REQUESTS])
        best = np.argsort(-click * order, axis=1)[:, :20]
        titles = [set(words(title)) for title in world.items["title"].to_pylist()]
        queries = [set(words(world.texts[text])) for text in world.requests.text[REQUESTS]]
        shares[preset] = np.mean([not titles[i] & query for query, row in zip(queries, best, strict=True) for i in row])
    assert shares["other_words",] > shares[()] + 0.15
    assert shares["other_words",] > 0.5


def test_misleading_photos_make_clicks_and_orders_part() -> None:
    """Among the items that fit equally, what is clicked more is ordered less once it was clicked."""
    correlations = {}
    for preset in ((), ("misleading_photos",)):
        world = world_of(*preset)
        preferences, intents = world.engine.preferences, world.requests.intent[REQUESTS]
        fit = preferences.fits.fit(intents[:, None], np.arange(CONFIG.n_items)[None]).click
        click, order = truth_of(world, world.requests.state[REQUESTS])
        rows = [np.flatnonzero(row == 0) for row in fit]
        correlations[preset] = np.mean(
            [spearmanr(click[n, r], order[n, r]).statistic for n, r in enumerate(rows) if len(r) >= 10]
        )
    assert correlations[()] > -0.1
    assert correlations["misleading_photos",] < -0.5


def test_other_engines_show_other_pages() -> None:
    plain, popular, mix = (world_of(*preset) for preset in ((), ("popularity_engine",), ("mixed_engine",)))
    pages = {name: shown_items(world) for name, world in (("plain", plain), ("popular", popular), ("mix", mix))}
    sold = {name: plain.engine.popularity[page[page >= 0]].mean() for name, page in pages.items()}
    assert sold["popular"] > sold["plain"] + 0.1
    matches = {name: title_match(plain, page) for name, page in pages.items()}
    assert matches["plain"] == 1
    assert matches["popular"] < 0.9
    assert matches["popular"] < matches["mix"] < 1
    for page in pages.values():
        assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in page), "no item twice"


def test_an_earlier_model_finds_items_without_the_querys_words(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = TrainConfig(dim=16, epochs=1, vocab_size=500, catalogue_below=0, device="cpu")
    monkeypatch.setattr("mmse.lab.simulator.model_engine.TRAINING", quick)
    config = SimulatorConfig(n_items=600, n_requests=1_200, presets=(MODEL,))
    world, again = build_world(config), build_world(config)
    pages = shown_items(world)
    assert (pages >= 0).any(axis=1).all(), "vectors always find something"
    assert title_match(world, pages) < 0.95
    candidates = world.engine.candidate_source.candidates(world.requests.text[REQUESTS[:40]])
    same = again.engine.candidate_source.candidates(world.requests.text[REQUESTS[:40]])
    np.testing.assert_array_equal(same.rows, candidates.rows)
    preferences, rows = calibrate(world, config.behaviour, 0), REQUESTS[:40]
    intents, states = world.requests.intent[rows], world.requests.state[rows]
    worth = np.multiply(
        *preferences.chances(preferences.log_odds(intents[:, None], states[:, None], np.arange(600)[None]))
    )
    best = np.take_along_axis(worth, candidates.rows[:, :60], axis=1)
    assert best.sum() / worth.sum() > 0.3, "three times what a tenth of the catalogue has by chance"


@pytest.mark.parametrize("preset", ["fashions", "seasons"])
def test_tastes_change_week_by_week(preset: str) -> None:
    world = world_of(preset)
    shoppers = world.requests.shopper[REQUESTS]
    start, week_later, end = (
        np.multiply(*truth_of(world, (week * N_SHOPPERS + shoppers).astype(np.int32))) for week in (0, 1, 8)
    )
    assert share_of_best(start, week_later) > 0.8
    assert share_of_best(start, end) < 0.75
    assert (world.requests.state == (world.requests.time // 7).astype(int) * N_SHOPPERS + world.requests.shopper).all()


def test_seasons_change_what_is_searched() -> None:
    def agreement(world: SimulatedWorld) -> float:
        """The rank correlation of how often each intent is searched in the first and in the last twenty days."""
        day, intent = world.requests.time, world.requests.intent
        start, end = (np.bincount(intent[rows], minlength=300) for rows in (day < 20, day >= 40))
        return float(spearmanr(start, end).statistic)

    assert agreement(world_of()) > 0.4
    assert agreement(world_of("seasons")) < 0.2


def test_short_stock_sells_out_what_sells_best() -> None:
    plain, short = world_of(), world_of("short_stock")
    is_sold_out = pc.invert(short.items["available"]).to_numpy()
    assert pc.invert(plain.items["available"]).to_numpy().mean() < 0.05
    assert 0.3 < is_sold_out.mean() < 0.5
    assert short.engine.popularity[is_sold_out].mean() > short.engine.popularity[~is_sold_out].mean() + 0.2
    assert 0.35 < (short.engine.listed_day > 0).mean() < 0.45


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        (("titles_alon",), "names among titles_alone"),
        (("mixed_engine", "popularity_engine"), "change different things"),
    ],
)
def test_impossible_presets_are_refused(presets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"presets.*{message}"):
        SimulatorConfig(presets=presets)
