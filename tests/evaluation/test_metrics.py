"""Fractions worked by hand, `ir_measures` as the second opinion, and bounds that always hold."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, nDCG

from mmse.evaluation.metrics import (
    Relevant,
    TrueTop,
    concatenate,
    draw_orders,
    from_pairs,
    locate,
    mrr,
    ndcg,
    order_rate,
    recall,
    share_of_top,
)

NAN = float("nan")

RANKINGS = np.array([[4, 2, 7, 1], [0, 1, 2, 3], [5, -1, -1, -1], [8, 9, 6, -1]])
RELEVANT = from_pairs(
    requests=np.array([0, 0, 0, 1, 3, 3]),
    item_rows=np.array([2, 1, 9, 0, 6, 8]),
    gains=np.array([3.0, 1.0, 3.0, 1.0, 1.0, 3.0]),
    n_requests=4,
)


def test_recall_by_hand() -> None:
    hits = locate(RANKINGS, RELEVANT)
    np.testing.assert_array_equal(recall(hits, 1), [0, 1, NAN, 1 / 2])
    np.testing.assert_array_equal(recall(hits, 2), [1 / 3, 1, NAN, 1 / 2])
    np.testing.assert_array_equal(recall(hits, 4), [2 / 3, 1, NAN, 1])


def test_ndcg_by_hand() -> None:
    hits = locate(RANKINGS, RELEVANT)
    second, third, fourth = 1 / np.log2(3), 1 / 2, 1 / np.log2(5)
    first_request = (3 * second + 1 * fourth) / (3 + 3 * second + 1 * third)
    last_request = (3 + 1 * third) / (3 + 1 * second)
    np.testing.assert_allclose(ndcg(hits, 4), [first_request, 1, NAN, last_request])
    np.testing.assert_allclose(ndcg(hits, 2), [3 * second / (3 + 3 * second), 1, NAN, 3 / (3 + second)])


def test_mrr_by_hand() -> None:
    hits = locate(RANKINGS, RELEVANT)
    np.testing.assert_array_equal(mrr(hits, 4), [1 / 2, 1, NAN, 1])
    np.testing.assert_array_equal(mrr(hits, 1), [0, 1, NAN, 1])


def test_a_metric_looks_no_deeper_than_the_ranking() -> None:
    with pytest.raises(AssertionError, match="k 5 for rankings of depth 4"):
        recall(locate(RANKINGS, RELEVANT), 5)


def test_pairs_that_stand_twice_count_once_at_their_best() -> None:
    relevant = from_pairs(np.array([1, 1, 1]), np.array([5, 3, 5]), np.array([1.0, 1.0, 3.0]), 3)
    assert relevant.offsets.tolist() == [0, 0, 2, 2]
    assert relevant.item_rows.tolist() == [3, 5]
    assert relevant.gains.tolist() == [1, 3]


def test_nothing_at_all() -> None:
    empty = from_pairs(np.empty(0, dtype=int), np.empty(0, dtype=int), np.empty(0), 2)
    hits = locate(np.full((2, 3), -1), empty)
    for values in (recall(hits, 3), ndcg(hits, 3), mrr(hits, 3)):
        assert np.isnan(values).all()
    assert len(concatenate([])) == 0


def test_joined_keeps_the_order() -> None:
    joined_twice = concatenate([RELEVANT, RELEVANT])
    assert len(joined_twice) == 8
    np.testing.assert_array_equal(joined_twice.counts, np.tile(RELEVANT.counts, 2))
    np.testing.assert_array_equal(joined_twice.item_rows, np.tile(RELEVANT.item_rows, 2))


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, Relevant, int]:
    """Rankings of 12 items, relevant items with gains, and a k within the depth."""
    n, depth = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rankings = np.stack([rng.permutation(12)[:depth] for _ in range(n)])
    for row in rankings:
        row[rng.integers(0, depth + 1) :] = -1
    m = draw(st.integers(0, 20))
    relevant = from_pairs(rng.integers(0, n, m), rng.integers(0, 12, m), rng.choice([1.0, 2.0, 3.0], m), n)
    return rankings, relevant, draw(st.integers(1, depth))


@settings(deadline=None)
@given(problems())
def test_ir_measures_agrees(problem: tuple[np.ndarray, Relevant, int]) -> None:
    rankings, relevant, k = problem
    qrels = [
        ir_measures.Qrel(str(r), str(i), int(g))
        for r, i, g in zip(relevant.requests, relevant.item_rows, relevant.gains, strict=True)
    ]
    run = [
        ir_measures.ScoredDoc(str(r), str(i), float(-rank))
        for r, row in enumerate(rankings)
        for rank, i in enumerate(row)
        if i >= 0
    ]
    hits = locate(rankings, relevant)
    values = {R @ k: recall(hits, k), nDCG @ k: ndcg(hits, k), RR @ k: mrr(hits, k)}
    reference = ir_measures.iter_calc(list(values), qrels, run) if qrels and run else []
    for metric in reference:
        assert values[metric.measure][int(metric.query_id)] == pytest.approx(metric.value, abs=1e-9)


@settings(deadline=None)
@given(problems(), st.integers(0, 2**32))
def test_bounds(problem: tuple[np.ndarray, Relevant, int], seed: int) -> None:
    rankings, relevant, k = problem
    hits = locate(rankings, relevant)
    nothing_relevant = relevant.counts == 0
    for metric in (recall, ndcg, mrr):
        values = metric(hits, k)
        np.testing.assert_array_equal(np.isnan(values), nothing_relevant)
        assert ((values[~nothing_relevant] >= 0) & (values[~nothing_relevant] <= 1 + 1e-12)).all()
    for metric in (recall, mrr):
        curve = np.stack([metric(hits, at) for at in range(1, hits.depth + 1)])
        assert (np.diff(curve[:, ~nothing_relevant], axis=0) >= 0).all()
    permutation = np.random.default_rng(seed).permutation(len(rankings))
    pairs = from_pairs(np.argsort(permutation)[relevant.requests], relevant.item_rows, relevant.gains, len(rankings))
    np.testing.assert_array_equal(ndcg(locate(rankings[permutation], pairs), k), ndcg(hits, k)[permutation])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_recall_does_not_ask_for_the_order_within_k(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    ranking = rng.permutation(10)[None, :8]
    relevant = from_pairs(np.zeros(4, dtype=int), rng.integers(0, 10, 4), np.ones(4), 1)
    reversed_top = np.concatenate([ranking[:, :k][:, ::-1], ranking[:, k:]], axis=1)
    assert recall(locate(ranking, relevant), k) == recall(locate(reversed_top, relevant), k)


PROPENSITY = np.array([[0.4, 0.1, 0.2, 0.0, 0.3], [0.2, 0.2, 0.2, 0.0, 0.1], [0.0, 0.5, 0.0, 0.0, 0.0], [0.0] * 5])
TRUE_TOP = TrueTop.of(PROPENSITY, 3)


def test_share_of_top_by_hand() -> None:
    rankings = np.array([[0, 1, 4], [3, 2, 1], [1, 3, 2], [0, 1, 2]])
    # second request: any two of items 0, 1, 2 are the top two; third: only item 1 is ever ordered
    np.testing.assert_array_equal(share_of_top(rankings, TRUE_TOP, 2), [1 / 2, 1 / 2, 1, NAN])
    np.testing.assert_array_equal(share_of_top(rankings, TRUE_TOP, 3), [2 / 3, 2 / 3, 1, NAN])


def test_order_rate_by_hand() -> None:
    rankings = np.array([[0, 1, 4], [3, 2, 1], [2, -1, -1], [0, 1, 2]])
    np.testing.assert_allclose(order_rate(rankings, TRUE_TOP, 2), [0.5 / 0.7, 0.2 / 0.4, 0, NAN])
    np.testing.assert_allclose(order_rate(rankings, TRUE_TOP, 3), [0.8 / 0.9, 0.4 / 0.6, 0, NAN])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_the_true_order_is_the_ceiling(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    propensity = rng.choice([0.0, 0.1, 0.3, 0.5], (6, 9)).astype(np.float32)
    best = np.argsort(-propensity, axis=1)
    random_order = rng.permuted(np.tile(np.arange(9), (6, 1)), axis=1)
    for metric in (share_of_top, order_rate):
        truth = TrueTop.of(propensity, k)
        ceiling, value = metric(best, truth, k), metric(random_order, truth, k)
        ordered = propensity.max(axis=1) > 0
        np.testing.assert_allclose(ceiling[ordered], 1)
        assert ((value[ordered] >= 0) & (value[ordered] <= 1)).all()


def test_drawn_orders_follow_the_propensity() -> None:
    propensity = np.tile(np.array([0.6, 0.0, 0.3, 0.1], dtype=np.float32), (20_000, 1))
    orders = draw_orders(propensity, 1, np.random.default_rng(0))
    shares = np.bincount(orders.item_rows, minlength=4) / 20_000
    np.testing.assert_allclose(shares, [0.6, 0, 0.3, 0.1], atol=0.012)


def test_drawn_orders_are_distinct_and_possible() -> None:
    propensity = np.array([[0.5, 0.2, 0.0, 0.1], [0.0, 0.0, 0.0, 0.3], [0.0, 0.0, 0.0, 0.0]])
    orders = draw_orders(propensity, 2, np.random.default_rng(1))
    assert orders.counts.tolist() == [2, 1, 0]
    assert (propensity[orders.requests, orders.item_rows] > 0).all()
    repeated_orders = draw_orders(propensity, 2, np.random.default_rng(1))
    np.testing.assert_array_equal(orders.item_rows, repeated_orders.item_rows)


def test_large_inputs_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rankings = np.stack([rng.permutation(50)[:20] for _ in range(30)])
    relevant = from_pairs(rng.integers(0, 30, 200), rng.integers(0, 50, 200), np.ones(200), 30)
    whole = locate(rankings, relevant)
    monkeypatch.setattr("mmse.evaluation.metrics.CELLS", 70)
    np.testing.assert_array_equal(locate(rankings, relevant).ranks, whole.ranks)
    assert len(draw_orders(rng.random((30, 50)), 3, rng).item_rows) == 90


def test_drawn_orders_are_those_that_come_first() -> None:
    propensity = np.random.default_rng(4).random((50, 40))
    orders = draw_orders(propensity, 12, np.random.default_rng(5))
    waits = np.random.default_rng(5).standard_exponential(propensity.shape, dtype=np.float32) / propensity
    for request, row in enumerate(waits):
        drawn = orders.item_rows[orders.requests == request]
        assert set(drawn.tolist()) == set(np.argsort(row)[:12].tolist())
