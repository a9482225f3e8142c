"""Estimates against a small example by hand, against the bootstrap of evaluation, and on pure chance."""

from __future__ import annotations

import numpy as np
import pytest

from mmse.evaluation.bootstrap import BootstrapConfig, bootstrap, holm
from mmse.lab.compare.statistics import BootstrapMeans, Stratum, average, bootstrap_means, estimate, systems_and_gaps

MEASURES = [("", "ordered", "all", "recall", 10)]
CONFIG = BootstrapConfig(draws=400, seed=3)


def stratum(queries: list[int], **values: dict[int | None, list[float]]) -> Stratum:
    return Stratum(
        measures=MEASURES,
        measure=np.zeros(len(queries), np.int64),
        query=np.array(queries, np.int64),
        values={name: {seed: np.array(v, np.float64) for seed, v in seeds.items()} for name, seeds in values.items()},
    )


def test_means_and_gaps_by_hand() -> None:
    log = stratum(
        [0, 0, 1],
        subject={0: [1.0, 0.0, 1.0], 1: [0.0, 0.0, 1.0]},
        rival={0: [0.0, 0.0, 1.0]},  # seed 1 failed
        bm25={None: [0.5, 0.5, 0.5]},
    )
    columns = systems_and_gaps(log, "subject")
    assert columns["subject", ""].tolist() == [0.5, 0.0, 1.0]
    assert columns["subject", "rival"].tolist() == [1.0, 0.0, 0.0], "over the seed that both have"
    assert columns["subject", "bm25"].tolist() == [0.0, -0.5, 0.5], "against both seeds"
    means = dict(zip(columns, bootstrap_means(log, list(columns.values()), CONFIG, 0), strict=True))
    assert means["subject", ""].mean.tolist() == [0.5]
    # Two queries: a draw takes the first twice (mean 0.25), both (1.5 / 3) or the second twice (1).
    assert set(np.round(means["subject", ""].draws[:, 0], 6)) == {0.25, 0.5, 1.0}
    assert set(np.round(means["subject", "rival"].draws[:, 0], 6)) == {0.5, round(1 / 3, 6), 0.0}
    assert means["subject", ""].queries.tolist() == [2]


def test_a_subject_that_failed_has_no_gaps() -> None:
    assert set(systems_and_gaps(stratum([0], bm25={None: [1.0]}, rival={0: [1.0]}), "subject")) == {
        ("bm25", ""),
        ("rival", ""),
    }


def test_one_log_and_one_seed_agree_with_the_bootstrap_of_evaluation() -> None:
    rng = np.random.default_rng(0)
    queries = rng.integers(0, 60, 300)
    queries = np.unique(queries, return_inverse=True)[1]
    a, b = rng.random((2, 300))
    log = stratum(queries.tolist(), subject={0: a.tolist()}, rival={0: (b * 0.8).tolist()})
    config = BootstrapConfig(draws=4000, seed=1)
    columns = systems_and_gaps(log, "subject")
    means = dict(zip(columns, bootstrap_means(log, list(columns.values()), config, 0), strict=True))
    reference = bootstrap(np.stack([b * 0.8, a]), queries.astype(np.int64), config, reference=0)
    for result, expectation in (
        (estimate(means["subject", ""], 0, 0.95), reference.systems[1]),
        (estimate(means["subject", "rival"], 0, 0.95, is_gap=True), reference.differences[1]),
    ):
        assert result is not None
        assert expectation.low is not None
        assert expectation.high is not None
        assert result.value == pytest.approx(expectation.value)
        assert result.low == pytest.approx(expectation.low, abs=0.003)
        assert result.high == pytest.approx(expectation.high, abs=0.003)
        assert result.queries == expectation.queries


def test_shops_have_equal_weights_whatever_their_size() -> None:
    large = bootstrap_means(stratum([0] * 8 + [1], subject={0: [1.0] * 9}), [np.ones(9)], CONFIG, 0)[0]
    small = bootstrap_means(stratum([0, 1], subject={0: [0.0, 0.0]}), [np.zeros(2)], CONFIG, 1)[0]
    mean = average([large, small])
    assert mean.mean.tolist() == [0.5]
    assert mean.queries.tolist() == [4]
    assert set(mean.draws[:, 0]) == {0.5}


def test_a_measure_without_values_has_no_number() -> None:
    empty = BootstrapMeans(np.array([np.nan]), np.full((20, 1), np.nan), np.array([0]))
    assert estimate(empty, 0, 0.95) is None
    column = np.ones(9)
    means = bootstrap_means(stratum(list(range(9)), subject={0: column.tolist()}), [column], CONFIG, 0)[0]
    result = estimate(means, 0, 0.95, is_gap=True)
    assert result is not None
    assert (result.value, result.low, result.p, result.significant) == (1.0, None, None, False), (
        "nine queries are too few"
    )


def test_holm_by_hand() -> None:
    assert holm([0.012, 0.04, 0.013, 0.6]) == [True, False, True, False]  # against .0125, .0167, then .025 fails
    assert holm([0.013, 0.04, 0.013, 0.6]) == [False] * 4, "the smallest fails, so all do"
    assert holm([]) == []


def test_pure_chance_is_rarely_marked() -> None:
    """Systems that differ by coin flips alone: about one in twenty gets a mark, and few families after Holm."""
    rng = np.random.default_rng(1)
    config, n_marks, n_families, n = BootstrapConfig(draws=400, seed=0), 0, 0, 60
    queries = np.repeat(np.arange(40), 3)
    for world in range(n):
        flips = rng.integers(0, 2, (6, len(queries))).astype(np.float64)
        columns = [flips[0] - rival for rival in flips[1:]]
        log = stratum(queries.tolist(), subject={0: flips[0].tolist()})
        gaps = [estimate(means, 0, 0.95, is_gap=True) for means in bootstrap_means(log, columns, config, world)]
        assert all(gaps)
        n_marks += sum(gap.significant for gap in gaps if gap)
        n_families += any(holm([gap.p or 1.0 for gap in gaps if gap]))
    assert 0.01 < n_marks / (5 * n) < 0.11
    assert n_families / n < 0.15
