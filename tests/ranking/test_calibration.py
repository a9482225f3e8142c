"""Calibration: rising with the score, true on average, free of position bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from mmse.ranking.calibration import FORMS, Calibration, CalibrationSlots, Form, learn_calibration, moments_of

NO_MOMENTS = (0.0, 1.0)


def slots(n: int, *, seed: int = 0, share: float | None = None) -> tuple[CalibrationSlots, np.ndarray]:
    """Slots whose clicks follow `examination · expit(-3 + 4 · score + 0.3 · known)`, and that chance of relevance."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n) * 1.5
    query_counts = rng.choice([0, 3, 40], n)
    relevant = expit(-3 + 4 * scores + 0.3 * np.log1p(query_counts))
    examination = np.full(n, share) if share else rng.choice([1.0, 0.5, 0.2], n)
    clicked = (rng.random(n) < examination * relevant).astype(np.float64)
    return CalibrationSlots(
        scores, query_counts.astype(np.int64), np.tile([0.7, 0.4], (n, 1)), examination, clicked
    ), relevant


def chances(calibration: Calibration, subset: CalibrationSlots) -> np.ndarray:
    return np.array(
        [
            expit(
                calibration.log_odds(subset.scores[i : i + 1], int(subset.query_counts[i]), tuple(subset.moments[i]))
            )[0]
            for i in range(len(subset))
        ]
    )


@pytest.mark.parametrize("form", FORMS)
def test_it_rises_with_the_score_for_every_query(form: Form) -> None:
    calibration = learn_calibration(slots(5_000)[0], form)
    for query_count in (0, 1, 7, 10**6):
        odds = calibration.log_odds(np.linspace(-1, 2, 50), query_count, (0.5, 0.2))
        assert (np.diff(odds) > 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_what_made_the_clicks_is_found_again(form: Form) -> None:
    calibration = learn_calibration(slots(60_000)[0], form)
    held_out, relevant = slots(3_000, seed=1)
    assert np.abs(chances(calibration, held_out) - relevant).mean() < 0.02


def test_seldom_seen_places_do_not_lower_it() -> None:
    calibrations = [learn_calibration(slots(60_000, share=share)[0], "adapter") for share in (1.0, 0.25)]
    held_out, _ = slots(500, seed=2)
    np.testing.assert_allclose(chances(calibrations[0], held_out), chances(calibrations[1], held_out), atol=0.05)


def test_a_query_better_known_than_any_seen_is_taken_as_the_best_known() -> None:
    calibration = learn_calibration(slots(5_000)[0], "adapter")
    score = np.array([0.5])
    assert calibration.log_odds(score, 10**9, NO_MOMENTS) == pytest.approx(calibration.log_odds(score, 40, NO_MOMENTS))


def test_nothing_to_learn_from_is_a_modest_guess() -> None:
    empty = np.empty(0)
    guess = learn_calibration(
        CalibrationSlots(empty, empty.astype(np.int64), empty.reshape(0, 2), empty, empty), "adapter"
    )
    assert 0 < expit(guess.log_odds(np.array([0.5]), 0, NO_MOMENTS))[0] < 0.5
    assert not guess.is_learned


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("clicked", [0.0, 1.0])
def test_a_log_of_clicks_alone_gives_an_order_and_no_probabilities(form: Form, clicked: float) -> None:
    same = replace(slots(500)[0], clicked=np.full(500, clicked))
    calibration = learn_calibration(same, form)
    assert not calibration.is_learned
    odds = calibration.log_odds(np.linspace(-1, 2, 50), 3, (0.5, 0.2))
    assert (np.diff(odds) > 0).all()
    assert learn_calibration(slots(500)[0], form).is_learned


def test_moments_by_hand() -> None:
    assert moments_of(np.array([1.0, 3.0])) == (2.0, 1.0)
    assert moments_of(np.array([])) == (0.0, 1.0)
    assert moments_of(np.array([2.0, 2.0])) == (2.0, 1e-3), "no deviation is divided by zero"
    assert moments_of(np.concatenate([np.zeros(500), np.ones(100)])) == (1.0, 1e-3), "the best hundred alone"
    scores = np.random.default_rng(2).permutation(600).astype(float)
    assert moments_of(scores)[0] == np.arange(500, 600).mean()


@pytest.mark.parametrize("form", FORMS)
def test_log_odds_by_hand(form: Form) -> None:
    calibration = Calibration(form, a=-1.0, b=0.5, c=0.3, d=0.7, known_range=(0.0, 2.0))
    scores, moments = np.array([0.0, 1.0, 2.5], np.float32), (0.5, 0.25)
    for query_count, frequency in ((0, 0.0), (1, np.log(2)), (1_000, 2.0)):
        x = scores if form == "adapter" else (scores - 0.5) / 0.25
        expected = -1.0 + 0.5 * frequency + np.log(1 + np.exp(0.3 + 0.7 * frequency)) * x
        np.testing.assert_allclose(calibration.log_odds(scores, query_count, moments), expected, rtol=1e-6)
