"""What a click is worth: found where it was put, silent where little is known, and one number of the fused vector."""

import numpy as np
import pytest
from scipy.special import expit

from mmse.model.conversion import MIN_EXAMPLES, Conversion
from mmse.model.inputs import item_numbers, make_item_inputs
from mmse.model.item_statistics import STATISTICS
from model.test_two_tower import ITEMS, encoder


def test_the_odds_that_made_the_orders_are_found() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(40_000, 3)).astype(np.float32)
    true = np.array([0.8, 0.0, -0.5])
    ordered = rng.random(len(numbers)) < expit(numbers @ true - 2)
    conversion = Conversion.fit(numbers, ordered)
    np.testing.assert_allclose(conversion.weights, true, atol=0.05)
    assert conversion.intercept == pytest.approx(-2, abs=0.05)
    assert conversion.predict(numbers).mean() == pytest.approx(ordered.mean(), abs=0.002)
    assert (numbers @ conversion.weights).mean() == pytest.approx(conversion.mean, abs=1e-5)
    odds = np.log(conversion.predict(numbers) / (1 - conversion.predict(numbers)))
    np.testing.assert_allclose(odds - numbers @ conversion.weights, conversion.intercept, atol=1e-4)


def test_of_few_orders_every_click_is_worth_the_same() -> None:
    numbers = np.arange(1_000, dtype=np.float32)[:, None]
    ordered = np.arange(1_000) >= 1_000 - (MIN_EXAMPLES - 1)
    conversion = Conversion.fit(numbers, ordered)
    assert not conversion.weights.any()
    np.testing.assert_allclose(conversion.predict(numbers), (MIN_EXAMPLES - 0.5) / 1_001, rtol=1e-6)


def test_the_score_rises_by_the_strength_times_the_advantage() -> None:
    plain, with_conversion = encoder(), encoder(conversion=True)
    features, statistics = with_conversion.encode_items(ITEMS), np.zeros((3, STATISTICS), np.float32)
    n = features.numbers.shape[1] + STATISTICS
    conversion = Conversion(np.linspace(-1, 1, n), 0.3, 0.7)
    (tower,) = with_conversion.towers.number_towers
    tower.learn(conversion, 0.05)
    assert with_conversion.widths == {"text": 8, "identity": 8, "shopper": 8, "conversion": 1}
    assert with_conversion.width == 25
    queries = (["red shoes", ""], ["u1", None], np.zeros((2, 4), np.int32))
    plain_scores = plain.embed_queries(*queries) @ plain.embed_items(plain.encode_items(ITEMS), statistics).T
    new_scores = with_conversion.embed_queries(*queries) @ with_conversion.embed_items(features, statistics).T
    rows = np.arange(3, dtype=np.int64)
    difference = 0.05 * (item_numbers(features, statistics, rows) @ conversion.weights - conversion.mean)
    np.testing.assert_allclose(new_scores - plain_scores, np.broadcast_to(difference, (2, 3)), atol=1e-6)
    inputs = make_item_inputs(features.take(rows), statistics[rows])
    np.testing.assert_allclose(tower.score_items(inputs).numpy()[:, 0], difference, atol=1e-6)
