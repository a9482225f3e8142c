"""The fusion: monotone in both scores, learned where there is something to learn from, and readable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmse.ranking.fusion import PRIOR, WITHOUT_CHOICES, Choices, Fusion, learn_fusion, reciprocal_ranks


def test_weights_fall_as_a_query_is_known() -> None:
    fusion = Fusion(new_query=2.0, known_query=0.5, decay=1.0)
    assert fusion.weights(np.array([0, 1, 2, 50])).tolist() == [2.0, 0.5, 0.25, 0.01]


@given(st.integers(0, 10**9), st.floats(0, 1), st.floats(0, 1))
def test_more_words_never_lower_an_item(query_count: int, vector: float, share: float) -> None:
    weight = float(Fusion().weights(np.array([query_count]))[0])
    assert weight > 0
    assert vector + weight * share <= vector + weight * min(1.0, share + 0.1)


@pytest.mark.parametrize("name", PRIOR)
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_weight_of_zero_or_below_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is {value}, expected a number above 0"):
        Fusion(**{name: value})


def choices(weight_new: float, weight_known: float, *, requests: int = 400, known_at: int = 10) -> Choices:
    """Requests whose taken item is the best of fifty by a sum with the given weights, half of them new."""
    rng = np.random.default_rng(0)
    vector = rng.random((requests, 50)).astype(np.float32)
    lexical = rng.random((requests, 50)).astype(np.float32)
    query_counts = np.where(np.arange(requests) % 2 == 0, 0, known_at)
    weight = np.where(query_counts == 0, weight_new, weight_known)[:, None]
    best = (vector + weight * lexical).argmax(axis=1)
    return Choices(
        vector.ravel(),
        lexical.ravel(),
        np.repeat(np.arange(requests), 50),
        np.arange(requests) * 50 + best,
        query_counts.astype(np.int64),
    )


def test_what_made_the_choices_is_found_again() -> None:
    fusion = learn_fusion(choices(1.5, 0.1))
    assert fusion.weights(np.array([0]))[0] == pytest.approx(1.5, rel=0.15)
    assert fusion.weights(np.array([10]))[0] == pytest.approx(0.1, rel=0.3)


def test_the_other_way_round_is_found_too() -> None:
    fusion = learn_fusion(choices(0.3, 2.0))
    new, known_weight = fusion.weights(np.array([0, 10]))
    assert new < 0.5 < 1.0 < known_weight


def test_nothing_to_learn_from_leaves_the_prior() -> None:
    no_indices = np.empty(0, np.int64)
    no_scores = np.empty(0, np.float32)
    assert learn_fusion(Choices(no_scores, no_scores, no_indices, no_indices, no_indices)) == Fusion(WITHOUT_CHOICES)


def test_without_a_new_query_its_weight_stays_where_it_was() -> None:
    logged_choices = choices(0.2, 0.2)
    fusion = learn_fusion(
        Choices(
            logged_choices.vector,
            logged_choices.lexical,
            logged_choices.request,
            logged_choices.positives,
            logged_choices.query_counts + 5,
        )
    )
    assert fusion.new_query == pytest.approx(PRIOR["new_query"][0], rel=1e-3)


def test_reciprocal_ranks_by_hand() -> None:
    np.testing.assert_allclose(reciprocal_ranks(np.array([0.5, 0.0, 0.9], np.float32)), [1 / 62, 0, 1 / 61])


def test_what_the_memory_adds() -> None:
    fusion = Fusion(memory=2.0, popularity=0.5, new_popularity=3.0)
    evidence, popularity = np.array([1.0, 0.0, 4.0], np.float32), np.array([0.0, 2.0, 1.0], np.float32)
    assert fusion.popularity_weights(np.array([0, 1, 9])).tolist() == [3.0, 0.5, 0.5]
    assert fusion.remember(evidence, popularity, np.array([0])).tolist() == [2.0, 6.0, 11.0]
    assert fusion.remember(evidence, popularity, np.array([0, 1, 7])).tolist() == [2.0, 1.0, 8.5]
    assert fusion.remembers
    assert Fusion(popularity=0.1).remembers
    assert not Fusion().remembers
