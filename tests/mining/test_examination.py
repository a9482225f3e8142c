from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from mining.toy import Row, event, mine_shop, read, write_shop
from mmse.mining.examination import PositionCounts, fit_curve
from mmse.mining.mine import MineConfig

CURVE = 1 / np.arange(1, 9) ** 0.8


def simulate(share_explored: float, seed: int, n_requests: int = 60_000) -> PositionCounts:
    """Clicks on 8 positions of 40 queries with 30 items each; a noisy ranker puts the attractive items first."""
    rng = np.random.default_rng(seed)
    attraction = rng.beta(1, 6, size=(40, 30))
    query = rng.integers(0, 40, n_requests)
    explored = rng.random(n_requests) < share_explored
    scores = np.log(attraction[query]) + rng.gumbel(scale=0.5, size=(n_requests, 30))
    scores[explored] = rng.random((int(explored.sum()), 30))
    page = np.argsort(-scores, axis=1)[:, :8]
    clicked = rng.random(page.shape) < attraction[query[:, None], page] * CURVE
    stratum = np.where(explored[:, None], 0, 1 + query[:, None] * 30 + page)
    position = np.broadcast_to(np.arange(1, 9), page.shape)
    keys, inverse = np.unique(np.stack([stratum.ravel(), position.ravel()]), axis=1, return_inverse=True)
    return PositionCounts(
        keys[0], keys[1], np.bincount(inverse), np.bincount(inverse, clicked.ravel()).astype(np.int64)
    )


@pytest.mark.parametrize("share_explored", [0.0, 0.1, 1.0])
def test_the_known_curve_comes_back_though_the_ranker_confounds_it(share_explored: float) -> None:
    """Within 12% at every position, and three quarters of them within two standard errors."""
    counts = simulate(share_explored, seed=3)
    curve = fit_curve(counts, np.arange(1, 9))
    assert curve.is_fitted
    assert np.abs(curve.examination / CURVE - 1).max() < 0.12
    assert (np.abs(curve.examination - CURVE)[1:] <= 2 * curve.error[1:]).mean() >= 0.75


def test_the_naive_click_rate_would_be_wrong() -> None:
    counts = simulate(0.0, seed=3)
    rate = np.bincount(counts.position, counts.clicked)[1:] / np.bincount(counts.position, counts.shown)[1:]
    assert np.abs(rate / rate[0] / CURVE - 1).max() > 0.25


def test_it_is_the_fixed_point_of_the_alternating_solution() -> None:
    counts = simulate(0.1, seed=1, n_requests=5_000)
    theta, gamma = np.ones(9), np.ones(counts.stratum.max() + 1)
    for _ in range(3_000):
        shown = np.bincount(counts.stratum, counts.shown * theta[counts.position], len(gamma))
        gamma = np.bincount(counts.stratum, counts.clicked, len(gamma)) / np.maximum(shown, 1e-12)
        shown = np.bincount(counts.position, counts.shown * gamma[counts.stratum], 9)
        theta = np.bincount(counts.position, counts.clicked, 9) / np.maximum(shown, 1e-12)
    np.testing.assert_allclose(fit_curve(counts, np.arange(1, 9)).examination, theta[1:] / theta[1], rtol=1e-3)


def test_positions_with_too_little_data_take_their_neighbours() -> None:
    counts = simulate(1.0, seed=2)
    clicked = np.where(np.isin(counts.position, [1, 3]), counts.clicked, np.minimum(counts.clicked, 3))
    positions = np.array([1, 2, 3, 8, 20])
    curve = fit_curve(PositionCounts(counts.stratum, counts.position, counts.shown, clicked), positions)
    assert np.isnan(curve.error).tolist() == [False, True, False, True, True]
    first, between, third, eighth, beyond = curve.examination
    assert between == pytest.approx((first + third) / 2)
    assert eighth == beyond == third


def test_values_stay_between_the_floor_and_one() -> None:
    position = np.array([1, 2, 3])
    counts = PositionCounts(np.zeros(3, np.int64), position, np.array([1000, 1000, 10**7]), np.array([100, 500, 20]))
    assert fit_curve(counts, position).examination.tolist() == [1.0, 1.0, 0.01]


def test_without_data_every_position_is_examined_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    no_counts = np.zeros(0, np.int64)
    with caplog.at_level(logging.WARNING):
        curve = fit_curve(PositionCounts(no_counts, no_counts, no_counts, no_counts), np.array([1, 2]))
    assert not curve.is_fitted
    assert curve.examination.tolist() == [1.0, 1.0]
    assert "position bias cannot be learned" in caplog.text


def test_mining_learns_the_curve_from_train_alone_and_writes_it_to_the_rows(tmp_path: Path) -> None:
    """Position 2 is clicked half as often as 1 in train; what test says is not heard, nor what was not shown."""
    rows = []
    for minute in range(1000):
        explored: Row = {"explored": True, "user_id": None, "retrieved_only": False}
        second = minute % 4 == 1 or minute >= 800
        rows.append(event(f"r{minute}", minute, "ab"[minute % 2], 1, clicked=minute % 2 == 1, **explored))
        rows.append(event(f"r{minute}", minute, "ba"[minute % 2], 2, clicked=second, **explored))
        rows.append(
            event(f"r{minute}", minute, "cd"[minute % 2], 2 + minute % 3, **explored | {"retrieved_only": True})
        )
    write_shop(tmp_path, rows)
    counts = mine_shop(tmp_path, config=MineConfig(periods=2, shards=2, threads=1)).counts
    assert counts["position_bias_from"] == "the same query and item at several positions"
    top, below_top = read(tmp_path, "examination.parquet")
    assert (top["examination"], top["shown"], top["clicked"]) == (1, 800, 400)
    assert (below_top["examination"], below_top["shown"], below_top["clicked"]) == (0.5, 800, 200)
    assert below_top["standard_error"] == pytest.approx(0.5 * (1 / 400 + 1 / 200) ** 0.5, rel=1e-3)
    weights = {(row["position"], row["examination"]) for row in read(tmp_path, "t*/**/*.parquet")}
    assert weights == {(1, 1.0), (2, 0.5), (None, None)}


@pytest.mark.parametrize(("everywhere", "source"), [(True, "slots filled at random"), (False, "the same query")])
def test_random_slots_alone_decide_where_they_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everywhere: bool, source: str
) -> None:
    """Random slots say 1/2 and the ranked pairs 1/4; where the random slots hold one position, the pairs are heard."""
    monkeypatch.setattr("mmse.mining.mine.ENOUGH_EXPLORED_CLICKS", 100)
    rows = []
    for minute in range(1200):
        explored, odd = minute < 600, minute % 2
        second = minute % (4 if explored else 8) == 1
        one, two = ("ab", "ba")[odd]
        who: Row = {"user_id": None}
        rows.append(event(f"r{minute}", minute, one, 1, clicked=bool(odd), explored=explored and everywhere, **who))
        rows.append(event(f"r{minute}", minute, two, 2, clicked=second, explored=explored, **who))
    write_shop(tmp_path, rows)
    config = MineConfig(periods=2, shards=1, threads=1, valid_share=0.0, test_share=0.0)
    counts = mine_shop(tmp_path, config=config).counts
    assert counts["position_bias_from"].startswith(source)
    examination = read(tmp_path, "examination.parquet")[1]["examination"]
    assert examination == pytest.approx(0.5, abs=0.02) if everywhere else examination < 0.5
