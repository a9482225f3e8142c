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

from lab.simulator.simulated_shops import ShopTables, open_shop, three_shops
from mmse.core.artifact import read_manifest, verify
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.simulate import SimulatorConfig, simulate

SMALL = SimulatorConfig(n_items=300, n_requests=500)


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> list[ShopTables]:
    return three_shops(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def shop(shops: list[ShopTables]) -> ShopTables:
    return shops[0]


def test_tables_have_the_agreed_columns(shop: ShopTables) -> None:
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
    # Equal sets: no column of the truth (quality, appeal, attractiveness …) is in a table.
    assert dict(zip(shop.items.column_names, shop.items.schema.types, strict=True)) == items
    assert dict(zip(shop.events.column_names, shop.events.schema.types, strict=True)) == events


def test_the_shop_folder_is_complete_and_names_its_tables(shop: ShopTables) -> None:
    manifest = verify(shop.folder, "shop")
    verify(shop.folder / "truth", "truth")
    assert manifest.counts["events"] == shop.events.num_rows
    config = tomllib.loads((shop.folder / "shop.toml").read_text())
    assert config["items"] == {"source": "items.parquet", "categorical": ["colour", "material"]}
    assert config["events"]["source"] == "events/*.parquet"
    assert (shop.folder / config["truth"]["source"] / "manifest.json").is_file()


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("repeat", 5), ("b", 6)):
        simulate(SimulatorConfig(seed=seed, n_items=300, n_requests=500), tmp_path / name)
    a, repeat, b = (read_manifest(tmp_path / name, "shop") for name in ("a", "repeat", "b"))
    tables = [name for name in a.files if not name.endswith("manifest.json")]
    assert {name: a.files[name] for name in tables} == {name: repeat.files[name] for name in tables}
    assert a.files["events/part-00000.parquet"] != b.files["events/part-00000.parquet"]


def test_retrieved_items_that_were_not_shown_can_be_logged_and_change_nothing_else(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path / "plain")
    simulate(replace(SMALL, retrieved_logged=6), tmp_path / "retrieved")
    plain, retrieved = (read_manifest(tmp_path / name, "shop") for name in ("plain", "retrieved"))
    assert retrieved.counts == plain.counts
    differing_files = {name for name in plain.files if plain.files[name] != retrieved.files[name]}
    assert differing_files - {"truth/manifest.json"} == {"events/part-00000.parquet"}
    log, full_log = (pq.read_table(tmp_path / name / "events") for name in ("plain", "retrieved"))
    is_retrieved = full_log["retrieved_only"]
    assert full_log.filter(pc.invert(is_retrieved)).drop_columns("retrieved_only").equals(log)
    next_best = full_log.filter(is_retrieved)
    assert next_best["position"].null_count == len(next_best)
    assert not any(pc.any(next_best[name]).as_py() for name in ("clicked", "ordered", "explored"))
    pages: dict[str, list[dict[str, Any]]] = {}
    for row in full_log.select(["request_id", "item_id", "retrieved_only"]).to_pylist():
        pages.setdefault(row["request_id"], []).append(row)
    n_next_best = [sum(row["retrieved_only"] for row in page) for page in pages.values()]
    assert max(n_next_best) == 6
    assert n_next_best.count(6) > 100
    for page in pages.values():
        assert len({row["item_id"] for row in page}) == len(page), "none of them is on the page"
        assert sorted(row["retrieved_only"] for row in page) == [row["retrieved_only"] for row in page]


def test_blocks_cover_all_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmse.lab.simulator.simulate.BLOCK_REQUESTS", 128)
    reports: list[tuple[str, int, int]] = []
    simulate(SMALL, tmp_path / "shop", lambda part, n, total: reports.append((part, n, total)))
    counts = read_manifest(tmp_path / "shop", "shop").counts
    assert len(list((tmp_path / "shop" / "events").iterdir())) == 4
    assert counts["requests"] + counts["requests_without_result"] == 500
    assert reports[-1] == ("requests", 500, 500)


def test_rates_are_a_real_shops(shops: list[ShopTables]) -> None:
    for shop in shops:
        [(click_rate, per_click)] = shop.sql(
            "SELECT avg(clicked::INT), sum(ordered::INT) / sum(clicked::INT) FROM events"
        )
        assert 0.05 < click_rate < 0.10
        assert 0.05 < per_click < 0.15
        assert shop.sql("SELECT count(*) FROM events WHERE ordered AND NOT clicked") == [(0,)]


def test_rates_hold_at_other_sizes_and_targets(tmp_path: Path) -> None:
    behaviour = Behaviour(click_rate=0.05, orders_per_click=0.2, page_size=8, exploration=0.3, days=7)
    shop = open_shop(tmp_path / "shop", SimulatorConfig(seed=3, n_items=600, n_requests=6_000, behaviour=behaviour))
    [(click_rate, per_click)] = shop.sql("SELECT avg(clicked::INT), sum(ordered::INT) / sum(clicked::INT) FROM events")
    assert click_rate == pytest.approx(0.05, rel=0.15)
    assert per_click == pytest.approx(0.2, rel=0.2)


def test_pages_are_complete(shop: ShopTables) -> None:
    bad = """SELECT count(*) FROM (
        SELECT request_id FROM events GROUP BY request_id HAVING min(position) <> 1 OR max(position) <> count(*)
            OR count(DISTINCT item_id) <> count(*) OR count(DISTINCT timestamp) <> 1 OR count(DISTINCT user_id) <> 1)"""
    assert shop.sql(bad) == [(0,)]
    assert shop.sql("SELECT max(position) FROM events") == [(20,)]


def test_a_fixed_share_of_slots_is_explored_wherever_they_are(shop: ShopTables) -> None:
    rows = shop.sql("SELECT position, avg(explored::INT), count(*) FROM events GROUP BY 1 ORDER BY 1")
    # An explored item that the page has anyway is not shown twice, so the share is a little lower than configured.
    mean = np.average([share for _, share, _ in rows], weights=[n for *_, n in rows])
    assert 0.1 < mean < 0.15
    for _, share, n in rows:
        assert abs(share - mean) < 4.5 * np.sqrt(mean * (1 - mean) / n) + 0.005


def test_explored_items_reach_past_the_words(shop: ShopTables) -> None:
    [(categories, share_elsewhere)] = shop.sql("""
        SELECT count(DISTINCT category), avg((split_part(category, ' > ', 1) <> top)::INT) FROM (
            SELECT i.category, e.explored, mode(split_part(i.category, ' > ', 1)) OVER (PARTITION BY e.query) AS top
            FROM events e JOIN items i USING (item_id)) WHERE explored""")
    assert categories > 40
    assert 0.05 < share_elsewhere < 0.4


def test_nothing_is_shown_before_it_is_listed_and_new_items_keep_arriving(shop: ShopTables) -> None:
    assert shop.sql("SELECT count(*) FROM events JOIN items USING (item_id) WHERE timestamp < listed_at") == [(0,)]
    firsts = shop.sql("""
        SELECT week, count(*) FROM (SELECT item_id, min(timestamp) AS first FROM events GROUP BY 1),
        LATERAL (SELECT datediff('week', TIMESTAMP '2026-01-01', first) AS week) GROUP BY 1 ORDER BY 1""")
    assert all(new >= 20 for _, new in firsts[:-1])
    assert len(firsts) >= 8


def test_shoppers_return(shop: ShopTables) -> None:
    [(mean,)] = shop.sql("SELECT count(DISTINCT request_id) / count(DISTINCT user_id) FROM events")
    assert mean >= 8


def test_few_queries_make_much_of_the_traffic_and_most_are_rare(shop: ShopTables) -> None:
    counts = np.array(
        [n for (n,) in shop.sql("SELECT count(DISTINCT request_id) n FROM events GROUP BY query ORDER BY n DESC")]
    )
    head = counts[: len(counts) // 10].sum() / counts.sum()
    assert 0.3 < head < 0.8
    assert (counts == 1).mean() > 0.2


def test_coin_flip_orders_ignore_the_item(tmp_path: Path) -> None:
    behaviour = Behaviour(orders_are_coin_flips=True)
    shop = open_shop(tmp_path / "shop", SimulatorConfig(n_items=600, n_requests=4_000, behaviour=behaviour))
    ids = shop.sql("SELECT DISTINCT request_id FROM events ORDER BY 1 LIMIT 20")
    requests = [request for (request,) in ids]
    orders, clicks = shop.truth.order_propensity(requests), shop.truth.click_propensity(requests)
    np.testing.assert_allclose(orders, 0.1 * clicks, rtol=1e-5)
    [(per_click,)] = shop.sql("SELECT sum(ordered::INT) / sum(clicked::INT) FROM events")
    assert per_click == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    "values",
    [{"n_items": 5}, {"n_requests": 0}, {"zipf": -1.0}, {"n_shoppers": 0}, {"seed": -1}, {"retrieved_logged": -1}],
)
def test_an_impossible_config_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        SimulatorConfig(**values)


@pytest.mark.parametrize("values", [{"start": "soon"}, {"days": 0}, {"exploration": 1.0}, {"click_rate": 0.0}])
def test_an_impossible_behaviour_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Behaviour(**values)


def test_the_manifest_holds_the_config(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path / "shop")
    config = json.loads((tmp_path / "shop" / "manifest.json").read_text())["config"]
    assert config["n_items"] == 300
    assert config["behaviour"]["page_size"] == 20


def test_a_larger_shop_has_kinds_within_its_categories() -> None:
    from mmse.lab.simulator.catalogue import build_tree

    tree = build_tree(100_000, 0.5, np.random.default_rng(0))
    assert len(tree.paths) > 600
    assert len(set(tree.paths)) == len(tree.paths)
    assert max(path.count(" > ") for path in tree.paths) == 3
