"""Intervals cover what they should, pairing narrows them, and the same seed gives the same numbers."""

import numpy as np
import pytest

from mmse.evaluation.bootstrap import BootstrapConfig, bootstrap

NAN = float("nan")
CONFIG = BootstrapConfig(draws=1000, seed=7)


def test_means_leave_out_what_is_not_defined() -> None:
    values = np.array([[1.0, 0.0, NAN, 1.0], [0.5, NAN, NAN, 0.0]])
    result = bootstrap(values, np.array([5, 5, 9, 2]), CONFIG, reference=1)
    assert [e.value for e in result.systems] == [2 / 3, 1 / 4]
    assert [e.queries for e in result.systems] == [2, 2]
    # only the first and the last request are defined for both
    assert [e.value for e in result.differences] == [(0.5 + 1.0) / 2, 0.0]


def test_a_query_is_drawn_whole() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(size=50)
    clusters = np.repeat(np.arange(50), 20)
    values = (level[clusters] + 0.01 * rng.normal(size=1000))[None]
    whole, by_request = (
        bootstrap(values, clusters, CONFIG).systems[0],
        bootstrap(values, np.arange(1000), CONFIG).systems[0],
    )
    assert whole.low is not None
    assert whole.high is not None
    assert by_request.low is not None
    assert by_request.high is not None
    assert (whole.high - whole.low) > 3 * (by_request.high - by_request.low)
    assert whole.high - whole.low == pytest.approx(2 * 1.96 * level.std() / np.sqrt(50), rel=0.15)


def test_against_a_slow_and_obvious_version() -> None:
    rng = np.random.default_rng(4)
    values, clusters = rng.random((2, 60)), rng.integers(0, 12, 60)
    values[0, :5] = NAN
    result = bootstrap(values, clusters, CONFIG)
    draws, names = np.random.default_rng(CONFIG.seed), np.unique(clusters)
    means = []
    for _ in range(CONFIG.draws):
        draw = names[draws.integers(0, len(names), len(names))]
        means.append(np.nanmean(np.concatenate([values[:, clusters == name] for name in draw], axis=1), axis=1))
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([e.low or 0 for e in result.systems], low)
    np.testing.assert_allclose([e.high or 0 for e in result.systems], high)


def test_coverage() -> None:
    """Of 300 made-up sets with unequal queries, about 95% of the intervals hold the true mean."""
    n_covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(80), rng.integers(1, 6, 80))
        values = (rng.normal(size=80)[clusters] + rng.normal(size=len(clusters)))[None] + 0.3
        estimate = bootstrap(values, clusters, BootstrapConfig(draws=400, seed=seed)).systems[0]
        assert estimate.low is not None
        assert estimate.high is not None
        n_covered += estimate.low <= 0.3 <= estimate.high
    # the 99.9% binomial band around 0.935 (percentile intervals are known to be slightly short), of 300
    assert 264 <= n_covered <= 297


def test_differences_are_paired() -> None:
    """Two systems that differ by a constant differ by exactly that in every draw, however wide each one's interval."""
    base = np.random.default_rng(1).random(400)
    result = bootstrap(np.stack([base, base + 0.02]), np.arange(400), CONFIG, reference=0)
    reference, better = result.differences
    assert (reference.value, reference.low, reference.high, reference.significant) == (0, 0, 0, False)
    assert reference.p == 1
    assert better.low == pytest.approx(0.02)
    assert better.high == pytest.approx(0.02)
    assert better.significant
    assert better.p == pytest.approx(2 / 1001)
    assert result.systems[1].low is not None
    assert result.systems[1].low < result.systems[0].value


def test_no_difference_is_seldom_significant() -> None:
    n_significant = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        result = bootstrap(rng.random((2, 150)), np.arange(150), BootstrapConfig(draws=400, seed=seed), reference=0)
        n_significant += result.differences[1].significant
        p = result.differences[1].p
        assert p is not None
        assert 0 < p <= 1
    assert 2 <= n_significant <= 22


def test_deterministic_and_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = np.random.default_rng(2).random((3, 90)), np.arange(90) // 2
    result = bootstrap(values, clusters, CONFIG, reference=0)
    monkeypatch.setattr("mmse.evaluation.bootstrap.CELLS", 1000)
    in_parts = bootstrap(values, clusters, CONFIG, reference=0)
    for a, b in zip(result.systems + result.differences, in_parts.systems + in_parts.differences, strict=True):
        assert (a.value, a.queries, a.p) == (b.value, b.queries, b.p)
        assert a.low == pytest.approx(b.low)
        assert a.high == pytest.approx(b.high)


def test_too_little_says_nothing() -> None:
    result = bootstrap(np.array([[0.5, 0.7]]), np.array([3, 3]), CONFIG, reference=0)
    assert (result.systems[0].value, result.systems[0].low, result.systems[0].queries) == (0.6, None, 1)
    assert not result.differences[0].significant
    undefined = bootstrap(np.full((1, 4), NAN), np.arange(4), CONFIG)
    assert np.isnan(undefined.systems[0].value)
    assert undefined.systems[0].queries == 0
    empty = bootstrap(np.empty((2, 0)), np.empty(0, dtype=np.int64), CONFIG)
    assert [e.queries for e in empty.systems] == [0, 0]


@pytest.mark.parametrize("wrong", [{"draws": 3}, {"seed": -1}, {"level": 1.0}])
def test_config_is_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BootstrapConfig(**wrong)  # type: ignore[arg-type]
