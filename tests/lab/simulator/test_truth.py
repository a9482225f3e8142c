from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from lab.simulator.simulated_shops import ShopTables, check_truth, open_shop, three_shops
from mmse.core.artifact import read_manifest
from mmse.core.errors import ArtifactError, UsageError
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.simulate import SimulatorConfig
from mmse.lab.simulator.truth import Truth
from mmse.text.normalise import words


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> list[ShopTables]:
    return three_shops(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def shop(shops: list[ShopTables]) -> ShopTables:
    return shops[0]


def some_requests(shop: ShopTables, n: int) -> list[tuple[str, str]]:
    return shop.sql(f"SELECT DISTINCT request_id, query FROM events ORDER BY hash(request_id) LIMIT {n}")


def test_orders_happen_as_often_as_the_truth_says(shop: ShopTables) -> None:
    """Over the log's own rows, by rising propensity: as many clicks and orders as examination × chance expects."""
    check_truth(shop, "hash(request_id) % 2 = 0", by_time=False)


def test_examination_shows_in_explored_rows(tmp_path: Path) -> None:
    behaviour = Behaviour(exploration=0.9, page_size=10)
    shop = open_shop(tmp_path / "shop", SimulatorConfig(seed=4, n_items=2_000, n_requests=12_000, behaviour=behaviour))
    rows = shop.sql("SELECT position, count(*), sum(clicked::INT) FROM events WHERE explored GROUP BY 1 ORDER BY 1")
    n_shown, n_clicked = (np.array([row[column] for row in rows], float) for column in (1, 2))
    curve = np.array(shop.truth.examination)
    attraction = n_clicked.sum() / (n_shown * curve).sum()
    deviation = np.sqrt(n_clicked) / n_shown / attraction
    assert (np.abs(n_clicked / n_shown / attraction - curve) < 4 * deviation).all()
    assert curve[0] == 1
    assert (np.diff(curve) < 0).all()


def test_clicks_and_orders_disagree(shops: list[ShopTables]) -> None:
    for shop in shops:
        requests = [request for request, _ in some_requests(shop, 60)]
        clicks, orders = shop.truth.click_propensity(requests), shop.truth.order_propensity(requests)
        correlations = []
        for click, order in zip(clicks, orders, strict=True):
            attractive = np.argsort(-click)[:50]
            correlations.append(spearmanr(click[attractive], order[attractive]).statistic)
        assert 0.1 < np.mean(correlations) < 0.9


def test_titles_often_lack_the_querys_words(shops: list[ShopTables]) -> None:
    for shop in shops:
        requests = some_requests(shop, 200)
        best = np.argsort(-shop.truth.order_propensity([request for request, _ in requests]), axis=1)[:, :20]
        titles = [set(words(title)) for title in shop.items["title"].to_pylist()]
        is_without_words = [
            not titles[item] & set(words(query))
            for (_, query), items in zip(requests, best, strict=True)
            for item in items
        ]
        assert 0.1 < np.mean(is_without_words) < 0.7


def test_taste_makes_shoppers_differ(shop: ShopTables) -> None:
    pairs = shop.sql("""SELECT a.request_id, b.request_id
        FROM (SELECT DISTINCT request_id, query, user_id FROM events) a
        JOIN (SELECT DISTINCT request_id, query, user_id FROM events) b
        ON a.query = b.query AND a.user_id < b.user_id ORDER BY hash(a.request_id || b.request_id) LIMIT 30""")
    chances_a, chances_b = (shop.truth.order_propensity([pair[side] for pair in pairs]) for side in (0, 1))
    n_common = [
        len(set(np.argsort(-a)[:10]) & set(np.argsort(-b)[:10])) for a, b in zip(chances_a, chances_b, strict=True)
    ]
    assert 0 < np.mean(n_common) < 9


def test_propensity_covers_the_catalogue_in_the_order_of_the_requests(shop: ShopTables) -> None:
    requests = [request for request, _ in some_requests(shop, 30)]
    propensity = shop.truth.order_propensity(requests)
    assert propensity.shape == (30, 3_000)
    assert shop.truth.item_ids == shop.items["item_id"].to_pylist()
    assert ((propensity >= 0) & (propensity < 1)).all()
    assert (propensity.max(axis=1) > 0).all()
    np.testing.assert_array_equal(shop.truth.order_propensity(requests[::-1]), propensity[::-1])
    assert shop.truth.order_propensity([]).shape == (0, 3_000)


def test_an_unknown_request_is_named(shop: ShopTables) -> None:
    with pytest.raises(UsageError, match="r-none"):
        shop.truth.order_propensity(["r-none"])


def test_a_missing_or_damaged_truth_is_refused(shop: ShopTables, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a finished"):
        Truth.open(tmp_path)
    with pytest.raises(ArtifactError, match="expected 'truth'"):
        Truth.open(shop.folder)
    assert read_manifest(shop.folder / "truth", "truth").config["position_bias"] == 0.6
