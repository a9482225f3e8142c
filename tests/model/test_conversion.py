"""What a click is worth: found where it was put, silent where little is known, and one number of the fused vector."""

import numpy as np
import pytest
from scipy.special import expit

from mmse.model.conversion import FEW, Conversion
from mmse.model.encoder import CONVERSION
from mmse.model.features import STATISTICS
from mmse.model.inputs import item_inputs, item_numbers
from model.test_two_tower import ITEMS, encoder


def test_the_odds_that_made_the_orders_are_found() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(40_000, 3)).astype(np.float32)
    true = np.array([0.8, 0.0, -0.5])
    ordered = rng.random(len(numbers)) < expit(numbers @ true - 2)
    found = Conversion.fit(numbers, ordered)
    np.testing.assert_allclose(found.weights, true, atol=0.05)
    assert found.intercept == pytest.approx(-2, abs=0.05)
    assert found.chance(numbers).mean() == pytest.approx(ordered.mean(), abs=0.002)
    assert found.advantage(numbers).mean() == pytest.approx(0, abs=1e-5)
    odds = np.log(found.chance(numbers) / (1 - found.chance(numbers)))
    np.testing.assert_allclose(odds - found.advantage(numbers), found.intercept + found.mean, atol=1e-4)


def test_of_few_orders_every_click_is_worth_the_same() -> None:
    numbers = np.arange(1_000, dtype=np.float32)[:, None]
    ordered = np.arange(1_000) >= 1_000 - (FEW - 1)
    found = Conversion.fit(numbers, ordered)
    assert not found.advantage(numbers).any()
    np.testing.assert_allclose(found.chance(numbers), (FEW - 0.5) / 1_001, rtol=1e-6)


def test_the_score_rises_by_the_strength_times_the_advantage() -> None:
    plain, made = encoder(), encoder(conversion=True)
    features, statistics = made.encode_items(ITEMS), np.zeros((3, STATISTICS), np.float32)
    n = features.numbers.shape[1] + STATISTICS
    conversion = Conversion(np.linspace(-1, 1, n), 0.3, 0.7)
    made.towers.learn_conversion(conversion, 0.05)
    assert made.widths == {"text": 8, "identity": 8, "shopper": 8, CONVERSION: 1}
    assert made.width == 25
    asked = (["red shoes", ""], ["u1", None], np.zeros((2, 4), np.int32))
    before = plain.queries(*asked) @ plain.items(plain.encode_items(ITEMS), statistics).T
    after = made.queries(*asked) @ made.items(features, statistics).T
    rows = np.arange(3, dtype=np.int64)
    added = 0.05 * conversion.advantage(item_numbers(features, statistics, rows))
    np.testing.assert_allclose(after - before, np.broadcast_to(added, (2, 3)), atol=1e-6)
    inputs = item_inputs(features, statistics, rows)
    np.testing.assert_allclose(made.towers.sells_by(inputs).numpy()[:, 0], added, atol=1e-6)
