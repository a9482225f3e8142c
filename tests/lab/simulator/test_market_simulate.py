from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lab.simulator.opened_shop import Shop, open_shop, three_shops
from mmse.core.artifact import read_manifest, verify
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.simulate import MarketConfig, simulate

SMALL = MarketConfig(n_items=300, n_requests=500)


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> list[Shop]:
    return three_shops(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def shop(shops: list[Shop]) -> Shop:
    return shops[0]


def test_tables_have_the_agreed_columns(shop: Shop) -> None:
    items = {
        "item_id": pa.string(),
        "title": pa.string(),
        "category": pa.string(),
        "brand": pa.string(),
        "seller": pa.string(),
        "price": pa.float64(),
        "available": pa.bool_(),
        "rating": pa.float64(),
        "listed_at": pa.timestamp("us"),
        "colour": pa.string(),
        "material": pa.string(),
    }
    events = {
        "request_id": pa.string(),
        "timestamp": pa.timestamp("us"),
        "query": pa.string(),
        "item_id": pa.string(),
        "position": pa.int32(),
        "clicked": pa.bool_(),
        "ordered": pa.bool_(),
        "user_id": pa.string(),
        "explored": pa.bool_(),
        "price": pa.float64(),
    }
    # Equal sets: nothing of the truth (quality, appeal, attractiveness …) stands in a table.
    assert dict(zip(shop.items.column_names, shop.items.schema.types, strict=True)) == items
    assert dict(zip(shop.events.column_names, shop.events.schema.types, strict=True)) == events


def test_the_shop_folder_is_whole_and_names_its_tables(shop: Shop) -> None:
    manifest = verify(shop.folder, "shop")
    verify(shop.folder / "truth", "truth")
    assert manifest.counts["events"] == shop.events.num_rows
    named = tomllib.loads((shop.folder / "shop.toml").read_text())
    assert named["items"] == {"source": "items.parquet", "categorical": ["colour", "material"]}
    assert named["events"]["source"] == "events/*.parquet"
    assert (shop.folder / named["truth"]["source"] / "manifest.json").is_file()


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        simulate(MarketConfig(seed=seed, n_items=300, n_requests=500), tmp_path / name)
    one, again, other = (read_manifest(tmp_path / name, "shop") for name in ("one", "again", "other"))
    tables = [name for name in one.files if not name.endswith("manifest.json")]
    assert {name: one.files[name] for name in tables} == {name: again.files[name] for name in tables}
    assert one.files["events/part-00000.parquet"] != other.files["events/part-00000.parquet"]


def test_what_the_engine_did_not_show_is_logged_on_request_and_changes_nothing_else(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path / "plain")
    simulate(replace(SMALL, retrieved_logged=6), tmp_path / "more")
    plain, more = (read_manifest(tmp_path / name, "shop") for name in ("plain", "more"))
    assert more.counts == plain.counts
    unlike = {name for name in plain.files if plain.files[name] != more.files[name]}
    assert unlike - {"truth/manifest.json"} == {"events/part-00000.parquet"}
    log, whole = (pq.read_table(tmp_path / name / "events") for name in ("plain", "more"))
    hidden = whole["retrieved_only"]
    assert whole.filter(pc.invert(hidden)).drop_columns("retrieved_only").equals(log)
    below = whole.filter(hidden)
    assert below["position"].null_count == len(below)
    assert not any(pc.any(below[name]).as_py() for name in ("clicked", "ordered", "explored"))
    pages: dict[str, list[dict[str, Any]]] = {}
    for row in whole.select(["request_id", "item_id", "retrieved_only"]).to_pylist():
        pages.setdefault(row["request_id"], []).append(row)
    below_each = [sum(row["retrieved_only"] for row in page) for page in pages.values()]
    assert max(below_each) == 6
    assert below_each.count(6) > 100
    for page in pages.values():
        assert len({row["item_id"] for row in page}) == len(page), "none of them is on the page"
        assert sorted(row["retrieved_only"] for row in page) == [row["retrieved_only"] for row in page]


def test_blocks_cover_all_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmse.lab.simulator.simulate.BLOCK_REQUESTS", 128)
    told: list[tuple[str, int, int]] = []
    simulate(SMALL, tmp_path / "shop", lambda *what: told.append(what))
    counts = read_manifest(tmp_path / "shop", "shop").counts
    assert len(list((tmp_path / "shop" / "events").iterdir())) == 4
    assert counts["requests"] + counts["requests_without_result"] == 500
    assert told[-1] == ("requests", 500, 500)


def test_rates_are_a_real_shops(shops: list[Shop]) -> None:
    for shop in shops:
        [(click_rate, per_click)] = shop.ask(
            "SELECT avg(clicked::INT), sum(ordered::INT) / sum(clicked::INT) FROM events"
        )
        assert 0.05 < click_rate < 0.10
        assert 0.05 < per_click < 0.15
        assert shop.ask("SELECT count(*) FROM events WHERE ordered AND NOT clicked") == [(0,)]


def test_rates_hold_at_other_sizes_and_targets(tmp_path: Path) -> None:
    behaviour = Behaviour(click_rate=0.05, orders_per_click=0.2, page_size=8, exploration=0.3, days=7)
    shop = open_shop(tmp_path / "shop", MarketConfig(seed=3, n_items=600, n_requests=6_000, behaviour=behaviour))
    [(click_rate, per_click)] = shop.ask("SELECT avg(clicked::INT), sum(ordered::INT) / sum(clicked::INT) FROM events")
    assert click_rate == pytest.approx(0.05, rel=0.15)
    assert per_click == pytest.approx(0.2, rel=0.2)


def test_pages_are_whole(shop: Shop) -> None:
    bad = """SELECT count(*) FROM (
        SELECT request_id FROM events GROUP BY request_id HAVING min(position) <> 1 OR max(position) <> count(*)
            OR count(DISTINCT item_id) <> count(*) OR count(DISTINCT timestamp) <> 1 OR count(DISTINCT user_id) <> 1)"""
    assert shop.ask(bad) == [(0,)]
    assert shop.ask("SELECT max(position) FROM events") == [(20,)]


def test_a_fixed_share_of_slots_is_explored_wherever_they_are(shop: Shop) -> None:
    rows = shop.ask("SELECT position, avg(explored::INT), count(*) FROM events GROUP BY 1 ORDER BY 1")
    # An explored item that the page has anyway is not shown twice, so the share is a little lower than asked for.
    mean = np.average([share for _, share, _ in rows], weights=[shown for *_, shown in rows])
    assert 0.1 < mean < 0.15
    for _, share, shown in rows:
        assert abs(share - mean) < 4.5 * np.sqrt(mean * (1 - mean) / shown) + 0.005


def test_explored_items_reach_past_the_words(shop: Shop) -> None:
    [(categories, others)] = shop.ask("""
        SELECT count(DISTINCT category), avg((split_part(category, ' > ', 1) <> top)::INT) FROM (
            SELECT i.category, e.explored, mode(split_part(i.category, ' > ', 1)) OVER (PARTITION BY e.query) AS top
            FROM events e JOIN items i USING (item_id)) WHERE explored""")
    assert categories > 40
    assert 0.05 < others < 0.4


def test_nothing_is_shown_before_it_is_listed_and_new_items_keep_arriving(shop: Shop) -> None:
    assert shop.ask("SELECT count(*) FROM events JOIN items USING (item_id) WHERE timestamp < listed_at") == [(0,)]
    firsts = shop.ask("""
        SELECT week, count(*) FROM (SELECT item_id, min(timestamp) AS first FROM events GROUP BY 1),
        LATERAL (SELECT datediff('week', TIMESTAMP '2026-01-01', first) AS week) GROUP BY 1 ORDER BY 1""")
    assert all(new >= 20 for _, new in firsts[:-1])
    assert len(firsts) >= 8


def test_shoppers_return(shop: Shop) -> None:
    [(mean,)] = shop.ask("SELECT count(DISTINCT request_id) / count(DISTINCT user_id) FROM events")
    assert mean >= 8


def test_few_queries_make_much_of_the_traffic_and_most_are_rare(shop: Shop) -> None:
    counts = np.array(
        [n for (n,) in shop.ask("SELECT count(DISTINCT request_id) n FROM events GROUP BY query ORDER BY n DESC")]
    )
    head = counts[: len(counts) // 10].sum() / counts.sum()
    assert 0.3 < head < 0.8
    assert (counts == 1).mean() > 0.2


def test_coin_flip_orders_ignore_the_item(tmp_path: Path) -> None:
    behaviour = Behaviour(orders_are_coin_flips=True)
    shop = open_shop(tmp_path / "shop", MarketConfig(n_items=600, n_requests=4_000, behaviour=behaviour))
    ids = shop.ask("SELECT DISTINCT request_id FROM events ORDER BY 1 LIMIT 20")
    requests = [request for (request,) in ids]
    orders, clicks = shop.truth.order_propensity(requests), shop.truth.click_propensity(requests)
    np.testing.assert_allclose(orders, 0.1 * clicks, rtol=1e-5)
    [(per_click,)] = shop.ask("SELECT sum(ordered::INT) / sum(clicked::INT) FROM events")
    assert per_click == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    "given",
    [{"n_items": 5}, {"n_requests": 0}, {"zipf": -1.0}, {"n_shoppers": 0}, {"seed": -1}, {"retrieved_logged": -1}],
)
def test_a_config_that_cannot_be_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        MarketConfig(**given)


@pytest.mark.parametrize("given", [{"start": "soon"}, {"days": 0}, {"exploration": 1.0}, {"click_rate": 0.0}])
def test_a_behaviour_that_cannot_be_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        Behaviour(**given)


def test_the_manifest_holds_the_config(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path / "shop")
    config = json.loads((tmp_path / "shop" / "manifest.json").read_text())["config"]
    assert config["n_items"] == 300
    assert config["behaviour"]["page_size"] == 20


def test_a_larger_shop_has_kinds_within_its_categories() -> None:
    from mmse.lab.simulator.catalogue import plant_tree

    tree = plant_tree(100_000, 0.5, np.random.default_rng(0))
    assert len(tree.paths) > 600
    assert len(set(tree.paths)) == len(tree.paths)
    assert max(path.count(" > ") for path in tree.paths) == 3
