"""What is said to be sure: against a small example by hand, the bootstrap of evaluation, and worlds of pure chance."""

from __future__ import annotations

import numpy as np
import pytest

from mmse.evaluation.bootstrap import BootstrapConfig, bootstrap, holm
from mmse.lab.compare.statistics import Drawn, Stratum, draw, mean_of, sure, systems_and_gaps

ONE = [("", "ordered", "all", "recall", 10)]
CONFIG = BootstrapConfig(draws=400, seed=3)


def stratum(queries: list[int], **values: dict[int | None, list[float]]) -> Stratum:
    return Stratum(
        measures=ONE,
        measure=np.zeros(len(queries), np.int64),
        query=np.array(queries, np.int64),
        values={name: {seed: np.array(v, np.float64) for seed, v in seeds.items()} for name, seeds in values.items()},
    )


def test_means_and_gaps_by_hand() -> None:
    log = stratum(
        [0, 0, 1],
        ours={0: [1.0, 0.0, 1.0], 1: [0.0, 0.0, 1.0]},
        other={0: [0.0, 0.0, 1.0]},  # seed 1 failed
        bm25={None: [0.5, 0.5, 0.5]},
    )
    columns = systems_and_gaps(log, "ours")
    assert columns["ours", ""].tolist() == [0.5, 0.0, 1.0]
    assert columns["ours", "other"].tolist() == [1.0, 0.0, 0.0], "over the seed that both have"
    assert columns["ours", "bm25"].tolist() == [0.0, -0.5, 0.5], "against both seeds"
    drawn = dict(zip(columns, draw(log, list(columns.values()), CONFIG, 0), strict=True))
    assert drawn["ours", ""].mean.tolist() == [0.5]
    # Two queries: a draw takes the first twice (mean 0.25), both (1.5 / 3) or the second twice (1).
    assert set(np.round(drawn["ours", ""].draws[:, 0], 6)) == {0.25, 0.5, 1.0}
    assert set(np.round(drawn["ours", "other"].draws[:, 0], 6)) == {0.5, round(1 / 3, 6), 0.0}
    assert drawn["ours", ""].queries.tolist() == [2]


def test_ours_that_failed_has_no_gaps() -> None:
    assert set(systems_and_gaps(stratum([0], bm25={None: [1.0]}, other={0: [1.0]}), "ours")) == {
        ("bm25", ""),
        ("other", ""),
    }


def test_one_log_and_one_seed_are_as_evaluation_has_them() -> None:
    rng = np.random.default_rng(0)
    queries = rng.integers(0, 60, 300)
    queries = np.unique(queries, return_inverse=True)[1]
    a, b = rng.random((2, 300))
    log = stratum(queries.tolist(), ours={0: a.tolist()}, other={0: (b * 0.8).tolist()})
    config = BootstrapConfig(draws=4000, seed=1)
    columns = systems_and_gaps(log, "ours")
    drawn = dict(zip(columns, draw(log, list(columns.values()), config, 0), strict=True))
    theirs = bootstrap(np.stack([b * 0.8, a]), queries.astype(np.int64), config, reference=0)
    for mine, known in (
        (sure(drawn["ours", ""], 0, 0.95), theirs.systems[1]),
        (sure(drawn["ours", "other"], 0, 0.95, gap=True), theirs.differences[1]),
    ):
        assert mine is not None
        assert known.low is not None
        assert known.high is not None
        assert mine.value == pytest.approx(known.value)
        assert mine.low == pytest.approx(known.low, abs=0.003)
        assert mine.high == pytest.approx(known.high, abs=0.003)
        assert mine.queries == known.queries


def test_worlds_weigh_the_same_whatever_their_size() -> None:
    large = draw(stratum([0] * 8 + [1], ours={0: [1.0] * 9}), [np.ones(9)], CONFIG, 0)[0]
    small = draw(stratum([0, 1], ours={0: [0.0, 0.0]}), [np.zeros(2)], CONFIG, 1)[0]
    both = mean_of([large, small])
    assert both.mean.tolist() == [0.5]
    assert both.queries.tolist() == [4]
    assert set(both.draws[:, 0]) == {0.5}


def test_a_measure_that_nobody_defines_has_no_number() -> None:
    nothing = Drawn(np.array([np.nan]), np.full((20, 1), np.nan), np.array([0]))
    assert sure(nothing, 0, 0.95) is None
    ones = np.ones(9)
    few = draw(stratum(list(range(9)), ours={0: ones.tolist()}), [ones], CONFIG, 0)[0]
    found = sure(few, 0, 0.95, gap=True)
    assert found is not None
    assert (found.value, found.low, found.p, found.significant) == (1.0, None, None, False), (
        "nine queries say too little"
    )


def test_holm_by_hand() -> None:
    assert holm([0.012, 0.04, 0.013, 0.6]) == [True, False, True, False]  # against .0125, .0167, then .025 fails
    assert holm([0.013, 0.04, 0.013, 0.6]) == [False] * 4, "the smallest fails, so all do"
    assert holm([]) == []


def test_pure_chance_is_rarely_marked() -> None:
    """Systems that differ by coin flips alone: one in twenty gets a mark, and Holm's leave hardly a family with one."""
    rng = np.random.default_rng(1)
    config, marked, families, n = BootstrapConfig(draws=400, seed=0), 0, 0, 60
    queries = np.repeat(np.arange(40), 3)
    for world in range(n):
        flips = rng.integers(0, 2, (6, len(queries))).astype(np.float64)
        columns = [flips[0] - other for other in flips[1:]]
        log = stratum(queries.tolist(), ours={0: flips[0].tolist()})
        found = [sure(one, 0, 0.95, gap=True) for one in draw(log, columns, config, world)]
        assert all(found)
        marked += sum(one.significant for one in found if one)
        families += any(holm([one.p or 1.0 for one in found if one]))
    assert 0.01 < marked / (5 * n) < 0.11
    assert families / n < 0.15
