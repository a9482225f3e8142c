"""Reliability and what a threshold leaves, against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmse.evaluation import metrics
from mmse.evaluation.reliability import CalibrationSample, best_forms, log_loss, measure_reliability, threshold_curve
from mmse.retrieval.channel_rankings import CalibratedHits

TRUE = np.array([0.2] * 10 + [0.6] * 10)


def sample(probabilities: np.ndarray, clicked: np.ndarray, looks: np.ndarray) -> CalibrationSample:
    return CalibrationSample(
        "all slots", {"adapter": probabilities, "distribution": np.full(len(probabilities), 0.4)}, clicked, looks
    )


def test_a_true_probability_has_no_error() -> None:
    clicked = np.array([1.0] * 2 + [0.0] * 8 + [1.0] * 6 + [0.0] * 4)
    adapter, constant = measure_reliability(sample(TRUE, clicked, np.ones(20)))
    assert [(round(b.probability, 6), round(b.clicked, 6), b.looks) for b in adapter.bins] == [
        (0.2, 0.2, 10),
        (0.6, 0.6, 10),
    ]
    assert adapter.error == pytest.approx(0)
    assert constant.error == pytest.approx(0), "on average 0.4 is true as well"
    assert adapter.log_loss < constant.log_loss, "but it tells less"
    assert best_forms([adapter, constant]) == {"all slots": "adapter"}


def test_clicks_are_held_against_looks() -> None:
    clicked = np.array([1.0, 0.0, 0.0, 0.0])
    record = measure_reliability(sample(np.full(4, 0.5), clicked, np.full(4, 0.5)))[0]
    assert record.bins[0].clicked == pytest.approx(1 / (4 * 0.5)), "one click of two looks"
    assert record.error == pytest.approx(0)


def test_an_overconfident_probability_by_hand() -> None:
    record = measure_reliability(sample(np.full(10, 0.9), np.array([1.0] * 3 + [0.0] * 7), np.ones(10)))[0]
    assert record.error == pytest.approx(0.6)
    assert record.log_loss == pytest.approx(-(3 * np.log(0.9) + 7 * np.log(0.1)) / 10)
    (single,) = record.bins
    assert single.low is not None
    assert single.high is not None
    assert single.low < 0.3 < single.high < 0.9


def test_log_loss_is_finite_at_the_ends() -> None:
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.ones(2)))


def test_no_slots() -> None:
    assert measure_reliability(sample(np.empty(0), np.empty(0), np.empty(0))) == []
    assert measure_reliability(sample(np.full(2, 0.5), np.zeros(2), np.zeros(2))) == [], "nobody looked at any"


def hits(rows: list[int], probabilities: list[float]) -> CalibratedHits:
    by_form = {"adapter": np.array(probabilities), "distribution": np.array(probabilities)}
    empty = {"adapter": np.empty(0), "distribution": np.empty(0)}
    return CalibratedHits(np.array(rows), by_form, empty)  # type: ignore[arg-type]


def test_what_a_threshold_leaves() -> None:
    """Request 0 wanted items 1 and 2 and finds both, request 1 wanted 5 and does not, request 2 wanted nothing."""
    relevant = metrics.from_pairs(np.array([0, 0, 1]), np.array([1, 2, 5]), np.ones(3), 3)
    curve = threshold_curve(
        [hits([1, 7, 2], [0.305, 0.2, 0.105]), hits([8], [0.505]), hits([9], [0.055])], "adapter", relevant, 3
    )
    assert curve is not None
    assert curve.recall_of_all == pytest.approx((1 + 0) / 2)
    at = {round(t, 2): (a, r) for t, a, r in zip(curve.thresholds, curve.answer_rate, curve.recall, strict=True)}
    assert at[0.0] == (1.0, 1.0)
    assert at[0.06] == pytest.approx((2 / 3, 1.0))
    assert at[0.11] == pytest.approx((2 / 3, 1 / 2))
    assert at[0.31] == pytest.approx((1 / 3, 0.0))
    assert max(at) == 0.51, "the curve ends where nothing is answered"


def test_nothing_wanted_was_found() -> None:
    relevant = metrics.from_pairs(np.array([0]), np.array([5]), np.ones(1), 1)
    assert threshold_curve([hits([1], [0.5])], "adapter", relevant, 3) is None
